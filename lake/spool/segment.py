"""One segment file: writing it, and taking it apart again into blocks and holes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lake.crashpoints import reach
from lake.spool.files import FileSystem
from lake.spool.format import (
    BLOCK_MAGIC,
    SEGMENT_HEADER_BYTES,
    Block,
    BlockEncoder,
    BlockFlag,
    Columns,
    SegmentHeader,
    block_at,
    crc_seed,
)
from lake.spool.identity import read_identity

OPEN_SUFFIX: Final = ".open"
SEALED_SUFFIX: Final = ".seg"


def segment_paths(folder: Path, suffix: str) -> list[Path]:
    """The segment files of a stream folder that have this suffix, oldest first."""
    return sorted(p for p in folder.glob(f"*{suffix}") if p.stem.isdigit())


class SegmentFile:
    """The segment being written. It exists on disk from creation and is durable up to the last `commit`."""

    def __init__(self, fs: FileSystem, folder: Path, header: SegmentHeader, zstd_level: int) -> None:
        self.path = folder / f"{header.number:010d}{OPEN_SUFFIX}"
        self.durable_bytes = 0
        self.first_recv_ns = 0
        self.last_recv_ns = 0
        self.end_offset = header.first_offset
        self._header = header
        self._encoder = BlockEncoder(header.stream, header.number, zstd_level)
        self._fs = fs
        self._sealed = False
        self._fd: int | None = fs.create(self.path)

    def commit(self, batches: list[Columns]) -> None:
        """Write the batches and return when they are durable; after an error call `rollback`."""
        first_commit = self.durable_bytes == 0
        written = [self._header.encode()] if first_commit else []
        end_offset = self.end_offset
        for columns in batches:
            written.append(self._encoder.encode(columns, end_offset, self.end_offset))
            end_offset += len(columns.payloads)
        self._write_durably(b"".join(written), "spool:")
        if first_commit:
            self._fs.sync_dir(self.path.parent)
            reach("spool:after_create")
            self.first_recv_ns = int(batches[0].recv_ns[0])
        self.last_recv_ns = int(batches[-1].recv_ns[-1])
        self.end_offset = end_offset
        self.durable_bytes += sum(map(len, written))

    def rollback(self) -> None:
        """Cut the file back to what is durable, so that the failed commit can be tried again."""
        self._fs.truncate(self._descriptor, self.durable_bytes)
        self._encoder.restart()

    def seal(self) -> None:
        """Finish the file and give it its final name; may be called again after an error and `rollback`."""
        if not self._sealed:
            seal = self._encoder.seal(self.end_offset, self.first_recv_ns, self.last_recv_ns, recovered=False)
            self._write_durably(seal, "spool:seal_")
            self.durable_bytes += len(seal)
            self._sealed = True
        if self.path.suffix == OPEN_SUFFIX:
            reach("spool:before_rename")
            sealed_path = self.path.with_suffix(SEALED_SUFFIX)
            self._fs.rename(self.path, sealed_path)
            self.path = sealed_path
            reach("spool:after_rename")
        self._fs.sync_dir(self.path.parent)
        reach("spool:after_seal")
        self.close()

    def abandon(self) -> None:
        """Keep what was durable and nothing else, after the disk failed to write more.

        The truncation makes the last page dirty again, so that the sync in `seal` speaks of bytes written
        now and not of pages that the kernel gave up on.
        """
        self._fs.truncate(self._descriptor, self.durable_bytes)
        if self.durable_bytes:
            self.seal()
        else:
            self._fs.remove(self.path)
            self.close()

    def close(self) -> None:
        """Give the descriptor back; the file stays as it is."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self._fs.close(fd)

    def _write_durably(self, data: bytes, step: str) -> None:
        reach(f"{step}before_write")
        self._fs.write(self._descriptor, data)
        reach(f"{step}after_write")
        self._fs.sync(self._descriptor)
        reach(f"{step}after_fsync")

    @property
    def _descriptor(self) -> int:
        assert self._fd is not None, "the segment file is closed"
        return self._fd


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes of a segment file that are no valid block, up to the next valid one or the end of the file."""

    position: int
    length: int
    first_offset: int | None
    """Offset of the first record that should have been there; None where nothing before it can be read."""


@dataclass(frozen=True, slots=True)
class SegmentParts:
    """A segment file taken apart; nothing is decompressed yet."""

    path: Path
    stream: str
    number: int
    header: SegmentHeader | None
    data: bytes
    parts: list[Block | Hole]

    @property
    def blocks(self) -> list[Block]:
        return [part for part in self.parts if isinstance(part, Block)]

    @property
    def holes(self) -> list[Hole]:
        return [part for part in self.parts if isinstance(part, Hole)]

    @property
    def seal(self) -> Block | None:
        """The seal, where the file ends with a valid one."""
        last = self.parts[-1] if self.parts else None
        return last if isinstance(last, Block) and last.header.flags & BlockFlag.SEAL else None

    @property
    def first_offset(self) -> int:
        """Offset of the first record, from the header or else from the first readable block."""
        if self.header is not None:
            return self.header.first_offset
        return next((block.header.first_offset for block in self.blocks), 0)

    def torn_position(self) -> int | None:
        """Where an unfinished write begins, in a segment that was not sealed; None where it is whole.

        A hole is part of an unfinished write unless a later block shows that the records missing there had
        been durable. Durable offsets never fall, so the last block's is the one to ask.
        """
        blocks = self.blocks
        if not blocks:
            return 0 if self.header is None else SEGMENT_HEADER_BYTES
        proven = blocks[-1].header.durable_offset
        torn = (h.position for h in self.holes if h.first_offset is not None and h.first_offset >= proven)
        return next(torn, None)


def take_apart(path: Path) -> SegmentParts:
    """Read a segment file and find its blocks and holes.

    Where the segment's header is damaged, the folder's identity and the file's name stand in for it.

    Raises:
        InputError: the segment has a format that only a newer version knows.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    header = SegmentHeader.decode(data)
    if header is not None:
        stream, number = header.stream, header.number
    else:
        stream, number = read_identity(path.parent) or "", int(path.stem)
    seed = crc_seed(stream, number)
    parts = list(_walk(data, seed, SEGMENT_HEADER_BYTES, header.first_offset if header else None))
    if header is None:
        parts.insert(0, Hole(0, min(len(data), SEGMENT_HEADER_BYTES), None))
    return SegmentParts(path, stream, number, header, data, parts)


def _walk(data: bytes, seed: int, position: int, offset: int | None) -> Iterator[Block | Hole]:
    view = memoryview(data)
    while position < len(data):
        block = block_at(view, position, seed)
        if block is None or (offset is not None and block.header.first_offset != offset):
            block = _next_block(data, view, seed, position, offset)
            end = len(data) if block is None else block.position
            yield Hole(position, end - position, offset)
            if block is None:
                return
        yield block
        position, offset = block.end_position, block.header.end_offset


def _next_block(data: bytes, view: memoryview, seed: int, position: int, offset: int | None) -> Block | None:
    """The next valid block from `position` on whose records do not come before `offset`."""
    position = data.find(BLOCK_MAGIC, position)
    while position >= 0:
        block = block_at(view, position, seed)
        if block is not None and (offset is None or block.header.first_offset >= offset):
            return block
        position = data.find(BLOCK_MAGIC, position + 1)
    return None
