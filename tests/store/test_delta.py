"""Delta tables: rows arrive exactly once, files are replaced whole, and others can read what is there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from lake import commit_file, delta_commit, delta_view
from lake.datafile import Partition, file_path, parse_path
from lake.delta import Table
from lake.errors import CommitFailedError, CorruptionError, SchemaDriftError
from lake.schema import TABLES
from tests.store.ticks import DAY, MIDNIGHT, TRADES, append, compact, ids, new_root, trades

SOON = dt.timedelta(seconds=5)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table.open(new_root(tmp_path), TRADES)


@pytest.mark.parametrize("version", [0, 7])
def test_the_same_append_twice_lands_once(table: Table, version: int) -> None:
    first = table.append(trades(0, 5), app="s@1", version=version, origin="i.s.1")
    second = table.append(trades(0, 5), app="s@1", version=version, origin="i.s.1")
    assert (first.already_there, second.already_there) == (False, True)
    assert ids(table) == list(range(5))
    assert table.committed("s@1") == version
    assert table.committed("other@1") is None


def test_partitions_become_files_whose_names_say_what_they_hold(table: Table) -> None:
    next_day = DAY + dt.timedelta(days=1)
    rows = pa.concat_tables([trades(0, 3), trades(3, 5, family="spot"), trades(5, 9, day=next_day)])
    added = table.append(rows, app="s@1", version=9, origin="i.s.9", metadata={"segment": 4}).files
    found = {(file.partition, file.rows, file.dropped, file.origin) for file in table.files()}
    assert found == {
        (Partition(DAY, "btc_option"), 3, 0, "i.s.9"),
        (Partition(DAY, "spot"), 2, 0, "i.s.9"),
        (Partition(next_day, "btc_option"), 4, 0, "i.s.9"),
    }
    assert set(added) == set(table.files())
    (one,) = table.files(date=DAY, family="spot")
    assert one.minimum["ts"] == dt.datetime(2026, 11, 20, 0, 0, 3, tzinfo=dt.UTC)
    assert one.maximum["instrument"] == "BTC-1"
    assert [file.partition for file in table.files(date=next_day)] == [Partition(next_day, "btc_option")]


def test_an_append_without_rows_advances_the_stream(table: Table) -> None:
    append(table, 0, 0)
    assert (table.committed("deribit@1"), table.files()) == (0, [])


def test_a_small_table_has_no_partitions(tmp_path: Path) -> None:
    gaps = Table.open(new_root(tmp_path), TABLES["gaps"])
    row = dict.fromkeys(TABLES["gaps"].names) | {
        "venue": "deribit", "stream": "s@1", "cause": "test", "healed": False,
        "start_ts": MIDNIGHT, "end_ts": MIDNIGHT + SOON,
    }  # fmt: skip
    gaps.append(
        pa.Table.from_pylist([row], schema=TABLES["gaps"].arrow_schema), app="s@1", version=1, origin="i.s.1"
    )
    assert gaps.read().to_pylist() == [row]
    assert gaps.files()[0].partition is None


@pytest.mark.parametrize("family", [None, "", "../x", "BTC"])
def test_a_row_without_a_proper_partition_is_refused(table: Table, family: str) -> None:
    column = table.spec.delta_schema.get_field_index("family")
    rows = trades(0, 2).set_column(column, "family", pa.array([family] * 2, pa.string()))
    with pytest.raises(SchemaDriftError, match="family"):
        table.append(rows, app="s@1", version=1, origin="i.s.1")
    assert table.committed("s@1") is None


def test_columns_that_are_not_the_contracts_are_refused(table: Table) -> None:
    with pytest.raises(SchemaDriftError, match="iv"):
        table.append(trades(0, 2).drop_columns(["iv"]), app="s@1", version=1, origin="i.s.1")


def test_replacing_keeps_the_rows_and_a_second_time_finds_nothing_to_do(table: Table) -> None:
    append(table, 0, 5)
    append(table, 5, 9)
    compact(table)
    (file,) = table.files()
    assert (file.rows, file.origin, file.compacted) == (9, "c", True)
    assert ids(table) == list(range(9))
    version = table.version
    compact(table)
    assert table.version == version
    assert ids(table) == list(range(9))


def test_dropped_duplicates_are_counted_in_the_name_and_add_up(table: Table) -> None:
    append(table, 0, 5)
    append(table, 3, 8, app="other@1")
    files = table.files()
    unique = trades(0, 8).select(TRADES.names)
    table.replace(files, [table.stage(files[0].partition, unique, origin="c", dropped=2)])
    (file,) = table.files()
    assert (file.rows, file.dropped) == (8, 2)


@pytest.mark.parametrize(("stop", "dropped"), [(8, 0), (10, 0), (9, 1), (8, 2)])
def test_a_replacement_that_loses_or_invents_rows_is_refused(table: Table, stop: int, dropped: int) -> None:
    append(table, 0, 9)
    (file,) = table.files()
    staged = table.stage(file.partition, trades(0, stop).select(TRADES.names), origin="c", dropped=dropped)
    with pytest.raises(ValueError, match="accounted for"):
        table.replace([file], [staged])


def test_a_replacement_with_other_values_is_refused(table: Table) -> None:
    append(table, 0, 9)
    (file,) = table.files()
    staged = table.stage(file.partition, trades(1, 10).select(TRADES.names), origin="c")
    with pytest.raises(ValueError, match="differ"):
        table.replace([file], [staged])


def test_a_file_that_was_replaced_meanwhile_is_not_replaced_again(table: Table, tmp_path: Path) -> None:
    append(table, 0, 5)
    append(table, 5, 9)
    files = table.files()
    slow = table.stage(files[0].partition, table.read(), origin="r")
    compact(Table.open(table.root, TRADES))
    with pytest.raises(CommitFailedError, match="another writer replaced it"):
        table.replace(files, [slow])
    assert ids(table) == list(range(9))
    assert not (table.root.staging / "trades" / slow.path).exists()
    assert not (table.folder / slow.path).exists()


def test_the_loser_of_a_race_leaves_the_winners_file_alone(table: Table) -> None:
    append(table, 0, 5)
    append(table, 5, 9)
    files = table.files()
    slow = table.stage(files[0].partition, table.read(), origin="c")  # the very file that the winner makes
    compact(Table.open(table.root, TRADES))
    with pytest.raises(CommitFailedError):
        table.replace(files, [slow])
    assert ids(table) == list(range(9))


def test_replaced_files_stay_for_their_grace_period(table: Table) -> None:
    append(table, 0, 5)
    append(table, 5, 9)
    old = [table.root.retired / "trades" / file.path for file in table.files()]
    compact(table)
    assert [path.exists() for path in old] == [True, True]
    now = dt.datetime.now(dt.UTC)
    assert table.tidy(now, grace=dt.timedelta(hours=1)) == []
    gone = table.tidy(now + dt.timedelta(hours=1) + SOON, grace=dt.timedelta(hours=1))
    assert sorted(path for path in gone if table.root.retired in path.parents) == sorted(old)
    assert not any(path.exists() for path in gone), "nor their second names in the folder that was exchanged"
    assert ids(table) == list(range(9))


def test_tidy_spares_what_a_writer_is_about_to_commit_and_takes_old_debris(table: Table) -> None:
    append(table, 0, 5)
    staged = table.stage(table.files()[0].partition, table.read(), origin="c")
    now = dt.datetime.now(dt.UTC)
    assert table.tidy(now + dt.timedelta(hours=23)) == []
    assert table.staged_path(staged).exists()
    debris = table.root.staging / "trades" / ".half.parquet.99.tmp"
    debris.write_bytes(b"PAR1")
    path = table.staged_path(staged)
    assert set(table.tidy(now + dt.timedelta(hours=25))) == {debris, path}
    with pytest.raises(CommitFailedError, match="changed before it was committed"):
        table.replace(table.files(), [staged])
    assert ids(table) == list(range(5))


@pytest.mark.parametrize(("hours_ago", "left"), [(23, 2), (25, 0)])
def test_checkpoints_forget_replaced_files_after_their_grace_period(
    table: Table, monkeypatch: pytest.MonkeyPatch, hours_ago: int, left: int
) -> None:
    append(table, 0, 5)
    append(table, 5, 9)
    now_ms = commit_file.now_ms
    with monkeypatch.context() as patch:
        patch.setattr(delta_commit, "now_ms", lambda: now_ms() - hours_ago * 3_600_000)
        compact(table)
    for number in range(9, 9 + delta_commit.COMMITS_PER_CHECKPOINT):
        append(table, number, number + 1)
    [checkpoint] = (table.folder / "_delta_log").glob("*.checkpoint.parquet")
    removed = pq.read_table(checkpoint, columns=["remove"])["remove"]
    assert sum(one is not None and one["path"] is not None for one in removed.to_pylist()) == left
    assert ids(Table.open(table.root, TRADES)) == list(range(9 + delta_commit.COMMITS_PER_CHECKPOINT))


def test_the_log_expires_only_behind_two_checkpoints(table: Table) -> None:
    append(table, 0, 0)
    idle = Table.open(table.root, TRADES)
    for number in range(1, 120):
        append(table, number, number)
    log = table.folder / "_delta_log"
    assert sorted(int(p.name[:20]) for p in log.glob("*.checkpoint.parquet")) == [49, 99]
    deleted = table.tidy(dt.datetime.now(dt.UTC) + dt.timedelta(days=31))
    assert sorted(int(p.name[:20]) for p in deleted) == list(range(49))
    again = Table.open(table.root, TRADES)
    assert (again.version, again.committed("deribit@1")) == (120, 119)
    assert (idle.version, idle.committed("deribit@1")) == (120, 119), (
        "kept open since before what was deleted"
    )
    append(idle, 120, 121)
    assert ids(again) == [120]


def test_other_readers_see_natural_values(table: Table) -> None:
    append(table, 0, 4)
    append(table, 4, 6)
    compact(table)
    append(table, 6, 8)
    delta = DeltaTable(table.folder)
    plain = pa.table(delta.to_pyarrow_table()).sort_by("ts")
    expected = trades(0, 8)
    assert plain["price"].to_pylist() == expected["price"].to_pylist()
    assert plain["ts"].to_pylist() == expected["ts"].to_pylist()
    assert set(plain["date"].to_pylist()) == {DAY}
    prices = duckdb.execute("SELECT price FROM read_parquet($1) ORDER BY ts", [delta.file_uris()]).fetchall()
    assert [price for (price,) in prices] == expected["price"].to_pylist()


def test_many_commits_keep_the_held_log_short(table: Table) -> None:
    for number in range(1, 110):
        append(table, number, number + 1)
    assert ids(table) == list(range(1, 110))
    assert table._delta.version - table._delta._loaded_version <= delta_view.COMMITS_PER_REOPEN
    assert len(list((table.folder / "_delta_log").glob("*.checkpoint.parquet"))) == 2


def test_reading_creates_nothing(tmp_path: Path) -> None:
    root = new_root(tmp_path)
    assert Table.find(root, TRADES) is None
    assert not root.table("trades").exists()


@pytest.mark.parametrize("partition", [None, Partition(DAY, "btc_option")])
def test_paths_say_what_they_were_made_of(partition: Partition | None) -> None:
    file = parse_path(file_path(partition, "i.deribit-main.5f.12", 3, 4, 0xFEDCBA9876543210))
    assert (file.partition, file.origin, file.rows, file.dropped) == (partition, "i.deribit-main.5f.12", 3, 4)
    assert file.content_hash == 0xFEDCBA9876543210


def test_a_foreign_file_in_the_log_is_told(table: Table) -> None:
    with pytest.raises(CorruptionError, match="never wrote"):
        parse_path("date=2026-11-20/family=spot/part-00000.parquet")
