"""The generated market, rebuilt independently from what it published."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from collectors.simulator.market import Market
from collectors.simulator.options import YEAR_MS, greeks
from tests.simulator.support import START_MS, Tape, make_market

Levels = dict[float, float]


@pytest.fixture(scope="module")
def lived() -> tuple[Market, Tape, dict[str, Any]]:
    """A market after twenty seconds, its tape, and the snapshots of its start."""
    market, tape = make_market(instruments=150, rate=600.0)
    first = {name: json.loads(item.snapshot_data(market.now_ms)) for name, item in market.instruments.items()}
    for _ in range(2_000):
        market.step()
    return market, tape, first


def apply(book: tuple[Levels, Levels], data: dict[str, Any]) -> None:
    """One book message onto a rebuilt book; every action must be possible."""
    for side, levels in zip(book, (data["bids"], data["asks"]), strict=True):
        for action, price, amount in levels:
            if action == "new":
                assert price not in side, "new of a known level"
            else:
                assert price in side, f"{action} of an unknown level"
            if action == "delete":
                assert amount == 0.0
                del side[price]
            else:
                assert amount > 0
                assert side.get(price) != amount, "a change that changes nothing"
                side[price] = amount


def test_books_rebuild_without_gap_or_cross(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    market, tape, first = lived
    books: dict[str, tuple[Levels, Levels]] = {}
    last: dict[str, int] = {}
    for name, snapshot in first.items():
        books[name] = ({}, {})
        apply(books[name], snapshot)
        last[name] = snapshot["change_id"]
    for channel, data in tape.data("book."):
        if ".none." in channel:
            continue
        name = data["instrument_name"]
        assert data["prev_change_id"] == last[name]
        assert data["change_id"] > last[name]
        last[name] = data["change_id"]
        apply(books[name], data)
        bids, asks = books[name]
        assert not bids or not asks or max(bids) < min(asks), f"{name} is crossed"
    for name, item in market.instruments.items():
        bids, asks = books[name]
        grown = json.loads(item.snapshot_data(market.now_ms))
        assert [[p, a] for _, p, a in grown["bids"]] == [[p, bids[p]] for p in sorted(bids, reverse=True)]
        assert [[p, a] for _, p, a in grown["asks"]] == [[p, asks[p]] for p in sorted(asks)]
    assert sum(1 for book in books.values() if not book[0] or not book[1]) > 3, "one-sided books exist"


def test_a_book_that_nobody_quoted_has_the_change_id_0(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    books = lived[2].values()
    empty = [book for book in books if not book["bids"] and not book["asks"]]
    assert empty
    assert all((book["change_id"] == 0) == (not book["bids"] and not book["asks"]) for book in books)


def test_change_ids_are_one_counter(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    ids = [data["change_id"] for channel, data in lived[1].data("book.") if ".none." not in channel]
    assert ids == sorted(set(ids))


def test_grouped_books_and_tickers_agree_with_the_book(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    _, tape, first = lived
    books: dict[str, tuple[Levels, Levels]] = {}
    for name, snapshot in first.items():
        books[name] = ({}, {})
        apply(books[name], snapshot)
    tickers = 0
    for channel, data in ((c, json.loads(d)) for c, d, _, _ in tape.rows if c.startswith(("book", "ticker"))):
        bids, asks = books[data["instrument_name"]]
        if channel.startswith("ticker"):
            tickers += 1
            best_bid = max(bids, default=0.0)
            best_ask = min(asks, default=0.0)
            assert (data["best_bid_price"], data["best_ask_price"]) == (best_bid, best_ask)
            assert data["best_bid_amount"] == bids.get(best_bid, 0.0)
            assert data["best_ask_amount"] == asks.get(best_ask, 0.0)
        elif ".none." in channel:
            depth = int(channel.split(".")[3])
            assert data["bids"] == [[p, bids[p]] for p in sorted(bids, reverse=True)[:depth]]
            assert data["asks"] == [[p, asks[p]] for p in sorted(asks)[:depth]]
        else:
            apply((bids, asks), data)
    assert tickers > 1_000


def test_prices_lie_on_their_ticks(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    market, tape, _ = lived
    prices: dict[str, set[float]] = defaultdict(set)
    for channel, data in tape.data("book."):
        if ".none." not in channel:
            prices[data["instrument_name"]] |= {level[1] for level in data["bids"] + data["asks"]}
    for _, trades in tape.data("trades."):
        for trade in trades:
            prices[trade["instrument_name"]].add(trade["price"])
    for name, found in prices.items():
        spec = market.instruments[name].spec
        for price in found:
            above, coarse = spec.steps[0] if spec.steps else (0.0, spec.tick)
            tick = coarse if price > above else spec.tick
            assert abs(price / tick - round(price / tick)) < 1e-6, (name, price)
            assert price > 0
    assert len(prices) > 50


def test_trades_count_without_hole(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    market, tape, _ = lived
    seqs: dict[str, list[int]] = defaultdict(list)
    ids: dict[str, list[int]] = defaultdict(list)
    for channel, trades in tape.data("trades."):
        if not market.instruments.get(channel.split(".")[1]):
            continue
        for trade in trades:
            seqs[trade["instrument_name"]].append(trade["trade_seq"])
            prefix, _, count = trade["trade_id"].rpartition("-")
            ids[prefix].append(int(count))
            assert trade["direction"] in ("buy", "sell")
            assert trade["tick_direction"] in (0, 1, 2, 3)
    assert sum(map(len, seqs.values())) > 200
    assert any(len(trades) > 1 for _, trades in tape.data("trades.")), "sweeps are batched"
    for name, found in seqs.items():
        assert found == list(range(found[0], found[0] + len(found))), name
    assert set(ids) == {"", "ETH", "BTC_USDC"}
    for found in ids.values():
        assert found == sorted(set(found))


def test_the_currency_channels_carry_the_same_trades(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    market, tape, _ = lived
    market._publisher.flush_trades()
    single, everything = [], []
    for channel, trades in tape.data("trades."):
        if channel == "trades.any.any.100ms":
            everything += [trade["trade_id"] for trade in trades]
        elif channel.split(".")[1] in market.instruments:
            single += [trade["trade_id"] for trade in trades]
    assert sorted(single) == sorted(everything)


def test_no_channel_speaks_twice_within_100_ms(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    times: dict[str, list[int]] = defaultdict(list)
    for channel, data in lived[1].data("ticker.") + lived[1].data("book."):
        times[channel].append(data["timestamp"])
    for channel, found in times.items():
        assert all(later - sooner >= 100 for sooner, later in itertools.pairwise(found)), channel


def test_a_quiet_option_ticks_about_once_a_second_and_activity_is_skewed(
    lived: tuple[Market, Tape, dict[str, Any]],
) -> None:
    counts = Counter(channel for channel, _ in lived[1].data("ticker."))
    ordered = [count for _, count in counts.most_common()]
    assert len(counts) == 150
    assert ordered[-1] >= 19
    assert ordered[0] > 4 * ordered[-1]
    books = Counter(channel for channel, data in lived[1].data("book.") if "type" in data)
    assert "book.BTC-PERPETUAL.100ms" in [channel for channel, _ in books.most_common(3)]


def test_greeks_follow_the_published_marks(lived: tuple[Market, Tape, dict[str, Any]]) -> None:
    market, tape, _ = lived
    seen_zero_bid_iv = seen_no_bid = seen_no_ask = 0
    for _, data in tape.data("ticker."):
        if "greeks" not in data:
            continue
        spec = market.instruments[data["instrument_name"]].spec
        forward, vol = data["underlying_price"], data["mark_iv"] / 100
        years = (spec.expiry_ms - data["timestamp"]) / YEAR_MS
        value, greek = greeks(forward, spec.strike, years, vol, spec.sign)
        # The published IV has two decimals, and marks are up to a second older than the ticker: half of the last
        # decimal and the decay of a second are all the difference allowed.
        slack = 0.0051 * greek.vega - greek.theta / 86_400
        mark = value if spec.linear else value / forward
        assert abs(data["mark_price"] - mark) <= slack / (1 if spec.linear else forward) + 6e-5
        assert abs(data["greeks"]["delta"] - greek.delta) < 0.003
        assert abs(data["greeks"]["vega"] - greek.vega) <= 0.002 * greek.vega + 2e-3
        assert all(round(v, 5) == v for v in data["greeks"].values())
        assert round(data["mark_iv"], 2) == data["mark_iv"]
        seen_no_bid += data["best_bid_amount"] == 0.0 and data["best_bid_price"] == 0.0
        seen_no_ask += data["best_ask_amount"] == 0.0 and data["best_ask_price"] == 0.0
        seen_zero_bid_iv += data["bid_iv"] == 0.0 and data["best_bid_price"] > 0.0
    assert seen_no_bid
    assert seen_no_ask


def test_a_deep_bid_has_no_implied_volatility() -> None:
    market, _ = make_market(instruments=1_700, rate=100.0)
    books = [json.loads(item.ticker_data(START_MS)) for item in market.instruments.values() if item.smile]
    assert any(data["bid_iv"] == 0.0 and data["best_bid_price"] > 0.0 for data in books)
    assert any(data["bid_iv"] > 0.0 for data in books)


@pytest.mark.parametrize("rate", [60.0, 500.0, 3_000.0])
def test_the_frame_rate_is_kept(rate: float) -> None:
    market, tape = make_market(instruments=150, rate=rate)
    tape.listened = ()
    for _ in range(1_500):
        market.step()
    made = market.frames / (market.steps / 100) * market.speed
    assert made == pytest.approx(rate, rel=0.12)


def test_same_seed_same_market_whoever_listens() -> None:
    _, first = make_market(seconds=3)
    _, second = make_market(seconds=3)
    assert first.rows == second.rows
    _, other = make_market(seconds=3, seed=8)
    assert [row[1] for row in other.rows[:50]] != [row[1] for row in first.rows[:50]]
    deaf, tape = make_market()
    tape.listened = {"book.BTC-PERPETUAL.100ms"}
    for _ in range(300):
        deaf.step()
    assert tape.rows == [row for row in first.rows if row[0] == "book.BTC-PERPETUAL.100ms"]


def test_expired_options_fall_silent_and_say_so() -> None:
    eight = START_MS - START_MS % 86_400_000 + 86_400_000 + 8 * 3_600_000
    market, tape = make_market(instruments=300, start_ms=eight - 2_000)
    gone = {name for name, item in market.instruments.items() if item.spec.expiry_ms == eight}
    assert gone
    for _ in range(400):
        market.step()
    assert gone == set(market.expired)
    states = dict(tape.data("instrument.state.any.any"))
    assert states["instrument.state.any.any"]["state"] == "inactive"
    spoke = {d["instrument_name"] for _, d in tape.data("ticker.") if d["timestamp"] > eight + 1_000}
    assert spoke
    assert not spoke & gone
    times: dict[str, list[int]] = defaultdict(list)
    for channel, data in tape.data("ticker."):
        times[channel].append(data["timestamp"])
    assert all(b - a >= 100 for found in times.values() for a, b in itertools.pairwise(found))


def test_a_gap_skips_frames_but_not_the_chain() -> None:
    market, tape = make_market()
    item = market.instruments["BTC-PERPETUAL"]
    item.skip_changes = 1
    for _ in range(500):
        market.step()
    changes = [data for _, data in tape.data("book.BTC-PERPETUAL.100ms")]
    breaks = [
        later
        for sooner, later in itertools.pairwise(changes)
        if later["prev_change_id"] != sooner["change_id"]
    ]
    assert breaks == [], "the hole is before the first frame"
    snapshot_id = make_market()[0].instruments["BTC-PERPETUAL"].book.change_id
    assert changes[0]["prev_change_id"] > snapshot_id
