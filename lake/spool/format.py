"""The bytes of a segment file.

    segment  = header block* seal?
    header   = 128 bytes: magic, version, number, first offset, creation time, stream id, CRC
    block    = 56 bytes of block header, then `stored_len` bytes: one flush of a zstd stream
    content  = columns of n records: int64 receive-time deltas, uint32 lengths, uint16 connections,
               uint8 kinds, then the payloads joined
    seal     = a block without records; its first offset is the end of the segment

All numbers are little-endian. A zstd stream runs through several blocks, because small blocks compress far
better with the memory of those before them, and starts afresh at every block flagged ANCHOR: the first of a
segment and then about every `ANCHOR_BYTES`. Damage therefore costs at most the records up to the next anchor.

A block's CRC covers its header and its stored bytes, and starts from a number made of the stream id and the
segment's number: a stale block of another file, left on the disk by a power cut, is never taken for ours.

Every block carries `durable_offset`: when it was written, all records below that offset were known to be
fsynced. That tells a torn tail from damage: bytes that cannot be read belong to an unfinished write unless
some later block proves that they had once been durable.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import zstandard

from lake.errors import InputError

FORMAT_VERSION: Final = 1
SEGMENT_MAGIC: Final = b"LAKESPOL"
BLOCK_MAGIC: Final = b"\xb5LB\n"
ANCHOR_BYTES: Final = 2 << 20
WINDOW_LOG: Final = 21  # a window of `ANCHOR_BYTES`: a block may refer to all since its anchor
HASH_LOG: Final = (
    16  # so much of it is found again; both save a quarter of the space and an eighth of the CPU
)
INFLATED_BYTES: Final = 512 << 10
COLUMN_BYTES_PER_RECORD: Final = 8 + 4 + 2 + 1

_SEGMENT_FIELDS: Final = struct.Struct("<8sHHIQQq84s")
_BLOCK_FIELDS: Final = struct.Struct("<4sHHIIIQQqq")
_CRC: Final = struct.Struct("<I")
SEGMENT_HEADER_BYTES: Final = _SEGMENT_FIELDS.size + _CRC.size
BLOCK_HEADER_BYTES: Final = _BLOCK_FIELDS.size + _CRC.size

TYPE_INT64: Final = np.dtype("<i8")
TYPE_UINT32: Final = np.dtype("<u4")
TYPE_UINT16: Final = np.dtype("<u2")


class BlockFlag(enum.IntFlag):
    """What is special about a block."""

    ANCHOR = 1
    """The zstd stream starts here: this block needs none before it."""
    SEAL = 2
    """No records: the segment ends here, complete."""
    RECOVERED = 4
    """With SEAL: sealed by recovery after its writer died."""


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first bytes of a segment file."""

    stream: str
    number: int
    first_offset: int
    created_ns: int

    def encode(self) -> bytes:
        fields = _SEGMENT_FIELDS.pack(
            SEGMENT_MAGIC,
            FORMAT_VERSION,
            0,
            0,
            self.number,
            self.first_offset,
            self.created_ns,
            self.stream.encode(),
        )
        return fields + _CRC.pack(zlib.crc32(fields))

    @staticmethod
    def decode(data: bytes | memoryview) -> SegmentHeader | None:
        """The header at the start of `data`, or None where there is no whole and valid one.

        Raises:
            InputError: a valid header of a format that only a newer version knows.
        """
        if len(data) < SEGMENT_HEADER_BYTES:
            return None
        fields = bytes(data[: _SEGMENT_FIELDS.size])
        (crc,) = _CRC.unpack_from(data, _SEGMENT_FIELDS.size)
        magic, version, _, _, number, first_offset, created_ns, stream = _SEGMENT_FIELDS.unpack(fields)
        if magic != SEGMENT_MAGIC or crc != zlib.crc32(fields):
            return None
        if version != FORMAT_VERSION:
            raise InputError(
                f"segment format {version}, this version knows {FORMAT_VERSION}; install a newer one"
            )
        return SegmentHeader(stream.rstrip(b"\0").decode(), number, first_offset, created_ns)


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What is known of a block without decompressing it."""

    flags: BlockFlag
    stored_len: int
    raw_len: int
    record_count: int
    first_offset: int
    durable_offset: int
    first_recv_ns: int
    last_recv_ns: int

    @property
    def end_offset(self) -> int:
        return self.first_offset + self.record_count

    def encode(self, stored: bytes, seed: int) -> bytes:
        """Block header and `stored` bytes, as they go into the file."""
        fields = _BLOCK_FIELDS.pack(
            BLOCK_MAGIC,
            self.flags,
            0,
            self.stored_len,
            self.raw_len,
            self.record_count,
            self.first_offset,
            self.durable_offset,
            self.first_recv_ns,
            self.last_recv_ns,
        )
        return b"".join((fields, _CRC.pack(zlib.crc32(stored, zlib.crc32(fields, seed))), stored))


@dataclass(frozen=True, slots=True)
class Block:
    """A valid block of a file, not yet decompressed."""

    position: int
    header: BlockHeader
    stored: memoryview

    @property
    def end_position(self) -> int:
        return self.position + BLOCK_HEADER_BYTES + self.header.stored_len


def crc_seed(stream: str, number: int) -> int:
    """The number from which the CRCs of all blocks of this segment start."""
    return zlib.crc32(f"{stream}/{number}".encode())


def block_at(data: memoryview, position: int, seed: int) -> Block | None:
    """The valid block that begins at `position`, or None."""
    start = position + BLOCK_HEADER_BYTES
    if start > len(data):
        return None
    magic, flags, _, stored_len, *rest = _BLOCK_FIELDS.unpack_from(data, position)
    stored = data[start : start + stored_len]
    if magic != BLOCK_MAGIC or len(stored) < stored_len:
        return None
    (crc,) = _CRC.unpack_from(data, position + _BLOCK_FIELDS.size)
    fields = data[position : position + _BLOCK_FIELDS.size]
    if crc != zlib.crc32(stored, zlib.crc32(fields, seed)):
        return None
    return Block(position, BlockHeader(BlockFlag(flags), stored_len, *rest), stored)


@dataclass(frozen=True, slots=True)
class Columns:
    """Records on their way to or from a block."""

    recv_ns: npt.NDArray[np.int64]
    connection: npt.NDArray[np.uint16]
    kind: npt.NDArray[np.uint8]
    payloads: Sequence[bytes]


class BlockEncoder:
    """Turns records into the blocks of one segment, in order."""

    def __init__(self, stream: str, number: int, zstd_level: int) -> None:
        self._seed = crc_seed(stream, number)
        usual = zstandard.ZstdCompressionParameters.from_level(zstd_level)
        parameters = zstandard.ZstdCompressionParameters.from_level(
            zstd_level,
            window_log=max(usual.window_log, WINDOW_LOG),
            hash_log=max(usual.hash_log, HASH_LOG),
            write_content_size=False,
        )
        self._compressor = zstandard.ZstdCompressor(compression_params=parameters)
        self.restart()

    def restart(self) -> None:
        """Make the next block an anchor, because the blocks last encoded did not reach the file."""
        self._stream = self._compressor.compressobj()
        self._since_anchor: int | None = None

    def encode(self, columns: Columns, first_offset: int, durable_offset: int) -> bytes:
        """The block with these records, ready for the file."""
        flags = BlockFlag(0)
        if self._since_anchor is None or self._since_anchor >= ANCHOR_BYTES:
            self.restart()
            self._since_anchor = 0
            flags = BlockFlag.ANCHOR
        count = len(columns.payloads)
        times = columns.recv_ns
        head = b"".join(
            (
                np.diff(times, prepend=times[:1]).astype(TYPE_INT64, copy=False).tobytes(),
                np.fromiter(map(len, columns.payloads), TYPE_UINT32, count).tobytes(),
                columns.connection.astype(TYPE_UINT16, copy=False).tobytes(),
                columns.kind.tobytes(),
            )
        )
        body = b"".join(columns.payloads)
        stored = b"".join(
            (
                self._stream.compress(head),
                self._stream.compress(body),
                self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
            )
        )
        raw_len = len(head) + len(body)
        self._since_anchor += raw_len
        header = BlockHeader(
            flags, len(stored), raw_len, count, first_offset, durable_offset, int(times[0]), int(times[-1])
        )
        return header.encode(stored, self._seed)

    def seal(self, end_offset: int, first_recv_ns: int, last_recv_ns: int, *, recovered: bool) -> bytes:
        """The last block of a segment; the receive times are those of its first and last record."""
        flags = BlockFlag.SEAL | (BlockFlag.RECOVERED if recovered else BlockFlag(0))
        header = BlockHeader(flags, 0, 0, 0, end_offset, end_offset, first_recv_ns, last_recv_ns)
        return header.encode(b"", self._seed)


class BlockDecoder:
    """Turns the blocks of one segment back into records, in order."""

    def __init__(self) -> None:
        self._decompressor = zstandard.ZstdDecompressor()
        self._stream: zstandard.ZstdDecompressionObj | None = None

    def decode(self, block: Block) -> Columns | None:
        """The records of `block`, or None where an earlier block that it builds on was not decoded."""
        header = block.header
        if header.flags & BlockFlag.ANCHOR:
            self._stream = self._decompressor.decompressobj(write_size=INFLATED_BYTES)
        if self._stream is None:
            return None
        try:
            raw = self._stream.decompress(block.stored)
        except zstandard.ZstdError:
            self._stream = None
            return None
        columns = _unpack(raw, header)
        if columns is None:
            self._stream = None
        return columns

    def lose_track(self) -> None:
        """A block is missing: nothing can be decoded before the next anchor."""
        self._stream = None


def _unpack(raw: bytes, header: BlockHeader) -> Columns | None:
    count = header.record_count
    if len(raw) != header.raw_len or len(raw) < count * COLUMN_BYTES_PER_RECORD:
        return None
    deltas = np.frombuffer(raw, TYPE_INT64, count)
    lengths = np.frombuffer(raw, TYPE_UINT32, count, count * 8)
    connection = np.frombuffer(raw, TYPE_UINT16, count, count * 12)
    kind = np.frombuffer(raw, np.uint8, count, count * 14)
    ends = np.cumsum(lengths, dtype=np.int64) + count * COLUMN_BYTES_PER_RECORD
    if count == 0 or int(ends[-1]) != len(raw):
        return None
    stops = ends.tolist()
    starts = [count * COLUMN_BYTES_PER_RECORD, *stops[:-1]]
    payloads = [raw[start:stop] for start, stop in zip(starts, stops, strict=True)]
    return Columns(np.cumsum(deltas) + header.first_recv_ns, connection, kind, payloads)
