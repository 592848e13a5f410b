"""Columns of lists: hashed, stored, compacted and handed out like any others."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.answers import write_answer
from lake.content import content_hash
from lake.parquet import write_file
from lake.schema import TABLES

SPEC = TABLES["depth"]
LISTS = st.lists(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6), min_size=1, max_size=8
)


def table(lists: list[list[float]]) -> pa.Table:
    return pa.table({"numbers": pa.array(lists, pa.list_(pa.float64()))})


@given(LISTS, st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_hash_is_of_each_list_in_its_order_however_it_is_held(
    lists: list[list[float]], chance: object
) -> None:
    whole = table(lists)
    parts = [whole.slice(i, 1) for i in range(len(lists))]
    assert content_hash(whole) == sum(map(content_hash, parts)) % (1 << 64)
    chance.shuffle(parts)  # type: ignore[attr-defined]
    assert content_hash(pa.concat_tables(parts)) == content_hash(whole)
    for i, values in enumerate(lists):
        for other in ([*values, 0.0], values[::-1], values[1:], [v + 1 for v in values]):
            same = [v + 0.0 for v in other] == [v + 0.0 for v in values]
            changed = table([*lists[:i], other, *lists[i + 1 :]])
            assert (content_hash(changed) == content_hash(whole)) == same


def test_a_value_does_not_move_from_one_list_to_the_next_unnoticed() -> None:
    assert content_hash(table([[1.0, 2.0], []])) != content_hash(table([[1.0], [2.0]]))
    assert content_hash(table([[1.0, 2.0]])) != content_hash(table([[2.0, 1.0]]))


def test_lists_are_stored_plain_and_read_by_anybody(tmp_path: Path) -> None:
    row = {
        "venue": "deribit", "instrument": "X", "ts": 0, "book_ts": 0, "book_recv_ts": 0, "change_id": 1,
        "complete": True, "bid_prices": [1.5, 0.1], "bid_sizes": [1.0, 2.0], "ask_prices": [], "ask_sizes": [],
    }  # fmt: skip
    rows = pa.Table.from_pylist([row], schema=SPEC.arrow_schema)
    path = tmp_path / "file.parquet"
    write_file(path, rows, SPEC, purpose="compact")
    back = pq.read_table(path).cast(SPEC.arrow_schema)
    assert back.to_pylist() == rows.to_pylist()
    assert content_hash(back) == content_hash(rows)
    group = pq.ParquetFile(path).metadata.row_group(0)
    leaf = next(
        c for c in map(group.column, range(group.num_columns)) if c.path_in_schema.startswith("bid_prices")
    )
    assert leaf.compression == "ZSTD"
    assert "PLAIN" in leaf.encodings
    assert not any("DICTIONARY" in encoding for encoding in leaf.encodings)


def test_json_says_null_inside_lists_too(tmp_path: Path) -> None:
    answer = table([[1.5, float("nan")], [float("inf")]])
    write_answer(answer.schema, answer.to_batches(), "json", tmp_path / "out.json")
    text = (tmp_path / "out.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == [{"numbers": [1.5, None]}, {"numbers": [None]}]


def test_csv_has_lists_as_json(tmp_path: Path) -> None:
    answer = table([[1.5, 2.0], []])
    write_answer(answer.schema, answer.to_batches(), "csv", tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [json.loads(line.strip('"')) for line in lines[1:]] == [[1.5, 2.0], []]
