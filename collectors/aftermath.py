"""Since when a stream lacks data when its collector starts again: read from what the last life left behind.

Mostly that is the last record of all. Not so where data was not flowing any more when the life ended:

- a connection was lost and not yet back: it lacks what came since its own last frame;
- the life ended before its first frame: the gap that it was to close is still open, and begins where it said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from collectors.deribit.rpc import is_notification
from collectors.deribit.session import STOPPED, Unrecorded
from lake.errors import SchemaDriftError
from lake.events import Disconnected, Event, Gap, SessionStarted, decode_event
from lake.spool import Batch, PreviousLife, RecordKind, read_segment, sealed_segments

CAUSE_STOPPED: Final = "stopped"
CAUSE_CRASHED: Final = "crashed"


@dataclass(slots=True)
class _Evidence:
    """What one segment tells of the life that ended in it."""

    started: SessionStarted | None = None
    flowed_ns: dict[int, int] = field(default_factory=dict)
    """When data last came, by connection, unless a gap was still open."""
    broken: set[int] = field(default_factory=set)
    """Connections that were lost, without the end of the gap told since."""

    def frame(self, connection: int, recv_ns: int) -> None:
        """Data came; while a gap is open not all of it yet, so that the gap is what counts."""
        began_with_gap = self.started is not None and self.started.unrecorded_since_ns is not None
        whole = connection in self.flowed_ns or not began_with_gap
        if whole and connection not in self.broken:
            self.flowed_ns[connection] = recv_ns

    def event(self, event: Event) -> None:
        """Something of our own was written down."""
        match event:
            case SessionStarted():
                self.started = event
                self.flowed_ns.clear()
                self.broken.clear()
            case Gap(connection=int(connection), end_ns=end_ns, records_lost=None):
                self.flowed_ns[connection] = end_ns
                self.broken.discard(connection)
            case Disconnected(connection=connection, reason=reason) if reason != STOPPED:
                self.broken.add(connection)


def unrecorded(folder: Path, previous: PreviousLife | None) -> Unrecorded | None:
    """What the stream in `folder` lacks up to now; None for a new stream. All segments must be sealed."""
    if previous is None:
        return None
    cause = CAUSE_STOPPED if previous.clean else CAUSE_CRASHED
    broken: set[int] = set()
    # A segment in which data flows settles it; those without are small.
    for segment in reversed(sealed_segments(folder)):
        evidence = _read(segment.path)
        broken |= evidence.broken
        started = evidence.started
        since_ns = previous.last_recv_ns if started is None else started.unrecorded_since_ns or started.at_ns
        if evidence.flowed_ns:
            earlier_ns = {number: evidence.flowed_ns.get(number, since_ns) for number in broken}
            return Unrecorded(previous.last_recv_ns, cause, earlier_ns)
        if started is not None:
            crashed = CAUSE_CRASHED in (cause, started.unrecorded_cause)
            return Unrecorded(since_ns, CAUSE_CRASHED if crashed else cause)
    return Unrecorded(previous.last_recv_ns, cause)


def _read(path: Path) -> _Evidence:
    evidence = _Evidence()
    for batch in read_segment(path, skip_damage=True):
        if not isinstance(batch, Batch):
            continue
        columns = zip(batch.kind, batch.connection, batch.recv_ns, batch.payloads, strict=True)
        for kind, connection, recv_ns, payload in columns:
            if kind == RecordKind.FRAME:
                if is_notification(payload):
                    evidence.frame(int(connection), int(recv_ns))
            elif kind == RecordKind.EVENT:
                try:
                    evidence.event(decode_event(payload))
                except SchemaDriftError:
                    continue  # of a later version: ingest puts it into quarantine
    return evidence
