"""The whole collector against a scripted venue, and the choice of channels."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.deribit.selection import (
    Listing,
    choose,
    deal,
    decode_listings,
    index_channels,
    instrument_channels,
    platform_channels,
    trade_channels,
)
from collectors.deribit.session import Unrecorded
from collectors.recorder import Recorder
from collectors.settings import CollectorSettings
from lake.errors import SchemaDriftError, SettingsError, VenueRefusedError, VenueUnavailableError
from lake.events import (
    Disconnected,
    Gap,
    GapOpened,
    SessionStarted,
    SessionStopped,
    Subscribed,
    decode_response,
)
from lake.spool import RecordKind
from tests.collectors.kit import MemorySink, run, settings, tick
from tests.collectors.venue import Call, Peer, answer_all, serving

PERPETUAL_MS = 32503708800000


def row(name: str, kind: str = "option", expires: int = 1, period: str = "day", active: bool = True) -> Any:
    return {
        "instrument_name": name, "kind": kind, "expiration_timestamp": expires,
        "settlement_period": period, "is_active": active, "some_new_field": {"x": 1},
    }  # fmt: skip


ROWS = [
    row("BTC-2JAN27-90000-C", expires=20),
    row("BTC-1JAN27-90000-P", expires=10),
    row("BTC-PERPETUAL", "future", PERPETUAL_MS, "perpetual"),
    row("BTC-1JAN27-90000-C", expires=10),
    row("BTC-OLD", active=False),
]


def body(rows: list[Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "result": rows}).encode()


def test_a_recording_lists_subscribes_records_and_sums_up() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(200, body(ROWS))]
            sink = MemorySink()
            chosen = settings(
                venue.ws_url, venue.rest_url, currencies=("BTC",), kinds=(), channels_per_connection=4
            )
            recorder = Recorder(chosen, sink, name="test")
            running = asyncio.create_task(recorder.run())
            peers = [await venue.peer() for _ in range(3)]
            await sink.until(lambda: len(sink.events(Subscribed)) == 3)
            for peer in peers:
                for channel in peer.channels:
                    await peer.push(tick(1, channel))
            await sink.until(lambda: len(sink.data) == 11)
            recorder.stop()
            summary = await running

            names = [r["instrument_name"] for r in ROWS if r["is_active"]]
            expected = {f"{kind}.{name}.100ms" for name in names for kind in ("ticker", "book")}
            expected |= {"trades.any.BTC.100ms", "instrument.creation.any.BTC", "instrument.state.any.BTC"}
            assert {channel for peer in peers for channel in peer.channels} == expected
            assert (summary.channels_asked, summary.channels_acknowledged) == (11, 11)
            assert (summary.instruments, summary.connections, summary.reconnects, summary.gaps) == (
                4,
                3,
                0,
                0,
            )
            assert summary.frames == len(sink.frames) == 11 + 3 * 2
            assert summary.frame_bytes == sum(map(len, sink.frames))
            assert {record[1] for record in sink.records} == {0, 1, 2, 3}
            [response] = [decode_response(r[0]) for r in sink.records if r[2] == RecordKind.RESPONSE]
            assert bytes(response.body) == body(ROWS)
            assert len(sink.events(SessionStarted)) == 1
            assert [event.clean for event in sink.events(SessionStopped)] == [True]
            assert sink.flushed_at == [len(sink.records)]
            stamps = [record[3] for record in sink.records]
            assert stamps == sorted(set(stamps))

    run(scenario())


def test_only_the_connection_that_was_lost_has_a_gap() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(200, body(ROWS))]
            sink = MemorySink()
            recorder = Recorder(settings(venue.ws_url, venue.rest_url, channels_per_connection=7), sink)
            running = asyncio.create_task(recorder.run())
            peers = [await venue.peer(), await venue.peer()]
            await sink.until(lambda: len(sink.events(Subscribed)) == 2)
            for peer in peers:
                await peer.push(tick(1, peer.channels[0]))
            await sink.until(lambda: len(sink.data) == 2)
            peers[0].reset()
            again = await venue.peer()
            await sink.until(lambda: len(sink.events(Subscribed)) == 3)
            await again.push(tick(2, again.channels[0]))
            await sink.until(lambda: bool(sink.events(Gap)))
            recorder.stop()
            summary = await running
            assert again.channels == peers[0].channels
            [gap] = sink.events(Gap)
            assert gap.start_ns == sink.time_of(tick(1, again.channels[0]))
            assert gap.end_ns == sink.time_of(tick(2, again.channels[0]))
            assert gap.connection == sink.events(Disconnected)[0].connection
            assert (summary.reconnects, summary.gaps) == (1, 1)

    run(scenario())


def test_trades_of_silences_that_the_last_life_left_open_are_listed() -> None:
    """One of a connection with trades on it, one of a channel of trades; a book's is claimed and no more."""

    async def scenario() -> None:
        end_ns = time.time_ns() - 60_000_000_000
        silent = [
            GapOpened(
                start_ns=end_ns - n * 1_000_000_000,
                end_ns=end_ns,
                cause="silence",
                connection=1,
                channel=channel,
            )
            for n, channel in ((20, None), (30, "trades.any.BTC.100ms"), (40, "book.BTC-PERPETUAL.100ms"))
        ]
        async with serving() as venue:
            none = b'{"jsonrpc":"2.0","result":{"trades":[],"has_more":false}}'
            venue.rest = [(200, body(ROWS)), (200, none)]
            sink = MemorySink()
            chosen = settings(venue.ws_url, venue.rest_url, currencies=("BTC",), kinds=())
            left = Unrecorded(end_ns, "crashed", {}, tuple(silent))
            recorder = Recorder(chosen, sink, unrecorded=left)
            running = asyncio.create_task(recorder.run())
            await venue.peer()
            await sink.until(lambda: sum(gap.healed for gap in sink.events(Gap)) == 2)
            recorder.stop()
            await running
            told = {
                (gap.start_ns, gap.channel): gap.healed for gap in sink.events(Gap) if gap.cause == "silence"
            }
            assert told == {
                (silent[0].start_ns, None): False,
                (silent[0].start_ns, "trades.any.BTC.100ms"): True,
                (silent[1].start_ns, "trades.any.BTC.100ms"): True,
                (silent[2].start_ns, "book.BTC-PERPETUAL.100ms"): False,
            }
            asked = [parse_qs(urlsplit(url).query) for url in venue.rest_asked if "last_trades_by_cur" in url]
            for gap in silent[:2]:
                [one] = [
                    q for q in asked if int(q["start_timestamp"][0]) == (gap.start_ns - 5 * 10**9) // 10**6
                ]
                assert int(one["end_timestamp"][0]) * 10**6 >= end_ns

    run(scenario())


def test_a_duration_ends_the_recording_by_itself() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(200, body(ROWS))]
            sink = MemorySink()
            summary = await Recorder(settings(venue.ws_url, venue.rest_url), sink).run(duration_s=0.05)
            assert summary.seconds < 5
            assert [event.clean for event in sink.events(SessionStopped)] == [True]

    run(scenario())


def test_a_stop_before_the_listing_has_come_returns_at_once() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(503, b"")]
            recorder = Recorder(settings(venue.ws_url, venue.rest_url, rest_attempts=100), MemorySink())
            running = asyncio.create_task(recorder.run())
            while not venue.rest_asked:
                await asyncio.sleep(0)
            recorder.stop()
            assert (await running).connections == 0

    run(scenario())


def test_one_refused_session_ends_the_others_and_the_error_comes_out_with_everything_flushed() -> None:
    async def scenario() -> None:
        async def refuse_book(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe" and len(venue.peers) == 2 and peer is venue.peers[1]:
                await peer.fail(call, 13778, "raw_subscriptions_not_available_for_unauthorized")
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = refuse_book
            venue.rest = [(200, body(ROWS))]
            sink = MemorySink()
            recorder = Recorder(settings(venue.ws_url, venue.rest_url, channels_per_connection=7), sink)
            with pytest.raises(VenueRefusedError, match="100ms"):
                await recorder.run()
            assert [event.clean for event in sink.events(SessionStopped)] == [False]
            assert sink.flushed_at == [len(sink.records)]

    run(scenario())


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (200, body([{"instrument_name": 7}]), SchemaDriftError),
        (200, b'{"result":[{"instrument_name":"\xff","kind":"option"}]}', SchemaDriftError),
        (200, body([]), SettingsError),
        (503, b"", VenueUnavailableError),
        (404, b"", VenueRefusedError),
    ],
)
def test_a_listing_that_cannot_be_used_ends_in_one_line(
    status: int, answer: bytes, error: type[Exception]
) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(status, answer)]
            with pytest.raises(error) as caught:
                await Recorder(settings(venue.ws_url, venue.rest_url, rest_attempts=2), MemorySink()).run()
            assert "\n" not in str(caught.value)

    run(scenario())


def listings() -> list[Listing]:
    return decode_listings(msgspec.Raw(json.dumps(ROWS).encode()))


def test_selection_takes_perpetuals_first_then_the_nearest_expiries() -> None:
    def names(open_interest: dict[str, float] | None = None, **changes: Any) -> list[str]:
        chosen = choose(listings(), CollectorSettings(**changes), open_interest or {})
        return [listing.instrument_name for listing in chosen]

    assert names() == ["BTC-PERPETUAL", "BTC-1JAN27-90000-C", "BTC-1JAN27-90000-P", "BTC-2JAN27-90000-C"]
    assert names(instruments_max=2) == ["BTC-PERPETUAL", "BTC-1JAN27-90000-C"]
    assert names(kinds=("future",)) == ["BTC-PERPETUAL"]
    assert names(name_pattern=r"BTC-.*-C") == ["BTC-1JAN27-90000-C", "BTC-2JAN27-90000-C"]
    assert names(name_pattern="ETH.*") == []
    ranks = {"BTC-2JAN27-90000-C": 9.0, "BTC-1JAN27-90000-P": 8.0}
    assert names(ranks, top_by_open_interest=2) == ["BTC-1JAN27-90000-P", "BTC-2JAN27-90000-C"]
    assert names(top_by_open_interest=1) == ["BTC-PERPETUAL"]


def test_trades_come_by_kind_and_currency() -> None:
    assert trade_channels(CollectorSettings()) == ["trades.future.any.100ms", "trades.option.any.100ms"]
    assert trade_channels(CollectorSettings(kinds=())) == ["trades.any.any.100ms"]
    assert trade_channels(CollectorSettings(currencies=("BTC", "USDC"), kinds=("option",))) == [
        "trades.option.BTC.100ms",
        "trades.option.USDC.100ms",
    ]


def test_sampled_series_are_chosen_by_name_and_by_what_the_instruments_settle_against() -> None:
    rows = [
        Listing("BTC-PERPETUAL", "future", settlement_period="perpetual", price_index="btc_usd"),
        Listing("SOL_USDC-PERPETUAL", "future", settlement_period="perpetual", price_index="sol_usdc"),
        Listing("BTC-1JAN27-90000-C", "option", price_index="btc_usd"),
        Listing("OLD_USDC-PERPETUAL", "future", price_index="old_usdc", is_active=False),
        Listing("ETH_USDC", "spot", price_index="eth_usdc"),
    ]
    usual = [
        "deribit_price_index.btc_usd",
        "deribit_price_index.sol_usdc",
        "deribit_volatility_index.btc_usd",
    ]
    assert index_channels(rows, CollectorSettings()) == usual
    assert index_channels(rows, CollectorSettings(series=("marks",))) == ["markprice.options.btc_usd"]
    assert index_channels(rows, CollectorSettings(name_pattern="SOL.*")) == ["deribit_price_index.sol_usdc"]
    assert index_channels(rows, CollectorSettings(shard="2/2")) == []
    assert platform_channels(CollectorSettings(shard="2/2")) == [
        "platform_state",
        "platform_state.public_methods_state",
    ]
    assert platform_channels(CollectorSettings(series=())) == []
    assert instrument_channels("SOL_USDC-PERPETUAL", CollectorSettings(funding_interval="100ms")) == [
        "ticker.SOL_USDC-PERPETUAL.100ms",
        "book.SOL_USDC-PERPETUAL.100ms",
        "perpetual.SOL_USDC-PERPETUAL.100ms",
    ]
    assert len(instrument_channels("SOL_USDC-PERPETUAL", CollectorSettings(series=()))) == 2
    assert len(instrument_channels("BTC-1JAN27-90000-C", CollectorSettings())) == 2


@given(count=st.integers(0, 400), per_connection=st.integers(2, 300))
def test_every_channel_is_dealt_once_and_connections_are_even(count: int, per_connection: int) -> None:
    names = [f"N{number}-PERPETUAL" if number % 3 == 0 else f"N{number}" for number in range(count)]
    weights = {name: 3 if name.endswith("-PERPETUAL") else 2 for name in names}
    chosen = CollectorSettings(channels_per_connection=per_connection)
    if sum(weights.values()) + 1 > 30 * per_connection:
        with pytest.raises(SettingsError, match="connections"):
            deal(names, ["trades.any.any.100ms"], chosen)
        return
    hands = deal(names, ["trades.any.any.100ms"], chosen)
    assert sorted(name for hand in hands for name in hand) == sorted(names)
    sizes = [sum(map(weights.__getitem__, hand)) + (number == 0) for number, hand in enumerate(hands)]
    assert max(sizes) - min(sizes) <= 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"connections_max": 31}, "connections_max"),
        ({"channels_per_call": 501}, "channels_per_call"),
        ({"heartbeat_s": 5}, "heartbeat_s"),
        ({"transport": "smoke signals"}, "picows"),
        ({"kinds": ("options",)}, "options"),
        ({"name_pattern": "("}, "name_pattern"),
        ({"instruments_max": 0}, "instruments_max"),
        ({"reply_timeout_s": 0}, "reply_timeout_s"),
        ({"relist_seconds": 0}, "relist_seconds"),
        ({"top_by_open_interest": 0}, "top_by_open_interest"),
        ({"rest_per_s": 0}, "rest_per_s"),
        ({"calls_per_s": -1.0}, "calls_per_s"),
        ({"rest_burst": 0}, "rest_burst"),
        ({"calls_burst": 0}, "calls_burst"),
        ({"series": ("dvol",)}, "dvol"),
        ({"funding_interval": "1s"}, "funding_interval"),
        ({"funding_interval": "raw"}, "use 100ms, agg2"),
        ({"shard": "4/3"}, "shard"),
        ({"shard": "one"}, "1/3"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        CollectorSettings(**changes)
