"""The past over REST: the same whenever it is asked for, whole when it is walked, and with the venue's habits."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.deribit import names
from collectors.simulator import Simulator, SimulatorSettings
from collectors.simulator.chain import DAY_MS, parse_name
from collectors.simulator.history import Past
from collectors.simulator.history.candles import bars_of
from collectors.simulator.history.course import HOUR_MS, MINUTE_MS
from collectors.simulator.history.tape import Tape
from collectors.simulator.orders import Truth
from tests.simulator.history_kit import BURST, SETTINGS, hashed, truth
from tests.simulator.support import START_MS, Get, asked, run


def past(chosen: SimulatorSettings = SETTINGS) -> Past:
    return Past(chosen, {}, start_ms=START_MS, end_ms=START_MS)


SINCE_2018 = past(replace(SETTINGS, past_days=0))


def recorded(real_data: Path, file: str) -> Any:
    lines = (real_data / "ws" / "deribit_nautilus_fixtures_2025-2026.jsonl").read_text().splitlines()
    return next(json.loads(line)["_msg"]["result"] for line in lines if f'"{file}"' in line)


# -- the same whenever it is asked for -------------------------------------------------------------


def tapes(there: Past) -> list[Tape]:
    return [there.outright(spec) for spec in there.expired.values() if not spec.kind.endswith("combo")]


def test_a_trade_is_the_same_alone_and_among_others() -> None:
    there = past()
    for tape in [t for t in tapes(there) if t.count > 3][:20]:
        whole = tape.rows(1, tape.count)
        assert np.array_equal(whole.seq, np.arange(1, tape.count + 1))
        assert np.all(np.diff(whole.ts) >= 0)
        assert tape.first_ms <= whole.ts[0]
        assert whole.ts[-1] < tape.spec.expiry_ms
        for number in (1, tape.count // 2, tape.count):
            alone = tape.rows(number, number)
            for one, all_ in zip(vars_of(alone), vars_of(whole), strict=True):
                assert one[0] == all_[number - 1]
        ids = tape.trade_ids(whole)
        assert np.all(np.diff(ids) != 0)
        assert len(np.unique(ids)) == tape.count


def vars_of(rows: Any) -> list[Any]:
    return [getattr(rows, name) for name in rows.__slots__]


def test_before_counts_exactly_the_trades_before_a_time() -> None:
    for tape in [t for t in tapes(past()) if t.count][:12]:
        ts = tape.rows(1, tape.count).ts
        for at in (*ts[:: max(tape.count // 7, 1)].tolist(), tape.first_ms, tape.spec.expiry_ms):
            for time in (at - 1, at, at + 1):
                assert tape.before(time) == int(np.searchsorted(ts, time)), (tape.spec.name, time)


def test_candles_do_not_depend_on_the_window_nor_on_the_start_of_the_market() -> None:
    one, later = (
        past(),
        Past(SETTINGS, {}, start_ms=START_MS + 3 * DAY_MS, end_ms=START_MS + 2 * DAY_MS),
    )
    other = past(replace(SETTINGS, seed=2))
    specs = [s for s in one.expired.values() if one.tape(s).count > 100][:6]
    for spec in specs:
        last = spec.expiry_ms - HOUR_MS
        wide = bars_of(one, spec, None, last - 2_000 * MINUTE_MS, last, MINUTE_MS)
        narrow = bars_of(one, spec, None, last - 30 * MINUTE_MS, last, MINUTE_MS)
        assert len(narrow.ticks)
        for a, b, c in zip(
            wide, narrow, bars_of(later, spec, None, last - 30 * MINUTE_MS, last, MINUTE_MS), strict=True
        ):
            assert np.array_equal(a[-len(b) :], b)
            assert np.array_equal(b, c)
        assert not np.array_equal(
            wide.close, bars_of(other, spec, None, last - 2_000 * MINUTE_MS, last, MINUTE_MS).close
        )


@settings(max_examples=40, deadline=None)
@given(day=st.integers(0, 3_000), name=st.sampled_from(["BTC-PERPETUAL", "ETH-PERPETUAL"]))
def test_candles_of_any_year_are_coherent_and_prices_do_not_leap(day: int, name: str) -> None:
    spec = parse_name(name, now_ms=START_MS)
    first = START_MS - (day + 8) * DAY_MS
    bars = bars_of(SINCE_2018, spec, None, first, first + 7 * DAY_MS, MINUTE_MS)
    if spec.creation_ms < first + 6 * DAY_MS:
        assert len(bars.ticks)
    assert np.all(bars.low <= np.minimum(bars.open, bars.close))
    assert np.all(bars.high >= np.maximum(bars.open, bars.close))
    assert np.all(np.diff(bars.ticks) >= MINUTE_MS)
    assert np.all(bars.low > 0)
    assert np.all(np.abs(np.diff(np.log(bars.close))) < 0.01)
    flat = bars.volume == 0
    assert np.array_equal(bars.high[flat], bars.low[flat])
    assert np.all(bars.cost[~flat] > 0)


def test_prices_go_on_from_the_past_to_the_live_market_and_numbers_without_a_hole() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            end = START_MS - 6 * HOUR_MS
            chart = await get(
                "get_tradingview_chart_data", instrument_name="BTC-PERPETUAL", resolution="1",
                start_timestamp=end - 200 * MINUTE_MS, end_timestamp=START_MS,
            )  # fmt: skip
            close = np.array(chart["close"])
            assert np.abs(np.diff(np.log(close))).max() < 0.03
            page = await get(
                "get_last_trades_by_instrument_and_time", instrument_name="BTC-PERPETUAL", count=1000, sorting="asc",
                start_timestamp=end - HOUR_MS, end_timestamp=START_MS,
            )  # fmt: skip
            seqs = [t["trade_seq"] for t in page["trades"]]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
            assert page["trades"][0]["timestamp"] < end < page["trades"][-1]["timestamp"]
            ids = [int(t["trade_id"]) for t in page["trades"]]
            assert ids == sorted(set(ids))

    run(scenario())


# -- candles ---------------------------------------------------------------------------------------


def test_candles_are_those_of_the_trades() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            future = await busiest(simulator, "future")
            trades = await walk(get, future)
            chart = await get(
                "get_tradingview_chart_data", instrument_name=future, resolution="60",
                start_timestamp=trades[0]["timestamp"] - DAY_MS, end_timestamp=trades[-1]["timestamp"],
            )  # fmt: skip
            hours: dict[int, list[dict[str, Any]]] = {}
            for trade in trades:
                hours.setdefault(trade["timestamp"] // HOUR_MS * HOUR_MS, []).append(trade)
            rows = dict(zip(chart["ticks"], zip(*(chart[k] for k in COLUMNS), strict=True), strict=True))
            assert min(rows) == min(hours), "no bar before the first trade"
            close = 0.0
            for tick, row in rows.items():
                inside = hours.pop(tick, [])
                prices = [t["price"] for t in inside] or [close]
                close = prices[-1]
                assert row[:4] == (prices[0], max(prices), min(prices), close)
                assert row[4] == pytest.approx(sum(t["amount"] / t["price"] for t in inside), abs=1e-8)
                assert row[5] == sum(t["amount"] for t in inside)
            assert not hours, "every trade is in a bar"

    run(scenario())


COLUMNS = ("open", "high", "low", "close", "volume", "cost")


def test_candles_have_the_shape_recorded(real_data: Path) -> None:
    real = recorded(real_data, "http_get_tradingview_chart_data.json")

    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            made = await get(
                "get_tradingview_chart_data", instrument_name="BTC-PERPETUAL", resolution="1",
                start_timestamp=START_MS - 20 * DAY_MS, end_timestamp=START_MS - 19 * DAY_MS,
            )  # fmt: skip
            assert set(made) == set(real)
            for name in COLUMNS:
                assert {type(v) for v in made[name]} == {type(v) for v in real[name]} == {float}
            # Volume in coin, cost in USD.
            both = [
                (c, v, p) for c, v, p in zip(made["cost"], made["volume"], made["close"], strict=True) if v
            ]
            assert all(c / v == pytest.approx(p, rel=0.01) for c, v, p in both)

    run(scenario())


def test_windows_exclude_their_start_and_keep_the_newest() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            name = "BTC-PERPETUAL"
            at = (START_MS - 50 * DAY_MS) // HOUR_MS * HOUR_MS

            async def ticks(first: int, last: int, who: str = name) -> list[int]:
                chart = await get(
                    "get_tradingview_chart_data", instrument_name=who, resolution="1",
                    start_timestamp=first, end_timestamp=last,
                )  # fmt: skip
                assert chart["status"] == ("ok" if chart["ticks"] else "no_data")
                found: list[int] = chart["ticks"]
                return found

            told = await truth(
                simulator, dataset="candles", instrument=name, start=at, end=at + 6_000 * MINUTE_MS
            )
            missing = {m for a, b in told["holes"] for m in range(a, b + 1, MINUTE_MS)}
            whole = [t for t in range(at, at + 6_001 * MINUTE_MS, MINUTE_MS) if t not in missing]
            assert await ticks(at, at + 5 * MINUTE_MS) == whole[1:6], "the first bar is missed"
            assert await ticks(at - 1, at + 5 * MINUTE_MS) == whole[:6]
            far = await ticks(at, at + 6_000 * MINUTE_MS)
            assert far == [t for t in whole if t > at + 999 * MINUTE_MS], "what is older is dropped silently"
            future = await busiest(simulator, "future")
            expiry = simulator_past(simulator).expired[future].expiry_ms
            assert (await ticks(expiry - HOUR_MS, expiry + DAY_MS, future))[-1] == expiry - MINUTE_MS
            assert await ticks(expiry, expiry + DAY_MS, future) == []
            untraded = [
                s
                for s in simulator_past(simulator).expired.values()
                if not simulator_past(simulator).tape(s).count
            ]
            assert await ticks(0, START_MS, untraded[0].name) == []

    run(scenario())


def test_the_account_lists_the_holes_of_the_asked() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            first, last = START_MS - 499 * DAY_MS, START_MS - 380 * DAY_MS
            told = await truth(
                simulator, dataset="candles", instrument="BTC-PERPETUAL", start=first, end=last
            )
            served: dict[str, list[Any]] = {name: [] for name in ("ticks", *COLUMNS)}
            for at in range(first, last + 1, 5_001 * MINUTE_MS):
                chart = await get(
                    "get_tradingview_chart_data", instrument_name="BTC-PERPETUAL", resolution="1",
                    start_timestamp=at - 1, end_timestamp=min(at + 5_001 * MINUTE_MS - 1, last),
                )  # fmt: skip
                for name, values in served.items():
                    values += chart[name]
            assert told["rows"] == len(served["ticks"])
            assert told["sha256"] == hashed(*served.values())
            assert any(b > a for a, b in told["holes"]), "an outage"
            assert any(b == a for a, b in told["holes"]), "a candle the venue lost"
            steps = np.diff(served["ticks"])
            assert np.count_nonzero(steps != MINUTE_MS) == len(told["holes"])
            assert steps.sum() // MINUTE_MS + 1 - len(served["ticks"]) == sum(
                (b - a) // MINUTE_MS + 1 for a, b in told["holes"]
            )

    run(scenario())


# -- trades ----------------------------------------------------------------------------------------


def simulator_past(simulator: Simulator) -> Past:
    found: Past = simulator.feed.past  # type: ignore[union-attr]
    return found


async def busiest(simulator: Simulator, kind: str) -> str:
    there = simulator_past(simulator)
    return max((s for s in there.expired.values() if s.kind == kind), key=lambda s: there.tape(s).count).name


async def walk(get: Get, name: str, count: int = 1_000) -> list[dict[str, Any]]:
    """Every trade of an instrument by numbers, from the history host."""
    found: dict[int, dict[str, Any]] = {}
    while True:
        first = len(found) + 1
        page = await get(
            "get_last_trades_by_instrument", "history", instrument_name=name, count=count,
            start_seq=first, end_seq=first + count - 1,
        )  # fmt: skip
        assert len(page["trades"]) <= count
        fresh = {t["trade_seq"]: t for t in page["trades"] if t["trade_seq"] >= first}
        if not fresh:
            return [found[n] for n in sorted(found)]
        found |= fresh
        assert sorted(found) == list(range(1, len(found) + 1))


def test_every_expired_option_can_be_gathered_whole() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            names = [row["instrument_name"] for row in await get(
                "get_instruments", "history", currency="any", kind="option", expired="true"
            )]  # fmt: skip
            assert len(names) == 80
            crowded = counts = 0
            for name in names:
                trades = await walk(get, name)
                told = await truth(simulator, dataset="trades", instrument=name)
                assert told["rows"] == len(trades)
                if trades:
                    columns = [[t[k] for t in trades] for k in ("trade_seq", "timestamp", "price", "amount")]
                    assert told["sha256"] == hashed(*columns)
                    _, shared = np.unique(columns[1], return_counts=True)
                    crowded += shared.max() >= BURST
                    counts += shared.max() > 1
            assert crowded >= 2, "more trades in a millisecond than a page"
            assert counts > crowded

    run(scenario())


def test_the_history_host_gives_ranges_of_numbers_out_of_order_and_with_neighbours() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            name = await busiest(simulator, "option")
            everything = {t["trade_seq"]: t for t in await walk(get, name)}
            leaked_before = leaked_after = disorder = lies = pages = 0
            for first in range(5, len(everything) - 60, 7):
                page = await get(
                    "get_last_trades_by_instrument", "history", instrument_name=name, count=100,
                    start_seq=first, end_seq=first + 20,
                )  # fmt: skip
                seqs = [t["trade_seq"] for t in page["trades"]]
                assert set(range(first, first + 21)) <= set(seqs)
                times = {everything[n]["timestamp"] for n in (first, first + 20)}
                for n in set(seqs) - set(range(first, first + 21)):
                    assert everything[n]["timestamp"] in times, "whole milliseconds"
                leaked_before += min(seqs) < first
                leaked_after += max(seqs) > first + 20
                disorder += seqs != sorted(seqs)
                lies += page["has_more"]
                pages += 1
                assert all(t == everything[t["trade_seq"]] for t in page["trades"])
            assert leaked_before
            assert leaked_after
            assert disorder
            assert 0 < lies < pages / 10, "whole ranges, but now and then said to go on"

    run(scenario())


def test_walking_a_currency_by_time_meets_every_trade() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            there = simulator_past(simulator)
            chosen = [s for s in there.expired.values() if s.kind == "option" and s.currency == "ETH"]
            found: set[tuple[str, int]] = set()
            at, pages = 0, 0
            end = START_MS - HOUR_MS
            while True:
                page = await get(
                    "get_last_trades_by_currency_and_time", "history", currency="ETH", kind="option", count=1_500,
                    start_timestamp=at, end_timestamp=end, sorting="asc",
                )  # fmt: skip
                stamps = [t["timestamp"] for t in page["trades"]]
                assert stamps == sorted(stamps)
                fresh = {(t["instrument_name"], t["trade_seq"]) for t in page["trades"]} - found
                found |= fresh
                pages += 1
                if not fresh:
                    break
                at = stamps[-1]
            live = [i.spec for i in simulator.feed.market.instruments.values()]  # type: ignore[union-attr]
            chosen += [s for s in live if s.kind == "option" and s.currency == "ETH"]
            expected = {(s.name, n) for s in chosen for n in range(1, there.tape(s).before(end + 1) + 1)}
            assert {pair for pair in found if pair[0] in there.expired} == {
                pair for pair in expected if pair[0] in there.expired
            }
            assert pages > 3

    run(scenario())


def test_the_live_host_tells_a_day_and_liquidations_only_after_an_hour() -> None:
    async def scenario() -> None:
        async with asked(replace(SETTINGS, past_perpetual_trades=60_000)) as (simulator, get):
            name = "BTC-PERPETUAL"
            method = "get_last_trades_by_instrument_and_time"
            day = {"instrument_name": name, "count": 1_000, "sorting": "asc", "start_timestamp": 0}
            old = await get(method, **day, end_timestamp=START_MS - DAY_MS)
            assert old == {"trades": [], "has_more": False}
            whole = await get(method, **day, end_timestamp=START_MS)
            assert START_MS - DAY_MS < whole["trades"][0]["timestamp"] < START_MS - DAY_MS + 10 * MINUTE_MS

            past_end = START_MS - 6 * HOUR_MS

            async def flagged(host: str, now_ms: int) -> dict[int, int]:
                simulator.feed.market.now_ms = now_ms  # type: ignore[union-attr]
                found: dict[int, int] = {}
                for start in range(past_end - 2 * HOUR_MS, past_end, 15 * MINUTE_MS):
                    span = {"start_timestamp": start, "end_timestamp": start + 15 * MINUTE_MS - 1}
                    page = await get(method, host, **day | span)
                    told = [t for t in page["trades"] if "liquidation" in t]
                    assert {t["liquidation"] for t in told} <= {"M", "T", "MT"}
                    found |= {t["trade_seq"]: t["timestamp"] for t in told}
                return found

            fresh = await flagged("www", past_end)
            late = await flagged("www", past_end + HOUR_MS)
            assert late == await flagged("history", past_end + HOUR_MS)
            assert fresh == {seq: ts for seq, ts in late.items() if ts <= past_end - HOUR_MS}
            assert 0 < len(fresh) < len(late)

    run(scenario())


def test_trades_have_the_fields_of_their_time(real_data: Path) -> None:
    modern = recorded(real_data, "http_get_last_trades.json")["trades"][0]

    async def scenario() -> None:
        async with asked(replace(SETTINGS, past_days=0, past_futures=0, past_options=0)) as (_, get):

            async def fields(year: str) -> set[str]:
                at = int(np.datetime64(year, "ms").astype(int))
                page = await get(
                    "get_last_trades_by_instrument_and_time", "history", instrument_name="BTC-PERPETUAL", count=1,
                    start_timestamp=at, end_timestamp=at + DAY_MS, sorting="asc",
                )  # fmt: skip
                (trade,) = page["trades"]
                assert {k: type(v) for k, v in trade.items() if k in modern}.items() <= {
                    k: type(v) for k, v in modern.items()
                }.items()
                return set(trade) - {"liquidation", "combo_id", "combo_trade_id"}

            assert await fields("2025-12-22") == set(modern)
            assert await fields("2022-01-02") == set(modern) - {"contracts"}
            assert await fields("2019-02-13") == set(modern) - {"contracts", "mark_price"}
            assert await fields("2026-09-14") == set(modern) | {"starbase_match_id", "starbase_timestamp"}

    run(scenario())


def test_a_combo_trade_is_told_on_the_combo_and_on_its_leg() -> None:
    async def scenario() -> None:
        async with asked(replace(SETTINGS, past_trades=3_000)) as (simulator, get):
            traded: Counter[str] = Counter()
            for kind in ("future_combo", "option_combo"):
                for row in await get("get_instruments", "history", currency="any", kind=kind, expired="true"):
                    trades = await walk(get, row["instrument_name"])
                    told = await truth(simulator, dataset="trades", instrument=row["instrument_name"])
                    assert told["rows"] == len(trades)
                    traded[kind] += len(trades)
                    for trade in trades[:5]:
                        bought, sold = trade["legs"]
                        step = row["tick_size"]
                        assert trade["price"] == pytest.approx(bought["price"] - sold["price"], abs=step)
                        assert bought.get("combo_id", row["instrument_name"]) == row["instrument_name"]
                        assert str(bought["combo_trade_id"]) == trade["trade_id"].rpartition("-")[2]
                        for leg in (bought, sold):
                            page = await get(
                                "get_last_trades_by_instrument", "history", instrument_name=leg["instrument_name"],
                                start_seq=leg["trade_seq"], end_seq=leg["trade_seq"], count=50,
                            )  # fmt: skip
                            same = [t for t in page["trades"] if t["trade_seq"] == leg["trade_seq"]]
                            assert [without_liquidation(t) for t in same] == [without_liquidation(leg)]
            assert traded["future_combo"]
            assert traded["option_combo"]

    run(scenario())


def without_liquidation(trade: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in trade.items() if name != "liquidation"}


# -- instruments -----------------------------------------------------------------------------------


def test_hosts_list_different_instruments() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            everything = await get("get_instruments", "history", currency="any", expired="true")
            kinds = Counter(row["kind"] for row in everything)
            assert (kinds["future"], kinds["option"], kinds["future_combo"]) == (24, 80, 6)
            assert 0 < kinds["option_combo"] <= 6
            assert len({row["instrument_name"] for row in everything}) == len(everything) == kinds.total()
            assert all(names.parse_name(row["instrument_name"]).kind == row["kind"] for row in everything)
            assert all(row["expiration_timestamp"] <= START_MS and not row["is_active"] for row in everything)
            assert await get("get_instruments", "history", currency="any", expired="false") == []
            lately = await get("get_instruments", currency="any", expired="true")
            assert 0 < len(lately) < 60
            assert (await truth(simulator, dataset="instruments"))["rows"] == kinds.total()
            gone = everything[0]["instrument_name"]
            assert (await get("get_instrument", instrument_name=gone))["state"] == "archivized"

    run(scenario())


def test_a_truth_without_a_known_subject_is_refused() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, _), aiohttp.ClientSession() as http:
            url = simulator.rest_url.replace("/api/v2", "/control")
            for order in (
                {"dataset": "candles", "instrument": "BTC-NOPE"},
                {"dataset": "volatility"},
                {"dataset": "settlements"},
                {"dataset": "candles", "instrument": "BTC-PERPETUAL", "resolution": "7"},
            ):
                async with http.post(url, json={"action": "truth", **order}) as response:
                    assert response.status == 400
            assert Truth(dataset="candles").resolution == "1"

    run(scenario())
