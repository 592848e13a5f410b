"""Reading segments back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from lake.errors import CorruptionError
from lake.spool.format import (
    BLOCK_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Block,
    BlockDecoder,
    BlockFlag,
    Columns,
    SegmentHeader,
    block_at,
    crc_seed,
)
from lake.spool.records import Batch, Damage, SegmentDamagedError
from lake.spool.segment import (
    OPEN_SUFFIX,
    SEALED_SUFFIX,
    Hole,
    SegmentParts,
    segment_paths,
    take_apart,
)


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What a segment says of itself at both its ends, without reading what is between."""

    path: Path
    stream: str
    number: int
    first_offset: int
    end_offset: int
    sealed: bool
    start_ns: int
    """Receive time of the first record."""
    end_ns: int
    """Receive time of the last record."""


def sealed_segments(folder: Path) -> list[SegmentInfo]:
    """The sealed segments of a stream folder, oldest first.

    Where an unsealed segment is older than a sealed one (its disk failed while it was written), the list ends
    before it until recovery has sealed it, so that whoever follows the list never passes records by.
    """
    unsealed = segment_paths(folder, OPEN_SUFFIX)
    oldest_unsealed = unsealed[0].stem if unsealed else None
    return [
        segment_info(path)
        for path in segment_paths(folder, SEALED_SUFFIX)
        if oldest_unsealed is None or path.stem < oldest_unsealed
    ]


def open_segments(folder: Path) -> list[SegmentInfo]:
    """The segments not sealed yet, as far as they can be read now; usually one, being written."""
    infos = []
    for path in segment_paths(folder, OPEN_SUFFIX):
        try:
            infos.append(_info_from_parts(take_apart(path)))
        except FileNotFoundError:
            continue  # sealed since the folder was listed
    return infos


def segment_info(path: Path) -> SegmentInfo:
    """What the segment at `path` holds: from header and seal, or from its blocks where those fail."""
    with path.open("rb") as file:
        header = SegmentHeader.decode(file.read(SEGMENT_HEADER_BYTES))
        size = file.seek(0, 2)
        file.seek(max(size - BLOCK_HEADER_BYTES, 0))
        tail = file.read()
    if header is not None:
        seal = block_at(memoryview(tail), 0, crc_seed(header.stream, header.number))
        if seal is not None and seal.header.flags & BlockFlag.SEAL:
            end = seal.header
            return SegmentInfo(
                path,
                header.stream,
                header.number,
                header.first_offset,
                end.first_offset,
                path.suffix == SEALED_SUFFIX,
                end.first_recv_ns,
                end.last_recv_ns,
            )
    return _info_from_parts(take_apart(path))


@overload
def read_segment(path: Path) -> Iterator[Batch]: ...
@overload
def read_segment(path: Path, *, skip_damage: Literal[True]) -> Iterator[Batch | Damage]: ...
@overload
def read_segment(path: Path, *, skip_damage: bool) -> Iterator[Batch | Damage]: ...
def read_segment(path: Path, *, skip_damage: bool = False) -> Iterator[Batch | Damage]:
    """The records of a segment, block by block, in order.

    An unsealed segment is read up to the last whole block, without what is being written just now.
    With `skip_damage`, a `Damage` stands where records cannot be read, and reading goes on after it.

    Raises:
        SegmentDamagedError: a part cannot be read; everything before it has been yielded.
    """
    segment = take_apart(path)
    for item in _decode(segment):
        if isinstance(item, Damage) and not skip_damage:
            raise SegmentDamagedError(path, item)
        yield item


def _decode(segment: SegmentParts) -> Iterator[Batch | Damage]:
    decoder = BlockDecoder()
    lost: _Lost | None = None
    offset, last_ns = segment.first_offset, segment.header.created_ns if segment.header else 0
    for part in _readable_parts(segment):
        if isinstance(part, Hole):
            decoder.lose_track()
            lost = lost or _Lost(part.position, offset, last_ns, "bytes that are no valid block")
            continue
        header = part.header
        columns = None if header.flags & BlockFlag.SEAL else decoder.decode(part)
        if columns is None and not header.flags & BlockFlag.SEAL:
            lost = lost or _Lost(part.position, offset, last_ns, "a block that cannot be decompressed")
        else:
            if lost is not None:
                yield lost.until(part.position, header.first_offset, header.first_recv_ns)
                lost = None
            if columns is not None:
                yield _batch(segment.stream, header.first_offset, columns)
        offset, last_ns = header.end_offset, header.last_recv_ns
    if lost is not None:
        yield lost.until(len(segment.data), max(offset, following_offset(segment) or 0), last_ns)


def _readable_parts(segment: SegmentParts) -> Iterator[Block | Hole]:
    """Every part of a sealed segment; of an unsealed one, those before the write that is under way."""
    sealed = segment.path.suffix == SEALED_SUFFIX
    torn = None if sealed else segment.torn_position()
    for part in segment.parts:
        if torn is not None and part.position >= torn:
            return
        yield part
    if sealed and segment.seal is None and not (segment.parts and isinstance(segment.parts[-1], Hole)):
        yield Hole(len(segment.data), 0, None)


@dataclass(frozen=True, slots=True)
class _Lost:
    """A damage whose end is not reached yet."""

    position: int
    first_offset: int
    start_ns: int
    reason: str

    def until(self, position: int, end_offset: int, end_ns: int) -> Damage:
        return Damage(
            self.first_offset,
            end_offset,
            self.start_ns,
            end_ns,
            self.position,
            position - self.position,
            self.reason,
        )


def _batch(stream: str, first_offset: int, columns: Columns) -> Batch:
    return Batch(
        stream, first_offset, columns.recv_ns, columns.connection, columns.kind, list(columns.payloads)
    )


def following_offset(segment: SegmentParts) -> int | None:
    """Where the following segment of the same stream begins: the end of this one, if its own is damaged."""
    following = segment.path.with_name(f"{segment.number + 1:010d}")
    for suffix in (SEALED_SUFFIX, OPEN_SUFFIX):
        path = following.with_suffix(suffix)
        if path.exists():
            with path.open("rb") as file:
                header = SegmentHeader.decode(file.read(SEGMENT_HEADER_BYTES))
            if header is not None and header.stream == segment.stream:
                return header.first_offset
    return None


def _info_from_parts(segment: SegmentParts) -> SegmentInfo:
    blocks = segment.blocks
    if not segment.stream:
        raise CorruptionError(f"{segment.path}: header damaged, and no stream.json says which stream it is")
    end_offset = blocks[-1].header.end_offset if blocks else segment.first_offset
    created_ns = segment.header.created_ns if segment.header else 0
    return SegmentInfo(
        segment.path,
        segment.stream,
        segment.number,
        segment.first_offset,
        max(end_offset, following_offset(segment) or 0),
        segment.path.suffix == SEALED_SUFFIX,
        blocks[0].header.first_recv_ns if blocks else created_ns,
        blocks[-1].header.last_recv_ns if blocks else created_ns,
    )
