"""SQL over the lake: right columns, every row, only the files that matter, and nothing written."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from lake.delta import Table
from lake.errors import CorruptionError, QueryError
from lake.file_pruning import prune
from lake.root import Root
from lake.schema import TABLES
from lake.views import Connection, connect, query, view_columns
from tests.store.ticks import DAY, TRADES, append, compact, ids, new_root, trades

NEXT_DAY = DAY + dt.timedelta(days=1)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return new_root(tmp_path)


@pytest.fixture
def filled(root: Root) -> Root:
    """Trades 0-9 of two days and two families, one file each."""
    table = Table.open(root, TRADES)
    rows = pa.concat_tables([trades(0, 3), trades(3, 5, family="spot"), trades(5, 9, day=NEXT_DAY)])
    table.append(rows, app="s@1", version=9, origin="i.s.9")
    return root


@pytest.fixture
def sql(filled: Root) -> Iterator[Connection]:
    with connect(filled) as connection:
        yield connection


def _snapshot(root: Root) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_lake_has_every_view_with_its_columns_and_types(root: Root, name: str) -> None:
    described = query(root, f"DESCRIBE {name}").to_pylist()
    types = {row["column_name"]: row["column_type"] for row in described}
    assert types == {
        column: kind.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
        for column, kind in view_columns(TABLES[name]).items()
    }
    assert query(root, f"SELECT * FROM {name}").num_rows == 0
    assert not root.table(name).exists()


@pytest.mark.parametrize("name", TABLES)
def test_a_filled_view_has_the_types_of_the_empty_one(root: Root, name: str) -> None:
    spec = TABLES[name]
    empty = query(root, f"SELECT * FROM {name}").schema
    samples = {"string": "x", "bool": True, "timestamp[us, tz=UTC]": dt.datetime(2026, 11, 20, tzinfo=dt.UTC)}
    samples[str(pa.list_(pa.float64()))] = [1.5]
    row = {c.name: samples.get(str(c.type), 1) for c in spec.columns if c.name != "unrounded"}
    rows = pa.Table.from_pylist([row | {"date": DAY, "family": "spot"}], schema=spec.delta_schema)
    Table.open(root, spec).append(rows, app="s@1", version=1, origin="i.s.1")
    answer = query(root, f"SELECT * FROM {name}")
    assert answer.num_rows == 1
    assert answer.schema == empty


def test_rows_come_back_with_numbers_as_double_and_times_in_utc(filled: Root) -> None:
    answer = query(filled, "SELECT * FROM trades ORDER BY trade_id")
    assert answer["price"].to_pylist() == [0.0005 * (n + 1) for n in range(9)]
    assert answer.schema.field("price").type == pa.float64()
    assert answer["ts"][0].as_py() == dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    assert answer["date"].to_pylist() == [DAY] * 5 + [NEXT_DAY] * 4
    assert query(filled, "SELECT current_setting('TimeZone') AS zone")["zone"].to_pylist() == ["UTC"]


def test_a_number_beyond_its_columns_scale_comes_as_it_was_sent(root: Root) -> None:
    spec = TABLES["quotes"]
    stamp = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
    row = {
        "venue": "deribit", "instrument": "BTC-1", "ts": stamp, "recv_ts": stamp, "delta": Decimal("0.12346"),
        "gamma": Decimal("0.50000"), "unrounded": '{"delta":0.1234567}', "date": DAY, "family": "btc_option",
    }  # fmt: skip
    rows = pa.Table.from_pylist([row], schema=spec.delta_schema)
    Table.open(root, spec).append(rows, app="s@1", version=1, origin="i.s.1")
    assert query(root, "SELECT delta, gamma, vega FROM quotes").to_pylist() == [
        {"delta": 0.1234567, "gamma": 0.5, "vega": None}
    ]


CONDITIONS = [
    "date = '2026-11-20'",
    "date = '2026-11-20' AND family = 'spot'",
    "family IN ('spot', 'nothing')",
    "date IN ('2026-11-21', '2030-01-01')",
    "date BETWEEN '2026-11-19' AND '2026-11-20'",
    "ts >= '2026-11-20 00:00:04' AND ts < '2026-11-21'",
    "ts::DATE = '2026-11-21'",
    "ts = '2026-11-20 00:00:02'",
    "family LIKE 'sp%'",
    "family = 'it''s AND date = 1'",
    "family = ')' OR date = '2026-11-21'",
    "NOT (date = '2026-11-20')",
    "date <> '2026-11-20'",
    "date = '2026-11-20' OR family = 'btc_option'",
    "(date = '2026-11-20') IS NULL",
    "date > 'infinity'",
    "ts < 'infinity'",
    "date = (SELECT max(date) FROM trades)",
    "(date, family) IN (SELECT date, family FROM trades WHERE family = 'spot')",
    "instrument = 'x AND date=''2026-11-20''::DATE'",
    "date + 1 = '2026-11-21'",
    "coalesce(family, 'x') = 'spot'",
    "CASE WHEN family = 'spot' THEN date = '2026-11-20' ELSE true END",
]


@pytest.mark.parametrize("condition", CONDITIONS)
def test_leaving_files_out_never_changes_an_answer(sql: Connection, condition: str) -> None:
    sql.query("SELECT * FROM trades")  # without a condition, the view has every file
    sql._sql.execute("CREATE TEMP TABLE everything AS SELECT * FROM trades")
    question = f"SELECT trade_id FROM trades WHERE {condition}"
    expected = sql._sql.execute(question.replace("FROM trades", "FROM everything")).fetchall()
    assert sorted(sql.execute(question).fetchall()) == sorted(expected)


@pytest.mark.parametrize(
    ("conditions", "files"),
    [
        ([["(date = '2026-11-20'::DATE)"]], 2),
        ([["(date = '2026-11-20'::DATE)", "(family = 'spot')"]], 1),
        ([["((date >= '2026-11-20'::DATE) AND (date <= '2026-11-20'::DATE))"]], 2),
        ([["optional: (family IN ('spot', 'x'))"]], 1),
        ([["(ts >= '2026-11-21 00:00:00+00'::TIMESTAMP WITH TIME ZONE)"]], 1),
        ([["((date = '2026-11-20'::DATE) OR (family = 'spot'))"]], 3),
        ([["(family = 'spot')"], ["(date = '2026-11-21'::DATE)"]], 2),
        ([["(family = 'spot')"], []], 3),
        ([["(family = 'a'' AND date = 1')"]], 0),
        ([["((date = '2026-11-20'::DATE) IS NULL)"]], 3),
    ],
)
def test_conditions_choose_files(filled: Root, conditions: list[list[str]], files: int) -> None:
    listing = Table.open(filled, TRADES).listing()
    assert len(prune(listing, conditions)) == files


def test_only_files_that_can_matter_are_opened(sql: Connection) -> None:
    plan = sql.execute(
        "EXPLAIN ANALYZE SELECT sum(price) FROM trades WHERE date = '2026-11-20' AND family = 'spot'"
    )
    assert "Total Files Read: 1" in re.sub(r"\s+", " ", plan.fetchall()[0][1])
    assert sql._sql.execute("SELECT len(getvariable('files_trades'))").fetchone() == (1,)


def test_a_connection_sees_what_was_committed_and_replaced_meanwhile(root: Root) -> None:
    table = Table.open(root, TRADES)
    with connect(root) as sql:
        count = "SELECT count(*) AS n FROM trades"
        assert sql.execute(count).fetchone() == (0,)
        append(table, 0, 5)
        assert sql.execute(count).fetchone() == (5,)
        append(table, 5, 9)
        compact(table)
        table.tidy(dt.datetime.now(dt.UTC) + dt.timedelta(days=2))
        assert sql.execute(count).fetchone() == (9,)
        assert ids(table) == list(range(9))


def test_a_table_made_while_a_statement_begins_is_empty_for_it(
    filled: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(filled) as sql:
        with monkeypatch.context() as before_it_was_made:
            before_it_was_made.setattr("lake.views.exists", lambda folder: False)
            assert sql.execute("SELECT count(*) FROM trades").fetchall() == [(0,)]
            assert list(filled.locks.glob("readers-*")) == [], "nothing is read without a lease"
        assert sql.execute("SELECT count(*) FROM trades").fetchall() == [(9,)]


def test_parameters_are_taken(sql: Connection) -> None:
    answer = sql.execute(
        "SELECT count(*) FROM trades WHERE date = $1 AND family = $2", [DAY, "spot"]
    ).fetchone()
    assert answer == (2,)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM trades;",
        "FROM trades",
        "WITH a AS (FROM trades) SELECT count(*) FROM a",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) FROM r",
        "SHOW TABLES",
        "DESCRIBE trades",
        "SUMMARIZE trades",
        "EXPLAIN SELECT * FROM trades",
        "EXPLAIN ANALYZE SELECT * FROM trades",
        "PIVOT trades ON side IN ('buy', 'sell') USING count(*)",
        "SELECT 'COPY x TO y' AS text, \"price\" FROM trades",
        "SELECT * FROM trades a ASOF JOIN trades b ON a.instrument = b.instrument AND a.ts >= b.ts",
        "SELECT last_value(price) OVER (PARTITION BY instrument ORDER BY ts) FROM trades ORDER BY ts LIMIT 3",
    ],
)
def test_statements_that_read_are_answered(sql: Connection, statement: str) -> None:
    assert sql.query(statement).num_rows > 0


FORBIDDEN = [
    "COPY (SELECT 1) TO '{outside}'",
    "COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)",
    "COPY (SELECT 1) TO '{folder}/new.parquet'",
    "WITH x AS (COPY (SELECT 1) TO '{file}' (FORMAT parquet, USE_TMP_FILE false)) FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{folder}/new.csv' (USE_TMP_FILE false)) SELECT 1",
    "FROM (WITH x AS (COPY (SELECT 1) TO '{folder}/new.parquet' (FORMAT parquet)) FROM x)",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '{folder}/new.parquet' (FORMAT parquet)) SELECT 1)",
    "FROM query('WITH x AS (COPY (SELECT 1) TO ''{folder}/new.parquet'' (FORMAT parquet)) FROM x')",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/new.parquet'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{folder}/new.parquet'",
    "/* */ EXPLAIN /* */ ANALYZE COPY (SELECT 1) TO '{folder}/new.parquet'",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '{folder}/new.parquet' (FORMAT parquet)) FROM x",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/new.parquet'",
    "PREPARE p AS COPY (SELECT 1) TO '{folder}/new.parquet'",
    "EXECUTE p",
    "EXPORT DATABASE '{folder}'",
    "ATTACH '{folder}/new.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET lock_configuration = false",
    "SET VARIABLE files_trades = ['/etc/passwd']",
    "RESET allowed_directories",
    "CALL enable_logging(storage = 'file')",
    "PRAGMA enable_profiling",
    "CREATE TABLE t (i INT)",
    "CREATE OR REPLACE VIEW trades AS SELECT 1",
    "DROP VIEW trades",
    "INSERT INTO trades SELECT * FROM trades",
    "WITH x AS (DELETE FROM trades RETURNING 1) FROM x",
    "CHECKPOINT",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('{file}')",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM sniff_csv('/etc/passwd')",
    "FROM root",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_nothing_can_be_written_changed_or_read_besides_the_tables(
    filled: Root, sql: Connection, tmp_path: Path, statement: str
) -> None:
    folder = filled.table("trades")
    file = folder / Table.open(filled, TRADES).files()[0].path
    outside = tmp_path / "outside.csv"
    before = _snapshot(filled)
    text = statement.format(file=file, folder=folder, outside=outside)
    with pytest.raises(QueryError):
        sql.execute(text)
    with pytest.raises(QueryError):
        sql.query(text)
    assert _snapshot(filled) == before
    assert not outside.exists()
    assert sql.execute("SELECT count(*) FROM trades").fetchone() == (9,)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT nothing FROM trades", 'column "nothing" not found'),
        ("SELECT 1 FROM nowhere", "nowhere does not exist"),
        ("SELECT CAST('x' AS INT) FROM trades", "Could not convert"),
        ("", "one statement"),
    ],
)
def test_a_wrong_statement_gets_the_engines_message(filled: Root, statement: str, says: str) -> None:
    with pytest.raises(QueryError, match=says) as caught:
        query(filled, statement)
    assert "EXPLAIN" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_lost_file_is_corruption_not_a_wrong_question(filled: Root) -> None:
    table = Table.open(filled, TRADES)
    (table.folder / table.files()[0].path).unlink()
    with pytest.raises(CorruptionError, match="lake verify"):
        query(filled, "SELECT sum(price) FROM trades")
