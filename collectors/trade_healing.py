"""Trades that did not come are asked for: the venue hands them out for a day.

A hole in the numbers of an instrument is asked for by number. When a connection has been away, or the collector
itself, all trades of the time between are listed at once: an instrument that trades once a day would show the hole when
the venue has forgotten what was in it. The answers go into the stream as they came, and ingest makes rows of them.

Every hole is told when it opens. It ends as a `Gap`, from the trade before it to the one after, healed or not; what
was listed after an absence ends as a healed gap of that channel within the gap of the connection. What is not healed
yet when the collector stops or dies is healed by its next life.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

from collectors.continuity import S_IN_NS, Hole, Leap, TradeSequences
from collectors.deribit.channels import is_all_trades
from collectors.deribit.rest import RestClient
from collectors.deribit.trade_answers import BY_INSTRUMENT, BY_TIME, TradeNumber, trade_numbers
from collectors.sink import COLLECTOR_ITSELF, Tape
from lake.errors import TransientError, VenueRefusedError
from lake.events import Gap, GapOpened

CAUSE_TRADES: Final = "missing_trades"
CAUSE_LEAP: Final = "implausible_sequence"
TRADES_KEPT_S: Final = 24 * 3600
"""So long the venue hands out trades that have happened (measured; its documentation says the same)."""
TRADES_PER_ANSWER_MAX: Final = 1000
TRADES_PER_REQUEST: Final = 500
"""Answers hold neighbours of the range as well, so it is smaller than an answer can be."""
LISTED_MARGIN_S: Final = 5.0
"""Trades are listed by the venue's clock, for a time that ours has measured."""
Question = dict[str, str | int]
_MS_IN_NS: Final = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealingPace:
    """How patient healing is, in seconds."""

    tick_s: float = 0.5
    resync_retry_s: float = 10.0
    """A channel is not subscribed anew more often; every time that was in vain doubles this."""
    resync_retry_max_s: float = 300.0
    trades_patience_s: float = 2.0
    """Trades that come late or in another order are waited for so long before they are asked for."""
    trades_retry_s: float = 5.0
    trades_attempts: int = 6
    """Answers that lack the trades before they count as lost."""


def is_to_heal(gap: GapOpened) -> bool:
    """Whether trades alone are lacking: single ones, or those of a channel for a time, whatever the cause."""
    return gap.first_seq is not None or (gap.channel is not None and is_all_trades(gap.channel))


@dataclass(slots=True)
class _Case:
    """A hole in an instrument's trades that is being dealt with."""

    hole: Hole
    gap: GapOpened
    numbers: TradeSequences
    due_s: float
    answers: int = 0

    @property
    def lost(self) -> int:
        return sum(last - first + 1 for first, last in self.numbers.missing(self.hole))


@dataclass(slots=True)
class _Absence:
    """A time, in ms, for which the trades of a channel are to be listed; moves on page by page."""

    gap: GapOpened
    numbers: TradeSequences
    start_ms: int
    end_ms: int
    due_s: float


class TradeHealer:
    """Asks while `run` runs. `numbers` are those that have come in this life."""

    def __init__(self, numbers: TradeSequences, tape: Tape, pace: HealingPace) -> None:
        self.answers = 0
        """Answers with trades so far."""
        self._numbers = numbers
        self._tape = tape
        self._pace = pace
        self._cases: list[_Case] = []
        self._absences: list[_Absence] = []

    @property
    def waiting(self) -> int:
        """How many holes and absences are being dealt with."""
        return len(self._cases) + len(self._absences)

    # -- what there is to heal

    def missing(self, connection: int, channel: str, hole: Hole) -> None:
        """Trades did not come, or not yet."""
        gap = GapOpened(
            start_ns=hole.after_ns, cause=CAUSE_TRADES, connection=connection, channel=channel,
            instrument=hole.instrument, end_ns=hole.before_ns, first_seq=hole.first, last_seq=hole.last,
        )  # fmt: skip
        self._tape.holes.open(gap)
        self._cases.append(_Case(hole, gap, self._numbers, self._due_s()))

    def leapt(self, connection: int, channel: str, leap: Leap) -> None:
        """A trade's number cannot be: what it hides, if anything, is within the time since the one before."""
        gap = GapOpened(
            start_ns=leap.after_ns, cause=CAUSE_LEAP, connection=connection, channel=channel,
            instrument=leap.instrument, end_ns=leap.at_ns,
        )  # fmt: skip
        self._tape.holes.close(gap, leap.at_ns, records_lost=0)

    def absent(self, channel: str, gap: Gap) -> None:
        """Everything was lacking in the time of `gap`, trades of `channel` too."""
        part = GapOpened(
            start_ns=gap.start_ns,
            cause=gap.cause,
            connection=gap.connection,
            channel=channel,
            end_ns=gap.end_ns,
        )
        self._tape.holes.open(part)
        self._list(part, self._numbers)

    def inherit(self, gap: GapOpened) -> None:
        """Heal what the last life did not (`is_to_heal`); the stream tells of it already.

        Numbers that life saw are unknown to this one, so it is judged by itself.
        """
        numbers = TradeSequences()
        if gap.first_seq is None or gap.last_seq is None or gap.instrument is None:
            self._list(gap, numbers)
            return
        end_ns = gap.start_ns if gap.end_ns is None else gap.end_ns
        numbers.note(gap.instrument, gap.first_seq - 1, gap.start_ns)
        hole = numbers.note(gap.instrument, gap.last_seq + 1, end_ns)
        if isinstance(hole, Hole):
            self._cases.append(_Case(hole, gap, numbers, self._due_s()))
        else:  # numbers that an earlier version took for missing, and that cannot be
            self._tape.holes.close(gap, end_ns)

    def finish(self) -> None:
        """Tell what is missing now; the next life goes on healing it."""
        for case in self._cases:
            self._close(case)
            if case.lost:
                self._tape.holes.open(case.gap)
        self._cases.clear()

    def _list(self, gap: GapOpened, numbers: TradeSequences) -> None:
        end_ns = self._tape.now_ns() if gap.end_ns is None else gap.end_ns
        margin_ns = int(LISTED_MARGIN_S * S_IN_NS)
        start_ms, end_ms = (gap.start_ns - margin_ns) // _MS_IN_NS, (end_ns + margin_ns) // _MS_IN_NS
        self._absences.append(_Absence(gap, numbers, start_ms, end_ms, self._due_s()))

    def _due_s(self) -> float:
        return time.monotonic() + self._pace.trades_patience_s

    # -- healing

    async def run(self, rest: RestClient) -> None:
        """Deal with one absence or case after the other until cancelled; REST is bounded in rate."""
        while True:
            await asyncio.sleep(self._pace.tick_s)
            for absence in [absence for absence in self._absences if absence.due_s <= time.monotonic()]:
                healed = await self._listed(absence, rest)
                if healed is None:
                    absence.due_s = time.monotonic() + self._pace.trades_retry_s
                else:
                    self._absences.remove(absence)
                    self._tape.holes.close(
                        absence.gap, absence.gap.end_ns or self._tape.now_ns(), healed=healed
                    )
            for case in [case for case in self._cases if case.due_s <= time.monotonic()]:
                if self._may_be_listed(case):
                    continue
                if await self._settled(case, rest):
                    self._cases.remove(case)
                    self._close(case)
                    case.numbers.give_up(case.hole)
                else:
                    case.due_s = time.monotonic() + self._pace.trades_retry_s

    def _may_be_listed(self, case: _Case) -> bool:
        """Whether it lies in an absence that is not listed yet, and is then no hole of its own."""
        return any(
            case.numbers is absence.numbers and case.hole.after_ns <= (absence.gap.end_ns or 0)
            for absence in self._absences
        )

    async def _listed(self, absence: _Absence, rest: RestClient) -> bool | None:
        """List the trades of an absence, page by page; whether they are had, None: try again.

        A page begins at the millisecond in which the one before ended, because that may have more trades.
        """
        channel = absence.gap.channel or ""
        _, kind, currency, _ = channel.split(".")
        while True:
            question: Question = {
                "currency": currency, "kind": kind, "sorting": "asc", "count": TRADES_PER_ANSWER_MAX,
                "start_timestamp": absence.start_ms, "end_timestamp": absence.end_ms,
            }  # fmt: skip
            if self._tape.now_ns() // _MS_IN_NS - absence.start_ms > TRADES_KEPT_S * 1000:
                _log.error("trades of %s while away: too long ago for the venue to have them all", channel)
                return False
            try:
                found = await self._ask(BY_TIME, question, rest)
            except TransientError as error:
                _log.warning("trades of %s while away: %s", channel, error)
                return None
            except VenueRefusedError as error:
                _log.error("trades of %s while away: %s", channel, error)
                return False
            now_ns = self._tape.now_ns()
            for trade in sorted(found, key=lambda trade: trade.trade_seq):
                hole = absence.numbers.note(trade.instrument_name, trade.trade_seq, now_ns)
                if isinstance(hole, Hole) and absence.numbers is self._numbers:
                    self.missing(COLLECTOR_ITSELF, channel, hole)
            if len(found) < TRADES_PER_ANSWER_MAX:
                return True
            times = [trade.timestamp for trade in found if trade.timestamp <= absence.end_ms]
            absence.start_ms = max([absence.start_ms + 1, *times])

    async def _settled(self, case: _Case, rest: RestClient) -> bool:
        """Ask for what a case lacks; whether there is nothing left to be hoped for."""
        for first, last in case.numbers.missing(case.hole):
            if self._tape.now_ns() - case.hole.before_ns > TRADES_KEPT_S * S_IN_NS:
                return True
            try:
                await self._fetch(case, first, last, rest)
            except TransientError as error:
                _log.warning("trades %d to %d of %s: %s", first, last, case.hole.instrument, error)
                return False
            except VenueRefusedError as error:
                _log.error("trades %d to %d of %s: %s", first, last, case.hole.instrument, error)
                return True
            case.answers += 1
        return not case.lost or case.answers >= self._pace.trades_attempts

    async def _fetch(self, case: _Case, first: int, last: int, rest: RestClient) -> None:
        """Ask for a range of sequence numbers, and take note of what is in the answers."""
        instrument = case.hole.instrument
        for start in range(first, last + 1, TRADES_PER_REQUEST):
            end = min(start + TRADES_PER_REQUEST - 1, last)
            question: Question = {
                "instrument_name": instrument, "start_seq": start, "end_seq": end,
                "count": TRADES_PER_ANSWER_MAX, "sorting": "asc",
            }  # fmt: skip
            found = await self._ask(BY_INSTRUMENT, question, rest)
            now_ns = self._tape.now_ns()
            for trade in found:
                if trade.instrument_name == instrument and start <= trade.trade_seq <= end:
                    case.numbers.note(instrument, trade.trade_seq, now_ns)

    async def _ask(self, method: str, question: Question, rest: RestClient) -> list[TradeNumber]:
        """The trades in the venue's answer, which is recorded."""
        reply = await rest.get(method, question)
        self._tape.response(reply.as_record())
        found = trade_numbers(reply.result)
        self.answers += 1
        return found

    def _close(self, case: _Case) -> None:
        """Tell the gap of a case that is over; trades that came by themselves or by a listing leave none."""
        lost = case.lost
        if not lost and not case.answers:
            self._tape.holes.withdraw(case.gap)
            return
        self._tape.holes.close(case.gap, case.hole.before_ns, healed=not lost, records_lost=lost)
