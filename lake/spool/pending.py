"""Records that wait for the next commit: bounded in memory, and exact about what did not fit.

Not thread-safe: the writer's lock guards it.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lake.events import Gap, encode_event
from lake.spool.format import Columns
from lake.spool.records import RecordKind

BLOCK_BYTES_MAX: Final = 512 << 10
"""Payload bytes after which a block is full; a quarter of an anchor distance, so that anchors stay about even."""
RECORD_OVERHEAD_BYTES: Final = 64
"""Memory of a record beyond its payload: the bytes object's head, its list slot, time and tag."""
EVENT_RESERVE_BYTES: Final = 4 << 20
"""Room beyond the bound for events, so that a full queue does not forget that a connection was lost."""
RESUME_FRACTION: Final = 0.5
"""After an overflow records are accepted again when no more than this part of the bound is in use."""
KIND_BITS: Final = 8


class Chunk:
    """The records of one block-to-be: the payloads, and of each run that came together what its records share."""

    __slots__ = ("counts", "first_ns", "payload_bytes", "payloads", "tags")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.counts = array("q")
        self.first_ns = array("q")
        self.tags = array("I")
        self.payload_bytes = 0

    @property
    def memory_bytes(self) -> int:
        return self.payload_bytes + len(self.payloads) * RECORD_OVERHEAD_BYTES

    def columns(self) -> Columns:
        """The records as columns; the chunk must not grow any more."""
        counts = np.frombuffer(self.counts, np.int64)
        starts = np.cumsum(counts) - counts
        recv_ns = np.repeat(np.frombuffer(self.first_ns, np.int64) - starts, counts)
        recv_ns += np.arange(len(recv_ns))
        tags = np.repeat(np.frombuffer(self.tags, np.uint32), counts)
        return Columns(
            recv_ns,
            (tags >> KIND_BITS).astype(np.uint16),
            tags.astype(np.uint8),
            self.payloads,
        )


@dataclass(slots=True)
class _Loss:
    start_ns: int
    end_ns: int
    records: int = 1


class PendingRecords:
    """A queue of chunks with a bound; beyond it records are counted as lost, connection by connection."""

    def __init__(self, bytes_max: int, next_offset: int, last_recv_ns: int) -> None:
        self.memory_bytes = 0
        self.next_offset = next_offset
        self.lost_records = 0
        self._bytes_max = bytes_max
        self._last_recv_ns = last_recv_ns
        self._chunks: deque[Chunk] = deque()
        self._tail: Chunk | None = None
        self._losses: dict[int, _Loss] = {}
        self._oldest_taken_ns: int | None = None

    @property
    def oldest_ns(self) -> int | None:
        """Receive time of the oldest record that was not released yet."""
        if self._oldest_taken_ns is None and self._chunks:
            return self._chunks[0].first_ns[0]
        return self._oldest_taken_ns

    def extend(self, payloads: Sequence[bytes], size: int, connection: int, kind: int, recv_ns: int) -> int:
        """Queue records of `size` bytes together, received from `recv_ns` on, 1 ns apart.

        Where there is no room for all of them, each is queued or counted as lost by itself. Returns the memory
        then in use.
        """
        count = len(payloads)
        if recv_ns <= self._last_recv_ns:
            recv_ns = self._last_recv_ns + 1
        memory = self.memory_bytes + size + count * RECORD_OVERHEAD_BYTES
        if memory > self._bytes_max or self._losses:
            if count > 1:
                for at, payload in enumerate(payloads, recv_ns):
                    self.extend((payload,), len(payload), connection, kind, at)
                return self.memory_bytes
            if not self._fits(memory, kind):
                self._last_recv_ns = recv_ns
                self._lose(connection, recv_ns)
                return self.memory_bytes
        self._last_recv_ns = recv_ns + count - 1
        tail = self._tail
        if tail is None:
            tail = self._tail = Chunk()
            self._chunks.append(tail)
        tail.payloads.extend(payloads)
        tail.counts.append(count)
        tail.first_ns.append(recv_ns)
        tail.tags.append(connection << KIND_BITS | kind)
        tail.payload_bytes += size
        if tail.payload_bytes >= BLOCK_BYTES_MAX:
            self._tail = None
        self.memory_bytes = memory
        self.next_offset += count
        return memory

    def take(self, bytes_max: int) -> list[Chunk]:
        """Hand out the oldest chunks, at most about `bytes_max` together; they count until `release`."""
        taken: list[Chunk] = []
        size = 0
        while self._chunks and size < bytes_max:
            chunk = self._chunks.popleft()
            size += chunk.memory_bytes
            taken.append(chunk)
        if not self._chunks:
            self._tail = None
        if taken:
            self._oldest_taken_ns = taken[0].first_ns[0]
        return taken

    def release(self, chunks: list[Chunk]) -> None:
        """The chunks are durable: give their room back, and tell of what was lost once there is enough."""
        self.memory_bytes -= sum(chunk.memory_bytes for chunk in chunks)
        self._oldest_taken_ns = None

    def has_losses_to_tell(self) -> bool:
        """Records were lost, and there is room again to say so."""
        return bool(self._losses) and self.memory_bytes <= self._bytes_max * RESUME_FRACTION

    def tell_losses(self, cause: str) -> None:
        """Queue a gap event for every connection that lost records, and accept records again."""
        losses, self._losses = self._losses, {}
        for connection, loss in sorted(losses.items()):
            gap = Gap(
                start_ns=loss.start_ns,
                end_ns=loss.end_ns,
                cause=cause,
                connection=connection,
                records_lost=loss.records,
            )
            payload = encode_event(gap)
            self.extend((payload,), len(payload), connection, RecordKind.EVENT, loss.end_ns)

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def _fits(self, memory: int, kind: int) -> bool:
        if kind == RecordKind.EVENT:
            return memory <= self._bytes_max + EVENT_RESERVE_BYTES
        return self.memory_bytes == 0 and not self._losses  # one record alone is taken, whatever its size

    def _lose(self, connection: int, recv_ns: int) -> None:
        self.lost_records += 1
        loss = self._losses.get(connection)
        if loss is None:
            self._losses[connection] = _Loss(recv_ns, recv_ns)
        else:
            loss.end_ns = recv_ns
            loss.records += 1
