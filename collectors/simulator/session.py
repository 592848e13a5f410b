"""The socket side of the venue: sessions, who listens to what, and frames on their way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from collectors.simulator.account import Account
from collectors.simulator.frames import ENVELOPE_DATA, ENVELOPE_HEAD, ENVELOPE_TAIL

HEARTBEAT_CLOSE: Final = 4000
TEST_REQUEST: Final = b'{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}'
SLOW_SESSION_S: Final = 30.0  # a consumer that does not drain its socket for so long is disconnected
_DRAIN_POLL_S: Final = 0.002
_TEXT_FRAME: Final = 0x81


def websocket_frame(payload: bytes) -> bytes:
    """An unmasked WebSocket text frame around `payload` (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT_FRAME, size)) + payload
    if size < 1 << 16:
        return bytes((_TEXT_FRAME, 126)) + size.to_bytes(2, "big") + payload
    return bytes((_TEXT_FRAME, 127)) + size.to_bytes(8, "big") + payload


class Session:
    """One connected client. Frames are queued and written together by `flush`, straight to the transport:
    replies go the same way, so the order of queueing is the order on the wire."""

    def __init__(self, number: int, socket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self.number = number
        self.socket = socket
        self.transport = transport
        self.channels: dict[str, None] = {}
        self.outbox: list[bytes] = []
        self.test_pending = False
        self._heartbeat: asyncio.Task[None] | None = None

    def flush(self) -> None:
        """Write everything queued."""
        if self.outbox:
            if not self.transport.is_closing():
                self.transport.write(b"".join(self.outbox))
            self.outbox.clear()

    def beat(self, interval_s: float, send: Callable[[Session, bytes], None]) -> None:
        """Start test requests every `interval_s`; one left unanswered until the next closes the session."""
        self.stop_beat()
        self._heartbeat = asyncio.get_running_loop().create_task(self._beats(interval_s, send))

    def stop_beat(self) -> None:
        """No more test requests."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            self._heartbeat = None
        self.test_pending = False

    async def _beats(self, interval_s: float, send: Callable[[Session, bytes], None]) -> None:
        while not self.transport.is_closing():
            await asyncio.sleep(interval_s)
            if self.test_pending:
                await self.socket.close(code=HEARTBEAT_CLOSE, message=b"heartbeat close")
                return
            self.test_pending = True
            send(self, TEST_REQUEST)


class Hub:
    """All sessions, and the channels somebody listens to."""

    def __init__(self, account: Account | None, max_pending_bytes: int) -> None:
        self.sessions: dict[int, Session] = {}
        self.listened: dict[str, list[Session]] = {}
        self.account = account
        self.sent = 0
        self.silent = False
        self.subscribed = asyncio.Event()  # set at every change of subscriptions; waiters clear it
        self._max_pending = max_pending_bytes
        self._count = 0

    def join(self, socket: web.WebSocketResponse, transport: asyncio.Transport) -> Session:
        """A new session for a socket."""
        self._count += 1
        session = self.sessions[self._count] = Session(self._count, socket, transport)
        return session

    def leave(self, session: Session) -> None:
        """Forget a session whose socket has ended."""
        session.stop_beat()
        self.unsubscribe(session, list(session.channels))
        self.sessions.pop(session.number, None)

    def subscribe(self, session: Session, channel: str) -> bool:
        """Add a channel; False if the session had it already."""
        if channel in session.channels:
            return False
        session.channels[channel] = None
        self.listened.setdefault(channel, []).append(session)
        self.subscribed.set()
        return True

    def unsubscribe(self, session: Session, channels: list[str]) -> None:
        """Remove channels the session may have."""
        for channel in channels:
            if channel in session.channels:
                del session.channels[channel]
                listeners = self.listened[channel]
                listeners.remove(session)
                if not listeners:
                    del self.listened[channel]

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """Queue a notification for everybody subscribed to `channel`: one text, encoded once."""
        payload = f"{ENVELOPE_HEAD}{channel}{ENVELOPE_DATA}{data}{ENVELOPE_TAIL}".encode()
        self.publish_bytes(self.listened.get(channel, ()), channel, payload, seq, prev)

    def publish_bytes(
        self,
        sessions: list[Session] | tuple[Session, ...],
        channel: str | None,
        payload: bytes,
        seq: object,
        prev: int | None,
    ) -> None:
        """Queue the same bytes for several sessions."""
        if self.silent:
            return
        frame = websocket_frame(payload)
        for session in sessions:
            session.outbox.append(frame)
            self.sent += 1
            if self.account is not None:
                self.account.add(session.number, channel, seq, prev, payload)

    def publish_to(self, session: Session, channel: str, data: str, seq: object) -> None:
        """Queue a notification for one session only: the first frame of a new subscription."""
        payload = f"{ENVELOPE_HEAD}{channel}{ENVELOPE_DATA}{data}{ENVELOPE_TAIL}".encode()
        self.publish_bytes((session,), channel, payload, seq, None)

    def send(self, session: Session, payload: bytes) -> None:
        """Queue and write a frame that belongs to no channel."""
        self.publish_bytes((session,), None, payload, None, None)
        session.flush()

    def flush(self) -> None:
        """Write what is queued for every session."""
        for session in self.sessions.values():
            session.flush()

    def drop_all(self) -> None:
        """Cut every connection without a closing handshake."""
        for session in self.sessions.values():
            session.outbox.clear()
            session.transport.abort()

    def _behind(self) -> list[Session]:
        limit = self._max_pending
        return [s for s in self.sessions.values() if s.transport.get_write_buffer_size() > limit]

    async def drained(self) -> None:
        """Return when no session lags by more than the limit; one that lags too long is disconnected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SLOW_SESSION_S
        while behind := self._behind():
            await asyncio.sleep(_DRAIN_POLL_S)
            if loop.time() > deadline:
                for session in behind:
                    session.transport.abort()
