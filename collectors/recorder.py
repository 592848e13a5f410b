"""A whole collector: list the instruments, choose channels, and record them until told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib.metadata import version

from collectors.deribit.rest import RestClient
from collectors.deribit.selection import ANY, decode_listings, select, shard, trade_channels
from collectors.deribit.session import Session, Unrecorded
from collectors.pace import TokenBucket
from collectors.settings import CollectorSettings
from collectors.sink import Sink, Tape
from lake.events import SessionStarted, SessionStopped

VENUE = "deribit"

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
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._sink = sink
        self._name = name
        self._unrecorded = unrecorded
        self._tape = Tape(sink, clock_ns)
        self._stopping = asyncio.Event()
        self._instruments = 0
        self._began_s = time.monotonic()
        self.sessions: list[Session] = []

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
            )
        )
        try:
            await self._until_stopped(self._prepare())
            await self._record()
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
            instruments=self._instruments,
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

    async def _prepare(self) -> None:
        """List the instruments (the answers go into the stream) and deal their channels to sessions."""
        settings = self._settings
        listings = []
        async with RestClient(settings) as rest:
            for currency in settings.currencies or (ANY,):
                reply = await rest.get("get_instruments", {"currency": currency, "expired": "false"})
                self._tape.response(reply.as_record())
                listings += decode_listings(reply.result)
        names = [listing.instrument_name for listing in select(listings, settings)]
        self._instruments = len(names)
        pace = TokenBucket(settings.calls_per_s, settings.calls_burst)
        shards = shard(names, trade_channels(settings), settings)
        self.sessions = [
            Session(number, channels, settings, self._tape, pace=pace, unrecorded=self._unrecorded)
            for number, channels in enumerate(shards, start=1)
        ]
        _log.info("recording %d instruments over %d connections", self._instruments, len(self.sessions))

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

    async def _record(self) -> None:
        """Run every session until stopped, or until one of them cannot go on."""
        running = [asyncio.create_task(session.run()) for session in self.sessions]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            for session in self.sessions:
                session.stop()
            ends = await asyncio.gather(*running, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException):
                raise end
