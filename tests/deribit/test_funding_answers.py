"""Answers about funding become the hours they tell of, digit for digit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from collectors.deribit.answers import decode_answer
from lake.conform import conform
from lake.errors import SchemaDriftError
from lake.schema import TABLES

SEEN_NS = 1_789_693_201_000_000_123
URL = (
    "https://www.deribit.com/api/v2/public/get_funding_rate_history"
    "?instrument_name=BTC-PERPETUAL&start_timestamp=1789689600000&end_timestamp=1789693200000"
)
HOUR = {
    "timestamp": 1789693200000,
    "index_price": 76529.69,
    "prev_index_price": 76355.27,
    "interest_8h": 5.91821175553615e-06,
    "interest_1h": 1.257606590607552e-06,
}


def answer(*rows: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "result": rows, "usIn": 1, "usOut": 2, "usDiff": 1}).encode()


def test_an_hour_is_a_row_of_the_contract_as_sent() -> None:
    decoded = decode_answer(
        URL, 200, answer(HOUR, {**HOUR, "timestamp": 1789696800000, "interest_1h": 0}), SEEN_NS
    )
    assert decoded is not None
    columns = decoded.tables["funding"]
    fitted = conform(TABLES["funding"], columns.drop_columns(["record"]))
    assert not fitted.rejected.any()
    assert columns["record"].to_pylist() == [0, 0]
    assert columns["family"].to_pylist() == ["btc_perpetual"] * 2
    first, second = fitted.rows.to_pylist()
    assert (first["instrument"], first["type"], first["interest"]) == ("BTC-PERPETUAL", "hourly", None)
    assert {name: first[name] for name in HOUR if name != "timestamp"} == {
        name: value for name, value in HOUR.items() if name != "timestamp"
    }
    assert first["ts"].isoformat() == "2026-09-18T01:00:00+00:00"
    assert first["recv_ts"].timestamp() == SEEN_NS // 1000 / 1e6
    assert second["interest_1h"] == 0.0


def test_an_answer_without_hours_gives_no_rows() -> None:
    decoded = decode_answer(URL, 200, answer(), SEEN_NS)
    assert decoded is not None
    assert len(decoded.tables["funding"]) == 0


def test_a_field_nobody_knows_is_counted() -> None:
    decoded = decode_answer(URL, 200, answer({**HOUR, "interest_24h": 1.0}), SEEN_NS)
    assert decoded is not None
    assert decoded.unknown_fields == {"get_funding_rate_history.interest_24h": 1}


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (URL, answer({"timestamp": 1789693200000})),
        (URL, answer({**HOUR, "timestamp": 5})),
        (URL, b'{"jsonrpc":"2.0","result":{}}'),
        (URL, b"<html>"),
        (URL.replace("BTC-PERPETUAL", "nonsense"), answer(HOUR)),
        (URL.partition("?")[0], answer(HOUR)),
    ],
)
def test_what_is_no_such_answer_is_refused(url: str, body: bytes) -> None:
    with pytest.raises(SchemaDriftError, match="funding"):
        decode_answer(url, 200, body, SEEN_NS)
