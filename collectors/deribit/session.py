"""One connection to Deribit, kept alive: connect, subscribe, record every frame, and come back after a loss.

The path of a frame is short on purpose: stamp, append, one search for the mark of a notification. Only what
lacks the mark (replies, heartbeats, garbage: a few frames a minute) is decoded here. Everything is recorded
as received, control frames and garbage included.

Claims go into the stream beside the frames: of what the venue acknowledged, and of what was lost. A loss is a gap
from the last frame before it to the first notification after the last list was acknowledged again. It is told when
it opens, so that it survives us, and when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from collectors.backoff import Backoff
from collectors.deribit.asking import Asker
from collectors.deribit.lifecycle import is_lifecycle
from collectors.deribit.rpc import decode_control, is_notification
from collectors.deribit.subscriptions import Subscriptions
from collectors.holes import CAUSE_DISCONNECT
from collectors.pace import TokenBucket
from collectors.settings import CollectorSettings
from collectors.sink import Tape
from collectors.transport import ABNORMAL_CLOSURE, TRANSPORTS, Closed, Link, Transport
from lake.errors import TerminalError, TransientError
from lake.events import Connected, Disconnected, Gap, GapOpened
from lake.redaction import redact

CHANGE_ATTEMPTS: Final = 6
"""How often a change to a living connection is tried (settlement refuses calls for seconds) before the
connection is replaced by one that asks for everything anew."""
STOPPED: Final = "stopped"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Since when, ns since the epoch, nothing has been recorded before this process began, and why.

    `earlier_ns` has the connections, by number, that had been lost before all was.
    """

    since_ns: int
    cause: str
    earlier_ns: Mapping[int, int] = field(default_factory=dict)
    holes: tuple[GapOpened, ...] = ()
    """What the last life left open beside that: a book without its snapshot, trades not fetched yet, …"""
    newest_trades: Mapping[str, int] = field(default_factory=dict)
    """The highest trade number seen, by instrument: the next one follows it, whoever sees it."""

    @property
    def first_ns(self) -> int:
        """Since when something is lacking."""
        return min([self.since_ns, *self.earlier_ns.values()])

    @property
    def lost_connections(self) -> list[GapOpened]:
        """The gaps of the connections that had been lost before all was."""
        return [
            GapOpened(start_ns=start_ns, cause=self.cause, connection=number)
            for number, start_ns in self.earlier_ns.items()
        ]

    @property
    def open_gaps(self) -> list[GapOpened]:
        """What the start of a life says of it, for the life after where this one ends before it could say more."""
        return [*self.lost_connections, *self.holes]


class GapListener(Protocol):
    """Who is told when a connection begins and ends to lack data, on the event loop."""

    def lost(self, session: Session, since_ns: int) -> None:
        """`session` has lacked everything since `since_ns`."""

    def over(self, gap: Gap) -> None:
        """A connection has all its subscriptions again or is at its end, or a channel is refused no longer: `gap`
        is what it lacks."""


class Session:
    """Records `channels` over one connection at a time until `stop`.

    `number` names the connection in records and stays over reconnects. `pace` bounds the subscribe calls and
    may be shared between sessions. `unrecorded` is what the stream lacks since its last life: the first
    connection ends that gap. `listener` is told of gaps. `on_lifecycle` is handed every notification about the
    life of an instrument, and must not raise. Counters may be read at any time.
    """

    def __init__(
        self,
        number: int,
        channels: Sequence[str],
        settings: CollectorSettings,
        tape: Tape,
        *,
        pace: TokenBucket,
        backoff: Backoff | None = None,
        transport: Transport | None = None,
        unrecorded: Unrecorded | None = None,
        listener: GapListener | None = None,
        on_lifecycle: Callable[[bytes], None] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        self.connects = 0
        self.gaps = 0
        # Counted by connection and no finer: which channel a frame is of costs more to find out than to record
        # it, and ingest, which reads it anyway, counts by class.
        self.frames = 0
        self.frame_bytes = 0
        self.unknown_frames = 0
        self.established = asyncio.Event()
        self._settings = settings
        self._tape = tape
        self._asker = Asker(settings, pace)
        self._subscriptions = Subscriptions(number, channels, self._asker, tape, self._tell_over)
        self._backoff = backoff or Backoff(settings.backoff)
        self._transport = transport or TRANSPORTS[settings.transport]
        self._listener = listener
        self._on_lifecycle = on_lifecycle
        self._clock_s = clock_s
        self._stopping = asyncio.Event()
        self._link: Link | None = None
        self._failure: BaseException | None = None
        self._was_established = False
        self._established_s: float | None = None
        self._began_ns = self._last_frame_ns = 0
        self._gap: GapOpened | None = None
        self._gap_may_end = False
        if unrecorded is not None:
            since_ns = unrecorded.earlier_ns.get(number, unrecorded.since_ns)
            self._gap = GapOpened(start_ns=since_ns, cause=unrecorded.cause, connection=number)
            tape.holes.adopt([self._gap])

    def stop(self) -> None:
        """Ask `run` to close the connection and return; what arrives until then is still recorded."""
        self._stopping.set()

    @property
    def channels(self) -> list[str]:
        """What is wanted now."""
        return self._subscriptions.wanted

    @property
    def acknowledged(self) -> int:
        """How many of them the venue has acknowledged."""
        return self._subscriptions.acknowledged

    @property
    def missing(self) -> list[str]:
        """Those it has not."""
        return self._subscriptions.missing

    @property
    def gap_open(self) -> bool:
        """Whether data is missing right now: from a loss to the first data after the connection is back."""
        return self._gap is not None

    async def run(self) -> None:
        """Connect and record until `stop`, again after every loss.

        Raises:
            TerminalError: the venue refuses what we ask, and it never worked before. What once worked is
                an outage, and is waited out.
            SettingsError: `ws_url` is no WebSocket address.
        """
        self._began_ns = self._last_frame_ns = self._tape.now_ns()
        try:
            while not self._stopping.is_set():
                self._established_s = None
                try:
                    await self._live()
                except TransientError as error:
                    _log.warning("connection %d: %s", self.number, error)
                except TerminalError as error:
                    if not self._was_established:
                        raise
                    _log.error("connection %d: %s; trying again", self.number, error)
                if self._has_been_stable():
                    self._backoff.reset()
                await self._lost()
        finally:
            now_ns = self._tape.now_ns()
            self._subscriptions.lost(now_ns)
            self._tell_over(self._end_gap(now_ns))

    def _has_been_stable(self) -> bool:
        """Whether the last connection lived long enough to forgive the failures before it."""
        return (
            self._established_s is not None
            and self._clock_s() - self._established_s >= self._settings.stable_s
        )

    async def _lost(self) -> None:
        """Note where the gap begins, and wait our turn to connect again, unless we are stopping."""
        if self._stopping.is_set():
            return
        if self._gap is None:
            self._begin_gap(self._last_frame_ns if self._was_established else self._began_ns)
        try:
            async with asyncio.timeout(self._backoff.next_s()):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _live(self) -> None:
        """One connection, from its opening to its end."""
        link = await self._open()
        if link is None:
            return
        self._link, self._failure = link, None
        self._asker.begin(link)
        self.connects += 1
        url = redact(self._settings.ws_url)
        self._tape.event(Connected(connection=self.number, at_ns=self._tape.now_ns(), url=url), self.number)
        tasks = [
            asyncio.create_task(work)
            for work in (self._establish(), self._watch(link), self._close_on_stop(link))
        ]
        for task in tasks:
            task.add_done_callback(self._on_task_done)
        closed = Closed(ABNORMAL_CLOSURE, "cancelled")
        try:
            closed = await link.wait_closed()
        except Exception as error:
            closed = Closed(ABNORMAL_CLOSURE, f"recording failed: {error}")
            raise
        finally:
            link.abort("session ends")
            self._link = None
            self.established.clear()
            self._gap_may_end = False
            self._asker.end(f"{closed.code} {closed.reason}")
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tell_end(closed, url)
        if self._failure is not None:
            raise self._failure

    async def _open(self) -> Link | None:
        """A new connection; None when we were stopped meanwhile."""
        opening = asyncio.ensure_future(
            self._transport(self._settings.ws_url, self._on_frames, self._settings.link)
        )
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return opening.result() if opening.done() else None
        finally:
            stopping.cancel()
            if not opening.done():
                opening.cancel()
            await asyncio.gather(opening, stopping, return_exceptions=True)

    def _tell_end(self, closed: Closed, url: str) -> None:
        """Write down how the connection ended, and say so in the log unless we wanted it."""
        reason = f"{closed.code} {closed.reason}".strip()
        if self._failure is not None:
            reason = str(self._failure) or type(self._failure).__name__
        elif self._stopping.is_set():
            reason = STOPPED
        else:
            _log.warning("connection %d lost: %s", self.number, reason)
        event = Disconnected(connection=self.number, at_ns=self._tape.now_ns(), url=url, reason=reason)
        self._tape.event(event, self.number)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """A task that fails ends the connection; its error is raised where the connection is awaited."""
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and self._failure is None and self._link is not None:
            self._failure = error
            self._link.abort(str(error))

    # -- receiving

    def _on_frames(self, payloads: list[bytes]) -> None:
        """Record what one read brought: all at once where it is data and nothing else, as it nearly always is."""
        self.frames += len(payloads)
        self.frame_bytes += sum(map(len, payloads))
        if self._gap_may_end or not all(map(is_notification, payloads)):
            for payload in payloads:
                self._on_frame(payload)
        else:
            self._last_frame_ns = self._tape.frames(payloads, self.number)
        if self._on_lifecycle is not None:
            for payload in filter(is_lifecycle, payloads):
                self._on_lifecycle(payload)

    def _on_frame(self, payload: bytes) -> None:
        if not is_notification(payload):
            self._last_frame_ns = self._tape.frame(payload, self.number)
            self._on_control(payload)
        elif self._gap_may_end:
            # The gap is told before the frame that ends it: one that is on disk then never follows an untold gap.
            told_ns, recv_ns = self._tape.now_ns(), self._tape.now_ns()
            gap = self._end_gap(recv_ns, told_ns)
            self._last_frame_ns = self._tape.frame(payload, self.number, recv_ns)
            self._tell_over(gap)
        else:
            self._last_frame_ns = self._tape.frame(payload, self.number)

    def _on_control(self, payload: bytes) -> None:
        control = decode_control(payload)
        if control is None:
            self.unknown_frames += 1
        else:
            self._asker.hear(control)

    def _begin_gap(self, start_ns: int) -> None:
        """Say that everything has been lacking since `start_ns`."""
        self._subscriptions.lost(start_ns)
        if self._listener is not None:
            self._listener.lost(self, start_ns)
        gap = GapOpened(start_ns=start_ns, cause=CAUSE_DISCONNECT, connection=self.number)
        self._gap = self._tape.holes.open(gap)

    def _end_gap(self, end_ns: int, told_ns: int | None = None) -> Gap | None:
        """Write down the gap that ends now, if one is open; at `told_ns` where that is not now."""
        self._gap_may_end = False
        if self._gap is None:
            return None
        gap = self._tape.holes.close(self._gap, end_ns, told_ns=told_ns)
        self._gap = None
        self.gaps += 1
        return gap

    def _tell_over(self, gap: Gap | None) -> None:
        if gap is not None and self._listener is not None:
            self._listener.over(gap)

    # -- asking

    async def _establish(self) -> None:
        """Switch the heartbeat on, subscribe to everything, and say what the venue acknowledged."""
        await self._asker.heartbeat()
        async with self._subscriptions.asking:
            await self._subscriptions.begin()
            self._was_established = True
            self._established_s = self._clock_s()
            self._gap_may_end = self._gap is not None
            self.established.set()

    # -- changing what is wanted

    async def add(self, channels: Sequence[str]) -> None:
        """Want `channels` as well, from now on and after every reconnect; returns when the venue has answered.

        Without a connection nothing is asked: the next one subscribes to all that is wanted. What the venue
        does not acknowledge stays wanted, and is told in `missing`.
        """
        await self._change(self._subscriptions.want(channels))

    async def drop(self, channels: Sequence[str]) -> None:
        """Want `channels` no longer; returns when the venue has answered."""
        await self._change(self._subscriptions.leave(channels))

    async def resubscribe(self, channels: Sequence[str]) -> None:
        """Unsubscribe from and subscribe to those of `channels` that are wanted: books begin with a snapshot.

        Without a connection nothing is asked: the next one brings snapshots by itself.
        """
        await self._change(channels, again=True)

    async def _change(self, channels: Sequence[str], *, again: bool = False) -> None:
        """Bring the venue's state of `channels` in line with what is wanted; `again`: by leaving them first.

        What is wanted is looked up at each attempt, so that a late repetition never undoes a later change.
        """
        link, backoff = self._link, Backoff(self._settings.backoff)
        failure: TransientError | None = None
        for attempt in range(CHANGE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(backoff.next_s())
            async with self._subscriptions.asking:
                if not channels or not self.established.is_set() or (attempt and self._link is not link):
                    return
                link = self._link
                try:
                    await self._subscriptions.change(list(dict.fromkeys(channels)), again=again)
                except TransientError as error:
                    _log.warning("connection %d: %s", self.number, error)
                    failure = error
                else:
                    return
        if link is not None and self._link is link:
            self._failure = failure
            link.abort(str(failure))

    # -- keeping watch

    async def _watch(self, link: Link) -> None:
        """Cut a connection that has gone silent: a dead peer leaves TCP waiting for hours."""
        silence_max_s = self._settings.silence_max_s
        heard_ns, heard_s = self._last_frame_ns, self._clock_s()
        while True:
            await asyncio.sleep(silence_max_s / 8)
            if self._last_frame_ns != heard_ns:
                heard_ns, heard_s = self._last_frame_ns, self._clock_s()
            elif self._clock_s() - heard_s >= silence_max_s:
                link.abort(f"no frame for {silence_max_s:g} s")

    async def _close_on_stop(self, link: Link) -> None:
        await self._stopping.wait()
        await link.close()
