"""Files of the lake: sorted, without repeats, readable by anybody, whole or not there."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake import duplicates, parquet
from lake.content import content_hash
from lake.duplicates import drop_duplicates, repeats
from lake.parquet import sort_rows, write_file
from lake.schema import TABLES, TableSpec
from tests.store.rows import DAY_US, stored_quotes, trades

QUOTES, TRADES, BOOK = (TABLES[name] for name in ("quotes", "trades", "book"))


def shuffled(rows: pa.Table, seed: int = 3) -> pa.Table:
    return rows.take(np.random.default_rng(seed).permutation(rows.num_rows))


def three_instruments(count: int) -> pa.Table:
    return stored_quotes(
        count,
        instrument=[f"BTC-25DEC26-{i % 3 + 1}0000-C" for i in range(count)],
        bid_price=[None if i % 5 == 0 else i / 8 for i in range(count)],
        delta=[(i % 1000) / 100_000 for i in range(count)],
        index_price=[83_000 + i / 100 for i in range(count)],
    )


def test_rows_are_sorted_by_the_sort_key() -> None:
    rows = shuffled(three_instruments(3000))
    keys = list(zip(*(sort_rows(rows, QUOTES)[name].to_pylist() for name in QUOTES.sort_key), strict=True))
    assert keys == sorted(keys)


def test_sorting_keeps_the_order_of_equal_rows_and_puts_nulls_last() -> None:
    rows = trades(["c", "a", "b", "d"], [0, 0, 0, 0], trade_seq=[2, None, 1, 2])
    assert sort_rows(rows, TRADES)["trade_id"].to_pylist() == ["b", "c", "d", "a"]


def test_many_distinct_names_sort_too() -> None:
    names = [f"I{i:06d}" for i in range(70_000)]
    rows = shuffled(stored_quotes(70_000, instrument=names))
    assert sort_rows(rows, QUOTES)["instrument"].to_pylist() == names


def test_the_first_received_of_equal_keys_stays() -> None:
    rows = trades(["7", "8", "7", "7"], [300, 200, 100, 100], iv=[1.0, 2.0, 3.0, 4.0])
    kept, dropped = drop_duplicates(rows, TRADES)
    assert dropped == 2
    assert kept["iv"].to_pylist() == [2.0, 3.0]


@pytest.mark.parametrize(
    ("column", "values"), [("price", [1.0, 2.0]), ("size", [1.0, 2.0]), ("side", ["buy", "sell"])]
)
def test_rows_of_one_trade_that_contradict_each_other_both_stay(column: str, values: list[Any]) -> None:
    rows = trades(["7", "7", "7"], [0, 1, 2], **{column: [*values, values[0]]})
    kept, dropped = drop_duplicates(rows, TRADES)
    assert (kept[column].to_pylist(), dropped) == (values, 1)


def test_quotes_are_equal_only_if_all_that_the_venue_sent_is() -> None:
    rows = stored_quotes(
        4,
        ts=pa.array([DAY_US] * 4),
        mark_iv=[38.0] * 4,
        bid_price=[None, 0.1, None, 0.1],
        rho=[1, 2, 1, 2.00001],
    )
    kept, dropped = drop_duplicates(rows, QUOTES)
    assert dropped == 1
    assert kept["recv_ts"].to_pylist() == [rows["recv_ts"][i].as_py() for i in (0, 1, 3)]


def test_messages_that_lead_to_the_same_change_from_different_ones_stay_whole() -> None:
    def message(prev: int, recv_us: int, *prices: float) -> list[dict[str, Any]]:
        return [
            {
                "venue": "deribit", "instrument": "BTC-PERPETUAL", "ts": DAY_US, "recv_ts": DAY_US + recv_us,
                "type": "change", "change_id": 15, "prev_change_id": prev, "level": level, "side": "bid",
                "action": "change", "price": price, "size": 1.0,
            }
            for level, price in enumerate(prices)
        ]  # fmt: skip

    one, other, copy = message(10, 5, 1.0, 2.0, 3.0), message(12, 3, 2.0, 4.0), message(10, 9, 1.0, 2.0, 3.0)
    rows = sort_rows(pa.Table.from_pylist(one + other + copy, schema=BOOK.arrow_schema), BOOK)
    kept, dropped = drop_duplicates(rows, BOOK, in_order=True)
    told = [(row["prev_change_id"], row["price"]) for row in kept.to_pylist()]
    assert (told, dropped) == ([(10, 1.0), (10, 2.0), (10, 3.0), (12, 2.0), (12, 4.0)], 3)


def book_message(recv_us: int, *levels: tuple[int, str, float, float]) -> list[dict[str, Any]]:
    """A change with these levels: position, side, price, size."""
    return [
        {
            "venue": "deribit", "instrument": "BTC-PERPETUAL", "ts": DAY_US, "recv_ts": DAY_US + recv_us,
            "type": "change", "change_id": 15, "prev_change_id": 10, "level": level, "side": side,
            "action": "change", "price": price, "size": size,
        }
        for level, side, price, size in levels
    ]  # fmt: skip


@pytest.mark.parametrize("in_order", [False, True])
def test_levels_of_a_book_are_told_apart_by_what_they_say_and_not_by_their_position(in_order: bool) -> None:
    a, b, c = ("bid", 1.0, 5.0), ("ask", 2.0, 5.0), ("ask", 3.0, 1.0)
    one = book_message(0, (0, *a), (1, *b))
    moved = book_message(7, (0, *b), (1, *a), (2, *c))
    rows = sort_rows(pa.Table.from_pylist(one + moved, schema=BOOK.arrow_schema), BOOK)
    kept, dropped = drop_duplicates(rows, BOOK, in_order=in_order)
    assert sorted((row["side"], row["price"]) for row in kept.to_pylist()) == [
        ("ask", 2.0),
        ("ask", 3.0),
        ("bid", 1.0),
    ]
    assert dropped == 2


@pytest.mark.parametrize("in_order", [False, True])
def test_what_one_message_says_twice_stays_twice_and_is_the_same_in_its_copy(in_order: bool) -> None:
    there, back = ("bid", 1.0, 5.0), ("bid", 1.0, 6.0)
    one = book_message(0, (0, *there), (1, *back), (2, *there))
    copy = book_message(7, (0, *there), (1, *back), (2, *there))
    rows = sort_rows(pa.Table.from_pylist(one + copy, schema=BOOK.arrow_schema), BOOK)
    kept, dropped = drop_duplicates(rows, BOOK, in_order=in_order)
    assert kept["size"].to_pylist() == [5.0, 6.0, 5.0]
    assert dropped == 3


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.sampled_from([None, "T"])), max_size=30),
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.sampled_from([None, "T"])),
        min_size=1,
        max_size=30,
    ),
)
@settings(max_examples=100, deadline=None)
def test_a_held_row_stays_unless_a_new_one_tells_more(
    ours: list[tuple[str, int, str | None]], theirs: list[tuple[str, int, str | None]]
) -> None:
    def made(rows: list[tuple[str, int, str | None]]) -> pa.Table:
        return trades([r[0] for r in rows], [r[1] for r in rows], liquidation=[r[2] for r in rows])

    held = drop_duplicates(made(ours), TRADES)[0] if ours else made(theirs[:1]).slice(0, 0)
    found = repeats(held, made(theirs), TRADES)
    tells = {row["trade_id"]: row["liquidation"] is not None for row in held.to_pylist()}
    stays = {held["trade_id"][int(n)].as_py() for n in found.superseded}
    assert stays == {
        key for key, told in tells.items() if not told and any(k == key and word for k, _, word in theirs)
    }
    kept = [key for (key, *_), dropped in zip(theirs, found.dropped, strict=True) if not dropped]
    assert sorted(kept) == sorted({key for key, *_ in theirs} - (tells.keys() - stays))


def test_rows_whose_hashes_collide_are_both_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "row_hashes", lambda rows, _columns: np.zeros(rows.num_rows, np.uint64))
    kept, dropped = drop_duplicates(trades(["1", "2", "1"], [0, 1, 2]), TRADES)
    assert (kept["trade_id"].to_pylist(), dropped) == (["1", "2"], 1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_one_row_of_each_key_stays_whatever_comes(rows: list[tuple[str, int]]) -> None:
    kept, dropped = drop_duplicates(trades([r[0] for r in rows], [r[1] for r in rows]), TRADES)
    expected = {key: min(recv for k, recv in rows if k == key) for key, _ in rows}
    keys, received = kept["trade_id"].to_pylist(), np.asarray(kept["recv_ts"].cast(pa.int64())) - DAY_US
    assert dict(zip(keys, received.tolist(), strict=True)) == expected
    assert dropped == len(rows) - len(expected)


def test_a_table_without_receive_time_keeps_the_first_row() -> None:
    noon = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
    row = {"venue": "deribit", "instrument": "X", "ts": noon, "expiration_ts": noon, "perpetual": "Y"}
    row |= dict.fromkeys(("future_price", "perpetual_price", "annualised"), 1.0) | {"contango": True}
    spec = TABLES["basis"]
    rows = pa.Table.from_pylist([{**row, "basis": n} for n in (1.0, 2.0)], schema=spec.arrow_schema)
    assert drop_duplicates(rows, spec)[0]["basis"].to_pylist() == [1.0]


@pytest.mark.parametrize("purpose", ["ingest", "compact"])
def test_a_file_gives_back_what_was_written(tmp_path: Path, purpose: parquet.Purpose) -> None:
    rows = sort_rows(three_instruments(2000), QUOTES)
    path = tmp_path / "part.parquet"
    stats = write_file(path, rows, QUOTES, purpose=purpose)
    back = pq.read_table(path)
    assert back.equals(rows)
    assert content_hash(back) == content_hash(rows)
    assert list(tmp_path.iterdir()) == [path]
    footer = pq.read_metadata(path).metadata or {}
    assert footer[b"lake.table"] == b"quotes"
    assert (stats.rows, stats.size) == (2000, path.stat().st_size)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_table_can_be_written(tmp_path: Path, table: TableSpec) -> None:
    filler = {"string": "x", "bool": True, str(pa.list_(pa.float64())): [1.5, 2.0]}
    row = {c.name: filler.get(str(c.type), 1) for c in table.columns if not c.nullable}
    rows = pa.Table.from_pylist([row] * 3, schema=table.arrow_schema)
    write_file(tmp_path / "f.parquet", rows, table, purpose="compact")
    # Parquet has a name of its own for what is in a list.
    assert pq.read_table(tmp_path / "f.parquet").cast(table.arrow_schema).equals(rows)


def test_stats_are_those_of_the_keys_as_delta_wants_them(tmp_path: Path) -> None:
    stats = write_file(tmp_path / "f.parquet", three_instruments(90), QUOTES, purpose="ingest")
    assert json.loads(stats.delta_json()) == {
        "numRecords": 90,
        "minValues": {"instrument": "BTC-25DEC26-10000-C", "ts": "2026-09-30T00:00:00.000000Z"},
        "maxValues": {"instrument": "BTC-25DEC26-30000-C", "ts": "2026-09-30T00:01:29.000000Z"},
        "nullCount": {"instrument": 0, "ts": 0},
    }
    group = pq.read_metadata(tmp_path / "f.parquet").row_group(0)
    with_statistics = {
        group.column(i).path_in_schema for i in range(group.num_columns) if group.column(i).is_stats_set
    }
    assert with_statistics == {"instrument", "ts"}


def test_one_instrument_touches_only_its_own_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS_MIN", 500)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS_MAX", 800)
    rows = sort_rows(three_instruments(3000), QUOTES)
    write_file(tmp_path / "f.parquet", rows, QUOTES, purpose="compact")
    metadata = pq.read_metadata(tmp_path / "f.parquet")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [500] * 6
    bounds: list[Any] = [group.column(1).statistics for group in groups]
    assert all(name.min == name.max for name in bounds)


def test_quiet_instruments_share_a_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS_MIN", 100)
    names = ["A"] * 30 + ["B"] * 150 + ["C"] * 60 + ["D"] * 60 + ["E"] * 10
    write_file(tmp_path / "f.parquet", stored_quotes(310, instrument=names), QUOTES, purpose="compact")
    metadata = pq.read_metadata(tmp_path / "f.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [30, 150, 120, 10]


def test_other_readers_see_natural_numbers_and_utc(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    rows = stored_quotes(2, bid_price=[0.1255, None], delta=[0.74092, None], index_price=[83250.78, 1e6])
    write_file(path, rows, QUOTES, purpose="compact")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        found = connection.sql(
            "select bid_price, delta::varchar, index_price::double, instrument, ts::varchar "
            f"from '{path}' order by ts"
        ).fetchall()
    assert found == [
        (0.1255, "0.74092", 83250.78, "BTC-25DEC26-76000-C", "2026-09-30 00:00:00+00"),
        (None, None, 1e6, "BTC-25DEC26-76000-C", "2026-09-30 00:00:01+00"),
    ]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.parquet"
    write_file(path, stored_quotes(1), QUOTES, purpose="ingest")
    before = path.read_bytes()

    def fail(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(path, stored_quotes(2), QUOTES, purpose="ingest")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_sorted_rows_lose_the_same_duplicates_as_any_others() -> None:
    count = 400
    chance = np.random.default_rng(5)
    rows = stored_quotes(
        count,
        instrument=[f"I{n}" for n in chance.integers(0, 4, count)],
        ts=pa.array((DAY_US + chance.integers(0, 40, count)).tolist()),
        mark_iv=chance.integers(30, 33, count).astype(float).tolist(),
    )
    ordered = sort_rows(rows, QUOTES)
    kept, dropped = drop_duplicates(ordered, QUOTES)
    assert dropped > 20
    quick, quickly_dropped = drop_duplicates(ordered, QUOTES, in_order=True)
    assert quickly_dropped == dropped
    assert quick.equals(kept)
