"""What goes into the spool and what comes out of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lake.errors import CorruptionError


class RecordKind(enum.IntEnum):
    """What the payload of a record is."""

    FRAME = 0
    """A WebSocket text frame, byte for byte as received."""
    EVENT = 1
    """JSON of our own: see `lake.events`."""
    RESPONSE = 2
    """A REST answer: see `lake.events.Response`."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one block, as columns of equal length."""

    stream: str
    """Stream id, "<name>@<epoch>"; a stream whose folder was lost gets a new epoch."""
    first_offset: int
    """Offset of the first record: 0, 1, 2… over the whole life of the stream id, never used twice."""
    recv_ns: npt.NDArray[np.int64]
    """Receive times, ns since the epoch UTC, strictly increasing within a stream."""
    connection: npt.NDArray[np.uint16]
    """Number of the connection that each record came from."""
    kind: npt.NDArray[np.uint8]
    """`RecordKind` of each record."""
    payloads: list[bytes]

    @property
    def end_offset(self) -> int:
        """Offset after the last record."""
        return self.first_offset + len(self.payloads)


@dataclass(frozen=True, slots=True)
class Damage:
    """Records of a segment that cannot be read any more: offsets `first_offset` up to before `end_offset`."""

    first_offset: int
    end_offset: int
    start_ns: int
    """Receive time of the last record readable before the damage."""
    end_ns: int
    """Receive time of the first record readable after it; of the last one known where none follows."""
    position: int
    """Byte position in the segment file at which the unreadable part begins."""
    length: int
    """Length in bytes of the unreadable part, up to the next block that can be decoded."""
    reason: str


class SegmentDamagedError(CorruptionError):
    """A segment cannot be read to its end; `damage` says what is lost and where."""

    def __init__(self, path: Path, damage: Damage) -> None:
        lost = damage.end_offset - damage.first_offset
        super().__init__(
            f"{path}: {damage.reason} at byte {damage.position}, {damage.length} bytes: {lost} records lost, "
            f"offsets {damage.first_offset} to {damage.end_offset}"
        )
        self.path = path
        self.damage = damage
