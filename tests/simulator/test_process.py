"""The simulator in a process of its own, and a client nobody here wrote: ccxt's deribit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.simulator import SimulatorSettings, read_account
from collectors.simulator.process import SimulatorProcess, start
from lake.errors import VenueUnavailableError
from tests.simulator.support import Client, run
from tests.waiting import PATIENCE_S, POLL_S, until


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatorProcess]:
    with start(SimulatorSettings(instruments=80, rate=200.0)) as process:
        yield process


def test_ccxt_understands_the_venue(venue: SimulatorProcess) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ccxt
    exchange = ccxt.deribit({"enableRateLimit": False})
    exchange.urls["api"] = {"rest": f"http://127.0.0.1:{venue.port}"}
    try:
        markets = exchange.load_markets()
        assert len(markets) == 80
        assert {m["type"] for m in markets.values()} == {"swap", "future", "option"}
        option = next(m for m in markets.values() if m["option"] and m["inverse"])
        assert option["strike"] > 0
        assert any(m["linear"] for m in markets.values() if m["option"])
        for symbol in ("BTC/USD:BTC", option["symbol"]):
            ticker = exchange.fetch_ticker(symbol)
            assert ticker["timestamp"] > 1_600_000_000_000
        assert exchange.fetch_ticker("BTC/USD:BTC")["bid"] > 1_000
        book = exchange.fetch_order_book("BTC/USD:BTC", limit=10)
        assert len(book["bids"]) == 10
        assert book["bids"][0][0] < book["asks"][0][0]
        trades = exchange.fetch_trades("BTC/USD:BTC", limit=20)
        assert 0 < len(trades) <= 20
        assert {t["side"] for t in trades} <= {"buy", "sell"}
        since = exchange.milliseconds() - 3_600_000
        candles = exchange.fetch_ohlcv("BTC/USD:BTC", "1m", since, 50)
        assert len(candles) >= 49
        assert all(low <= opened <= high for _, opened, high, low, *_ in candles)
        old = exchange.fetch_ohlcv("BTC/USD:BTC", "1m", exchange.parse8601("2020-03-12T00:00:00Z"), 1_440)
        assert len(old) == 1_440
        assert old[0][0] == exchange.parse8601("2020-03-12T00:00:00Z")
        week = exchange.milliseconds() - 7 * 86_400_000
        funding = exchange.fetch_funding_rate_history("BTC/USD:BTC", week, 100)
        assert all(abs(row["fundingRate"]) < 0.01 for row in funding)
        assert len(funding) > 10
        assert len(exchange.fetch_tickers(params={"code": "BTC"})) > 10
    finally:
        exchange.session.close()


def test_both_hosts_of_a_process_answer(venue: SimulatorProcess) -> None:
    for root in (venue.rest_url, venue.history_url):
        with urllib.request.urlopen(f"{root}/public/get_time") as response:
            assert b'"result":' in response.read()
    assert venue.control("limits")["limits"]["history"]["requests"] == 1


def test_orders_reach_the_process_and_stop_completes_the_account(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"
    settings = SimulatorSettings(instruments=20, rate=1_000.0, hold=True, max_frames=300, account=path)

    async def listen(process: SimulatorProcess) -> int:
        async with Client(process.ws_url) as client:
            await client.call("public/subscribe", channels=["ticker.BTC-PERPETUAL.100ms"])
            collecting = asyncio.create_task(client.collect(1_000_000))
            sent = int((await asyncio.to_thread(process.wait_finished, PATIENCE_S))["sent"])
            while len(client.frames) < sent:
                await asyncio.sleep(POLL_S)
            collecting.cancel()
            return sent

    with start(settings) as process:
        received = run(listen(process))
        assert process.wait_finished(PATIENCE_S)["frames"] >= 300
    assert len(list(read_account(path))) == received


def test_a_simulator_that_cannot_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(VenueUnavailableError), start(SimulatorSettings(replay=(tmp_path / "none",))):
        pass


PARENT = """
import sys, time
from collectors.simulator.process import start
from collectors.simulator.settings import SimulatorSettings
with start(SimulatorSettings(instruments=3, rate=10.0)) as process:
    print(process.pid, flush=True)
    time.sleep(10_000)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_child_ends_with_its_parent() -> None:
    repository = Path(__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=repository)
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until(lambda: not alive(child), "the child to end after its parent")
