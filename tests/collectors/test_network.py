"""Reaching the venue through a proxy and with certificates of one's own: by setting and by environment."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from collectors.deribit.rest import RestClient
from collectors.network import proxy_for
from collectors.transport import TRANSPORTS, Transport, TransportSettings
from lake.errors import SettingsError, VenueUnavailableError
from tests.collectors.kit import run, settings
from tests.collectors.venue import serving

VARIABLES = [f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "ALL", "NO")]


@pytest.fixture(autouse=True)
def _no_proxy_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


class Proxy:
    """A proxy that leads every request to `venue_port`, whatever host it names, unless it refuses with `status`."""

    def __init__(self, venue_port: int, status: int) -> None:
        self.heads: list[bytes] = []
        self.port = 0
        self._venue_port = venue_port
        self._status = status

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self._status != 200:
            writer.write(b"HTTP/1.1 %d Refused\r\nContent-Length: 0\r\n\r\n" % self._status)
            writer.close()
            return
        inner_reader, inner = await asyncio.open_connection("127.0.0.1", self._venue_port)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            inner.write(head.replace(b"http://venue.example", b"", 1))
        await asyncio.gather(_pass_on(reader, inner), _pass_on(inner_reader, writer))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except ConnectionError:
        return  # the test is over
    finally:
        sink.close()


@asynccontextmanager
async def proxying(venue_port: int, status: int = 200) -> AsyncIterator[Proxy]:
    proxy = Proxy(venue_port, status)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS.keys())
@pytest.mark.parametrize("by", ["setting", "environment"])
def test_the_socket_goes_through_the_proxy(
    transport: Transport, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with serving() as venue, proxying(venue.port) as proxy:
            address = f"http://me:pass%20word@127.0.0.1:{proxy.port}"
            link = TransportSettings(close_timeout_s=0.5, proxy=address if by == "setting" else None)
            if by == "environment":
                monkeypatch.setenv("HTTP_PROXY", address)
            received: list[bytes] = []
            opened = await transport("ws://venue.example/ws/api/v2", received.extend, link)
            peer = await venue.peer()
            await peer.push(b"hello")
            await peer.socket.close()
            await opened.wait_closed()
            assert received == [b"hello"]
            [head] = proxy.heads
            assert head.startswith(b"CONNECT venue.example:80 HTTP/1.1\r\n")
            assert b"Basic " + base64.b64encode(b"me:pass word") in head

    run(scenario())


@pytest.mark.parametrize("transport", TRANSPORTS.values(), ids=TRANSPORTS.keys())
@pytest.mark.parametrize("status", [407, 502])
def test_a_proxy_that_refuses_is_named_without_its_password(transport: Transport, status: int) -> None:
    async def scenario() -> None:
        async with proxying(0, status) as proxy:
            address = f"http://me:hunter2@127.0.0.1:{proxy.port}"
            link = TransportSettings(proxy=address)
            with pytest.raises(
                VenueUnavailableError, match=f"through the proxy http://…@127.0.0.1:{proxy.port}"
            ):
                await transport("ws://venue.example/ws", list.clear, link)
            wanted = settings(rest_url="http://venue.example/api/v2", link=link, rest_attempts=1)
            async with RestClient(wanted) as rest:
                with pytest.raises(VenueUnavailableError, match=rf"\(HTTP {status}\)") as told:
                    await rest.get("get_instruments")
            assert "hunter2" not in repr(told.value)

    run(scenario())


def test_requests_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with serving() as venue, proxying(venue.port) as proxy:
            venue.rest[:] = [(200, b'{"result":[]}')]
            monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
            async with RestClient(settings(rest_url="http://venue.example/api/v2")) as rest:
                await rest.get("get_instruments")
            assert proxy.heads[0].startswith(
                b"GET http://venue.example/api/v2/public/get_instruments HTTP/1.1"
            )
            assert venue.rest_asked == ["/api/v2/public/get_instruments"]

    run(scenario())


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "wss://venue.example/ws", None),
        ({"HTTPS_PROXY": "http://p:1"}, "wss://venue.example/ws", "http://p:1"),
        ({"https_proxy": "p:1"}, "https://venue.example/api", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "ws://venue.example/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "ws://127.0.0.2:9/ws", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "ws://venue.example/ws", "http://p:1"),
        ({"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "wss://venue.example/", "http://q:2"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.example,.example"}, "wss://venue.example/", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "wss://venue.example/", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other.example"}, "wss://venue.example/", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "ws://localhost:1/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "ws://127.0.0.1:1/ws", None),
        ({"HTTP_PROXY": "http://p:1"}, "ws://[::1]:1/ws", None),
        ({"HTTPS_PROXY": ""}, "wss://venue.example/ws", None),
        ({"HTTPS_PROXY": "http://me@p:1"}, "wss://venue.example/ws", "http://me:@p:1"),
    ],
)
def test_the_environment_is_understood_as_other_programs_do(
    environment: dict[str, str], url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url, None) == proxy
    assert proxy_for(url, "direct") is None
    assert proxy_for(url, "http://mine:3") == "http://mine:3"


def test_a_proxy_of_another_kind_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:hunter2@p:1")
    with pytest.raises(
        SettingsError, match=r"ALL_PROXY 'socks5://…@p:1': give the address of an HTTP"
    ) as told:
        proxy_for("wss://venue.example/ws", None)
    assert "\n" not in str(told.value)
    for address in ("socks5://p:1", "http://", "http://p:port", "p:1", ""):
        with pytest.raises(SettingsError, match=r"proxy '.*': give the address"):
            TransportSettings(proxy=address)


def test_a_file_of_authorities_is_looked_into_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"ca_file .*/gone\.pem: No such file or directory; give a PEM"):
        TransportSettings(ca_file=tmp_path / "gone.pem")
    (tmp_path / "empty.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"ca_file .*/empty\.pem: .*; give a PEM file of certificates"):
        TransportSettings(ca_file=tmp_path / "empty.pem")
    with pytest.raises(SettingsError, match=r"ca_file .*; give a PEM file"):
        TransportSettings(ca_file=tmp_path)
