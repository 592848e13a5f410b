"""Who listens to what, and frames on their way out to every session."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from collectors.simulator import frames
from collectors.simulator.account import Account
from collectors.simulator.notifications import Notification, Tampering
from collectors.simulator.session import DRAIN_POLL_S, Queued, Session
from lake.errors import InputError

SLOW_SESSION_S: Final = 30.0  # a consumer that does not drain its socket for so long is disconnected
_TRICKLE_POLL_S: Final = 0.01
_TEXT_FRAME: Final = 0x81


def websocket_frame(payload: bytes) -> bytes:
    """An unmasked WebSocket text frame around `payload` (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT_FRAME, size)) + payload
    if size < 1 << 16:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big") + payload


class Hub:
    """All sessions, and the channels somebody listens to."""

    def __init__(self, account: Account | None, max_pending_bytes: int) -> None:
        self.sessions: dict[int, Session] = {}
        self.listened: dict[str, list[Session]] = {}
        self.account = account
        self.sent = 0
        self.withheld = 0
        self.silent = False
        self.tampering = Tampering()
        self.subscribed = asyncio.Event()  # set at every change of subscriptions; waiters clear it
        self.began = asyncio.Event()  # set for good by the first subscription
        self._closings: set[asyncio.Future[bool]] = set()  # a loop holds its tasks weakly
        self._max_pending = max_pending_bytes
        self._count = 0

    def join(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> Session:
        """A new session for a socket."""
        self._count += 1
        session = self.sessions[self._count] = Session(self._count, socket, transport)
        return session

    def leave(self, session: Session) -> None:
        """Forget a session whose socket has ended; what it had still to get is withheld for good."""
        session.stop_beat()
        if session.trickle is not None:
            session.trickle.cancel()
            session.trickle = None
        for queued in session.backlog:
            self._note_withheld(session, queued.channel, queued.payload, queued.seq, queued.prev)
        session.backlog.clear()
        self.unsubscribe(session, list(session.channels))
        self.sessions.pop(session.number, None)

    def chosen(self, number: int | None) -> list[Session]:
        """The session of that number, or all of them.

        Raises:
            InputError: no such session.
        """
        if number is None:
            return list(self.sessions.values())
        found = self.sessions.get(number)
        if found is None:
            known = ", ".join(map(str, self.sessions)) or "none"
            raise InputError(f"session {number} is not connected; connected now: {known}")
        return [found]

    def subscribe(self, session: Session, channel: str) -> bool:
        """Add a channel; False if the session had it already."""
        if channel in session.channels:
            return False
        session.channels[channel] = None
        self.listened.setdefault(channel, []).append(session)
        self.subscribed.set()
        self.began.set()
        return True

    def unsubscribe(self, session: Session, channels: list[str]) -> None:
        """Remove channels the session may have."""
        for channel in channels:
            if channel in session.channels:
                del session.channels[channel]
                session.forgotten.discard(channel)
                listeners = self.listened[channel]
                listeners.remove(session)
                if not listeners:
                    del self.listened[channel]

    def forget(self, sessions: list[Session], pattern: str) -> None:
        """Lose subscriptions to channels like `pattern` without a word; to leave a channel mends it."""
        for session in sessions:
            session.forgotten.update(fnmatch.filter(session.channels, pattern))

    # -- sending ---------------------------------------------------------------------------------

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """Queue a notification for everybody subscribed to `channel`: one text, encoded once."""
        self.notify(
            self.listened.get(channel, ()), channel, frames.notification(channel, data).encode(), seq, prev
        )

    def notify(
        self, sessions: Sequence[Session], channel: str, payload: bytes, seq: object, prev: int | None
    ) -> None:
        """Queue a notification for some sessions, unless a fault was ordered for it."""
        if self.tampering.idle:
            self.publish_bytes(sessions, channel, payload, seq, prev)
            return
        whole = Notification(tuple(sessions), channel, payload, seq, prev)
        for notification, lost in self.tampering.through(whole):
            self._pass(notification, lost=lost)

    def withhold(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """Put on record what the listeners of `channel` should have got and did not."""
        payload = frames.notification(channel, data).encode()
        for session in self.listened.get(channel, ()):
            self._note_withheld(session, channel, payload, seq, prev)

    def release(self) -> None:
        """Send what a fault of order still holds back."""
        for notification in list(self.tampering.release()):
            self._pass(notification, lost=False)

    def _pass(self, notification: Notification, *, lost: bool) -> None:
        """Send, or withhold from everybody; a session that has left the channel meanwhile gets nothing."""
        sessions, channel, payload, seq, prev = notification
        for session in sessions:
            there = session.number in self.sessions and not session.transport.is_closing()
            if lost or not there:
                self._note_withheld(session, channel, payload, seq, prev)
            else:
                self.publish_bytes((session,), channel, payload, seq, prev)

    def publish_bytes(
        self,
        sessions: Sequence[Session],
        channel: str | None,
        payload: bytes,
        seq: object,
        prev: int | None,
    ) -> None:
        """Queue the same bytes for several sessions."""
        frame = websocket_frame(payload)
        for session in sessions:
            if session.transport.is_closing():
                continue
            if self.silent or session.half_open or channel in session.forgotten:
                self._note_withheld(session, channel, payload, seq, prev)
            elif session.trickle is not None:
                self._queue(session, Queued(channel, payload, seq, prev))
            else:
                session.outbox.append(frame)
                self.sent += 1
                if self.account is not None:
                    self.account.add(session.number, channel, seq, prev, payload)

    def publish_to(self, session: Session, channel: str, data: str, seq: object) -> None:
        """Queue a notification for one session only: the first frame of a new subscription."""
        self.publish_bytes((session,), channel, frames.notification(channel, data).encode(), seq, None)

    def send(self, session: Session, payload: bytes) -> None:
        """Queue and write a frame that belongs to no channel."""
        self.publish_bytes((session,), None, payload, None, None)
        session.flush()

    def flush(self) -> None:
        """Write what is queued for every session."""
        for session in self.sessions.values():
            session.flush()

    def _note_withheld(
        self, session: Session, channel: str | None, payload: bytes, seq: object, prev: int | None
    ) -> None:
        self.withheld += 1
        if self.account is not None:
            self.account.add(session.number, channel, seq, prev, payload, withheld=True)

    # -- faults of a connection ------------------------------------------------------------------

    def throttle(self, session: Session, bytes_per_second: float) -> None:
        """Write at most so many bytes a second to a session from now on; 0 lifts it.

        More than `max_pending_bytes` behind, the session is cut off, as the venue does with a slow reader.
        """
        session.bytes_per_second = bytes_per_second
        if session.trickle is None and bytes_per_second:
            session.trickle = asyncio.get_running_loop().create_task(self._trickle(session))

    def _queue(self, session: Session, queued: Queued) -> None:
        session.backlog.append(queued)
        session.backlog_bytes += len(queued.payload)
        if session.backlog_bytes > self._max_pending:
            session.transport.abort()

    async def _trickle(self, session: Session) -> None:
        """Write the backlog at the session's pace, frame by frame; end once the throttle is lifted."""
        loop = asyncio.get_running_loop()
        allowance, paid_at = 0.0, loop.time()
        while session.bytes_per_second:
            await asyncio.sleep(_TRICKLE_POLL_S)
            if session.transport.is_closing():
                return
            now = loop.time()
            most = max(session.bytes_per_second * _TRICKLE_POLL_S * 2, 1.0)  # nothing is saved up
            allowance = min(allowance + (now - paid_at) * session.bytes_per_second, most)
            paid_at = now
            while session.backlog and allowance > 0:
                allowance -= self._write_first(session)
            session.flush()
        while session.backlog:
            self._write_first(session)
        session.flush()
        session.trickle = None

    def _write_first(self, session: Session) -> int:
        """Hand the oldest waiting frame to the socket; its size in bytes."""
        channel, payload, seq, prev = session.backlog.popleft()
        session.backlog_bytes -= len(payload)
        session.outbox.append(websocket_frame(payload))
        self.sent += 1
        if self.account is not None:
            self.account.add(session.number, channel, seq, prev, payload)
        return len(payload)

    async def drop(self, session: Session, code: int | None = None, reason: str = "") -> None:
        """End a connection: with a close frame, or without a `code` by a TCP reset.

        From this moment on the session is told nothing more; the client's answer to a close frame is not
        waited for.
        """
        session.flush()
        self.leave(session)
        if code is None:
            await session.reset()
        else:
            self._closing(asyncio.ensure_future(session.socket.close(code=code, message=reason.encode())))

    def _closing(self, task: asyncio.Future[bool]) -> None:
        self._closings.add(task)
        task.add_done_callback(self._closings.discard)

    def _behind(self) -> list[Session]:
        limit = self._max_pending
        return [s for s in self.sessions.values() if s.transport.get_write_buffer_size() > limit]

    async def drained(self) -> None:
        """Return when no session lags by more than the limit; one that lags too long is disconnected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SLOW_SESSION_S
        while behind := self._behind():
            await asyncio.sleep(DRAIN_POLL_S)
            if loop.time() > deadline:
                for session in behind:
                    session.transport.abort()
