"""Bars and basis: right numbers, done once, computed again when something changed, safe to kill."""

from __future__ import annotations

import datetime as dt
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.views import query
from pipeline.bars import agreement, derive_bars
from pipeline.basis import derive_basis

MINUTE = dt.timedelta(minutes=1)
START = dt.datetime(2026, 3, 31, 23, 58, tzinfo=dt.UTC)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def land(root: Root, name: str, rows: list[dict[str, Any]], family: str) -> None:
    """Put made-up rows into a table."""
    spec = TABLES[name]
    nulls = dict.fromkeys(spec.names)
    table = pa.Table.from_pylist([{**nulls, **row} for row in rows], schema=spec.arrow_schema)
    table = table.append_column("date", spec.dates(table["ts"]))
    table = table.append_column("family", pa.array([family] * len(table)))
    held = Table.open(root, spec)
    version = (held.committed("test") or 0) + 1
    held.append(table, app="test", version=version, origin=f"i.test.{version}")


def trade(seq: int, after: float, price: float, size: float, name: str = "BTC-PERPETUAL") -> dict[str, Any]:
    at = START + dt.timedelta(seconds=after)
    what = {
        "venue": "deribit",
        "instrument": name,
        "ts": at,
        "recv_ts": at,
        "trade_id": str(seq),
        "trade_seq": seq,
    }
    return {**what, "price": price, "size": size, "side": "buy"}


def candle(minute: int, close: float, name: str, volume: float = 1.0, **prices: float) -> dict[str, Any]:
    at = START + minute * MINUTE
    what = {
        "venue": "deribit",
        "instrument": name,
        "resolution": "1m",
        "ts": at,
        "recv_ts": at,
        "source": "venue",
    }
    same = dict.fromkeys(("open", "high", "low", "close"), close)
    return {**what, **same, **prices, "volume": volume, "cost": volume * close}


def bars(root: Root, resolution: str, source: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = query(
        root,
        "SELECT ts, open, high, low, close, volume, cost, parts FROM bars "
        f"WHERE resolution = '{resolution}' AND source = '{source}' ORDER BY instrument, ts",
    ).to_pylist()
    return found


def test_bars_from_trades_count_each_trade_once_and_cut_at_the_month(root: Root) -> None:
    trades = [
        trade(1, 1, 100.0, 1000.0),
        trade(2, 2, 125.0, 500.0),
        trade(3, 2, 80.0, 800.0),
        trade(4, 119.5, 90.0, 90.0),
        trade(5, 120.0, 95.0, 95.0),  # 00:00:00 of the next month
    ]
    land(root, "trades", trades, "btc_perpetual")
    land(root, "trades", trades[:3], "btc_perpetual")  # received twice
    assert len(derive_bars(root)) == 2
    first, second, third = bars(root, "1m", "trades")
    assert (first["open"], first["high"], first["low"], first["close"]) == (100.0, 125.0, 80.0, 80.0)
    assert (first["volume"], first["cost"], first["parts"]) == (10.0 + 4.0 + 10.0, 2300.0, 3)
    assert second["ts"] == START + MINUTE
    assert third["ts"] == START + 2 * MINUTE
    assert [bar["parts"] for bar in bars(root, "5m", "trades")] == [4, 1]
    assert [bar["parts"] for bar in bars(root, "1h", "trades")] == [4, 1]


def test_longer_bars_from_candles_and_how_they_agree_with_trades(root: Root) -> None:
    name = "BTC-PERPETUAL"
    land(
        root,
        "candles",
        [candle(0, 80.0, name, 24.0, open=100.0, high=125.0), candle(1, 91.0, name, 1.0)],
        "btc_perpetual",
    )
    trades = [
        trade(1, 1, 100.0, 1000.0),
        trade(2, 2, 125.0, 500.0),
        trade(3, 2, 80.0, 800.0),
        trade(4, 119.5, 90.0, 90.0),
    ]
    land(root, "trades", trades, "btc_perpetual")
    derive_bars(root)
    (hour,) = bars(root, "1h", "candles")
    assert (hour["open"], hour["high"], hour["low"], hour["close"], hour["parts"]) == (
        100.0,
        125.0,
        80.0,
        91.0,
        2,
    )
    assert math.isclose(hour["volume"], 25.0)
    (found,) = agreement(root)
    assert (found["minutes compared"], found["prices differ"], found["volumes differ"]) == (2, 1, 0)
    assert agreement(root, months=[START.date().replace(day=1)]) == [found]
    assert agreement(root, months=[dt.date(2026, 2, 1)]) == []


def test_amounts_of_options_and_linear_contracts_are_coins(root: Root) -> None:
    land(root, "trades", [trade(1, 1, 0.05, 3.0, "BTC-26JUN26-90000-C")], "btc_option")
    land(root, "trades", [trade(1, 1, 90_000.0, 0.5, "BTC_USDC-PERPETUAL")], "perpetual")
    derive_bars(root)
    option, linear = bars(root, "1m", "trades")
    assert math.isclose(option["cost"], 0.15)
    assert option["volume"] == 3.0
    assert (linear["volume"], linear["cost"]) == (0.5, 45_000.0)


def test_every_minute_of_both_has_a_basis(root: Root) -> None:
    land(root, "candles", [candle(m, 102.0 - m, "BTC-26JUN26") for m in range(6)], "future")
    land(root, "candles", [candle(m, 100.0, "BTC-PERPETUAL") for m in range(1, 9)], "btc_perpetual")
    at = START + MINUTE
    index = {"venue": "deribit", "instrument": "btc_usd", "ts": at + MINUTE / 2, "recv_ts": at, "price": 99.0}
    land(root, "index_prices", [index], "index")
    assert len(derive_basis(root)) == 2, "a month each"
    rows = query(root, "FROM basis ORDER BY ts").to_pylist()
    assert [row["basis"] for row in rows] == [1.0, 0.0, -1.0, -2.0, -3.0]
    assert [row["contango"] for row in rows] == [True, False, False, False, False]
    assert [row["index_price"] for row in rows] == [99.0, None, None, None, None]
    years = (dt.datetime(2026, 6, 26, 8, tzinfo=dt.UTC) - rows[0]["ts"] - MINUTE) / dt.timedelta(days=365)
    assert math.isclose(rows[0]["annualised"], 0.01 / years)
    assert math.isclose(rows[0]["annualised_index"], (101 / 99 - 1) / years)


def test_after_its_expiry_a_future_has_no_basis(root: Root) -> None:
    land(root, "candles", [candle(0, 102.0, "BTC-31MAR26")], "future")
    land(root, "candles", [candle(0, 100.0, "BTC-PERPETUAL")], "btc_perpetual")
    derive_basis(root)
    assert query(root, "FROM basis").num_rows == 0


def test_a_second_run_does_nothing_until_something_changes(root: Root) -> None:
    land(root, "candles", [candle(0, 102.0, "BTC-26JUN26")], "future")
    land(root, "candles", [candle(0, 100.0, "BTC-PERPETUAL")], "btc_perpetual")
    assert len(derive_basis(root)) == 1
    assert derive_basis(root) == []
    land(root, "candles", [candle(1, 103.0, "BTC-26JUN26")], "future")
    land(root, "candles", [candle(1, 100.0, "BTC-PERPETUAL")], "btc_perpetual")
    assert [part.rows for part in derive_basis(root)] == [2]
    assert query(root, "FROM basis").num_rows == 2


@pytest.mark.parametrize(
    "step",
    [
        "derive:before_stage",
        "derive:after_stage",
        "derive:after_commit",
        "delta:before_commit",
        "delta:after_commit",
    ],
)
def test_killed_anywhere_the_next_run_completes_it(root: Root, step: str) -> None:
    land(root, "trades", [trade(1, 1, 100.0, 1000.0)], "btc_perpetual")
    derive_bars(root)
    land(root, "trades", [trade(2, 3, 110.0, 1000.0)], "btc_perpetual")
    code = (
        "import sys; from pathlib import Path; from lake.root import open_root; "
        "from pipeline.bars import derive_bars; derive_bars(open_root(Path(sys.argv[1])))"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, str(root.path)], env={**os.environ, "LAKE_CRASH_AT": step}, check=False
    )
    assert killed.returncode != 0
    derive_bars(root)
    assert [bar["parts"] for bar in bars(root, "1m", "trades")] == [2]
    assert derive_bars(root) == []


def test_funding_of_a_day_is_the_sum_of_its_hours(root: Root) -> None:
    midnight = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    hours = [
        {"venue": "deribit", "instrument": "BTC-PERPETUAL", "ts": midnight + hour * dt.timedelta(hours=1),
         "recv_ts": midnight, "type": "hourly", "interest_1h": 0.001 * hour}
        for hour in range(26)
    ]  # fmt: skip
    land(root, "funding", hours, "btc_perpetual")
    land(root, "funding", hours[:5], "btc_perpetual")  # asked for twice
    found = query(root, "SELECT day, rate, hours FROM funding_daily ORDER BY day").to_pylist()
    assert [(row["day"].day, row["hours"]) for row in found] == [(31, 1), (1, 24), (2, 1)]
    assert math.isclose(found[1]["rate"], 0.001 * sum(range(1, 25)))


def test_realised_volatility_is_of_the_minutes_there_are(root: Root) -> None:
    prices = [100.0, 101.0, 100.0, 102.0]
    minutes = [2, 3, 4, 9]  # from 00:00 of the next day; one is missing between the last two
    closes = [candle(minute, price, "BTC-PERPETUAL") for minute, price in zip(minutes, prices, strict=True)]
    land(root, "candles", closes, "btc_perpetual")
    (row,) = query(root, "SELECT steps, volatility FROM realised_volatility").to_pylist()
    step = math.log(1.01)
    assert row["steps"] == 2
    assert math.isclose(row["volatility"], 100 * math.sqrt(step * step * 525_600))
