"""The list of instruments: expiry grid, names, and the objects that describe them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import zstandard

from collectors.simulator.chain import (
    build_chain,
    expiry_grid,
    instrument_json,
    parse_name,
    settlement_period,
)
from collectors.simulator.chain_file import load_chain
from lake.errors import InputError
from tests.simulator.support import START_MS


def utc(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def test_the_grid_is_the_venue_s() -> None:
    days = [utc(ms) for ms in expiry_grid(START_MS)]
    assert all(day.hour == 8 and day.minute == 0 for day in days)
    assert [d.day for d in days[:4]] == [21, 22, 23, 24], "four days, today's expiry being past"
    fridays = [day for day in days if day.weekday() == 4]
    assert datetime(2026, 11, 27, 8, tzinfo=UTC) in fridays
    assert datetime(2026, 12, 25, 8, tzinfo=UTC) in fridays, "the last Friday of the quarter"
    assert settlement_period(int(fridays[0].timestamp() * 1000)) == "month"
    assert settlement_period(expiry_grid(START_MS)[0]) == "day"


def test_before_eight_today_still_expires() -> None:
    morning = int(datetime(2026, 11, 20, 7, 59, tzinfo=UTC).timestamp() * 1000)
    assert utc(expiry_grid(morning)[0]).day == 20


@pytest.mark.parametrize("count", [1, 2, 7, 60, 300, 1700])
def test_a_chain_has_the_size_asked_and_names_that_parse(count: int) -> None:
    specs = build_chain(count, START_MS)
    names = [spec.name for spec in specs]
    assert len(names) == len(set(names)) == count
    assert names[0] == "BTC-PERPETUAL"
    for spec in specs:
        again = parse_name(spec.name, now_ms=START_MS)
        assert (again.strike, again.sign, again.expiry_ms, again.tick) == (
            spec.strike, spec.sign, spec.expiry_ms, spec.tick,
        )  # fmt: skip


def test_settlement_periods_match_the_recorded_ones(real_data: Path) -> None:
    packed = (real_data / "rest" / "deribit.option.2025-03-28.json.zst").read_bytes()
    rows = json.loads(zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read())
    now = 1_743_120_000_000
    for row in rows:
        spec = parse_name(row["instrument_name"], now_ms=now)
        mine = instrument_json(spec, now)
        assert spec.period == row["settlement_period"], spec.name
        for key in (
            "instrument_name", "strike", "option_type", "expiration_timestamp", "tick_size",
            "tick_size_steps", "contract_size", "min_trade_amount", "base_currency", "quote_currency",
            "counter_currency",
            "settlement_currency", "price_index", "instrument_type", "kind",
        ):  # fmt: skip
            assert mine[key] == row[key], (spec.name, key)


def test_instruments_have_the_fields_recorded_in_2026(real_data: Path) -> None:
    path = real_data / "ws" / "deribit_2026-09_control_rpc_and_misc.jsonl"
    recorded = 0
    for line in path.read_text().splitlines():
        wrapper = json.loads(line)
        if not wrapper["_file"].startswith("get_instruments"):
            continue
        for row in wrapper["_msg"]["result"]:
            mine = instrument_json(
                parse_name(row["instrument_name"], now_ms=1_789_000_000_000), 1_789_000_000_000
            )
            assert set(mine) == set(row)
            assert {k: type(v) for k, v in mine.items()} == {k: type(v) for k, v in row.items()}
            recorded += 1
    assert recorded == 3


def test_a_chain_file_lists_what_is_alive(tmp_path: Path) -> None:
    names = ["BTC-1JAN20-9000-C", "BTC-25DEC26-90000-C", "BTC-25DEC26-50000-P", "BTC-PERPETUAL"]
    path = tmp_path / "chain.json"
    path.write_text(json.dumps([{"instrument_name": n, "index_price": 88_000.0} for n in names]))
    specs, prices = load_chain(path, 10, START_MS)
    assert [spec.name for spec in specs] == ["BTC-PERPETUAL", "BTC-25DEC26-90000-C", "BTC-25DEC26-50000-P"]
    assert prices == {"BTC": 88_000.0}
    with pytest.raises(InputError, match="expired"):
        load_chain(path, 10, 33_000_000_000_000)


def test_a_recorded_chain_can_be_listed(real_data: Path) -> None:
    path = real_data / "chain" / "znmahbub_deribit_btc_eth_chain_2025-12_2026-08.parquet"
    start = int(datetime(2026, 8, 20, tzinfo=UTC).timestamp() * 1000)
    specs, prices = load_chain(path, 500, start)
    assert len(specs) == 500
    assert all(spec.expiry_ms > start for spec in specs)
    assert set(prices) == {"BTC", "ETH"}


@pytest.mark.parametrize("content", ["", "{}", '[{"name":"BTC-PERPETUAL"}]', "[1]"])
def test_a_file_that_is_no_chain_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "chain.json"
    path.write_text(content)
    with pytest.raises(InputError, match="chain"):
        load_chain(path, 10, START_MS)
