"""The REST methods over HTTP: fields, limits and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from collectors.simulator import SimulatorSettings
from collectors.simulator.chain import DAY_MS
from collectors.simulator.feeds import GeneratedFeed
from collectors.simulator.history.course import MINUTE_MS
from tests.simulator.support import START_MS, asked, run

SETTINGS = SimulatorSettings(instruments=120, rate=300.0, hold=True, start_ms=START_MS)


def test_instruments_by_currency_and_kind() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            everything = await get("get_instruments", currency="any")
            assert len(everything) == 120
            assert len({row["instrument_name"] for row in everything}) == 120
            options = await get("get_instruments", currency="BTC", kind="option")
            assert {row["base_currency"] for row in options} == {"BTC"}
            assert {row["instrument_type"] for row in options} == {"reversed"}
            linear = await get("get_instruments", currency="USDC", kind="option")
            assert {row["instrument_type"] for row in linear} == {"linear"}
            gone = await get("get_instruments", currency="any", expired="true")
            assert gone
            assert all(START_MS - 3 * DAY_MS < row["expiration_timestamp"] <= START_MS for row in gone)
            one = await get("get_instrument", instrument_name="BTC-PERPETUAL")
            assert one == next(row for row in everything if row["instrument_name"] == "BTC-PERPETUAL")
            assert one["expiration_timestamp"] == 32_503_708_800_000

    run(scenario())


@pytest.mark.parametrize(
    ("method", "params", "code", "param"),
    [
        ("get_instruments", {"currency": "DOGE"}, -32602, "currency"),
        ("get_order_book", {"instrument_name": "BTC-NOPE"}, -32602, "instrument_name"),
        ("get_order_book", {"instrument_name": "BTC-PERPETUAL", "depth": 7}, -32602, "depth"),
        ("ticker", {}, -32602, "instrument_name"),
        (
            "get_last_trades_by_instrument",
            {"instrument_name": "BTC-PERPETUAL", "count": 1001},
            -32602,
            "count",
        ),
        ("get_book_summary_by_currency", {"currency": "any"}, -32602, "currency"),
        ("get_index_price", {"index_name": "doge_usd"}, -32602, "index_name"),
        ("no_such_method", {}, -32601, None),
        ("subscribe", {"channels": "x"}, 10030, None),
    ],
)
def test_refusals_are_http_400_with_the_error_body(
    method: str, params: dict[str, Any], code: int, param: str | None
) -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            error = await get(method, status=400, **params)
            assert error["code"] == code
            assert error.get("data", {}).get("param") == param

    run(scenario())


def test_order_book_and_ticker_agree_and_have_the_real_fields(real_data: Path) -> None:
    lines = (real_data / "ws" / "deribit_nautilus_fixtures_2025-2026.jsonl").read_text().splitlines()
    recorded = next(json.loads(x)["_msg"]["result"] for x in lines if '"http_get_order_book.json"' in x)

    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            book = await get("get_order_book", instrument_name="BTC-PERPETUAL", depth=20)
            assert set(book) == set(recorded)
            assert {k: type(v) for k, v in book.items()} == {k: type(v) for k, v in recorded.items()}
            assert len(book["bids"]) == len(book["asks"]) == 20
            assert book["bids"] == sorted(book["bids"], reverse=True)
            ticker = await get("ticker", instrument_name="BTC-PERPETUAL")
            assert ticker.items() <= book.items()
            assert book["bids"][0] == [ticker["best_bid_price"], ticker["best_bid_amount"]]

    run(scenario())


def test_book_summaries_have_nulls_and_no_greeks() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            rows = await get("get_book_summary_by_currency", currency="BTC", kind="option")
            assert rows
            assert any(row["bid_price"] is None for row in rows) or any(
                row["ask_price"] is None for row in rows
            )
            assert all(row["bid_price"] != 0.0 for row in rows)
            assert all("greeks" not in row and 5 < row["mark_iv"] < 300 for row in rows)

    run(scenario())


def test_trades_page_by_count_time_and_sequence() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            assert isinstance(simulator.feed, GeneratedFeed)
            held = [json.loads(t.text) for t in simulator.feed.market.instruments["BTC-PERPETUAL"].trades]
            name = "BTC-PERPETUAL"
            newest = await get("get_last_trades_by_instrument", instrument_name=name)
            assert [t["trade_seq"] for t in newest["trades"]] == [t["trade_seq"] for t in held[:-11:-1]]
            assert newest["has_more"] is True
            method = "get_last_trades_by_instrument_and_time"
            gathered: list[dict[str, Any]] = []
            start = held[0]["timestamp"]
            while True:
                page = await get(
                    method,
                    instrument_name=name,
                    start_timestamp=start,
                    end_timestamp=START_MS,
                    count=50,
                    sorting="asc",
                )
                fresh = [t for t in page["trades"] if t not in gathered]
                gathered += fresh
                if not page["has_more"]:
                    break
                start = page["trades"][-1]["timestamp"]
            assert gathered == held
            some = await get("get_last_trades_by_currency", currency="BTC", kind="option", count=1000)
            assert some["trades"]
            assert all("iv" in t for t in some["trades"])
            both = await get("get_last_trades_by_currency", currency="any", count=1000)
            assert len(both["trades"]) == 1000
            stamps = [t["timestamp"] for t in both["trades"]]
            assert stamps == sorted(stamps, reverse=True)

    run(scenario())


def test_trades_of_a_range_of_sequence_numbers() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            assert isinstance(simulator.feed, GeneratedFeed)
            market = simulator.feed.market
            held = [trade.seq for trade in market.instruments["BTC-PERPETUAL"].trades]

            async def page(**params: str | int) -> tuple[list[int], bool]:
                result = await get("get_last_trades_by_instrument", instrument_name="BTC-PERPETUAL", **params)
                return [trade["trade_seq"] for trade in result["trades"]], result["has_more"]

            first, last = held[5], held[19]
            assert await page(start_seq=first, end_seq=last, count=15) == (held[5:20], False), (
                "has_more speaks of the range alone: older and newer trades do not count"
            )
            assert await page(start_seq=first, end_seq=last) == (held[5:15], True), "ten without a count"
            assert await page(start_seq=first, end_seq=last, sorting="desc", count=3) == (
                held[19:16:-1],
                True,
            )
            assert await page(start_seq=held[-3], count=1000) == (held[-3:], False)
            assert await page(end_seq=held[2], count=5) == (list(range(held[2], held[2] - 5, -1)), True), (
                "the past goes on where the live market begins"
            )
            assert await page(start_seq=held[-1] + 1) == ([], False)
            at = [trade.timestamp for trade in market.instruments["BTC-PERPETUAL"].trades]
            ranged = await page(start_timestamp=at[3], end_timestamp=at[8], sorting="asc", count=100)
            assert ranged == ([s for s, t in zip(held, at, strict=True) if at[3] <= t <= at[8]], False)
            market.now_ms += 24 * 3_600_000
            assert await page(start_seq=first, end_seq=last) == ([], False), "only a day is kept"

    run(scenario())


@pytest.mark.parametrize("count", [0, 1001, "many"])
def test_a_count_out_of_bounds_is_refused(count: str | int) -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            error = await get(
                "get_last_trades_by_instrument", status=400, instrument_name="BTC-PERPETUAL", count=count
            )
            assert (error["code"], error["data"]["param"]) == (-32602, "count")

    run(scenario())


def test_candles_are_capped_flat_and_coherent() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):

            async def chart(
                minutes: int, resolution: str = "1", name: str = "BTC-PERPETUAL"
            ) -> dict[str, Any]:
                result: dict[str, Any] = await get(
                    "get_tradingview_chart_data", instrument_name=name, resolution=resolution,
                    start_timestamp=START_MS - minutes * MINUTE_MS, end_timestamp=START_MS,
                )  # fmt: skip
                return result

            long = await chart(10_000)
            assert len(long["ticks"]) == 5_001
            assert long["ticks"][-1] == START_MS // MINUTE_MS * MINUTE_MS, "the newest are kept"
            assert {len(v) for k, v in long.items() if k != "status"} == {5_001}
            rows = list(zip(*(long[k] for k in ("open", "high", "low", "close", "volume")), strict=True))
            assert all(low <= min(o, c) <= max(o, c) <= high for o, high, low, c, _ in rows)
            flat = [row for row in rows if row[4] == 0.0]
            assert flat
            assert all(o == high == low == c for o, high, low, c, _ in flat)
            assert await chart(10_000) == long
            shorter = await chart(100)
            assert shorter["close"][-50:] == long["close"][-50:]
            assert len((await chart(1_440, "60"))["ticks"]) == 24

    run(scenario())


def test_funding_rows_are_hourly_and_exclude_the_start() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            hour = 3_600_000
            rows = await get(
                "get_funding_rate_history", instrument_name="BTC-PERPETUAL",
                start_timestamp=START_MS - START_MS % hour - 10 * hour, end_timestamp=START_MS,
            )  # fmt: skip
            assert len(rows) == 10
            keys = {"timestamp", "index_price", "prev_index_price", "interest_8h", "interest_1h"}
            assert all(set(row) == keys for row in rows)
            far = await get(
                "get_funding_rate_history",
                instrument_name="BTC-PERPETUAL",
                start_timestamp=0,
                end_timestamp=START_MS,
            )
            assert len(far) == 744

    run(scenario())
