"""A whole collector: list the instruments, choose channels, and record them until told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from itertools import filterfalse
from typing import Final

from collectors.book_sampling import BookSampler
from collectors.clock import ClockWatch, SteadyClock
from collectors.deribit.columns import VENUE
from collectors.deribit.rest import RestClient
from collectors.deribit.selection import is_perpetual, lifecycle_channels, platform_channels, trade_channels
from collectors.deribit.session import Session, Unrecorded
from collectors.fleet import Fleet
from collectors.funding import FundingHours
from collectors.healing import Healer
from collectors.pace import AdaptiveBucket
from collectors.settings import CollectorSettings
from collectors.sink import Sink, Tape
from collectors.trade_healing import is_to_heal
from collectors.upkeep import Upkeep
from lake.events import SessionStarted, SessionStopped

REFUSED_QUIET_S: Final = 3.0
"""After the venue has refused a subscribe call as one too many: its pool of ten calls is full again by then."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecordingSummary:
    """What a recorder did. Frames and bytes as received, before compression."""

    seconds: float
    instruments: int
    connections: int
    frames: int
    frame_bytes: int
    channels_asked: int
    channels_acknowledged: int
    channels_missing: tuple[str, ...]
    reconnects: int
    gaps: int
    unknown_frames: int


class Recorder:
    """Records what the settings select into `sink`, which stays open and belongs to the caller.

    `name` says in the stream which collector this is; `unrecorded` is what the stream lacks since its last life.
    `run` may be called once.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        sink: Sink,
        *,
        name: str = "collect",
        unrecorded: Unrecorded | None = None,
        clock: SteadyClock | None = None,
    ) -> None:
        clock = clock or SteadyClock()
        clock_ns = clock.now_ns
        self._settings = settings
        self._sink = sink
        self._name = name
        self._unrecorded = unrecorded
        self._tape = Tape(sink, clock_ns)
        self._stopping = asyncio.Event()
        self._began_s = time.monotonic()
        self._pace = AdaptiveBucket(settings.calls_per_s, settings.calls_burst, REFUSED_QUIET_S)
        self._fleet = Fleet(settings, self._session)
        self._upkeep = Upkeep(settings, self._fleet, self._tape, clock_ns)
        self._funding = FundingHours(self._perpetuals, self._tape, clock_ns)
        self.healer = Healer(self._fleet.sessions, settings, self._tape)
        self._clock = clock

    @property
    def sessions(self) -> list[Session]:
        """The connections so far."""
        return self._fleet.sessions

    @property
    def tape(self) -> Tape:
        """Stamps and counts what goes into the sink."""
        return self._tape

    def stop(self) -> None:
        """Ask `run` to close the connections, flush and return. For signal handlers."""
        self._stopping.set()

    async def run(self, duration_s: float | None = None) -> RecordingSummary:
        """Record until `stop` or for `duration_s`, then make everything received durable.

        Raises:
            SettingsError: the settings select nothing, or more than the connections may carry.
            VenueRefusedError: the venue refuses the listing or the subscriptions.
            VenueUnavailableError: no instruments could be listed.
        """
        self._began_s = time.monotonic()
        timer = (
            asyncio.get_running_loop().call_later(duration_s, self._stopping.set)
            if duration_s is not None
            else None
        )
        clean = False
        self._tape.event(
            SessionStarted(
                at_ns=self._tape.now_ns(),
                collector=self._name,
                version=version("ticklake"),
                host=socket.gethostname(),
                venue=VENUE,
                unrecorded_since_ns=self._unrecorded.since_ns if self._unrecorded else None,
                unrecorded_cause=self._unrecorded.cause if self._unrecorded else None,
                open_gaps=self._unrecorded.open_gaps if self._unrecorded else [],
                newest_trades=dict(self._unrecorded.newest_trades) if self._unrecorded else {},
            )
        )
        self._inherit()
        try:
            async with RestClient(self._settings) as rest:
                await self._until_stopped(self._prepare(rest))
                await self._record(rest)
            clean = True
        finally:
            if timer is not None:
                timer.cancel()
            self._tape.event(SessionStopped(at_ns=self._tape.now_ns(), clean=clean))
            await asyncio.to_thread(self._sink.flush, self._settings.flush_timeout_s)
        return self.summary()

    def summary(self) -> RecordingSummary:
        """The figures so far; can be asked while running."""
        sessions = self.sessions
        return RecordingSummary(
            seconds=time.monotonic() - self._began_s,
            instruments=len(self._upkeep.universe.recorded),
            connections=len(sessions),
            frames=sum(session.frames for session in sessions),
            frame_bytes=sum(session.frame_bytes for session in sessions),
            channels_asked=sum(len(session.channels) for session in sessions),
            channels_acknowledged=sum(session.acknowledged for session in sessions),
            channels_missing=tuple(channel for session in sessions for channel in session.missing),
            reconnects=sum(max(0, session.connects - 1) for session in sessions),
            gaps=sum(session.gaps for session in sessions),
            unknown_frames=sum(session.unknown_frames for session in sessions),
        )

    def _inherit(self) -> None:
        """Take over what the last life left open, and go on healing what it was healing."""
        if self._unrecorded is None:
            return
        for instrument, seq in self._unrecorded.newest_trades.items():
            self.healer.watch.trades.note(instrument, seq, self._unrecorded.first_ns)
        self._tape.holes.adopt(self._unrecorded.holes)
        for gap in filter(is_to_heal, self._unrecorded.holes):
            self.healer.trades.inherit(gap)

    def _close_inherited(self) -> None:
        """What ended with the last life; its connections' trades are listed over those that carry them now."""
        if self._unrecorded is None:
            return
        for gap in filterfalse(is_to_heal, self._unrecorded.holes):
            self.healer.over(self._tape.holes.close(gap, gap.end_ns or gap.start_ns))
        numbers = {session.number for session in self.sessions}
        for gap in self._unrecorded.lost_connections:
            if gap.connection not in numbers:
                self._tape.holes.close(gap, self._unrecorded.since_ns)

    def _perpetuals(self) -> list[str]:
        return sorted(filter(is_perpetual, self._upkeep.universe.recorded))

    async def _prepare(self, rest: RestClient) -> None:
        """List the instruments (the answers go into the stream) and deal their channels to sessions."""
        settings = self._settings
        names = await self._upkeep.begin(rest)
        shared = trade_channels(settings) + lifecycle_channels(settings) + platform_channels(settings)
        self._fleet.deal(names, shared + self._upkeep.index_channels)
        self._close_inherited()
        self._unrecorded = None
        self.healer.restate()
        _log.info("recording %d instruments over %d connections", len(names), len(self.sessions))

    def _session(self, number: int, channels: list[str]) -> Session:
        """Connection `number`; the first carries what is said of all instruments."""
        return Session(
            number,
            channels,
            self._settings,
            self._tape,
            pace=self._pace,
            unrecorded=self._unrecorded,
            listener=self.healer,
            on_lifecycle=self._upkeep.hear if number == 1 else None,
        )

    def _book_sampler(self) -> BookSampler:
        settings = self._settings
        return BookSampler(
            lambda: self._upkeep.universe.recorded,
            self._tape,
            every_s=settings.book_check_seconds,
            depth=settings.book_check_levels,
        )

    async def _until_stopped(self, work: Coroutine[None, None, None]) -> None:
        """Finish `work` unless we are stopped before."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
        finally:
            task.cancel()
            stopping.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _record(self, rest: RestClient) -> None:
        """Run every session until stopped, or until one of them cannot go on."""
        self._fleet.start()
        clock_watch = ClockWatch(self._clock, self._tape, self.healer.watch.clock)
        work = [self._upkeep.run(rest), self.healer.run(rest), clock_watch.run()]
        if self._settings.book_check_seconds:
            work.append(self._book_sampler().run(rest))
        if "funding" in self._settings.series:
            work.append(self._funding.run(rest))
        chores = [asyncio.create_task(chore) for chore in work]
        waiting = [*chores, *map(asyncio.create_task, (self._stopping.wait(), self._fleet.ended.wait()))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for chore in chores:
                if chore.done():
                    chore.result()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            try:
                await self._fleet.stop()
            finally:
                self.healer.finish()
