"""Frames become exactly the rows they say, and a bad frame becomes a reject and nothing else."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from collectors.deribit.columns import SCHEMAS
from collectors.deribit.decode import Decoded, decode
from lake.errors import InputError
from tests.deribit import independent

HAND_MADE = dict(independent.hand_made())
TICKER = HAND_MADE["ticker: both sides, settlement price absent"]
PERPETUAL = HAND_MADE["ticker: perpetual, ints for floats, exponents"]
TRADES = HAND_MADE["trades: ids as numbers, combo and block, liquidation, IV 0 and 500, several instruments"]
TRADE = HAND_MADE["trades: 64-bit ids, starbase fields"]
CHANGE = HAND_MADE["book: change with a delete"]
SNAPSHOT = HAND_MADE["book: snapshot, 64-bit change id"]
FUNDING = HAND_MADE["perpetual: exponents"]
INDEX = HAND_MADE["price index"]
DVOL = HAND_MADE["volatility index"]
MARKS = HAND_MADE["marks: two options, one without a volatility"]
RECV_NS = 1_789_344_931_096_123_456


def decoded(*frames: bytes) -> Decoded:
    return decode(frames, RECV_NS + np.arange(len(frames)), np.zeros(len(frames), np.uint16))


def assert_agrees(frames: list[bytes]) -> dict[str, int]:
    rows, other, control = independent.read(frames)
    result = decoded(*frames)
    assert result.rejects == []
    assert (result.control, result.other) == (control, other)
    assert result.unknown_fields == Counter()
    for name, table in result.tables.items():
        assert table.schema == SCHEMAS[name]
        independent.assert_same(table, rows[name])
    return {name: len(found) for name, found in rows.items() if found}


@pytest.mark.parametrize("given", [b"null", b"{}", b'{"delta":null}'])
def test_a_ticker_without_greeks_keeps_all_its_other_columns(given: bytes) -> None:
    frame = re.sub(rb'"greeks":\{[^}]*\}', b'"greeks":' + given, TICKER)
    frame = re.sub(rb'"stats":\{[^}]*\}', b'"stats":null', frame)
    assert b'"greeks":' + given in frame
    whole, bare = (decode([f], np.array([10**18]), np.zeros(1, np.int32)) for f in (TICKER, frame))
    assert not bare.rejects
    assert not bare.unknown_fields
    greeks = ["delta", "gamma", "vega", "theta", "rho"]
    row = bare.tables["quotes"]
    assert row.select(greeks).to_pylist() == [dict.fromkeys(greeks)]
    assert row.drop_columns(greeks).equals(whole.tables["quotes"].drop_columns(greeks))


@pytest.mark.parametrize(
    ("sent", "percent"),
    [
        ("0.1729", 17.29),
        ("0.29", 29.0),
        ("0.57", 57.0),
        ("1.1", 110.0),
        ("0.123456789012345", 12.3456789012345),
        ("0", None),
        ("null", None),
    ],
)
def test_the_volatility_of_marks_is_percent_digit_for_digit(sent: str, percent: float | None) -> None:
    frame = re.sub(rb'"iv":[^,}]+', b'"iv":' + sent.encode(), MARKS)
    decoded = decode([frame], np.array([10**18]), np.zeros(1, np.int32))
    assert set(decoded.tables["marks"]["mark_iv"].to_pylist()) == {percent}


def test_hand_made_frames_agree_with_an_independent_reading() -> None:
    assert assert_agrees(list(HAND_MADE.values())) == {
        "quotes": 7, "trades": 3, "book": 10, "funding": 2, "index_prices": 2, "volatility_index": 1, "marks": 2,
    }  # fmt: skip


def test_order_of_frames_does_not_matter_to_their_rows() -> None:
    assert_agrees(list(reversed(HAND_MADE.values())))


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("deribit_2021-04-05_options_raw_ws.txt.zst", {"quotes": 273, "trades": 0, "book": 368}),
        ("deribit_2021-04-17_options_raw_ws.txt.zst", {"quotes": 92, "trades": 0, "book": 123}),
        ("deribit_2021-2023_single_messages.jsonl", {"quotes": 2, "trades": 2, "book": 20}),
        ("deribit_2026-09-14_testnet_BTC-15SEP26-77000-C.jsonl", {"quotes": 56, "trades": 0, "book": 24}),
        ("deribit_2026-09-30_prod_tickers_first21.jsonl", {"quotes": 21, "trades": 0, "book": 0}),
        ("deribit_2026-09_control_rpc_and_misc.jsonl", {"quotes": 1, "trades": 3, "book": 42}),
        ("deribit_nautilus_fixtures_2025-2026.jsonl", {"quotes": 1, "trades": 2, "book": 0}),
    ],
)
def test_recordings_agree_with_an_independent_reading(
    real_data: Path, name: str, rows: dict[str, int]
) -> None:
    frames = [f for f in independent.recorded(real_data / "ws" / name) if is_a_frame(f)]
    assert assert_agrees(frames) == {table: count for table, count in rows.items() if count}


def is_a_frame(text: bytes) -> bool:
    """Some recordings also hold bare results without an envelope."""
    message = json.loads(text)
    return isinstance(message, dict) and bool({"method", "result", "error"} & message.keys())


def test_recordings_hold_no_other_recording(real_data: Path) -> None:
    assert len(list((real_data / "ws").iterdir())) == 7


def test_every_row_carries_venue_family_receive_time_and_frame() -> None:
    book = decoded(PERPETUAL, SNAPSHOT).tables["book"].to_pylist()
    assert {row["venue"] for row in book} == {"deribit"}
    assert {row["family"] for row in book} == {"btc_option"}
    assert {row["record"] for row in book} == {1}
    assert {row["recv_ts"].timestamp() for row in book} == {RECV_NS // 1000 / 1e6}


def test_nothing_in_gives_empty_tables_of_the_same_columns() -> None:
    result = decoded()
    assert {name: table.schema for name, table in result.tables.items()} == SCHEMAS
    assert all(table.num_rows == 0 for table in result.tables.values())


def test_frames_times_and_connections_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="1 frames, 2 times"):
        decode([TICKER], np.zeros(2, np.int64), np.zeros(1, np.uint16))


BAD = {
    "required field missing": (TICKER.replace(b'"best_bid_amount"', b'"bba"'), "best_bid_amount"),
    "text for a number": (TICKER.replace(b'"mark_price":0.0069', b'"mark_price":"0.0069"'), "mark_price"),
    "number for a name": (TICKER.replace(b'"BTC-15SEP26-77000-C","l', b'5,"l'), "instrument_name"),
    "a list of Greeks": (TICKER.replace(b'"gamma":2.8e-4', b'"gamma":[1]'), "greeks.gamma"),
    "a number beyond floats": (TICKER.replace(b'"mark_iv":31.2', b'"mark_iv":1e999'), "mark_iv"),
    "time in seconds": (TICKER.replace(b"1789344931096", b"1789344931"), "timestamp"),
    "time after 2099": (TICKER.replace(b"1789344931096", b"4102444800000"), "timestamp"),
    "another instrument": (
        TICKER.replace(b'"BTC-15SEP26-77000-C","l', b'"BTC-PERPETUAL","l'),
        "BTC-PERPETUAL",
    ),
    "an unreadable name": (PERPETUAL.replace(b"BTC-PERPETUAL", b"btc perp"), "btc perp"),
    "a wrong side": (TRADE.replace(b'"buy"', b'"bought"'), "direction"),
    "an id beyond 64 bits": (TRADE.replace(b"140284854", b"9223372036854775808"), "trade_seq"),
    "a null price of a trade": (TRADE.replace(b'"price":76917.5', b'"price":null'), "price"),
    "one trade of two": (TRADES.replace(b'"amount":2,', b""), "amount"),
    "trade of another instrument": (TRADE.replace(b'_name":"BTC', b'_name":"ETH'), "ETH-PERPETUAL"),
    "unknown action": (CHANGE.replace(b'"delete"', b'"drop"'), "asks"),
    "a price in quotes": (CHANGE.replace(b'"change",7.5e-3', b'"change","7.5e-3"'), "asks"),
    "a level of four": (CHANGE.replace(b"0.007,10.0", b"0.007,10.0,1"), "asks"),
    "a level of two": (CHANGE.replace(b'"new",0.007,10.0', b"0.007,10.0"), "asks"),
    "a null size": (CHANGE.replace(b"0.007,10.0", b"0.007,null"), "asks"),
    "a level size beyond floats": (CHANGE.replace(b"0.007,10.0", b"0.007,1e999"), "asks"),
    "a word of ours as action": (CHANGE.replace(b'"delete"', b'"-"'), "asks"),
    "null bids": (CHANGE.replace(b'"bids":[]', b'"bids":null'), "bids"),
    "a break in the chain": (CHANGE.replace(b'"prev_change_id"', b'"pci"'), "prev_change_id"),
    "funding of no instrument": (FUNDING.replace(b"BTC-PERPETUAL", b"btc"), "btc"),
    "funding without a rate": (FUNDING.replace(b'"interest"', b'"rate"'), "interest"),
    "another index": (INDEX.replace(b'_name":"btc', b'_name":"eth'), "eth_usd"),
    "an unreadable index": (INDEX.replace(b"btc_usd", b"BTC USD"), "BTC USD"),
    "a volatility index of another": (DVOL.replace(b'_name":"btc', b'_name":"eth'), "eth_usd"),
    "a volatility in text": (DVOL.replace(b"36.4821", b'"36.4821"'), "volatility"),
    "one mark of two": (MARKS.replace(b'"mark_price":2.0e-5,', b""), "mark_price"),
    "a mark of no instrument": (MARKS.replace(b"BTC-27NOV26-84000-P", b"BTC-?"), "BTC-?"),
    "book of another instrument": (CHANGE.replace(b'_name":"BTC-15', b'_name":"BTC-16'), "BTC-16SEP26"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_frame_is_refused_naming_channel_and_field_and_its_neighbours_are_not(what: str) -> None:
    bad, named = BAD[what]
    good = [TICKER, TRADE, CHANGE, SNAPSHOT, FUNDING, INDEX, DVOL, MARKS]
    alone, among = decoded(*good), decoded(*good[:2], bad, *good[2:])
    assert [reject.record for reject in among.rejects] == [2]
    reason = among.rejects[0].reason
    assert named in reason
    assert reason.startswith(json.loads(bad)["params"]["channel"] + ": ")
    assert "\n" not in reason
    for name, table in among.tables.items():
        assert without_record(table) == without_record(alone.tables[name])


def without_record(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.drop_columns(["record", "recv_ts"]).to_pylist()
    return rows


@pytest.mark.parametrize(
    "frame", [b"", b"{", b"5", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, TICKER[:-1], TICKER * 2]
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    result = decoded(frame, TICKER)
    assert [reject.record for reject in result.rejects] == [0]
    assert result.tables["quotes"]["record"].to_pylist() == [1]


def test_fields_nobody_knows_are_kept_out_and_counted() -> None:
    ticker = TICKER.replace(b'"mark_price"', b'"new_price":1,"mark_price"').replace(
        b'"vega"', b'"vanna":0,"vega"'
    )
    result = decoded(
        ticker, TRADES.replace(b'"amount"', b'"fee":1,"amount"'), CHANGE.replace(b'"type"', b'"x":{},"type"')
    )
    assert result.unknown_fields == {
        "ticker.new_price": 1, "ticker.greeks.vanna": 1, "trades.fee": 2, "book.x": 1,
    }  # fmt: skip
    assert result.rejects == []
    assert [result.tables[name].num_rows for name in ("quotes", "trades", "book")] == [1, 2, 3]
    sampled = [MARKS, INDEX, DVOL.replace(b"estimated_delivery", b"estimated_something"), FUNDING]
    sampled = [frame.replace(b'"timestamp"', b'"new":1,"timestamp"') for frame in sampled]
    assert decoded(*sampled).unknown_fields == {
        "markprice.options.new": 2, "deribit_price_index.new": 1, "deribit_volatility_index.new": 1,
        "deribit_volatility_index.estimated_something": 1, "perpetual.new": 1,
    }  # fmt: skip


def test_a_new_field_in_every_ticker_is_noticed_in_every_sixty_fourth() -> None:
    ticker = TICKER.replace(b'"mark_price"', b'"new_price":1,"mark_price"')
    assert decoded(*[ticker] * 129).unknown_fields == {"ticker.new_price": 3}


def test_levels_spelled_unusually_read_the_same() -> None:
    spaced = SNAPSHOT.replace(b"],[", b"] , [").replace(b'["new",', b'[ "new" ,\n')
    escaped = SNAPSHOT.replace(b'"new"', b'"n\\u0065w"')
    usual = without_record(decoded(SNAPSHOT, CHANGE).tables["book"])
    assert without_record(decoded(spaced, CHANGE).tables["book"]) == usual
    assert without_record(decoded(escaped, CHANGE).tables["book"]) == usual


def test_more_levels_than_a_position_can_count_are_refused() -> None:
    head = SNAPSHOT.split(b'"asks":')[0]
    many = head + b'"asks":[' + b",".join([b'["new",1.0,1.0]'] * 40_000) + b"]}}}"
    result = decoded(many, SNAPSHOT)
    assert [(reject.record, "levels" in reject.reason) for reject in result.rejects] == [(0, True)]
    assert result.tables["book"].num_rows == 3


def test_many_frames_keep_their_order_across_batches() -> None:
    frames = [TICKER, CHANGE] * 5_000
    result = decoded(*frames)
    assert result.tables["quotes"]["record"].to_pylist() == list(range(0, 10_000, 2))
    assert result.tables["book"]["record"].to_pylist() == [r for r in range(1, 10_000, 2) for _ in range(3)]


def test_announced_instruments_are_pointed_out() -> None:
    result = decoded(TICKER, HAND_MADE["control: instrument creation"])
    assert result.creations == [1]
    assert result.other == {"instrument.creation": 1}
