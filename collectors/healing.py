"""What a collector does about what its watch finds missing: ask again where the venue still has it, and say so.

A broken book is subscribed anew, alone; it is whole again with the snapshot that this brings. A channel that the venue
did not acknowledge is asked for again, and so is a silent one (`collectors.silence_claims`), though nothing brings back
what it would have said. Every such hole is told when it opens and, when it ends, as one `Gap`: of a book from its last
good message to the snapshot. Trades are another matter: `collectors.trade_healing`.

What a lost connection lacks is one gap, of the connection: holes of its channels end where that begins.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from collectors.continuity import S_IN_NS, Hole, Leap, Skew, Whole
from collectors.deribit.channels import classify, is_all_trades
from collectors.deribit.market_state import expired_ns
from collectors.deribit.rest import RestClient
from collectors.deribit.session import Session
from collectors.deribit.watch import Watch
from collectors.settings import CollectorSettings
from collectors.silence import Silent
from collectors.silence_claims import SilenceClaims
from collectors.sink import Tape
from collectors.trade_healing import TRADES_KEPT_S, HealingPace, TradeHealer
from lake.events import ClockSkewed, Gap, GapOpened

CAUSE_BOOK: Final = "book_break"
RESTATED_S: Final = 60.0
"""So often all that is open is told again: the next life need not read further back."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Retry:
    """When a channel was last subscribed anew, by the monotonic clock, and how often in vain."""

    at_s: float
    in_vain: int = 0


class Healer:
    """Watches what `tape` records of `sessions` (which may change) and heals it, while `run` runs.

    It is the `GapListener` of the sessions. Counters may be read at any time: `resyncs` counts books subscribed anew.
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
        self._sessions = sessions
        self._settings = settings
        self._tape = tape
        self._pace = pace or HealingPace()
        self.trades = TradeHealer(self.watch.trades, tape, self._pace)
        self.silences = SilenceClaims(
            self.watch,
            sessions,
            tape,
            self.over,
            levels=settings.book_check_levels,
            every_s=self._pace.tick_s,
        )
        self._broken: dict[str, GapOpened] = {}
        self._retries: dict[str, _Retry] = {}
        self._resubscribing: dict[int, asyncio.Task[None]] = {}
        tape.observer = self.watch.observe

    @property
    def waiting(self) -> int:
        """How many broken books, holes in trades and absences are being dealt with."""
        return len(self._broken) + self.trades.waiting

    async def run(self, rest: RestClient) -> None:
        """Heal until cancelled."""
        restate_s = time.monotonic() + RESTATED_S
        async with asyncio.TaskGroup() as group:
            group.create_task(self.trades.run(rest))
            group.create_task(self.silences.ask(rest))
            group.create_task(self.silences.ask_status(rest))
            while True:
                await asyncio.sleep(self._pace.tick_s)
                self._leave(self.silences.judge())
                for session in self._sessions:
                    if session.established.is_set():
                        self._resubscribe(session, group)
                if time.monotonic() >= restate_s:
                    self.restate()
                    restate_s = time.monotonic() + RESTATED_S

    def restate(self) -> None:
        """Tell all that is open, and how far the trades of what still lives have come."""
        trades, forgotten_ns = self.watch.trades, self._tape.now_ns() - TRADES_KEPT_S * S_IN_NS
        for instrument in trades.newest():
            if expired_ns(instrument, forgotten_ns) is not None:
                trades.forget(instrument)
        self._tape.holes.restate(trades.newest())

    def finish(self) -> None:
        """Say what is missing now that nothing more will come."""
        self._tape.observer = None
        self.watch.catch_up()
        now_ns = self._tape.now_ns()
        for channel in list(self._broken):
            self._close_book(channel, now_ns)
        self.silences.finish()
        self.trades.finish()
        self.restate()

    # -- what the sessions tell

    def lost(self, session: Session, since_ns: int) -> None:
        """A connection has lacked everything since then: what was missing on it before ends there."""
        self.watch.catch_up()
        self.silences.interrupted(session.number, since_ns)
        for channel, gap in list(self._broken.items()):
            if gap.connection == session.number:
                self._close_book(channel, since_ns)
        for channel in session.channels:
            self.watch.forget(channel)
        if self._sessions and session is self._sessions[0]:
            self.watch.market.forget()  # it carries what is said about the market

    def over(self, gap: Gap) -> None:
        """A connection, or one of its channels, lacks what is in `gap`: of that, trades can be had again."""
        for channel in self._trade_channels(gap.connection):
            if gap.channel in (None, channel):
                self.trades.absent(channel, gap)

    def _trade_channels(self, connection: int | None) -> list[str]:
        """Those channels of a connection that bring the trades of many instruments."""
        channels = (c for session in self._sessions if session.number == connection for c in session.channels)
        return [channel for channel in channels if is_all_trades(channel)]

    # -- what the watch tells

    def book_broke(self, connection: int, channel: str) -> None:
        """Say so, and remember to subscribe to the book anew."""
        since_ns = self.watch.books.broken_since_ns(channel)
        if since_ns is None:
            return
        gap = GapOpened(
            start_ns=since_ns, cause=CAUSE_BOOK, connection=connection, channel=channel,
            instrument=classify(channel).instrument,
        )  # fmt: skip
        self._broken[channel] = self._tape.holes.open(gap)

    def book_mended(self, channel: str) -> None:
        """Nothing was missing: it had only come in another order."""
        gap = self._broken.pop(channel, None)
        if gap is not None:
            self._tape.holes.withdraw(gap)

    def book_whole(self, channel: str, whole: Whole) -> None:
        """The snapshot has come: the gap is over."""
        if channel in self._retries:
            self._retries[channel].in_vain = 0
        self._close_book(channel, whole.at_ns)

    def trades_missing(self, connection: int, channel: str, hole: Hole) -> None:
        """Ask for them, unless they come by themselves."""
        self.trades.missing(connection, channel, hole)

    def trades_leapt(self, connection: int, channel: str, leap: Leap) -> None:
        """Say so once: there is nothing to ask for, and nobody knows of anything lost."""
        self.trades.leapt(connection, channel, leap)

    def silence_ended(self, connection: int, silent: Silent) -> None:
        """Nobody can say what a silent channel would have brought: claim the time."""
        if silent.channel in self._retries:
            self._retries[silent.channel].in_vain = 0
        self.silences.end(connection, [silent])

    def clock_skewed(self, skew: Skew) -> None:
        """Receive times are worth what our clock is worth: write down how much that is."""
        _log.warning("this machine's clock is %+.3f s from the venue's", skew.offset_ns / S_IN_NS)
        now_ns = self._tape.now_ns()
        self._tape.event(
            ClockSkewed(
                at_ns=now_ns, offset_ns=skew.offset_ns, spread_ns=skew.spread_ns, samples=skew.samples
            )
        )

    # -- books, and channels refused

    def _resubscribe(self, session: Session, group: asyncio.TaskGroup) -> None:
        """Subscribe anew to broken books, and silent or refused channels, of a living connection, those whose turn it
        is."""
        running = self._resubscribing.get(session.number)
        if running is not None and not running.done():
            return
        now_s = time.monotonic()
        broken = [channel for channel, gap in self._broken.items() if gap.connection == session.number]
        silent = self.silences.channels(session.number)
        refused = [channel for channel in session.missing if classify(channel).tabulated]
        for channel in refused:
            self._retries.setdefault(channel, _Retry(now_s, 1))
        lacking = dict.fromkeys([*broken, *silent, *refused])
        due = [channel for channel in lacking if self._may_retry(channel, now_s)]
        due = due[: self._settings.channels_per_call]
        if not due:
            return
        for channel in due:
            known = self._retries.get(channel)
            self._retries[channel] = _Retry(now_s, known.in_vain + 1 if known else 1)
        resyncs = sum(channel in self._broken for channel in due)
        self.resyncs += resyncs
        _log.warning(
            "connection %d: %d books broke and %d channels are silent or were refused, first %s: subscribing anew",
            session.number, resyncs, len(due) - resyncs, due[0],
        )  # fmt: skip
        self._resubscribing[session.number] = group.create_task(session.resubscribe(due))

    def _may_retry(self, channel: str, now_s: float) -> bool:
        known = self._retries.get(channel)
        if known is None:
            return True
        doublings = min(max(known.in_vain - 1, 0), 16)
        wait_s = min(self._pace.resync_retry_s * 2.0**doublings, self._pace.resync_retry_max_s)
        return now_s - known.at_s >= wait_s

    def _leave(self, channels: Iterable[str]) -> None:
        """Expect nothing of channels that are not wanted any more."""
        now_ns = self._tape.now_ns()
        for channel in channels:
            self._close_book(channel, now_ns)
            self._retries.pop(channel, None)
            self.watch.forget(channel)

    def _close_book(self, channel: str, end_ns: int) -> None:
        """Tell the gap of a book that is over, one way or the other."""
        gap = self._broken.pop(channel, None)
        if gap is not None:
            self._tape.holes.close(gap, end_ns)
