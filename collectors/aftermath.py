"""Since when a stream lacks data when its collector starts again: read from what the last life left behind.

Mostly that is the last record of all. Not so where data was not flowing any more when the life ended:

- a connection was lost and not yet back: it lacks what came since its own last frame;
- the life ended before its first frame: the gap that it was to close is still open, and begins where it said.

Not known here is a connection that had not one frame in a short life of which others had some: for it the last
record of all counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from collectors.deribit.rpc import is_notification
from collectors.deribit.session import STOPPED, Unrecorded
from collectors.healing import CAUSE_SILENCE
from lake.errors import SchemaDriftError
from lake.events import Disconnected, Event, Gap, SessionStarted, decode_event
from lake.spool import Batch, PreviousLife, RecordKind, read_segment, sealed_segments

CAUSE_STOPPED: Final = "stopped"
CAUSE_CRASHED: Final = "crashed"


SUBSCRIBING_MAX_NS: Final = 30_000_000_000
"""Data that flowed for so long did so under all subscriptions: the first gap of that life has been told."""


@dataclass(slots=True)
class _Evidence:
    """What the newest records tell of the life that ended with them; connections by number."""

    started: SessionStarted | None = None
    data_ns: dict[int, int] = field(default_factory=dict)
    """When data last came, before the connection was lost."""
    told: set[int] = field(default_factory=set)
    """Connections with the end of a gap written down."""
    broken: set[int] = field(default_factory=set)
    """Connections that were lost, without the end of that gap written down."""

    def data(self, connection: int, recv_ns: int) -> None:
        """A frame of data came. While a gap is open it is not all data, so that the gap is what counts."""
        if connection not in self.broken:
            self.data_ns[connection] = recv_ns

    def event(self, event: Event) -> None:
        """Something of our own was written down."""
        match event:
            case SessionStarted():
                self.started = event
                self.data_ns.clear()
                self.told.clear()
                self.broken.clear()
            case Gap(
                connection=int(connection), end_ns=end_ns, records_lost=None, channel=None, cause=cause
            ) if cause != CAUSE_SILENCE:
                self.broken.discard(connection)
                self.told.add(connection)
                self.data_ns[connection] = end_ns
            case Disconnected(connection=connection, reason=reason) if reason != STOPPED:
                self.broken.add(connection)

    def after(self, older: _Evidence) -> _Evidence:
        """Both together: `older` is of the records just before."""
        still_broken = older.broken - self.told
        data_ns = {**older.data_ns, **{c: ns for c, ns in self.data_ns.items() if c not in still_broken}}
        return _Evidence(older.started, data_ns, older.told | self.told, still_broken | self.broken)

    def verdict(self, last_ns: int, cause: str) -> Unrecorded:
        """What is lacking since this life ended with the record of `last_ns`."""
        if self.started is None:
            return Unrecorded(last_ns, cause, {c: self.data_ns.get(c, last_ns) for c in self.broken})
        carried_ns = self.started.unrecorded_since_ns
        since_ns = self.started.at_ns if carried_ns is None else carried_ns
        flowed = self.data_ns.keys() if carried_ns is None else self.told
        if flowed:
            earlier_ns = {c: self.data_ns.get(c, since_ns) for c in self.broken}
            return Unrecorded(
                last_ns, cause, {**earlier_ns, **dict.fromkeys(self.data_ns.keys() - flowed, since_ns)}
            )
        crashed = CAUSE_CRASHED in (cause, self.started.unrecorded_cause)
        return Unrecorded(since_ns, CAUSE_CRASHED if crashed else cause)


def unrecorded(folder: Path, previous: PreviousLife | None) -> Unrecorded | None:
    """What the stream in `folder` lacks up to now; None for a new stream. All segments must be sealed."""
    if previous is None:
        return None
    evidence = _Evidence()
    for segment in reversed(sealed_segments(folder)):
        evidence = evidence.after(_read(segment.path))
        settled = evidence.data_ns and segment.start_ns <= previous.last_recv_ns - SUBSCRIBING_MAX_NS
        if evidence.started is not None or settled:
            break
    return evidence.verdict(previous.last_recv_ns, CAUSE_STOPPED if previous.clean else CAUSE_CRASHED)


def _read(path: Path) -> _Evidence:
    evidence = _Evidence()
    for batch in read_segment(path, skip_damage=True):
        if not isinstance(batch, Batch):
            continue
        columns = zip(batch.kind, batch.connection, batch.recv_ns, batch.payloads, strict=True)
        for kind, connection, recv_ns, payload in columns:
            if kind == RecordKind.FRAME:
                if is_notification(payload):
                    evidence.data(int(connection), int(recv_ns))
            elif kind == RecordKind.EVENT:
                try:
                    evidence.event(decode_event(payload))
                except SchemaDriftError:
                    continue  # of a later version: ingest puts it into quarantine
    return evidence
