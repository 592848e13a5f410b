"""Since when a stream lacks data when its collector starts again: read from what the last life left behind.

The last life told of every gap when it began and when it ended, and now and then of all that were open. So its end
need not be read further back than the last such statement. What it says is then:

- A connection that was lost and not yet back lacks what came since its own last frame.
- All others lack what came since the last record of all; or since the gap that this life was to close, where it
  ended before its connections were there.
- A book without its snapshot, a silence, a channel refused ended with the life: from there on everything is lacking.
- Trades that were still to be fetched are still to be fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from collectors.deribit.rpc import is_notification
from collectors.deribit.session import Unrecorded
from collectors.holes import CAUSE_CRASHED, CAUSE_STOPPED, Key, is_of_connection, is_to_heal, key_of
from lake.errors import SchemaDriftError
from lake.events import Event, Gap, GapOpened, GapsOpen, GapWithdrawn, SessionStarted, decode_event
from lake.spool import Batch, PreviousLife, RecordKind, read_segment, sealed_segments

Found = Event | None
"""What a record says of gaps; None: data came."""


@dataclass(slots=True)
class _Tail:
    """What the records say, in their order, from a start or a statement on."""

    started: SessionStarted | None = None
    open: dict[Key, GapOpened] = field(default_factory=dict)
    data: bool = False

    def take(self, found: Found) -> None:
        match found:
            case None:
                self.data = True
            case SessionStarted():
                self.started, self.data = found, False
                self.open = {key_of(gap): gap for gap in found.open_gaps}
            case GapsOpen():
                self.open = {key_of(gap): gap for gap in found.gaps}
            case GapOpened():
                self.open[key_of(found)] = found
            case Gap() | GapWithdrawn():
                self.open.pop(key_of(found), None)

    def verdict(self, last_ns: int, cause: str) -> Unrecorded:
        """What is lacking since this life ended with the record of `last_ns`."""
        lost = [gap for gap in self.open.values() if is_of_connection(gap)]
        carried_ns = self.started.unrecorded_since_ns if self.started is not None else None
        began_ns = last_ns if self.started is None else carried_ns or self.started.at_ns
        since_ns = last_ns if self.data or lost else began_ns
        if CAUSE_CRASHED in [*(gap.cause for gap in lost), self._carried_cause(carried_ns, since_ns)]:
            cause = CAUSE_CRASHED
        rest = [gap for gap in self.open.values() if not is_of_connection(gap)]
        return Unrecorded(
            since_ns,
            cause,
            {gap.connection: gap.start_ns for gap in lost if gap.connection is not None},
            tuple(gap if is_to_heal(gap) else _ended(gap, since_ns) for gap in rest),
        )

    def _carried_cause(self, carried_ns: int | None, since_ns: int) -> str | None:
        """Why the life before this one ended, where its gap is still the one that is open."""
        return self.started.unrecorded_cause if self.started is not None and since_ns == carried_ns else None


def unrecorded(folder: Path, previous: PreviousLife | None) -> Unrecorded | None:
    """What the stream in `folder` lacks up to now; None for a new stream. All segments must be sealed."""
    if previous is None:
        return None
    told: list[list[Found]] = []
    for segment in reversed(sealed_segments(folder)):
        told.append(list(_read(segment.path)))
        if _is_enough(told):
            break
    tail = _Tail()
    for found in (found for part in reversed(told) for found in part):
        tail.take(found)
    return tail.verdict(previous.last_recv_ns, CAUSE_STOPPED if previous.clean else CAUSE_CRASHED)


def _is_enough(told: list[list[Found]]) -> bool:
    """Whether the newest parts of a stream, newest first, say all that there is to know of its end."""
    if any(isinstance(found, SessionStarted) for found in told[-1]):
        return True
    flowed = any(found is None for part in told for found in part)
    return flowed and any(isinstance(found, GapsOpen) for found in told[-1])


def _ended(gap: GapOpened, end_ns: int) -> GapOpened:
    """The gap as the end of the life ended it, unless one before did."""
    if gap.end_ns is not None:
        return gap
    return msgspec.structs.replace(gap, end_ns=max(end_ns, gap.start_ns))


def _read(path: Path) -> Iterator[Found]:
    """What a segment says of gaps, and once between two such events that data came."""
    flowing = False
    for batch in read_segment(path, skip_damage=True):
        if not isinstance(batch, Batch):
            continue
        for kind, payload in zip(batch.kind.tolist(), batch.payloads, strict=True):
            if kind == RecordKind.EVENT:
                try:
                    event = decode_event(payload)
                except SchemaDriftError:
                    continue  # of a later version: ingest puts it into quarantine
                flowing = False
                yield event
            elif kind == RecordKind.FRAME and not flowing and is_notification(payload):
                flowing = True
                yield None
