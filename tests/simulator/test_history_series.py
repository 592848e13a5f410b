"""Funding, volatility index, indices, settlements and delivery prices of the past, page by page."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from collectors.simulator.chain import DAY_MS
from collectors.simulator.history.course import HOUR_MS
from collectors.simulator.settings import SimulatorSettings
from tests.simulator.history_kit import SETTINGS, hashed, truth
from tests.simulator.support import START_MS, asked, run

FIRST_FUNDING = 1_556_618_400_000  # 2019-04-30 10:00
WHOLE = SimulatorSettings(
    instruments=20, rate=100.0, hold=True, start_ms=START_MS, past_futures=24, past_options=80
)


def test_funding_walked_forward_is_whole_but_for_the_hours_the_venue_lost() -> None:
    async def scenario() -> None:
        async with asked(WHOLE) as (simulator, get):
            rows: list[dict[str, Any]] = []
            at = FIRST_FUNDING - 1
            while at < START_MS:
                page = await get(
                    "get_funding_rate_history", instrument_name="BTC-PERPETUAL",
                    start_timestamp=at, end_timestamp=at + 744 * HOUR_MS,
                )  # fmt: skip
                assert len(page) <= 744
                rows += page
                at += 744 * HOUR_MS
            times = [row["timestamp"] for row in rows]
            hours = set(range(FIRST_FUNDING, START_MS + 1, HOUR_MS))
            assert hours - set(times) == {1_598_508_000_000, 1_598_511_600_000}
            assert times == sorted(set(times))
            told = await truth(simulator, dataset="funding", instrument="BTC-PERPETUAL")
            columns = ("timestamp", "index_price", "prev_index_price", "interest_8h", "interest_1h")
            assert told["sha256"] == hashed(*([row[name] for row in rows] for name in columns))
            recent = rows[-500:]
            assert all(a["index_price"] == b["prev_index_price"] for a, b in pairwise(recent))
            hourly = np.array([row["interest_1h"] for row in recent])
            eight = np.array([row["interest_8h"] for row in recent])
            assert eight[7:] == pytest.approx(np.convolve(hourly, np.ones(8), "valid"), abs=1e-12)
            assert np.any(hourly > 0)
            assert np.any(hourly < 0)

    run(scenario())


def test_funding_keeps_the_newest_month_and_excludes_its_start() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            at = (START_MS - 40 * DAY_MS) // HOUR_MS * HOUR_MS

            perpetual = {"instrument_name": "BTC-PERPETUAL"}

            async def times(first: int, last: int) -> list[int]:
                span = {"start_timestamp": first, "end_timestamp": last}
                rows = await get("get_funding_rate_history", **perpetual, **span)
                return [row["timestamp"] for row in rows]

            assert await times(at, at + 2 * HOUR_MS) == [at + HOUR_MS, at + 2 * HOUR_MS]
            assert await times(at - 1, at + HOUR_MS) == [at, at + HOUR_MS]
            assert await times(0, at) == list(range(at - 743 * HOUR_MS, at + 1, HOUR_MS))
            day = {"start_timestamp": at, "end_timestamp": at + DAY_MS}
            value = await get("get_funding_rate_value", **perpetual, **day)
            rows = await get("get_funding_rate_history", **perpetual, **day)
            assert value == pytest.approx(sum(row["interest_1h"] for row in rows), abs=1e-15)

    run(scenario())


SPAN = {"start_timestamp": 0, "end_timestamp": START_MS}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("get_funding_rate_history", {"instrument_name": "BTC-PERPETUAL", **SPAN}),
        ("get_volatility_index_data", {"currency": "BTC", "resolution": "3600", **SPAN}),
        ("get_last_settlements_by_currency", {"currency": "BTC"}),
        ("get_delivery_prices", {"index_name": "btc_usd"}),
        ("get_order_book", {"instrument_name": "BTC-PERPETUAL"}),
    ],
)
def test_the_history_host_has_trades_and_nothing_else(method: str, params: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            assert (await get(method, "history", 400, **params))["code"] == -32601
            assert await get(method, **params)

    run(scenario())


def test_the_volatility_index_is_walked_backwards_by_its_continuation() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            first = START_MS - 100 * DAY_MS
            rows: list[list[float]] = []
            end: int | None = START_MS
            while end is not None:
                page = await get(
                    "get_volatility_index_data",
                    currency="ETH",
                    resolution="3600",
                    start_timestamp=first,
                    end_timestamp=end,
                )
                assert len(page["data"]) <= 1_000
                rows = page["data"] + rows
                end = page["continuation"]
            assert len(rows) == 2_400
            told = await truth(
                simulator, dataset="volatility", currency="ETH", resolution="3600", start=first, end=START_MS
            )
            assert told["sha256"] == hashed(*np.array(rows).T)
            assert all(low <= min(o, c) <= max(o, c) <= high for _, o, high, low, c in rows)
            assert all(5 < row[4] < 200 for row in rows)
            oldest = await get(
                "get_volatility_index_data",
                currency="BTC",
                resolution="1D",
                start_timestamp=0,
                end_timestamp=1_617_000_000_000,
            )
            assert oldest["data"][0][0] == 1_616_544_000_000
            assert oldest["continuation"] is None

    run(scenario())


def test_settlements_are_walked_backwards_to_the_last() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (simulator, get):
            rows: list[dict[str, Any]] = []
            params: dict[str, Any] = {"currency": "BTC", "count": 137}
            while True:
                page = await get("get_last_settlements_by_currency", **params)
                rows += page["settlements"]
                if page["continuation"] is None:
                    break
                params["continuation"] = page["continuation"]
            keys = [(row["timestamp"], row["instrument_name"]) for row in rows]
            assert (
                len(set(keys))
                == len(keys)
                == (await truth(simulator, dataset="settlements", currency="BTC"))["rows"]
            )
            days = [row["timestamp"] // DAY_MS for row in rows]
            assert days == sorted(days, reverse=True)
            deliveries = {row["instrument_name"] for row in rows if row["type"] == "delivery"}
            gone = await get("get_instruments", "history", currency="BTC", expired="true")
            assert deliveries == {r["instrument_name"] for r in gone if r["kind"] in ("future", "option")}
            assert all(("funding" in row) == (row["instrument_name"] == "BTC-PERPETUAL") for row in rows)
            bound = START_MS - 30 * DAY_MS
            older = await get(
                "get_last_settlements_by_instrument",
                instrument_name="BTC-PERPETUAL",
                search_start_timestamp=bound,
                count=5,
            )
            times = [row["timestamp"] for row in older["settlements"]]
            assert bound - DAY_MS < times[0] <= bound, "an upper bound"
            assert len(times) == 5
            error = await get(
                "get_last_settlements_by_currency", status=400, currency="BTC", continuation="what"
            )
            assert error["data"]["param"] == "continuation"

    run(scenario())


def test_delivery_prices_come_newest_first_by_offset() -> None:
    async def scenario() -> None:
        async with asked(WHOLE) as (simulator, get):
            rows: list[dict[str, Any]] = []
            while True:
                page = await get("get_delivery_prices", index_name="btc_usd", offset=len(rows), count=1_000)
                if not page["data"]:
                    break
                rows += page["data"]
            assert len(rows) == page["records_total"] > 3_000
            assert rows[0]["date"] == "2026-11-20"
            dates = [row["date"] for row in rows]
            assert dates == sorted(set(dates), reverse=True)
            days = [int(np.datetime64(date, "ms").astype(int)) for date in dates]
            told = await truth(simulator, dataset="deliveries", currency="BTC")
            assert told["sha256"] == hashed(days[::-1], [row["delivery_price"] for row in rows][::-1])
            settled = await get(
                "get_last_settlements_by_currency", currency="BTC", type="delivery", count=1_000
            )
            prices = {row["date"]: row["delivery_price"] for row in rows}
            for row in settled["settlements"]:
                date = str(np.datetime64(row["timestamp"], "ms"))[:10]
                assert row["index_price"] == prices[date]

    run(scenario())


def test_index_charts_end_now_and_agree_with_the_live_index() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            price = (await get("get_index_price", index_name="btc_usd"))["index_price"]
            for length, step in (("1h", 60_000), ("1d", 600_000), ("1y", DAY_MS)):
                rows = await get("get_index_chart_data", index_name="btc_usd", range=length)
                times = [row[0] for row in rows]
                assert set(np.diff(times)) == {step}
                assert START_MS - step < times[-1] <= START_MS
            last = (await get("get_index_chart_data", index_name="btc_usd", range="1h"))[-1][1]
            assert last == pytest.approx(price, rel=0.01)

    run(scenario())


def test_marks_exist_only_for_options_of_the_volatility_index() -> None:
    async def scenario() -> None:
        async with asked(SETTINGS) as (_, get):
            span = {"start_timestamp": START_MS - 2 * HOUR_MS, "end_timestamp": START_MS}
            assert await get("get_mark_price_history", instrument_name="BTC-PERPETUAL", **span) == []
            options = await get("get_instruments", currency="BTC", kind="option")
            near = next(
                row for row in options if START_MS < row["expiration_timestamp"] < START_MS + 30 * DAY_MS
            )
            rows = await get("get_mark_price_history", instrument_name=near["instrument_name"], **span)
            assert set(np.diff([row[0] for row in rows])) == {300_000}
            assert all(mark >= 0 for _, mark in rows)

    run(scenario())
