"""Real answers and real trades go through the decoders and the removal of duplicates that backfilling uses."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from collectors.deribit.answers import decode_answer
from lake.conform import conform
from lake.events import Response
from lake.schema import TABLES
from lake.spool import SpoolSettings
from pipeline.backfill.checks import drop_repeated
from pipeline.backfill.ledger import Ledger
from pipeline.backfill.recording import Recording
from tests.backfill.kit import assert_sound, lake, rows

SEEN_NS = 1_770_000_000_000_000_000
HOST = "https://history.deribit.com/api/v2/public/"
TRADES = "venteng_deribit_btc_option_trades_2022-01-01.csv.zst"
DISTINCT_TRADES = 1_350
PAGE = 100


def test_recorded_candles_are_rows(real_data: Path) -> None:
    lines = (real_data / "ws" / "deribit_nautilus_fixtures_2025-2026.jsonl").read_text().splitlines()
    messages = [json.loads(line) for line in lines]
    body = next(m["_msg"] for m in messages if m["_file"] == "http_get_tradingview_chart_data.json")
    ticks = body["result"]["ticks"]
    url = (
        f"{HOST}get_tradingview_chart_data?instrument_name=BTC-PERPETUAL&resolution=1"
        f"&start_timestamp={ticks[0] - 60_000}&end_timestamp={ticks[-1]}"
    )
    found = decode_answer(url, 200, json.dumps(body).encode(), SEEN_NS)
    assert found is not None
    fitted = conform(TABLES["candles"], found.tables["candles"].drop_columns(["record"]))
    assert not fitted.rejected.any()
    held = fitted.rows.to_pylist()
    for name in ("open", "high", "low", "close", "volume", "cost"):
        assert [bar[name] for bar in held] == body["result"][name]
    assert [int(bar["ts"].timestamp() * 1000) for bar in held] == ticks


def test_recorded_listings_of_five_years_are_terms(real_data: Path) -> None:
    paths = sorted((real_data / "rest").glob("deribit.*.json.zst"))
    assert len(paths) >= 12
    for path in paths:
        body = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
        found = decode_answer(f"{HOST}get_instruments?currency=BTC&expired=false", 200, body, SEEN_NS)
        assert found is not None
        assert not found.rejects
        assert len(found.tables["instruments"]) > 0
        assert found.tables["backfills"].to_pylist()[0]["rows"] == len(found.tables["instruments"])


def pages(path: Path) -> list[bytes]:
    """The trades of the dump, in its order, as answers of a page each."""
    text = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().decode()
    trades: list[dict[str, Any]] = [
        {
            "trade_seq": int(row["trade_seq"]),
            "trade_id": row["trade_id"],
            "timestamp": int(row["t"]),
            "tick_direction": int(row["tick_direction"]),
            "price": float(row["p"]),
            "iv": float(row["iv"]),
            "instrument_name": row["instrument_name"],
            "index_price": float(row["index_price"]),
            "direction": row["direction"],
            "amount": float(row["q"]),
        }
        for row in csv.DictReader(io.StringIO(text))
    ]
    assert len(trades) == 3_719
    return [
        json.dumps({"jsonrpc": "2.0", "result": {"trades": trades[n : n + PAGE], "has_more": True}}).encode()
        for n in range(0, len(trades), PAGE)
    ]


def test_a_dump_that_repeats_its_trades_sixfold_ends_as_the_trades_there_were(
    real_data: Path, tmp_path: Path
) -> None:
    root = lake(tmp_path)
    url = (
        f"{HOST}get_last_trades_by_currency_and_time?currency=BTC&count={PAGE}&start_timestamp=1640995200000"
    )
    answers = pages(real_data / "trades" / TRADES)

    async def record() -> Counter[str]:
        async with Recording(root, SpoolSettings(), 20_000) as recording:
            for body in answers:
                recording.keep(Response(url=url, status=200, requested_ns=SEEN_NS, body=msgspec.Raw(body)))
        return recording.counts

    counted = asyncio.run(record())
    assert (counted["rows_trades"], counted["repeated"]) == (DISTINCT_TRADES, 3_719 - DISTINCT_TRADES)
    held = rows(root, "SELECT count(*) AS n, count(DISTINCT trade_id) AS ids FROM trades")[0]
    assert held == {"n": DISTINCT_TRADES, "ids": DISTINCT_TRADES}
    with Ledger(root) as ledger:
        assert len(ledger.recorded("trades")["BTC"]) == len(answers)
    assert_sound(root)
    assert drop_repeated(root, "trades") == 0
