"""The seam to the WebSocket library: everything the collector wants of one, and nothing else.

A `Transport` opens a connection and from then on calls `on_frames` with the messages, whole and as they were
received: all that one read of the socket brought at once, since most of what a message costs is calls. There
is no queue between the socket and `on_frames`: while it runs, the kernel's buffers fill and TCP itself slows
the peer down, so memory stays bounded whatever happens behind.

Two libraries fill the seam; `bench/receive.py` measures them side by side.

- `picows` (the default) parses in C and hands over a frame by one call: 0.7 CPU-s per million frames of
  760 bytes that arrive in bursts, against 4.4; 2.8 against 5.7 when every frame wakes the process by itself.
  It leaves to its caller what is done here: joining fragments, bounding a joined message, refusing compressed
  frames that nobody offered, answering a close frame, dropping what is delivered after an error, and noticing
  a connection lost inside the handshake. Pings it would answer, but without a word, though one may be the
  last frame of a read. A connection attempt given up early keeps its socket for the rest of
  `connect_timeout_s`.
- `websockets` is pure Python and validates the protocol in full. It is the one to switch to (setting
  `transport`) where no wheel of picows exists or when picows is suspected of a fault. After the peer's close
  frame it waits for the peer to end TCP as well, where picows ends it itself.

Both pass the same tests: TLS, close codes and reasons, pings, fragments, messages of megabytes, a slow
consumer, a reset and a half-open socket. Neither offers compression (the venue's frames travel better
uncompressed than they cost to inflate) nor sends pings of its own: the venue's heartbeat proves life.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Final, Protocol
from urllib.parse import urlsplit

import picows
import python_socks
import websockets.asyncio.client
import websockets.exceptions

from collectors.network import check_proxy, proxy_for, told, trusting
from lake.errors import SettingsError, VenueRefusedError, VenueUnavailableError

NORMAL_CLOSURE: Final = 1000
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
ABNORMAL_CLOSURE: Final = 1006
MESSAGE_TOO_BIG: Final = 1009
SEND_BUFFER_MAX_BYTES: Final = 1 << 20
SEND_QUEUE_MAX: Final = 64
RECEIVE_QUEUE_FRAMES: Final = 256
USER_AGENT: Final = "ticklake"

_TEXT: Final = picows.WSMsgType.TEXT  # looked up once: members of an enum are slow to reach

OnFrames = Callable[[list[bytes]], None]


@dataclass(frozen=True, slots=True)
class Closed:
    """How a connection ended: the code of RFC 6455 (1006: no close frame came), and in words."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Bounds of one connection, and how its peer is reached."""

    RENAMED: ClassVar[Mapping[str, str]] = MappingProxyType({"ssl_context": "ca_file"})
    """Names of earlier versions, for the message."""

    connect_timeout_s: float = 10.0
    """Longest time for name lookup, TCP, TLS and the upgrade together."""
    close_timeout_s: float = 2.0
    """How long the peer may take to answer our close frame before the socket is cut."""
    message_bytes_max: int = 32 << 20
    """A longer message ends the connection with code 1009."""
    ca_file: Path | None = None
    """PEM file of certificate authorities to trust beside those of the system, for WebSocket and REST alike; the
    environment variable SSL_CERT_FILE works too, instead of those of the system."""
    proxy: str | None = None
    """Address of an HTTP proxy, such as http://proxy:3128, for WebSocket and REST alike, or direct for none; None: as
    HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say."""

    def __post_init__(self) -> None:
        if self.ca_file is not None:
            trusting(self.ca_file)
        if self.proxy is not None:
            check_proxy("proxy", self.proxy)

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """Certificates to trust; None: those of the system."""
        return None if self.ca_file is None else trusting(self.ca_file)


class Link(Protocol):
    """One open connection. Used from the event loop's thread only."""

    def send(self, payload: bytes) -> None:
        """Send a text message; without effect once the connection is closed (see `wait_closed`).

        A peer that reads nothing while we keep sending is cut off instead of filling our memory.
        """

    async def close(self) -> None:
        """Close with code 1000; what arrives before the peer's answer still goes to `on_frames`."""

    def abort(self, reason: str) -> None:
        """Cut the socket at once; `reason` is what `wait_closed` will tell."""

    async def wait_closed(self) -> Closed:
        """Return when no frame can arrive any more.

        Raises:
            Exception: whatever `on_frames` raised, which ends the connection.
        """


class Transport(Protocol):
    """Opens connections."""

    async def __call__(self, url: str, on_frames: OnFrames, settings: TransportSettings) -> Link:
        """Connect to `url` (ws:// or wss://) and deliver the messages to `on_frames`, in order, one or more a call.

        Raises:
            SettingsError: `url` is not the address of a WebSocket.
            VenueUnavailableError: nobody answered in time, or asked us to come back later.
            VenueRefusedError: there is a server at `url`, but no WebSocket.
        """


def _too_big() -> picows.WSProtocolError:
    return picows.WSProtocolError(picows.WSCloseCode.MESSAGE_TOO_BIG, "message too big")


class _PicowsLink(picows.WSListener):
    """A connection by picows, which calls the `on_ws_…` methods."""

    def __init__(self, on_frames: OnFrames, settings: TransportSettings) -> None:
        self._on_frames = on_frames
        self._bytes_max = settings.message_bytes_max
        self._close_timeout_s = settings.close_timeout_s
        self._transport: picows.WSTransport | None = None
        self._held: list[bytes] = []
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._received: Closed | None = None
        self._aborted: str | None = None
        self._closing = False
        self._broken = False

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if self._broken:  # picows goes on delivering for a moment after an error; nothing may follow a hole
            return
        try:
            if (
                frame.msg_type == _TEXT
                and frame.fin
                and frame.payload_size <= self._bytes_max
                and not (self._parts or frame.rsv1)
            ):
                self._held.append(frame.get_payload_as_bytes())
                if frame.last_in_buffer:
                    self._hand_over()
            else:
                self._hand_over()
                self._take(transport, frame)
        except Exception:
            self._broken = True
            raise

    def _hand_over(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._on_frames(held)

    def _take(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        """Take a frame that is not a whole text message within bounds."""
        if frame.payload_size > self._bytes_max:
            raise _too_big()  # picows has refused it already, and delivers it all the same
        if frame.msg_type == picows.WSMsgType.CLOSE:
            self._peer_closes(transport, frame.get_payload_as_bytes())
        elif frame.msg_type == picows.WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif frame.msg_type != picows.WSMsgType.PONG:
            self._join(frame)

    def _peer_closes(self, transport: picows.WSTransport, payload: bytes) -> None:
        code = struct.unpack_from("!H", payload)[0] if len(payload) >= 2 else NO_STATUS
        self._received = Closed(code, payload[2:].decode(errors="replace"))
        if not self._closing:
            transport.send_close(picows.WSCloseCode.OK)
        transport.disconnect()

    def _join(self, frame: picows.WSFrame) -> None:
        """Take binary, a fragment, or a breach of the protocol."""
        continues = frame.msg_type == picows.WSMsgType.CONTINUATION
        if frame.rsv1 or continues != bool(self._parts):
            raise picows.WSProtocolError(picows.WSCloseCode.PROTOCOL_ERROR, "unexpected frame")
        self._parts_bytes += frame.payload_size
        if self._parts_bytes > self._bytes_max:
            raise _too_big()
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            message = b"".join(self._parts)
            self._parts, self._parts_bytes = [], 0
            self._on_frames([message])

    def send(self, payload: bytes) -> None:
        transport = self._open_transport()
        if transport is None or self._closing:
            return
        if transport.underlying_transport.get_write_buffer_size() > SEND_BUFFER_MAX_BYTES:
            self.abort("the peer does not read what we send")
            return
        transport.send(picows.WSMsgType.TEXT, payload)

    async def close(self) -> None:
        transport = self._open_transport()
        if transport is None:
            return
        if not self._closing:
            self._closing = True
            transport.send_close(picows.WSCloseCode.OK)
        gone = asyncio.ensure_future(transport.wait_disconnected())
        done, _ = await asyncio.wait({gone}, timeout=self._close_timeout_s)
        if not done:
            self.abort("the peer did not answer our close frame")
            await asyncio.wait({gone})
        gone.exception()  # seen here so that asyncio does not complain; told by wait_closed

    def abort(self, reason: str) -> None:
        transport = self._open_transport()
        if transport is not None:
            self._aborted = self._aborted or reason
            transport.disconnect(graceful=False)

    async def wait_closed(self) -> Closed:
        if self._transport is None:
            return Closed(ABNORMAL_CLOSURE, "never connected")
        try:
            await self._transport.wait_disconnected()
        except picows.WSProtocolError as error:
            return Closed(int(error.args[0]), f"we closed: {error.args[1]}")
        if self._received is not None:
            return self._received
        return Closed(ABNORMAL_CLOSURE, self._aborted or "connection lost without a close frame")

    def _open_transport(self) -> picows.WSTransport | None:
        if self._transport is None or self._transport.is_disconnected:
            return None
        return self._transport


async def connect_picows(url: str, on_frames: OnFrames, settings: TransportSettings) -> Link:
    """Open a connection with picows. See `Transport`."""
    link = _PicowsLink(on_frames, settings)
    proxy = proxy_for(url, settings.proxy)
    at = told(url, proxy)
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            transport, listener = await picows.ws_connect(
                lambda: link,
                url,
                ssl_context=settings.ssl_context,
                proxy=proxy,
                proxy_ssl_context=_for_proxy(proxy, settings),
                websocket_handshake_timeout=settings.connect_timeout_s,
                max_frame_size=settings.message_bytes_max,
                extra_headers={"User-Agent": USER_AGENT},
                max_redirects=0,
                enable_auto_pong=False,
            )
    except picows.WSInvalidURL as error:
        raise _wrong_url(url, error) from None
    except picows.WSInvalidStatusError as error:
        status = int(error.response.status) if error.response is not None else 0
        raise _upgrade_refused(at, status) from None
    except (OSError, picows.WSError, python_socks.ProxyError) as error:
        raise _unreachable(at, error) from None
    if (
        listener is not link
    ):  # picows reports a connection lost before the upgrade as success, with no listener
        transport.disconnect(graceful=False)
        raise _unreachable(at, ConnectionResetError("connection lost during the upgrade"))
    return link


class _WebsocketsLink:
    """A connection by websockets: one task reads, one writes."""

    def __init__(
        self,
        connection: websockets.asyncio.client.ClientConnection,
        on_frames: OnFrames,
    ) -> None:
        self._connection = connection
        self._on_frames = on_frames
        self._outgoing: asyncio.Queue[bytes] = asyncio.Queue(SEND_QUEUE_MAX)
        self._aborted: str | None = None
        self._reader = asyncio.create_task(self._read())
        self._writer = asyncio.create_task(self._write())

    async def _read(self) -> Closed:
        try:
            while True:
                message = await self._connection.recv(decode=False)
                self._on_frames([message])
        except websockets.exceptions.ConnectionClosed as error:
            return self._closed(error)
        finally:
            self._writer.cancel()
            self._cut()

    async def _write(self) -> None:
        try:
            while True:
                await self._connection.send(await self._outgoing.get(), text=True)
        except websockets.exceptions.ConnectionClosed:
            return  # the reader tells how

    def _closed(self, error: websockets.exceptions.ConnectionClosed) -> Closed:
        if error.rcvd is not None:
            return Closed(error.rcvd.code, error.rcvd.reason)
        if error.sent is not None and error.sent.code != NORMAL_CLOSURE:
            return Closed(error.sent.code, f"we closed: {error.sent.reason}")
        return Closed(ABNORMAL_CLOSURE, self._aborted or "connection lost without a close frame")

    def send(self, payload: bytes) -> None:
        if self._writer.done():
            return
        try:
            self._outgoing.put_nowait(payload)
        except asyncio.QueueFull:
            self.abort("the peer does not read what we send")

    async def close(self) -> None:
        await self._connection.close()
        await asyncio.wait({self._reader})

    def abort(self, reason: str) -> None:
        self._aborted = self._aborted or reason
        self._cut()

    def _cut(self) -> None:
        self._connection.transport.abort()

    async def wait_closed(self) -> Closed:
        return await asyncio.shield(self._reader)


async def connect_websockets(url: str, on_frames: OnFrames, settings: TransportSettings) -> Link:
    """Open a connection with websockets. See `Transport`."""
    proxy = proxy_for(url, settings.proxy)
    at = told(url, proxy)
    secured = {"proxy_ssl": _for_proxy(proxy, settings)} if proxy and proxy.startswith("https:") else {}
    try:
        connection = await websockets.asyncio.client.connect(
            url,
            ssl=(settings.ssl_context or True) if url.startswith("wss:") else None,
            compression=None,
            user_agent_header=USER_AGENT,
            proxy=proxy,
            **secured,
            open_timeout=settings.connect_timeout_s,
            ping_interval=None,
            close_timeout=settings.close_timeout_s,
            max_size=settings.message_bytes_max,
            max_queue=RECEIVE_QUEUE_FRAMES,
        )
    except websockets.exceptions.InvalidURI as error:
        raise _wrong_url(url, error) from None
    except websockets.exceptions.InvalidStatus as error:
        raise _upgrade_refused(at, error.response.status_code) from None
    except (OSError, websockets.exceptions.WebSocketException) as error:
        raise _unreachable(at, error) from None
    return _WebsocketsLink(connection, on_frames)


TRANSPORTS: Final[dict[str, Transport]] = {"picows": connect_picows, "websockets": connect_websockets}


def _for_proxy(proxy: str | None, settings: TransportSettings) -> ssl.SSLContext | None:
    """Certificates to trust of a proxy that is itself reached by TLS."""
    if proxy is None or urlsplit(proxy).scheme != "https":
        return None
    return settings.ssl_context or ssl.create_default_context()


def _wrong_url(url: str, error: Exception) -> SettingsError:
    return SettingsError(f"ws_url {url!r} is not a WebSocket address ({error}); write ws://… or wss://…")


def _upgrade_refused(url: str, status: int) -> VenueRefusedError | VenueUnavailableError:
    if status == 429:
        return VenueUnavailableError(
            f"{url} refuses one more connection (HTTP 429); lower connections_max or close other clients"
        )
    if status in (404, 405, 426) or 200 <= status < 400:
        return VenueRefusedError(f"no WebSocket at {url} (HTTP {status}); check ws_url")
    return VenueUnavailableError(f"{url} refuses the connection for now (HTTP {status})")


def _unreachable(url: str, error: Exception) -> VenueUnavailableError:
    if isinstance(error, TimeoutError):
        return VenueUnavailableError(f"no answer from {url} in time; check the network and ws_url")
    if isinstance(error, ssl.SSLCertVerificationError):
        return VenueUnavailableError(
            f"{url} shows a certificate we do not trust: {error.verify_message}; "
            "name who vouches for it in [collect.link] ca_file"
        )
    if isinstance(error, socket.gaierror):
        return VenueUnavailableError(
            f"the host of {url} cannot be found ({error.strerror}); check ws_url and DNS"
        )
    return VenueUnavailableError(f"cannot connect to {url}: {error or type(error).__name__}")
