"""Compaction: sorted, once, conserved; concurrent with ingest; killed anywhere."""

from __future__ import annotations

import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lake.delta import Table
from lake.errors import CorruptionError, InputError
from lake.leases import take_lease
from lake.root import Root
from lake.schema import TABLES
from lake.spool import SpoolSettings, SpoolWriter
from pipeline.compact import CompactSettings, compact
from pipeline.ingest import ingest
from tests.pipeline import kit
from tests.system.kit import Forge

STEPS = (
    "compact:after_read",
    "compact:before_replace",
    "delta:before_commit",
    "delta:before_publish",
    "delta:after_commit",
    "delta:after_exchange",
    "delta:after_fsync",
    "compact:after_replace",
    "delta:after_tidy_files",
)


def content(root: Root, name: str) -> pa.Table:
    """Rows in an order that no rewrite can change."""
    table = kit.read_table(root, name)
    columns = [c for c in ("instrument", "recv_ts", "ts", "level", "trade_seq") if c in table.column_names]
    return table.sort_by([(c, "ascending") for c in columns])


def test_rewrite_conserves_every_row_and_leaves_one_file_a_partition(ingested: Root) -> None:
    later = kit.days_after(ingested, 2)
    before = {name: content(ingested, name) for name in kit.TICKS}
    report = compact(ingested, now=later)
    assert {r.table for r in report.rewritten} >= set(kit.TICKS)
    for name in kit.TICKS:
        assert content(ingested, name).equals(before[name]), name
        files = Table.open(ingested, TABLES[name]).files()
        assert len(files) == len({file.partition for file in files})
    kit.assert_sound(ingested)


def test_second_run_finds_nothing_to_do(ingested: Root) -> None:
    later = kit.days_after(ingested, 2)
    compact(ingested, now=later)
    versions = {name: Table.open(ingested, TABLES[name]).version for name in TABLES}
    assert compact(ingested, now=later).rewritten == []
    assert {name: Table.open(ingested, TABLES[name]).version for name in TABLES} == versions


def test_files_are_sorted_by_instrument_and_time(ingested: Root) -> None:
    later = kit.days_after(ingested, 2)
    compact(ingested, now=later)
    import pyarrow.parquet as pq

    for name in ("quotes", "trades"):
        table = Table.open(ingested, TABLES[name])
        for file in table.files():
            rows = pq.read_table(table.folder / file.path, partitioning=None)
            assert rows.equals(
                rows.sort_by([("instrument", "ascending"), ("ts", "ascending"), ("recv_ts", "ascending")])
            )


def test_small_memory_gives_the_same_rows_in_several_files(ingested: Root) -> None:
    later = kit.days_after(ingested, 2)
    before = kit.held(ingested)
    compact(ingested, CompactSettings(rows_in_memory=500), now=later)
    assert kit.held(ingested) == before
    table = Table.open(ingested, TABLES["quotes"])
    files = [file for file in table.files() if file.partition and file.partition.family == "btc_option"]
    assert len(files) > 1
    spans = sorted((file.minimum["instrument"], file.maximum["instrument"]) for file in files)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))
    assert compact(ingested, CompactSettings(rows_in_memory=500), now=later).rewritten == []
    kit.assert_sound(ingested)


def test_what_two_collectors_saw_twice_is_held_once(market: Root, recorded: Root) -> None:
    later = kit.days_after(recorded, 2)
    frames = kit.durable_frames(market)
    with SpoolWriter(recorded.stream("deribit-b"), SpoolSettings()) as spool:
        for frame in frames:
            spool.append(frame)
    once = kit.expected(recorded)
    ingest(recorded)
    for _ in range(2):
        assert kit.held(recorded) == once
        kit.assert_sound(recorded)
        compact(recorded, now=later)
    first_seen = pc.max(kit.read_table(market_ingested(market, recorded), "trades")["recv_ts"])
    assert pc.max(kit.read_table(recorded, "trades")["recv_ts"]) == first_seen
    kit.assert_sound(recorded)


def market_ingested(market: Root, beside: Root) -> Root:
    """The market, seen by one collector only."""
    alone = kit.copy_of(market, beside.path.parent / "alone")
    ingest(alone)
    return alone


def test_rows_that_arrive_after_a_day_was_finished_are_taken_in(recorded: Root, tmp_path: Path) -> None:
    later = kit.days_after(recorded, 2)
    ingest(recorded)
    compact(recorded, now=later)
    frames = kit.durable_frames(recorded)
    late = [frame.replace(b'"trade_id":"', b'"trade_id":"9') for frame in frames if b'"trades.' in frame]
    with SpoolWriter(recorded.stream(kit.STREAM), SpoolSettings()) as spool:
        for frame in late:
            spool.append(frame)
    before = len(kit.read_table(recorded, "trades"))
    ingest(recorded)
    compact(recorded, now=later)
    assert len(kit.read_table(recorded, "trades")) == 2 * before
    files = Table.open(recorded, TABLES["trades"]).files()
    assert {file.origin for file in files} == {"c"}
    kit.assert_sound(recorded)


def test_open_day_is_rolled_up_only_when_it_has_many_files(ingested: Root) -> None:
    before = kit.held(ingested)
    first = min(kit.read_table(ingested, "quotes")["ts"].to_pylist())
    for many, rolled_up in ((10_000, set()), (2, set(kit.TICKS))):
        report = compact(ingested, CompactSettings(roll_up_files=many), tables=kit.TICKS, now=first)
        assert {one.table for one in report.rewritten} == rolled_up
    assert kit.held(ingested) == before
    kit.assert_sound(ingested)


def test_kill_at_every_named_step_conserves_everything(ingested: Root, forge: Forge) -> None:
    before = kit.held(ingested)
    arguments = ("--root", str(ingested.path), "compact", "--date", kit.day_of(ingested))
    for step in STEPS:
        code, output = forge.lake(*arguments, crash_at=step)
        assert code == kit.KILLED, f"{step}: {output}"
        assert kit.held(ingested) == before
    code, output = forge.lake(*arguments)
    assert code == 0, output
    assert kit.held(ingested) == before
    kit.assert_sound(ingested)


def test_compaction_beside_ingest_loses_nothing(recorded: Root, forge: Forge) -> None:
    wanted = kit.expected(recorded)
    running = kit.lake_command("--root", str(recorded.path), "ingest", LAKE_INGEST_RECORDS_PER_COMMIT="1")
    while running.poll() is None:
        code, output = forge.lake("--root", str(recorded.path), "compact", "--date", kit.day_of(recorded))
        assert code == 0, output
    assert kit.finish(running)[0] == 0
    assert kit.held(recorded) == wanted
    kit.assert_sound(recorded)


def test_damaged_input_is_never_replaced(ingested: Root) -> None:
    later = kit.days_after(ingested, 2)
    table = Table.open(ingested, TABLES["quotes"])
    victim = max(table.files(), key=lambda file: file.rows)
    path = table.folder / victim.path
    import pyarrow.parquet as pq

    rows = pq.read_table(path, partitioning=None)
    pq.write_table(rows.slice(1), path)
    with pytest.raises(CorruptionError):
        compact(ingested, now=later)
    assert victim.path in {file.path for file in Table.open(ingested, TABLES["quotes"]).files()}


def test_unknown_table_is_refused(recorded: Root) -> None:
    with pytest.raises(InputError, match="no table 'quote'; there are quotes, trades"):
        compact(recorded, tables=["quotes", "quote"])
    assert not any(recorded.tables.iterdir()), "nothing is begun"


def test_what_is_being_read_is_rewritten_by_the_next_run(ingested: Root) -> None:
    later = kit.days_after(ingested, 2)
    wanted = {name: content(ingested, name) for name in kit.TICKS}
    lease = take_lease(ingested, "trades")
    assert lease is not None
    report = compact(ingested, CompactSettings(wait_seconds=0), now=later)
    assert report.put_off
    assert all(where.startswith("trades/") for where in report.put_off)
    assert {done.table for done in report.rewritten} >= {"quotes"}
    lease.release()
    again = compact(ingested, now=later)
    assert {done.table for done in again.rewritten} == {"trades"}
    assert {name: content(ingested, name) for name in kit.TICKS} == wanted
