"""What a collector does about what its watch finds missing: ask again where the venue still has it, and say so.

A broken book is subscribed anew, alone; it is whole again with the snapshot that this brings. Missing trades are
asked for over REST; the answers go into the stream as they came, and ingest makes rows of them. Every hole ends as
one `Gap`: of a book from its last good message to the snapshot, of trades from the one before to the one after.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from collectors.continuity import S_IN_NS, Hole, Silent, Skew, Whole
from collectors.deribit.channels import classify
from collectors.deribit.rest import RestClient
from collectors.deribit.session import Session
from collectors.deribit.trade_answers import METHOD, sequence_numbers
from collectors.deribit.watch import Watch
from collectors.settings import CollectorSettings
from collectors.sink import Tape
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


class Healer:
    """Watches what `tape` records of `sessions` (which may change) and heals it, while `run` runs.

    Counters may be read at any time: `resyncs` counts books subscribed anew, `trades_fetched` answers asked for.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        settings: CollectorSettings,
        tape: Tape,
        *,
        pace: HealingPace | None = None,
    ) -> None:
        self.watch = Watch(self)
        self.resyncs = 0
        self.trades_fetched = 0
        self._sessions = sessions
        self._settings = settings
        self._tape = tape
        self._pace = pace or HealingPace()
        self._broken: dict[str, int] = {}
        self._resyncs: dict[str, _Resync] = {}
        self._resyncing: dict[int, asyncio.Task[None]] = {}
        self._cases: list[_Case] = []
        tape.observer = self.watch.observe

    async def run(self) -> None:
        """Heal until cancelled."""
        async with RestClient(self._settings) as rest, asyncio.TaskGroup() as group:
            group.create_task(self._heal_trades(rest))
            while True:
                await asyncio.sleep(self._pace.tick_s)
                self._judge_silence()
                for session in self._sessions:
                    self._resync(session, group)

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
        if not session.established.is_set() or (running is not None and not running.done()):
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

    async def _heal_trades(self, rest: RestClient) -> None:
        """Deal with one case after the other; REST is bounded in rate."""
        while True:
            await asyncio.sleep(self._pace.tick_s)
            for case in [case for case in self._cases if case.due_s <= time.monotonic()]:
                if await self._settled(case, rest):
                    self._cases.remove(case)
                    self._close(case)
                else:
                    case.due_s = time.monotonic() + self._pace.trades_retry_s

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
        """Record the venue's answers for a range of sequence numbers, and take note of what is in them."""
        for start in range(first, last + 1, TRADES_PER_REQUEST):
            end = min(start + TRADES_PER_REQUEST - 1, last)
            reply = await rest.get(
                METHOD,
                {
                    "instrument_name": instrument, "start_seq": start, "end_seq": end,
                    "count": TRADES_PER_ANSWER_MAX, "sorting": "asc",
                },
            )  # fmt: skip
            try:
                found = sequence_numbers(reply.result, instrument)
            except msgspec.DecodeError as error:
                raise VenueRefusedError(f"the answer is no list of trades: {error}") from None
            self.trades_fetched += 1
            self._tape.response(reply.as_record())
            now_ns = self._tape.now_ns()
            for seq in sorted(seq for seq in found if start <= seq <= end):
                self.watch.trades.note(instrument, seq, now_ns)

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
