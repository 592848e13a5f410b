"""Both WebSocket libraries behind the seam, against a server that writes frames byte by byte."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collectors.transport import TRANSPORTS, Closed, Link, Transport, TransportSettings
from lake.errors import SettingsError, VenueRefusedError, VenueUnavailableError
from tests.collectors.kit import run
from tests.collectors.venue import serving

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
SETTINGS = TransportSettings(connect_timeout_s=5.0, close_timeout_s=0.5, message_bytes_max=4 << 20)

pytestmark = pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS.keys())


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    head = bytes([fin << 7 | rsv1 << 6 | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 1 << 16:
        return head + struct.pack("!BH", 126, len(payload)) + payload
    return head + struct.pack("!BQ", 127, len(payload)) + payload


class Wire:
    """The server's end of one connection, after the upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> tuple[int, bytes]:
        """The next frame of the client: opcode and payload (all of ours here are short)."""
        first, second = await self.reader.readexactly(2)
        assert second & 0x80, "a client masks"
        mask = await self.reader.readexactly(4)
        payload = await self.reader.readexactly(second & 0x7F)
        return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))

    def reset(self) -> None:
        """Cut with an RST instead of a FIN."""
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()


class Client:
    """The client's end: what it received, and how it ended."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.link: Link | None = None

    async def connect(self, transport: Transport, url: str, settings: TransportSettings = SETTINGS) -> None:
        self.link = await transport(url, self.received.extend, settings)

    async def closed(self) -> Closed:
        assert self.link is not None
        return await self.link.wait_closed()


@asynccontextmanager
async def wired(
    transport: Transport, settings: TransportSettings = SETTINGS
) -> AsyncIterator[tuple[Wire, Client]]:
    """A connected pair."""
    arrived: asyncio.Queue[Wire] = asyncio.Queue()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        [key] = [line[19:] for line in request.split("\r\n") if line.lower().startswith("sec-websocket-key:")]
        digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        arrived.put_nowait(Wire(reader, writer))

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    client = Client()
    await client.connect(transport, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", settings)
    wire = await arrived.get()
    try:
        yield wire, client
    finally:
        assert client.link is not None
        client.link.abort("test ends")
        await asyncio.gather(client.link.wait_closed(), return_exceptions=True)
        wire.writer.transport.abort()
        server.close()
        await server.wait_closed()


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 3000, 4000, 4999])
def test_the_peers_close_code_and_reason_reach_the_caller(transport: Transport, code: int) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(frame(TEXT, b"last words") + close_frame(code, "heartbeat close"))
            assert (await wire.read())[0] == CLOSE
            wire.writer.close()
            assert await client.closed() == Closed(code, "heartbeat close")
            assert client.received == [b"last words"]

    run(scenario())


def test_a_close_frame_without_code_is_1005(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(frame(CLOSE, b""))
            wire.writer.close()
            assert (await client.closed()).code == 1005

    run(scenario())


@pytest.mark.parametrize("how", ["reset", "end of file"])
def test_a_connection_cut_without_close_frame_is_1006_and_loses_nothing_received(
    transport: Transport, how: str
) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(TEXT, b"cut off")[:-3])
            wire.writer.write_eof() if how == "end of file" else None
            assert client.link is not None
            while len(client.received) < 2:
                await asyncio.sleep(0)
            if how == "reset":
                wire.reset()
            assert (await client.closed()).code == 1006
            assert client.received == [b"one", b"two"]
            client.link.send(b"too late")  # without effect
            await client.link.close()

    run(scenario())


def test_pings_are_answered_and_pongs_passed_over(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(frame(PONG, b"unasked") + frame(PING, b"are you there"))
            assert await wire.read() == (PONG, b"are you there")
            assert client.received == []

    run(scenario())


def test_frames_before_a_ping_do_not_wait_for_those_after_it(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(PING, b"?"))
            assert await wire.read() == (PONG, b"?")
            assert client.received == [b"one", b"two"]

    run(scenario())


def test_fragments_become_one_message_even_with_a_ping_between(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(
                frame(TEXT, b"a", fin=False)
                + frame(CONTINUATION, b"b", fin=False)
                + frame(PING, b"")
                + frame(CONTINUATION, b"c")
                + frame(TEXT, b"d")
                + frame(BINARY, b"\x00\xff")
                + close_frame(1000)
            )
            wire.writer.close()
            await client.closed()
            assert client.received == [b"abc", b"d", b"\x00\xff"]

    run(scenario())


@pytest.mark.parametrize("parts", [1, 7])
def test_a_message_of_two_megabytes_arrives_whole(transport: Transport, parts: int) -> None:
    async def scenario() -> None:
        body = bytes(range(32, 127)) * 22_000
        size = -(-len(body) // parts)
        async with wired(transport) as (wire, client):
            for start in range(0, len(body), size):
                opcode = TEXT if start == 0 else CONTINUATION
                wire.writer.write(frame(opcode, body[start : start + size], fin=start + size >= len(body)))
            wire.writer.write(close_frame(1000))
            wire.writer.close()
            await client.closed()
            assert client.received == [body]

    run(scenario())


@pytest.mark.parametrize("parts", [1, 3])
def test_a_message_over_the_bound_closes_with_1009(transport: Transport, parts: int) -> None:
    async def scenario() -> None:
        settings = TransportSettings(close_timeout_s=0.5, message_bytes_max=1000)
        body = b"x" * 1200
        size = len(body) // parts
        async with wired(transport, settings) as (wire, client):
            for part in range(parts):
                opcode = TEXT if part == 0 else CONTINUATION
                wire.writer.write(frame(opcode, body[:size], fin=part == parts - 1))
            wire.writer.write(frame(TEXT, b"after the hole"))
            opcode, payload = await wire.read()
            assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1009))
            wire.writer.write(close_frame(1009))
            wire.writer.close()
            assert (await client.closed()).code == 1009
            assert client.received == []

    run(scenario())


@pytest.mark.parametrize(
    "breach",
    [
        frame(CONTINUATION, b"of nothing"),
        frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
        frame(TEXT, b"compressed", rsv1=True),
        frame(3, b"unknown opcode"),
        b"\x81\x81maskd",
    ],
    ids=["stray continuation", "interrupted message", "compression", "opcode", "masked"],
)
def test_a_breach_of_the_protocol_closes_with_1002(transport: Transport, breach: bytes) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            wire.writer.write(frame(TEXT, b"good") + frame(TEXT, b"too") + breach)
            opcode, payload = await wire.read()
            assert (opcode, payload[:2]) == (CLOSE, struct.pack("!H", 1002))
            wire.writer.close()
            assert (await client.closed()).code == 1002
            assert client.received == [b"good", b"too"]

    run(scenario())


def test_closing_takes_what_arrives_before_the_answer(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            assert client.link is not None
            closing = asyncio.create_task(client.link.close())
            assert await wire.read() == (CLOSE, struct.pack("!H", 1000))
            wire.writer.write(frame(TEXT, b"still on its way") + close_frame(1000))
            wire.writer.close()
            await closing
            assert await client.closed() == Closed(1000, "")
            assert client.received == [b"still on its way"]

    run(scenario())


def test_closing_a_half_open_connection_takes_no_longer_than_its_bound(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (_, client):
            assert client.link is not None
            await client.link.close()
            assert (await client.closed()).code == 1006

    run(scenario())


def test_an_abort_tells_its_reason(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (_, client):
            assert client.link is not None
            client.link.abort("no frame for 60 s")
            assert await client.closed() == Closed(1006, "no frame for 60 s")

    run(scenario())


def test_a_peer_that_never_reads_is_cut_off_instead_of_filling_memory(transport: Transport) -> None:
    async def scenario() -> None:
        async with wired(transport) as (wire, client):
            assert client.link is not None
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            closed = asyncio.create_task(client.closed())
            for _ in range(2000):
                client.link.send(b"x" * 100_000)
                await asyncio.sleep(0)
                if closed.done():
                    break
            assert (await closed) == Closed(1006, "the peer does not read what we send")

    run(scenario())


def test_a_burst_of_ten_megabytes_against_a_slow_consumer_loses_nothing(transport: Transport) -> None:
    async def scenario() -> None:
        count, body = 200, b"x" * 50_000
        async with wired(transport) as (wire, client):
            for number in range(count):
                wire.writer.write(frame(TEXT, b"%06d" % number + body))
                await wire.writer.drain()
            wire.writer.write(close_frame(1000))
            wire.writer.close()
            await client.closed()
            assert [int(message[:6]) for message in client.received] == list(range(count))

    run(scenario())


def test_an_error_of_the_consumer_ends_the_connection_and_is_raised(transport: Transport) -> None:
    async def scenario() -> None:
        def fail(payloads: list[bytes]) -> None:
            raise ZeroDivisionError

        async with serving() as venue:
            link = await transport(venue.ws_url, fail, SETTINGS)
            await (await venue.peer()).push(b"frame")
            with pytest.raises(ZeroDivisionError):
                await link.wait_closed()

    run(scenario())


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, VenueUnavailableError), (503, VenueUnavailableError), (403, VenueUnavailableError),
     (404, VenueRefusedError), (200, VenueRefusedError)],
)  # fmt: skip
def test_a_refused_upgrade_is_typed_by_its_status(
    transport: Transport, status: int, error: type[Exception]
) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.upgrade_statuses = [status]
            with pytest.raises(error, match=str(status)):
                await Client().connect(transport, venue.ws_url)

    run(scenario())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "127.0.0.1", "ws://", ""])
def test_an_address_that_is_none_is_a_setting_error(transport: Transport, url: str) -> None:
    with pytest.raises(SettingsError, match="ws_url"):
        run(Client().connect(transport, url))


@pytest.mark.parametrize("behaviour", ["hangs", "hangs up", "speaks gibberish"])
def test_a_server_that_never_upgrades_is_unavailable(transport: Transport, behaviour: str) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            if behaviour == "speaks gibberish":
                writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            if behaviour == "hangs":
                await reader.read()
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            ended.set()

        server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(VenueUnavailableError) as caught:
            await Client().connect(transport, url, TransportSettings(connect_timeout_s=0.2))
        assert "\n" not in str(caught.value)
        await ended.wait()
        server.close()
        await server.wait_closed()

    run(scenario())


def test_nobody_listening_is_unavailable(transport: Transport) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(VenueUnavailableError, match="cannot connect"):
            run(Client().connect(transport, url))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """The TLS context of a server, and the file of its certificate."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    folder: Path = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    kind = ["-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", *kind, *name, "-keyout", key, "-out", cert], check=True, capture_output=True
    )

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert


def test_tls_works_and_an_unknown_certificate_is_refused(
    transport: Transport, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    async def scenario() -> None:
        async with serving(certificate[0]) as venue:
            url = venue.ws_url.replace("ws:", "wss:")
            client = Client()
            trusting = TransportSettings(close_timeout_s=1.0, ca_file=certificate[1])
            await client.connect(transport, url, trusting)
            peer = await venue.peer()
            await peer.push(b"secret", b"x" * 2_000_000)
            await peer.socket.close(code=4000, message=b"enough")
            assert await client.closed() == Closed(4000, "enough")
            assert [len(message) for message in client.received] == [6, 2_000_000]
            with pytest.raises(
                VenueUnavailableError, match=r"certificate we do not trust.*\[collect\.link\] ca_file"
            ):
                await Client().connect(transport, url)

    run(scenario())
