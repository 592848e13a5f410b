"""What a collector does about what its watch finds missing: ask again where the venue still has it, and say so.

A broken book is subscribed anew, alone; it is whole again with the snapshot that this brings. Missing trades are
asked for over REST; the answers go into the stream as they came, and ingest makes rows of them. Every hole ends as
one `Gap`: of a book from its last good message to the snapshot, of trades from the one before to the one after.

When a connection has been away, or the collector itself, all trades of the time between are listed at once: an
instrument that trades once a day would show the hole when the venue has forgotten what was in it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from collectors.continuity import S_IN_NS, Hole, Silent, Skew, Whole
from collectors.deribit.channels import Channel, classify
from collectors.deribit.rest import RestClient
from collectors.deribit.session import Session
from collectors.deribit.trade_answers import BY_INSTRUMENT, BY_TIME, TradeNumber, trade_numbers
from collectors.deribit.watch import Watch
from collectors.settings import CollectorSettings
from collectors.sink import COLLECTOR_ITSELF, Tape
from lake.errors import TransientError, VenueRefusedError
from lake.events import ClockSkewed, Gap

CAUSE_BOOK: Final = "book_break"
CAUSE_TRADES: Final = "missing_trades"
CAUSE_SILENCE: Final = "silence"
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
    """A book is not subscribed anew more often; every time that brought no snapshot doubles this."""
    resync_retry_max_s: float = 300.0
    trades_patience_s: float = 2.0
    """Trades that come late or in another order are waited for so long before they are asked for."""
    trades_retry_s: float = 5.0
    trades_attempts: int = 6
    """Answers that lack the trades before they count as lost."""


@dataclass(slots=True)
class _Resync:
    """When a book was last subscribed anew, by the monotonic clock, and how often in vain."""

    at_s: float
    in_vain: int = 0


@dataclass(slots=True)
class _Case:
    """A hole in an instrument's trades that is being dealt with."""

    hole: Hole
    connection: int
    channel: str
    due_s: float
    answers: int = 0


@dataclass(slots=True)
class _Absence:
    """A time, in ms, for which the trades of a channel are to be listed; moves on page by page."""

    channel: str
    start_ms: int
    end_ms: int
    due_s: float


class Healer:
    """Watches what `tape` records of `sessions` (which may change) and heals it, while `run` runs.

    `away_since_ns` is since when, ns, nothing had been recorded when this collector began; None: nothing is
    lacking. Counters may be read at any time: `resyncs` counts books subscribed anew, `answers` those of trades.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        settings: CollectorSettings,
        tape: Tape,
        *,
        away_since_ns: int | None = None,
        pace: HealingPace | None = None,
    ) -> None:
        self.watch = Watch(self)
        self.resyncs = 0
        self.answers = 0
        self._sessions = sessions
        self._settings = settings
        self._tape = tape
        self._pace = pace or HealingPace()
        self._broken: dict[str, int] = {}
        self._resyncs: dict[str, _Resync] = {}
        self._resyncing: dict[int, asyncio.Task[None]] = {}
        self._cases: list[_Case] = []
        self._absences: list[_Absence] = []
        self._away_since_ns = away_since_ns
        self._present: dict[int, tuple[int, int]] = {}
        tape.observer = self.watch.observe

    @property
    def waiting(self) -> int:
        """How many broken books, holes in trades and absences are being dealt with."""
        return len(self._broken) + len(self._cases) + len(self._absences)

    async def run(self, rest: RestClient) -> None:
        """Heal until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._heal_trades(rest))
            while True:
                await asyncio.sleep(self._pace.tick_s)
                self._judge_silence()
                for session in self._sessions:
                    if session.established.is_set():
                        self._resync(session, group)
                        self._note_presence(session)

    def finish(self) -> None:
        """Say what is missing now that nothing more will come."""
        self._tape.observer = None
        self.watch.catch_up()
        now_ns = self._tape.now_ns()
        for channel in list(self._broken):
            self._abandon(channel, now_ns)
        for case in self._cases:
            self._close(case)
        self._cases.clear()
        for connection in self.watch.silence:
            self.watch.interrupted(connection, now_ns)

    # -- what the watch tells

    def book_broke(self, connection: int, channel: str) -> None:
        """Remember to subscribe to the book anew."""
        self._broken[channel] = connection

    def book_whole(self, connection: int, channel: str, whole: Whole) -> None:
        """The snapshot has come: the gap can be told."""
        self._broken.pop(channel, None)
        if channel in self._resyncs:
            self._resyncs[channel].in_vain = 0
        self._tell_book(connection, channel, whole.since_ns, whole.at_ns)

    def trades_missing(self, connection: int, channel: str, hole: Hole) -> None:
        """Ask for them, unless they come by themselves."""
        due_s = time.monotonic() + self._pace.trades_patience_s
        self._cases.append(_Case(hole, connection, channel, due_s))

    def silence_ended(self, connection: int, silent: Silent) -> None:
        """Nobody can say what a silent channel would have brought: claim the time."""
        name = silent.channel
        self._tape.event(
            Gap(
                start_ns=silent.since_ns, end_ns=silent.until_ns, cause=CAUSE_SILENCE, connection=connection,
                channel=name, instrument=classify(name).instrument if name else None,
            ),
            connection,
        )  # fmt: skip

    def clock_skewed(self, skew: Skew) -> None:
        """Receive times are worth what our clock is worth: write down how much that is."""
        _log.warning("this machine's clock is %+.3f s from the venue's", skew.offset_ns / S_IN_NS)
        now_ns = self._tape.now_ns()
        self._tape.event(
            ClockSkewed(
                at_ns=now_ns, offset_ns=skew.offset_ns, spread_ns=skew.spread_ns, samples=skew.samples
            )
        )

    # -- books

    def _judge_silence(self) -> None:
        """Look for silent channels, and forget those that are not wanted any more."""
        now_ns = self._tape.now_ns()
        for session in self._sessions:
            silence = self.watch.silence.get(session.number)
            if silence is None:
                continue
            if not session.established.is_set():
                self.watch.interrupted(session.number, now_ns)
                continue
            silence.check(now_ns)
            for channel in silence.keep_only(frozenset(session.channels)):
                if channel in self._broken:
                    self._abandon(channel, now_ns)
                self._resyncs.pop(channel, None)
                self.watch.books.forget(channel)

    def _resync(self, session: Session, group: asyncio.TaskGroup) -> None:
        """Subscribe anew to those broken books of a living connection whose turn it is."""
        running = self._resyncing.get(session.number)
        if running is not None and not running.done():
            return
        now_s = time.monotonic()
        due = [
            channel
            for channel, connection in self._broken.items()
            if connection == session.number and self._may_resync(channel, now_s)
        ][: self._settings.channels_per_call]
        if not due:
            return
        for channel in due:
            known = self._resyncs.get(channel)
            self._resyncs[channel] = _Resync(now_s, known.in_vain + 1 if known else 1)
        _log.warning("connection %d: %d books broke, first %s", session.number, len(due), due[0])
        self.resyncs += len(due)
        self._resyncing[session.number] = group.create_task(session.resubscribe(due))

    def _may_resync(self, channel: str, now_s: float) -> bool:
        known = self._resyncs.get(channel)
        if known is None:
            return True
        doublings = min(max(known.in_vain - 1, 0), 16)
        wait_s = min(self._pace.resync_retry_s * 2.0**doublings, self._pace.resync_retry_max_s)
        return now_s - known.at_s >= wait_s

    def _abandon(self, channel: str, now_ns: int) -> None:
        """A broken book that nobody waits for any more."""
        connection = self._broken.pop(channel)
        since_ns = self.watch.books.broken_since_ns(channel)
        if since_ns is not None:
            self._tell_book(connection, channel, since_ns, now_ns)

    def _tell_book(self, connection: int, channel: str, start_ns: int, end_ns: int) -> None:
        self._tape.event(
            Gap(
                start_ns=start_ns, end_ns=end_ns, cause=CAUSE_BOOK, connection=connection, channel=channel,
                instrument=classify(channel).instrument,
            ),
            connection,
        )  # fmt: skip

    # -- trades

    def _note_presence(self, session: Session) -> None:
        """See whether a connection is a new one; then its trades are to be listed since the last was seen."""
        now_ns = self._tape.now_ns()
        connects, seen_ns = self._present.get(session.number, (0, self._away_since_ns))
        if connects != session.connects and seen_ns is not None:
            margin_ns = int(LISTED_MARGIN_S * S_IN_NS)
            start_ms, end_ms = (seen_ns - margin_ns) // _MS_IN_NS, (now_ns + margin_ns) // _MS_IN_NS
            due_s = time.monotonic() + self._pace.trades_patience_s
            self._absences += [
                _Absence(channel, start_ms, end_ms, due_s)
                for channel in session.channels
                if classify(channel) == Channel("trades")
            ]
        self._present[session.number] = (session.connects, now_ns)

    async def _heal_trades(self, rest: RestClient) -> None:
        """Deal with one absence or case after the other; REST is bounded in rate."""
        while True:
            await asyncio.sleep(self._pace.tick_s)
            for absence in [absence for absence in self._absences if absence.due_s <= time.monotonic()]:
                if await self._listed(absence, rest):
                    self._absences.remove(absence)
                else:
                    absence.due_s = time.monotonic() + self._pace.trades_retry_s
            for case in [case for case in self._cases if case.due_s <= time.monotonic()]:
                if await self._settled(case, rest):
                    self._cases.remove(case)
                    self._close(case)
                else:
                    case.due_s = time.monotonic() + self._pace.trades_retry_s

    async def _listed(self, absence: _Absence, rest: RestClient) -> bool:
        """List the trades of an absence, page by page; whether that is done, or cannot be done.

        A page begins at the millisecond in which the one before ended, because that may have more trades.
        """
        _, kind, currency, _ = absence.channel.split(".")
        while True:
            question: Question = {
                "currency": currency, "kind": kind, "sorting": "asc", "count": TRADES_PER_ANSWER_MAX,
                "start_timestamp": absence.start_ms, "end_timestamp": absence.end_ms,
            }  # fmt: skip
            try:
                found = await self._ask(BY_TIME, question, rest)
            except TransientError as error:
                _log.warning("trades of %s while away: %s", absence.channel, error)
                return False
            except VenueRefusedError as error:
                _log.error("trades of %s while away: %s", absence.channel, error)
                return True
            open_before = {id(case): self.watch.trades.missing(case.hole) for case in self._cases}
            now_ns = self._tape.now_ns()
            for trade in sorted(found, key=lambda trade: trade.trade_seq):
                hole = self.watch.trades.note(trade.instrument_name, trade.trade_seq, now_ns)
                if hole is not None:
                    self.trades_missing(COLLECTOR_ITSELF, absence.channel, hole)
            for case in self._cases:
                if id(case) in open_before and self.watch.trades.missing(case.hole) != open_before[id(case)]:
                    case.answers += 1
            if len(found) < TRADES_PER_ANSWER_MAX:
                return True
            absence.start_ms = max(found[-1].timestamp, absence.start_ms + 1)

    async def _settled(self, case: _Case, rest: RestClient) -> bool:
        """Ask for what a case lacks; whether there is nothing left to be hoped for."""
        for first, last in self.watch.trades.missing(case.hole):
            if self._tape.now_ns() - case.hole.before_ns > TRADES_KEPT_S * S_IN_NS:
                return True
            try:
                await self._fetch(case.hole.instrument, first, last, rest)
            except TransientError as error:
                _log.warning("trades %d to %d of %s: %s", first, last, case.hole.instrument, error)
                return False
            except VenueRefusedError as error:
                _log.error("trades %d to %d of %s: %s", first, last, case.hole.instrument, error)
                return True
            case.answers += 1
        return not self.watch.trades.missing(case.hole) or case.answers >= self._pace.trades_attempts

    async def _fetch(self, instrument: str, first: int, last: int, rest: RestClient) -> None:
        """Ask for a range of sequence numbers, and take note of what is in the answers."""
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
                    self.watch.trades.note(instrument, trade.trade_seq, now_ns)

    async def _ask(self, method: str, question: Question, rest: RestClient) -> list[TradeNumber]:
        """The trades in the venue's answer, which is recorded."""
        reply = await rest.get(method, question)
        found = trade_numbers(reply.result)
        self.answers += 1
        self._tape.response(reply.as_record())
        return found

    def _close(self, case: _Case) -> None:
        """Tell the gap of a case that is over; trades that came late by themselves leave none."""
        hole = case.hole
        lost = sum(last - first + 1 for first, last in self.watch.trades.missing(hole))
        self.watch.trades.give_up(hole)
        if not lost and not case.answers:
            return
        self._tape.event(
            Gap(
                start_ns=hole.after_ns, end_ns=hole.before_ns, cause=CAUSE_TRADES, healed=not lost,
                instrument=hole.instrument, channel=case.channel, connection=case.connection,
                records_lost=lost,
            ),
            case.connection,
        )  # fmt: skip
