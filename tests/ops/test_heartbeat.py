"""Signs of life: only while there is life, never in the way of recording, never telling the address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from collectors.ops.heartbeat import Heartbeat, send
from collectors.ops.settings import HeartbeatSettings
from lake.errors import SettingsError
from tests.collectors.kit import run


class Monitor:
    def __init__(self) -> None:
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.status = 200
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.put_nowait(request.path_qs)
        return web.Response(status=self.status)


@asynccontextmanager
async def monitoring() -> AsyncIterator[Monitor]:
    monitor = Monitor()
    app = web.Application()
    app.router.add_get("/{tail:.*}", monitor.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monitor.url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret-id"
    try:
        yield monitor
    finally:
        await runner.cleanup()


def test_a_sign_goes_out_when_it_is_due_and_data_has_become_durable_since() -> None:
    async def scenario() -> None:
        async with monitoring() as monitor:
            now = [0.0]
            heart = Heartbeat(
                HeartbeatSettings(url=monitor.url, interval_seconds=900), clock_s=lambda: now[0]
            )
            heart.tell(0)
            heart.tell(10)
            assert await monitor.asked.get() == "/secret-id"
            assert heart._sending is not None
            await heart._sending
            now[0] = 899.0
            heart.tell(20)
            now[0] = 900.0
            heart.tell(10)  # nothing durable since the last sign
            assert monitor.asked.empty()
            heart.tell(30)
            assert await monitor.asked.get() == "/secret-id"
            await heart.close()

    run(scenario())


@pytest.mark.parametrize(
    ("suffix", "asked"),
    [("", "/secret-id/fail"), ("/", "/secret-id/fail"), ("?rid=7", "/secret-id/fail?rid=7")],
)
def test_a_failure_is_told_at_its_own_address(suffix: str, asked: str) -> None:
    async def scenario() -> None:
        async with monitoring() as monitor:
            await send(HeartbeatSettings(url=monitor.url + suffix), failed=True)
            assert monitor.asked.get_nowait() == asked

    run(scenario())


def test_trouble_with_the_monitor_is_a_log_line_without_the_address(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with monitoring() as monitor:
            monitor.status = 503
            await send(HeartbeatSettings(url=monitor.url))
        await send(HeartbeatSettings(url="http://me:pw@127.0.0.1:9/secret-id"))

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "the heartbeat's monitor at 127.0.0.1 answered 503",
        "the heartbeat did not reach 127.0.0.1: ClientConnectorError",
    ]


def test_without_an_address_nothing_happens() -> None:
    async def scenario() -> None:
        heart = Heartbeat(HeartbeatSettings())
        heart.tell(10)
        assert heart._sending is None
        await send(HeartbeatSettings(), failed=True)

    run(scenario())


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "hc-ping.com/secret-id", "file:///etc/passwd", "https:///secret-id"]
)
def test_an_address_of_another_kind_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="begins with https") as caught:
        HeartbeatSettings(url=url)
    assert "secret" not in str(caught.value)
