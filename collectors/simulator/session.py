"""One connected client: its socket, its heartbeat, and what is wrong with its connection."""

from __future__ import annotations

import asyncio
import fcntl
import socket as sockets
import struct
import sys
import termios
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from aiohttp import web

HEARTBEAT_CLOSE: Final = 4000
TEST_REQUEST: Final = b'{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}'
RESET_PATIENCE_S: Final = 1.0  # how long a reset waits for the client's kernel to take what was sent
DRAIN_POLL_S: Final = 0.002
_LINGER_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of zero seconds: close with RST


class Queued(NamedTuple):
    """A frame that waits in a throttled session."""

    channel: str | None
    payload: bytes
    seq: object
    prev: int | None


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
        self.half_open = False
        """The connection stands, and nothing is sent or answered any more."""
        self.forgotten: set[str] = set()
        """Channels on which nothing is said any more."""
        self.backlog: deque[Queued] = deque()
        self.backlog_bytes = 0
        self.bytes_per_second = 0.0
        """What a throttled session is written; 0: as much as there is."""
        self.trickle: asyncio.Task[None] | None = None
        self._heartbeat: asyncio.Task[None] | None = None
        self._revival: asyncio.TimerHandle | None = None  # what ends a half-open time

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
            if self.half_open:
                self.test_pending = False
                continue
            if self.test_pending:
                await self.socket.close(code=HEARTBEAT_CLOSE, message=b"heartbeat close")
                return
            self.test_pending = True
            send(self, TEST_REQUEST)

    def stall(self, seconds: float | None) -> None:
        """Leave the connection half open: for a time, or for good."""
        self.half_open = True
        if self._revival is not None:
            self._revival.cancel()
            self._revival = None
        if seconds is not None:
            self._revival = asyncio.get_running_loop().call_later(seconds, self._revive)

    def _revive(self) -> None:
        self.half_open = False

    async def reset(self) -> None:
        """End the connection with a TCP reset, after the client's kernel has taken what was sent before.

        A reset may destroy bytes on their way; the account could then not say what arrived.
        """
        deadline = asyncio.get_running_loop().time() + RESET_PATIENCE_S
        while self._unsent() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(DRAIN_POLL_S)
        found = self.transport.get_extra_info("socket")
        if found is not None and not self.transport.is_closing():
            found.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, _LINGER_RESET)
        self.transport.abort()

    def _unsent(self) -> int:
        """Bytes that the client's kernel has not acknowledged; elsewhere than on Linux, those not written."""
        found = self.transport.get_extra_info("socket")
        if self.transport.is_closing() or found is None:
            return 0
        waiting = self.transport.get_write_buffer_size()
        if sys.platform == "linux":
            answer = fcntl.ioctl(found.fileno(), termios.TIOCOUTQ, bytes(4))
            waiting += int.from_bytes(answer, sys.byteorder)
        return waiting
