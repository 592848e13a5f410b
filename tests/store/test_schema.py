"""The contract: it is consistent in itself, takes what fits and refuses the rest row by row with a reason."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pytest
from deltalake import Schema

from lake.conform import conform
from lake.errors import SchemaDriftError
from lake.exact import Array
from lake.root import open_root
from lake.schema import PARTITION_COLUMNS, TABLES, TIMESTAMP, UNITS, TableSpec
from lake.views import query
from tests.store.rows import DAY_US, quotes

QUOTES = TABLES["quotes"]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_contract_is_consistent(table: TableSpec) -> None:
    names = table.arrow_schema.names
    assert len(set(names)) == len(names)
    assert not set(names) & set(PARTITION_COLUMNS)
    assert {*table.natural_key, *table.sort_key, *table.stats} <= set(names)
    assert all(column.doc.endswith(".") for column in table.columns)
    assert all(column.type == TIMESTAMP for column in table.columns if pa.types.is_timestamp(column.type))


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_delta_knows_every_type(table: TableSpec) -> None:
    schema = Schema.from_arrow(table.delta_schema)
    assert [field.name for field in schema.fields] == table.delta_schema.names


def test_fields_of_the_tick_tables_are_those_users_script_against() -> None:
    assert " ".join(QUOTES.names[:24]) == (
        "venue instrument ts recv_ts bid_price bid_size ask_price ask_size last_price mark_price index_price "
        "underlying_price underlying_index bid_iv ask_iv mark_iv delta gamma vega theta rho open_interest "
        "funding_8h current_funding"
    )
    assert " ".join(TABLES["trades"].names[:11]) == (
        "venue instrument ts recv_ts trade_id trade_seq price size side iv index_price"
    )
    assert " ".join(TABLES["book"].names) == (
        "venue instrument ts recv_ts type change_id prev_change_id level side action price size"
    )


def test_a_name_of_a_number_means_one_unit_in_every_table_and_view(tmp_path: Path) -> None:
    named = set()
    for table in TABLES.values():
        for column in table.columns:
            kind = column.type.value_type if pa.types.is_list(column.type) else column.type
            if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
                named.add(column.name)
                unit = UNITS[column.name]
                told = set(
                    re.findall("percent|fraction", column.doc.lower().partition("; the channel says")[0])
                )
                assert told <= set(re.findall(r"percent|fraction", unit)), f"{table.name}.{column.name}"
    root = open_root(tmp_path / "lake", create=True)
    views = query(root, "SELECT view_name FROM duckdb_views() WHERE NOT internal")["view_name"].to_pylist()
    for view in set(views) - TABLES.keys():
        numbers = query(root, f"DESCRIBE {view}").filter(pa.compute.field("column_type") == "DOUBLE")
        named |= set(numbers["column_name"].to_pylist())
    assert named == UNITS.keys()


def test_rows_come_out_in_contract_order_and_types() -> None:
    given = quotes(3, bid_price=[0.1255, None, 0.127]).select(
        ["mark_iv", "bid_price", "recv_ts", "ts", "instrument", "venue"]
    )
    result = conform(QUOTES, given)
    assert result.rows.schema.equals(QUOTES.arrow_schema)
    assert result.rows["bid_price"].to_pylist() == [0.1255, None, 0.127]
    assert result.rows["delta"].null_count == 3
    assert not result.rejected.any()
    assert result.reasons == {}


@pytest.mark.parametrize(
    ("columns", "refused", "reason"),
    [
        ({"instrument": ["A", None, "B"]}, [1], "instrument: null"),
        ({"ts": pa.array([None, DAY_US, DAY_US], pa.int64())}, [0], "ts: null"),
        ({"bid_price": [math.nan, 1.0, None]}, [0], "bid_price: number is not finite"),
        ({"mark_iv": [1.0, math.inf, 2.0]}, [1], "mark_iv: number does not fit decimal128(18, 2)"),
        ({"delta": [1e14, 0.5, 0.5]}, [0], "delta: number does not fit decimal128(18, 5)"),
        ({"bid_size": [2**53 + 1, 5, 6]}, [0], "bid_size: integer beyond 2^53"),
        ({"vega": ["12.5", None, None]}, [0], "vega: type string, the contract says decimal128(18, 5)"),
        ({"ts": ["2026", "2026", "2026"]}, [0, 1, 2], f"ts: type string, the contract says {TIMESTAMP}"),
    ],
)
def test_row_that_does_not_fit_is_refused_with_its_column_named(
    columns: dict[str, Array], refused: list[int], reason: str
) -> None:
    result = conform(QUOTES, quotes(3, **columns))
    assert np.flatnonzero(result.rejected).tolist() == refused
    assert result.reasons == {reason: len(refused)}
    assert result.row_reasons == [reason] * len(refused)
    assert result.rows.num_rows == 3 - len(refused)


def test_missing_required_column_refuses_every_row_and_says_so() -> None:
    result = conform(QUOTES, quotes(2).drop_columns(["recv_ts"]))
    assert result.reasons == {"recv_ts: column missing": 2}
    assert result.rows.num_rows == 0
    assert result.rows.schema.equals(QUOTES.arrow_schema)


def test_each_row_is_counted_once_under_its_first_offending_column() -> None:
    result = conform(
        QUOTES, quotes(3, venue=[None, "deribit", "deribit"], bid_price=[math.nan, math.nan, 1.0])
    )
    assert result.row_reasons == ["venue: null", "bid_price: number is not finite"]
    assert sum(result.reasons.values()) == result.rejected.sum()


def test_small_integers_must_fit_their_type() -> None:
    book = pa.table(
        {
            "venue": ["deribit"] * 2,
            "instrument": ["BTC-PERPETUAL"] * 2,
            "ts": [DAY_US] * 2,
            "recv_ts": [DAY_US] * 2,
            "type": ["snapshot"] * 2,
            "change_id": [2**60 + 1] * 2,
            "level": [7, 40_000],
        }
    )
    result = conform(TABLES["book"], book)
    assert result.reasons == {"level: integer does not fit int16": 1}
    assert result.rows["change_id"].to_pylist() == [2**60 + 1]


def test_unknown_column_is_a_drift_of_the_caller() -> None:
    with pytest.raises(SchemaDriftError, match="bid_prize"):
        conform(QUOTES, quotes(1).append_column("bid_prize", pa.array([1.0])))


def test_partition_columns_and_dictionaries_are_accepted() -> None:
    given = quotes(2).append_column("family", pa.array(["btc_option"] * 2))
    given = given.set_column(1, "instrument", pa.array(["A", "B"]).dictionary_encode())
    assert conform(QUOTES, given).rows["instrument"].to_pylist() == ["A", "B"]


def test_no_rows_are_rows_too() -> None:
    result = conform(QUOTES, quotes(2).slice(0, 0))
    assert result.rows.schema.equals(QUOTES.arrow_schema)
    assert result.reasons == {}
