"""Where a stream stands when a writer opens it: its id, its next offset, and how the last life ended.

Offsets are the proof's ground: none may be used twice. The spool alone cannot know how far they have been used: a
lake copied while it records, or restored in parts, has a spool that is older than its tables. So the tables are
asked too, and where they know more than the spool, a new epoch begins, as a database begins a new timeline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lake.spool.identity import (
    begin_epoch,
    begun_after,
    closed_at,
    read_identity,
    restore_identity,
    unmark_closed,
)
from lake.spool.segment import SEALED_SUFFIX, SegmentParts, segment_paths, take_apart


@dataclass(frozen=True, slots=True)
class PreviousLife:
    """The stream's last writer; nothing was recorded between its last record and the present one's first."""

    last_recv_ns: int
    """Receive time of its last durable record, as far as the spool or the tables know of it."""
    clean: bool
    """It closed the stream; False after a crash, a kill or a power cut."""
    restored: bool = False
    """The lake goes on from a copy, or an older spool was put beside its tables."""


@dataclass(frozen=True, slots=True)
class StreamReach:
    """What the tables know of a stream."""

    offset: int = 0
    """Offset after the last record, of the stream id asked about, whose rows any table has."""
    last_ns: int = 0
    """Newest receive time, ns since the epoch, of any epoch of the stream; 0 where there is none."""


AskTables = Callable[[str, str | None], StreamReach]
"""Called with a stream's name and the stream id in question, if there is one."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """From where a new writer goes on."""

    stream: str
    next_offset: int
    next_number: int
    previous: PreviousLife | None


def nothing_known(name: str, stream: str | None) -> StreamReach:
    """For a spool without tables."""
    del name, stream
    return StreamReach()


def open_stream(folder: Path, ask: AskTables = nothing_known) -> StreamState:
    """Find out where the stream stopped; the caller holds its lock and has run recovery.

    A new epoch begins unless the end of the newest segment is certain and no table is ahead of it.
    """
    paths = segment_paths(folder, SEALED_SUFFIX)
    newest = take_apart(paths[-1]) if paths else None
    closed_offset = closed_at(folder)
    identity = read_identity(folder)
    after = begun_after(folder)
    begun = identity is not None and after is not None and (newest is None or newest.stream == after)
    stream: str | None
    end_offset: int | None
    if begun:
        stream, end_offset = identity, 0  # nothing recorded in it yet
    else:
        stream = newest.stream if newest is not None else None
        end_offset = _certain_end(newest, closed_offset) if newest is not None else None
    reach = ask(folder.name, stream or identity)
    ahead = end_offset is not None and reach.offset > end_offset
    if stream is None or end_offset is None or ahead:
        stream, end_offset = begin_epoch(folder, newest.stream if newest is not None else None), 0
    elif stream != identity:
        restore_identity(folder, stream)
    unmark_closed(folder)
    clean = closed_offset is not None and closed_offset == end_offset
    return StreamState(
        stream,
        end_offset,
        newest.number + 1 if newest is not None else 0,
        _previous(newest, reach.last_ns, clean=clean, restored=begun or ahead),
    )


def _certain_end(newest: SegmentParts, closed_offset: int | None) -> int | None:
    """The offset after the last record ever appended, or None where something that held it is gone."""
    if newest.seal is None or newest.header is None:
        return None
    end_offset = newest.seal.header.first_offset
    return None if closed_offset is not None and closed_offset > end_offset else end_offset


def _previous(
    newest: SegmentParts | None, known_ns: int, *, clean: bool, restored: bool
) -> PreviousLife | None:
    last_ns = _last_recv_ns(newest) if newest is not None else 0
    if not last_ns and not known_ns:
        return None
    return PreviousLife(max(last_ns, known_ns), clean=clean and not restored, restored=restored)


def _last_recv_ns(newest: SegmentParts) -> int:
    """Receive time of the newest segment's last record; when it was made, where none can be read; 0 if unknown."""
    if newest.blocks:
        return newest.blocks[-1].header.last_recv_ns
    return newest.header.created_ns if newest.header is not None else 0
