"""Whoever reads a table by a pattern over its folder gets each row once, whatever is being rewritten meanwhile."""

from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pad
import pytest
from deltalake import DeltaTable

from lake import delta_commit, moves
from lake.delta import Table
from lake.errors import CorruptionError
from lake.leases import InUseError, no_readers, take_lease
from lake.log_damage import log_damage
from lake.root import Root
from lake.views import connect
from tests.store.ticks import DAY, TRADES, append, compact, ids, new_root, start

ROWS = 400
REWRITE = """
t = Table.open(root, TRADES)
for number in range(25):
    files = t.files()
    rows = t.read()
    parts = 1 if number % 2 else 8
    step = len(rows) // parts
    t.replace(files, [
        t.stage(files[0].partition, rows.slice(part * step, step), origin=f"c{number}") for part in range(parts)
    ])
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return new_root(tmp_path)


def by_arrow(root: Root) -> int:
    return int(pad.dataset(root.table("trades"), format="parquet", partitioning="hive").count_rows())


def by_duckdb(root: Root) -> int:
    pattern = f"{root.table('trades')}/**/*.parquet"
    found = duckdb.execute(
        "SELECT count(*) FROM read_parquet($1, hive_partitioning=true)", [pattern]
    ).fetchone()
    assert found is not None
    return int(found[0])


def by_polars(root: Root) -> int:
    pattern = f"{root.table('trades')}/**/*.parquet"
    return int(pl.scan_parquet(pattern, hive_partitioning=True).select(pl.len()).collect().item())


COUNTS: tuple[Callable[[Root], int], ...] = (by_arrow, by_duckdb, by_polars)


@pytest.mark.parametrize("count", COUNTS)
def test_a_pattern_counts_each_row_once_while_files_are_replaced(
    root: Root, count: Callable[[Root], int]
) -> None:
    table = Table.open(root, TRADES)
    for first in range(0, ROWS, ROWS // 8):
        append(table, first, first + ROWS // 8)
    writer = start(root, REWRITE)
    counted: list[int] = []
    told: list[str] = []
    while writer.poll() is None or not counted:
        try:
            counted.append(count(root))
        except (OSError, duckdb.IOException, pl.exceptions.ComputeError) as error:
            told.append(str(error))
    _, errors = writer.communicate()
    assert writer.returncode == 0, errors
    assert set(counted) == {ROWS}
    assert all("No such file" in error or "does not exist" in error for error in told), told
    assert count(root) == ROWS
    assert ids(table) == list(range(ROWS))
    assert log_damage(root, "trades") == []


def test_replaced_files_are_out_of_the_tables_folder_at_once(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    append(table, 9, 12)
    old = table.files()
    compact(table)
    (new,) = table.files()
    assert [path.name for path in table.folder.rglob("*.parquet")] == [Path(new.path).name]
    for file in old:
        with table.open_file(file) as content:
            assert content.size() == file.size


def test_files_that_are_not_replaced_stay_the_very_files(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    (first,) = table.files()
    append(table, 5, 9)
    (second,) = set(table.files()) - {first}
    inode = (table.folder / second.path).stat().st_ino
    rows = table.read().filter(pa.compute.less(table.read()["ts"], second.minimum["ts"]))
    table.replace([first], [table.stage(first.partition, rows, origin="c")])
    assert (table.folder / second.path).stat().st_ino == inode
    assert ids(table) == list(range(9))
    assert by_arrow(root) == 9


def _without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)


@pytest.mark.parametrize("renames", ["with flags", "plain"])
def test_a_file_system_without_links_holds_tables_too(
    root: Root, monkeypatch: pytest.MonkeyPatch, renames: str
) -> None:
    _without_links(monkeypatch)
    moves.can_exchange.cache_clear()
    if renames == "plain":

        def unknown(*arguments: Any) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(moves, "_rename", unknown)
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    compact(table)
    append(Table.open(root, TRADES), 9, 12)
    assert ids(table) == list(range(12))
    assert by_arrow(root) == 12
    assert log_damage(root, "trades") == []
    moves.can_exchange.cache_clear()


def test_other_delta_readers_read_what_we_commit(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    compact(table)
    append(table, 9, 12)
    delta = DeltaTable(str(table.folder))
    assert delta.to_pyarrow_dataset().count_rows() == 12
    assert pl.read_delta(str(table.folder)).height == 12
    assert delta.transaction_version("deribit@1") == 12
    assert delta.history(1)[0]["operation"] == "WRITE"


def test_a_running_query_keeps_its_files_and_a_rewrite_waits_for_it(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    files = table.files()
    with connect(root) as sql:
        _, batches = sql.stream("SELECT trade_id FROM trades")
        staged = table.stage(files[0].partition, table.read(), origin="c")
        with pytest.raises(InUseError):
            table.replace(files, [staged], readers_wait_s=0)
        assert sum(len(batch) for batch in batches) == 9
        compact(table)
        assert sql.execute("SELECT count(*) FROM trades").fetchone() == (9,)
    assert len(table.files()) == 1


def test_readers_do_not_wait_for_each_other_and_go_without_where_they_cannot_write(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = take_lease(root, "trades"), take_lease(root, "trades")
    assert first is not None
    assert second is not None
    first.release()
    with pytest.raises(InUseError), no_readers(root, "trades"):
        pass
    second.release()
    second.release()
    with no_readers(root, "trades"):
        pass

    def refused(*arguments: Any, **named: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    assert take_lease(root, "quotes") is None


def test_a_pending_commit_that_was_altered_is_not_carried_out(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    pending = root.staging / "trades" / "pending.json"
    pending.write_bytes(b'{"commitInfo":{"ticklake":{"version":2,"actions":0,"checksum":"0"}}}\n')
    append(Table.open(root, TRADES), 5, 9)
    assert not pending.exists()
    (root.staging / "trades" / "swap").mkdir()
    pending.write_bytes(b'{"commitInfo":{"ticklake":{"version":3,"actions":0,"checksum":"0"}}}\n')
    with pytest.raises(CorruptionError, match="not as it was written"):
        Table.open(root, TRADES)


def test_files_that_the_log_does_not_name_leave_the_folder_before_they_are_deleted(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    (file,) = table.files()
    copy = table.folder / file.path.replace("i.deribit.1.5", "i.deribit.1.6")
    copy.write_bytes((table.folder / file.path).read_bytes())
    later = dt.datetime.now(dt.UTC) + delta_commit.GRACE + dt.timedelta(minutes=1)
    assert table.tidy(later) == []
    assert by_arrow(root) == 5
    assert len(table.tidy(later)) == 1
    assert DAY.isoformat() in file.path
