"""Where a stream stands when a writer opens it: its id, its next offset, and how the last life ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lake.spool.format import SEGMENT_HEADER_BYTES
from lake.spool.identity import (
    closed_at,
    is_copied,
    new_identity,
    read_identity,
    restore_identity,
    unmark_closed,
)
from lake.spool.segment import SEALED_SUFFIX, SegmentParts, segment_paths, take_apart


@dataclass(frozen=True, slots=True)
class PreviousLife:
    """The stream's last writer; nothing was recorded between its last record and the present one's first."""

    last_recv_ns: int
    """Receive time of its last durable record."""
    clean: bool
    """It closed the stream; False after a crash, a kill or a power cut."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """From where a new writer goes on."""

    stream: str
    next_offset: int
    next_number: int
    previous: PreviousLife | None


def open_stream(folder: Path) -> StreamState:
    """Find out where the stream stopped; the caller holds its lock and has run recovery.

    A new epoch begins unless the end of the newest segment is certain, and in a copy whose original may go on, so that
    no offset is used twice.
    """
    paths = segment_paths(folder, SEALED_SUFFIX)
    newest = take_apart(paths[-1]) if paths else None
    closed_offset = closed_at(folder)
    end_offset = _certain_end(newest, closed_offset) if newest is not None else None
    stream = read_identity(folder)
    if newest is None or end_offset is None or is_copied(folder):
        stream, end_offset = new_identity(folder), 0
    elif stream != newest.stream:
        stream = newest.stream
        restore_identity(folder, stream)
    unmark_closed(folder)
    if newest is None:
        return StreamState(stream, 0, 0, None)
    clean = closed_offset is not None and closed_offset == end_offset
    return StreamState(stream, end_offset, newest.number + 1, _previous(newest, clean=clean))


def _certain_end(newest: SegmentParts, closed_offset: int | None) -> int | None:
    """The offset after the last record ever appended, or None where something that held it is gone."""
    if newest.seal is None or newest.header is None:
        return None
    end_offset = newest.seal.header.first_offset
    return None if closed_offset is not None and closed_offset > end_offset else end_offset


def _previous(newest: SegmentParts, *, clean: bool) -> PreviousLife | None:
    blocks = newest.blocks
    if blocks:
        return PreviousLife(blocks[-1].header.last_recv_ns, clean)
    if newest.header is not None and len(newest.data) >= SEGMENT_HEADER_BYTES:
        return PreviousLife(newest.header.created_ns, clean=False)
    return None
