"""The collector follows a simulated venue: listings, expiries, lost connections, parts, and full connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from collectors.deribit.channels import classify
from collectors.recorder import Recorder
from collectors.settings import SERIES
from collectors.simulator import SimulatorSettings, feeds
from collectors.simulator.orders import read_order
from collectors.simulator.server import Simulator
from lake.events import Subscribed, decode_response
from lake.spool import RecordKind
from tests.collectors.kit import MemorySink, run, settings

NEW = "BTC-25DEC26-123000-C"
START_MS = 1_795_000_000_000


@asynccontextmanager
async def venue(instruments: int = 20) -> AsyncIterator[Simulator]:
    chosen = SimulatorSettings(instruments=instruments, rate=300.0, start_ms=START_MS)
    async with Simulator(chosen) as simulator:
        yield simulator


@asynccontextmanager
async def recording(simulator: Simulator, **changes: Any) -> AsyncIterator[tuple[Recorder, MemorySink]]:
    sink = MemorySink()
    quick = {"relist_seconds": 3600.0, "expired_grace_s": 0.3, **changes}
    recorder = Recorder(settings(simulator.ws_url, simulator.rest_url, **quick), sink)
    running = asyncio.create_task(recorder.run())
    try:
        await sink.until(
            lambda: bool(recorder.sessions) and len(sink.events(Subscribed)) >= len(recorder.sessions)
        )
        yield recorder, sink
    finally:
        recorder.stop()
        await running


def test_a_collector_that_subscribes_too_quickly_for_the_venue_slows_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collectors.recorder.REFUSED_QUIET_S", 0.1)

    async def scenario() -> None:
        market = SimulatorSettings(instruments=20, rate=300.0, subscribe_per_second=5.0, subscribe_burst=2.0)
        async with (
            Simulator(market) as simulator,
            recording(simulator, channels_per_call=10, channels_per_connection=30) as (recorder, _),
        ):
            while recorder.summary().channels_acknowledged < recorder.summary().channels_asked:
                await asyncio.sleep(0.01)
            connections = max(simulator.hub.sessions)
        assert recorder.summary().channels_missing == ()
        assert connections > len(recorder.sessions), "none was ended for calling too often"

    run(scenario())


def recorded(recorder: Recorder) -> list[str]:
    """Instruments by what the sessions want: ticker and book of each, on the same connection."""
    found: list[str] = []
    for session in recorder.sessions:
        channels = [classify(channel) for channel in session.channels]
        tickers = [c.instrument for c in channels if c.kind == "ticker" and c.instrument]
        assert sorted(tickers) == sorted(c.instrument for c in channels if c.kind == "book" and c.instrument)
        found += tickers
    return found


def listed(simulator: Simulator) -> set[str]:
    assert isinstance(simulator.feed, feeds.GeneratedFeed)
    return set(simulator.feed.market.instruments)


def of(sink: MemorySink, name: str) -> list[bytes]:
    return [frame for frame in sink.data if f'"ticker.{name}.100ms"'.encode() in frame]


def drop_creations(monkeypatch: pytest.MonkeyPatch) -> None:
    """A venue as it was before it announced new instruments."""
    market_channels = feeds._market_channels
    monkeypatch.setattr(
        feeds,
        "_market_channels",
        lambda market: frozenset(
            c for c in market_channels(market) if not c.startswith("instrument.creation")
        ),
    )


@pytest.mark.parametrize("announces", [True, False])
def test_a_listing_at_runtime_is_recorded_before_the_next_listing(
    announces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with venue() as simulator, recording(simulator) as (recorder, sink):
            await sink.until(lambda: len(responses(sink)) == 2)  # the listing after the first connection
            asked = len(responses(sink))
            await simulator.do(read_order({"action": "list", "instrument": NEW}))
            await sink.until(lambda: bool(of(sink, NEW)))
            assert sorted(recorded(recorder)) == sorted(listed(simulator))
            assert recorder.summary().instruments == len(listed(simulator))
            assert (len(responses(sink)) == asked) == announces

    if not announces:
        drop_creations(monkeypatch)
    run(scenario())


def test_an_index_of_a_new_listing_is_recorded_on_the_first_connection() -> None:
    async def scenario() -> None:
        name, channel = "BTC_USDC-25DEC26-123000-C", "deribit_price_index.btc_usdc"
        chosen = {"name_pattern": f"BTC-.*|{name}", "series": SERIES, "channels_per_connection": 20}
        async with venue() as simulator, recording(simulator, **chosen) as (recorder, sink):
            assert "deribit_price_index.btc_usd" in recorder.sessions[0].channels
            assert not [c for session in recorder.sessions for c in session.channels if c == channel]
            await simulator.do(read_order({"action": "list", "instrument": name}))
            await sink.until(lambda: any(f'"{channel}"'.encode() in frame for frame in sink.data))
            assert {channel, "markprice.options.btc_usdc"} <= set(recorder.sessions[0].channels)

    run(scenario())


def responses(sink: MemorySink) -> list[str]:
    return [decode_response(r[0]).url for r in sink.records if r[2] == RecordKind.RESPONSE]


def test_an_expiry_leaves_the_subscriptions() -> None:
    async def scenario() -> None:
        async with venue() as simulator, recording(simulator) as (recorder, sink):
            gone = next(name for name in sorted(listed(simulator)) if name.endswith("-C"))
            await simulator.do(read_order({"action": "expire", "instrument": gone}))
            await sink.until(lambda: gone not in recorded(recorder))
            await sink.until(lambda: f"ticker.{gone}.100ms" not in simulator.hub.listened)
            assert sorted(recorded(recorder)) == sorted(listed(simulator))

    run(scenario())


def test_a_reconnect_asks_for_what_is_wanted_now_and_finds_what_was_listed_meanwhile() -> None:
    async def scenario() -> None:
        async with venue() as simulator, recording(simulator, channels_per_connection=20) as (recorder, sink):
            gone = next(name for name in sorted(listed(simulator)) if name.endswith("-C"))
            await simulator.do(read_order({"action": "expire", "instrument": gone}))
            await sink.until(lambda: gone not in recorded(recorder))
            await simulator.do(read_order({"action": "drop_all"}))
            await simulator.do(read_order({"action": "list", "instrument": NEW}))  # nobody hears of it
            await sink.until(lambda: bool(of(sink, NEW)))
            await sink.until(lambda: all(session.established.is_set() for session in recorder.sessions))
            assert sorted(recorded(recorder)) == sorted(listed(simulator))
            subscribed = {c.split(".")[1] for c in simulator.hub.listened if c.startswith("ticker.")}
            assert subscribed == listed(simulator)
            assert min(session.connects for session in recorder.sessions) == 2

    run(scenario())


def test_parts_are_disjoint_and_together_everything_with_the_trades_once() -> None:
    async def scenario() -> None:
        async with venue(40) as simulator:
            parts: list[list[str]] = []
            trades: list[int] = []
            for part in (1, 2, 3):
                async with recording(simulator, shard=f"{part}/3") as (recorder, sink):
                    if part == 2:
                        await simulator.do(read_order({"action": "list", "instrument": NEW}))
                        await sink.until(lambda sink=sink: len(sink.data) > 50)  # type: ignore[misc]
                    parts.append(recorded(recorder))
                    channels = [c for session in recorder.sessions for c in session.channels]
                    trades.append(sum(c.startswith("trades.") for c in channels))
            together = [name for part in parts for name in part]
            assert len(together) == len(set(together))
            assert listed(simulator).symmetric_difference(together) <= {NEW}
            assert trades == [2, 0, 0]

    run(scenario())


def test_a_new_connection_is_opened_when_all_are_full_and_the_rest_waits_when_none_may_be() -> None:
    async def scenario() -> None:
        async with venue(6) as simulator:
            full = {"channels_per_connection": 18, "connections_max": 2}
            async with recording(simulator, **full) as (recorder, sink):
                assert [len(session.channels) for session in recorder.sessions] == [18]
                names = [f"BTC-25DEC26-{strike}-C" for strike in range(123_000, 133_000, 1_000)]
                for name in names:
                    await simulator.do(read_order({"action": "list", "instrument": name}))
                await sink.until(lambda: all(of(sink, name) for name in names[:9]))
                assert [len(session.channels) for session in recorder.sessions] == [18, 18]
                assert set(listed(simulator)).difference(recorded(recorder)) == {names[9]}
                await simulator.do(read_order({"action": "expire", "instrument": names[0]}))
                await sink.until(lambda: bool(of(sink, names[9])))
                assert sorted(recorded(recorder)) == sorted(listed(simulator))

    run(scenario())


def test_the_top_by_open_interest_is_asked_for_by_currency_and_recorded() -> None:
    async def scenario() -> None:
        async with venue(40) as simulator, recording(simulator, top_by_open_interest=3) as (recorder, sink):
            names = recorded(recorder)
            assert {sum(n.startswith(c) for n in names) for c in ("BTC-", "ETH-")} == {3}
            assert {"BTC-PERPETUAL", "ETH-PERPETUAL"} <= set(names)
            summaries = [url for url in responses(sink) if "get_book_summary_by_currency" in url]
            assert summaries
            assert len(summaries) == len(set(summaries))

    run(scenario())
