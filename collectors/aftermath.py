"""Since when a stream lacks data when its collector starts again: read from what the last life left behind.

The last life told of every gap when it began and when it ended, and now and then of all that were open. So its end
need not be read further back than the last such statement. What it says is then:

- A connection that was lost and not yet back lacks what came since its own last frame. That also holds where it was
  lost with an earlier life, and this one ended before its connections were dealt: its start says so.
- All others lack what came since the last record of all; or since the gap that this life was to close, where it
  ended before its connections were there.
- A book without its snapshot, a silence, a channel refused ended with the life: from there on everything is lacking.
- Trades that were still to be fetched, or would have been when that ended, are still to be fetched; and the next of
  an instrument follows the last seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from collectors.continuity import TradeSequences
from collectors.deribit import wire
from collectors.deribit.rpc import is_notification
from collectors.deribit.session import Unrecorded
from collectors.deribit.trade_answers import ANSWERS, TRADES_MARK, TradeNumber, notified_trades, trade_numbers
from collectors.holes import CAUSE_CRASHED, CAUSE_RESTORED, CAUSE_STOPPED, Key, is_of_connection, key_of
from lake.errors import SchemaDriftError, VenueRefusedError
from lake.events import (
    Event,
    Gap,
    GapOpened,
    GapsOpen,
    GapWithdrawn,
    SessionStarted,
    decode_event,
    decode_response,
)
from lake.spool import Batch, PreviousLife, RecordKind, read_segment, sealed_segments

Found = Event | list[TradeNumber]
"""What a record says of gaps; or data came, with trades in it or without."""


@dataclass(slots=True)
class _Tail:
    """What the records say, in their order, from a start or a statement on."""

    started: SessionStarted | None = None
    open: dict[Key, GapOpened] = field(default_factory=dict)
    flowing: bool = False
    """Data came, or every connection that still lacks the time before this life has its own gap in `open`."""
    trades: TradeSequences = field(default_factory=TradeSequences)

    def take(self, found: Found) -> None:
        match found:
            case list():
                self.flowing = True
                for trade in found:
                    self.trades.note(trade.instrument_name, trade.trade_seq, 0)
            case SessionStarted():
                self.started, self.flowing, self.trades = found, False, _begun(found.newest_trades)
                self.open = {key_of(gap): gap for gap in found.open_gaps}
            case GapsOpen():
                self.trades = _begun(found.newest_trades)
                self.open = {key_of(gap): gap for gap in found.gaps}
                self.flowing = self.flowing or any(map(is_of_connection, found.gaps))
            case GapOpened():
                self.open[key_of(found)] = found
                self.flowing = self.flowing or is_of_connection(found)
            case Gap() | GapWithdrawn():
                self.open.pop(key_of(found), None)

    def verdict(self, last_ns: int, cause: str) -> Unrecorded:
        """What is lacking since this life ended with the record of `last_ns`."""
        lost = [gap for gap in self.open.values() if is_of_connection(gap)]
        carried_ns = self.started.unrecorded_since_ns if self.started is not None else None
        began_ns = last_ns if self.started is None else carried_ns or self.started.at_ns
        since_ns = last_ns if self.flowing else began_ns
        if CAUSE_CRASHED in [*(gap.cause for gap in lost), self._carried_cause(carried_ns, since_ns)]:
            cause = CAUSE_CRASHED
        rest = [gap for gap in self.open.values() if not is_of_connection(gap)]
        return Unrecorded(
            since_ns,
            cause,
            {gap.connection: gap.start_ns for gap in lost if gap.connection is not None},
            tuple(_ended(gap, since_ns) for gap in rest),
            self.trades.newest(),
        )

    def _carried_cause(self, carried_ns: int | None, since_ns: int) -> str | None:
        """Why the life before this one ended, where its gap is still the one that is open."""
        return self.started.unrecorded_cause if self.started is not None and since_ns == carried_ns else None


def _begun(newest_trades: Mapping[str, int]) -> TradeSequences:
    """What knows of each instrument this number as its highest."""
    trades = TradeSequences()
    for instrument, seq in newest_trades.items():
        trades.note(instrument, seq, 0)
    return trades


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
    if previous.restored:
        return tail.verdict(previous.last_recv_ns, CAUSE_RESTORED)
    return tail.verdict(previous.last_recv_ns, CAUSE_STOPPED if previous.clean else CAUSE_CRASHED)


def _is_enough(told: list[list[Found]]) -> bool:
    """Whether the newest parts of a stream, newest first, say all that there is to know of its end."""
    if any(isinstance(found, SessionStarted) for found in told[-1]):
        return True
    flowed = any(isinstance(found, list) for part in told for found in part)
    return flowed and any(isinstance(found, GapsOpen) for found in told[-1])


def _ended(gap: GapOpened, end_ns: int) -> GapOpened:
    """The gap as the end of the life ended it, unless one before did."""
    if gap.end_ns is not None:
        return gap
    return msgspec.structs.replace(gap, end_ns=max(end_ns, gap.start_ns))


def _read(path: Path) -> Iterator[Found]:
    """What a segment says of gaps, every trade in it, and once between two of these that data came."""
    flowing = False
    for batch in read_segment(path, skip_damage=True):
        if not isinstance(batch, Batch):
            continue
        for kind, payload in zip(batch.kind.tolist(), batch.payloads, strict=True):
            found = _found(RecordKind(kind), payload, flowing=flowing)
            if found is not None:
                flowing = isinstance(found, list)
                yield found


def _found(kind: RecordKind, payload: bytes, *, flowing: bool) -> Found | None:
    """What a record says; None where that is nothing new, or cannot be read: ingest keeps it with its reason."""
    try:
        if kind == RecordKind.EVENT:
            return decode_event(payload)
        if kind == RecordKind.RESPONSE:
            response = decode_response(payload)
            return trade_numbers(wire.reply.decode(response.body).result) if ANSWERS in response.url else None
        if not is_notification(payload):
            return None
        if payload.find(TRADES_MARK) >= 0:
            return notified_trades(payload)
    except (SchemaDriftError, VenueRefusedError, *wire.DECODE_ERRORS):
        return None
    return None if flowing else []
