"""What the venue printed comes back to the last digit, whatever it printed."""

from __future__ import annotations

import decimal
import json
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.conform import conform
from lake.exact import as_sent, as_sent_sql, decimal_array, to_floats, to_units
from lake.schema import TABLES, UNROUNDED
from lake.schema import decimal as decimal_type
from tests.store.rows import quotes, stored_quotes

QUOTES = TABLES["quotes"]
TICKER_FIELDS: Final = {
    "bid_price": "best_bid_price",
    "bid_size": "best_bid_amount",
    "ask_price": "best_ask_price",
    "ask_size": "best_ask_amount",
    **{
        name: name
        for name in (
            *("last_price", "mark_price", "index_price", "underlying_price", "bid_iv", "ask_iv", "mark_iv"),
            *("delta", "gamma", "vega", "theta", "rho", "open_interest", "funding_8h", "current_funding"),
        )
    },
}
# As seen in frames: plain, exponent form, trailing zero, integer, sub-tick REST values, 2021's 8 decimals.
VENUE_TEXTS = ["0.1296", "2.0e-5", "8.55e4", "83950.0", "0", "68997.9425", "-29.43212", "0.97174948", "5e-05"]


@st.composite
def decimal_texts(draw: st.DrawFn, scale: int) -> str:
    """Decimal text with at most `scale` decimals and 15 significant digits, sometimes in exponent form."""
    units = draw(st.integers(-(10**15) + 1, 10**15 - 1))
    value = decimal.Decimal(units).scaleb(-scale)
    return f"{value:e}" if draw(st.booleans()) else f"{value:f}"


@pytest.mark.parametrize("scale", [0, 1, 2, 4, 5, 8])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_text_of_the_scale_survives_as_decimal(scale: int, data: st.DataObject) -> None:
    texts = data.draw(st.lists(decimal_texts(scale), min_size=1, max_size=20))
    floats = np.array([json.loads(text) for text in texts], np.float64)
    units, exact, storable = to_units(floats, scale)
    assert exact.all()
    assert storable.all()
    stored = decimal_array(units, decimal_type(scale), None)
    assert stored.to_pylist() == [decimal.Decimal(text) for text in texts]
    assert to_floats(stored).tolist() == floats.tolist()


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 8))
@settings(max_examples=500, deadline=None)
def test_exact_is_said_only_when_the_same_float_comes_back(value: float, scale: int) -> None:
    units, exact, _ = to_units(np.array([value]), scale)
    if exact[0]:
        assert int(units[0]) / 10**scale == value
    else:
        shortest = decimal.Decimal(repr(value))
        digits = len(shortest.as_tuple().digits)
        assert -int(shortest.as_tuple().exponent) > scale or digits > 15 or abs(value) * 10**scale >= 2**53


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.sampled_from(VENUE_TEXTS).map(float),
            st.floats(-1e9, 1e9).filter(lambda x: x != 0 or str(x) == "0.0"),
        ),
        min_size=1,
        max_size=30,
    )
)
@settings(max_examples=200, deadline=None)
def test_every_number_is_kept_as_sent(values: list[float | None]) -> None:
    columns = {"delta": pa.array(values, pa.float64()), "index_price": pa.array(values, pa.float64())}
    result = conform(QUOTES, quotes(len(values), **columns, bid_price=pa.array(values, pa.float64())))
    assert not result.rejected.any()
    for name in ("delta", "index_price", "bid_price"):
        back = [None if np.isnan(x) else x for x in as_sent(result.rows, name)]
        assert back == values


def test_number_beyond_the_scale_is_rounded_in_its_column_and_kept_whole_beside_it() -> None:
    rows = stored_quotes(2, index_price=[88728.94666666667, 83251.03])
    assert rows["index_price"].to_pylist() == [decimal.Decimal("88728.9467"), decimal.Decimal("83251.0300")]
    assert rows[UNROUNDED].to_pylist() == ['{"index_price":88728.94666666667}', None]


def test_sql_sees_numbers_as_sent() -> None:
    rows = stored_quotes(3, index_price=[88728.94666666667, 68997.9425, None], delta=[0.1, 0.123456789, -1.0])
    columns = ", ".join(as_sent_sql(QUOTES, name) for name in ("index_price", "delta", "bid_price"))
    with duckdb.connect() as connection:
        connection.register("rows", rows)
        found = connection.sql(f"select {columns} from rows order by ts").fetchall()
    assert found == [(88728.94666666667, 0.1, None), (68997.9425, 0.123456789, None), (None, -1.0, None)]


@given(units=st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=30), scale=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_duckdb_casts_a_decimal_to_the_float_that_was_sent(units: list[int], scale: int) -> None:
    stored = decimal_array(np.array(units, np.int64), decimal_type(scale), None)
    with duckdb.connect() as connection:
        connection.register("rows", pa.table({"x": stored}))
        found = [row[0] for row in connection.sql("select x::double from rows").fetchall()]
    assert found == to_floats(stored).tolist()


def test_numbers_of_recorded_frames_are_kept_as_sent(real_data: Path) -> None:
    tickers = []
    for file in sorted((real_data / "ws").glob("deribit_2026-09-*_*t*_*.jsonl")):
        for line in file.read_text().splitlines():
            params = json.loads(line).get("params") or {}
            if str(params.get("channel", "")).startswith("ticker."):
                data = params["data"]
                tickers.append({**data, **data.get("greeks", {})})
    assert len(tickers) > 70
    columns = {
        name: pa.array([ticker.get(field) for ticker in tickers], pa.float64())
        for name, field in TICKER_FIELDS.items()
    }
    result = conform(QUOTES, quotes(len(tickers), **columns))
    assert not result.rejected.any()
    for name, given_values in columns.items():
        back = [None if np.isnan(x) else x for x in as_sent(result.rows, name)]
        assert back == given_values.to_pylist(), name
    assert result.rows[UNROUNDED].null_count == len(tickers)  # the scales are those of the venue's traffic
