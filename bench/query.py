"""One instrument, one day, from a lake of five years: milliseconds from SQL to answer, planning included.

    python -m bench.query [--long]

The lake is fabricated: one day is real (`bench.sample_day`; one family whole, of the others two instruments
each, rewritten as compaction leaves them); the other 15,000 files are entries in the log, with names, sizes and
statistics like real ones, and no file behind them. They cost what a real log costs to read and to select from.
A query that opened one of them would fail, so the benchmark also proves that the selection leaves that day alone.

Cold: a new connection, and the log and the day's file dropped from the page cache (where the kernel obeys).
Warm: further queries over the same connection, each for another instrument. The longest and the median are told.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import AddAction

from bench.compaction import DAY, SPEC, TICKS, fill, quotes
from bench.harness import Figure, report
from lake.datafile import Partition, file_path
from lake.parquet import FileStats, Scalar
from lake.root import Root, open_root
from lake.views import connect
from pipeline.compact import compact

DAYS: Final = 1_826
FAMILIES: Final = (
    "btc_option", "eth_option", "btc_usdc_option", "eth_usdc_option", "future", "btc_perpetual",
    "eth_perpetual", "perpetual",
)  # fmt: skip
MUST, AIM = 300.0, 50.0
ROUNDS, ROUNDS_LONG = 8, 40
FILE_ROWS, FILE_BYTES = 20_000_000, 330_000_000
BY_PARTITION: Final = "date = '{day}' AND family = 'btc_option'"
BY_TIME: Final = "ts >= TIMESTAMPTZ '{day} 00:00:00+00' AND ts < TIMESTAMPTZ '{next} 00:00:00+00'"
SQL: Final = (
    "SELECT count(*), min(bid_price), max(ask_price), avg(mark_iv), avg(delta) FROM quotes "
    "WHERE instrument = '{name}' AND "
)


def other_days() -> Iterator[AddAction]:
    """Log entries of five years of every family, but for the real day."""
    for back in range(1, DAYS):
        day = DAY - dt.timedelta(days=back)
        start = dt.datetime.combine(day, dt.time(), dt.UTC)
        end = start + dt.timedelta(days=1, milliseconds=-100)
        for family in FAMILIES:
            partition = Partition(day, family)
            first: dict[str, Scalar] = {"ts": start, "recv_ts": start}
            last: dict[str, Scalar] = {"ts": end, "recv_ts": end}
            stats = FileStats(FILE_BYTES, FILE_ROWS, first, last, {"ts": 0, "recv_ts": 0})
            path = file_path(partition, "c", FILE_ROWS, 0, hash((back, family)) % 2**64)
            values: dict[str, str | None] = {"date": day.isoformat(), "family": family}
            yield AddAction(path, FILE_BYTES, values, 0, True, stats.delta_json())


def fabricate(root: Root) -> list[str]:
    """Make the lake; the instruments of its real day."""
    rows = quotes(TICKS)
    few = rows.filter(pc.is_in(rows["instrument"], pa.array(sorted(set(rows["instrument"].to_pylist()))[:2])))
    others = [_moved(few, family) for family in FAMILIES[1:]]
    fill(root, pa.concat_tables([rows, *others]), 1)
    compact(root, days=[DAY], tables=["quotes"])
    table = DeltaTable(root.table("quotes"))
    columns = list(SPEC.partition_columns)
    table.create_write_transaction(
        list(other_days()), "append", table.schema(), columns, commit_properties=CommitProperties()
    )
    table.create_checkpoint()
    return sorted(set(rows["instrument"].to_pylist()))


def _moved(rows: pa.Table, family: str) -> pa.Table:
    """The same rows as of another family's instruments."""
    names = pc.binary_join_element_wise(rows["instrument"].cast(pa.string()), family, "-")
    families = pa.array([family] * len(rows), pa.string())
    moved = rows.set_column(rows.column_names.index("instrument"), rows.schema.field("instrument"), names)
    return moved.set_column(rows.column_names.index("family"), rows.schema.field("family"), families)


def forget(folder: Path) -> None:
    """Ask the kernel to drop the files below `folder` from its cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def measure(root: Root, names: list[str], where: str, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each cold and each warm query."""
    sql = SQL + where.format(day=DAY, next=DAY + dt.timedelta(days=1))
    cold, warm = [], []
    for turn in range(rounds):
        forget(root.table("quotes"))
        started = time.perf_counter()
        with connect(root) as lake:
            lake.query(sql.format(name=names[turn % len(names)]))
            cold.append((time.perf_counter() - started) * 1e3)
            started = time.perf_counter()
            answer = lake.query(sql.format(name=names[(turn + 1) % len(names)]))
            warm.append((time.perf_counter() - started) * 1e3)
        if answer.column(0)[0].as_py() < TICKS // 2:
            raise ValueError(f"the query found {answer.to_pylist()}")
    return cold, warm


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{ROUNDS_LONG} rounds instead of {ROUNDS}")
    rounds = ROUNDS_LONG if parser.parse_args().long else ROUNDS
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        names = fabricate(root)
        for title, where in (("by date and family", BY_PARTITION), ("by times alone", BY_TIME)):
            cold, warm = measure(root, names, where, rounds)
            figures += [
                Figure(f"{title}: cold, median", statistics.median(cold), "ms", MUST, AIM),
                Figure(f"{title}: cold, longest", max(cold), "ms", MUST, AIM),
                Figure(f"{title}: warm, median", statistics.median(warm), "ms", MUST, AIM),
            ]
    files = DAYS * len(FAMILIES)
    report(f"One instrument, one day ({TICKS:,} rows) out of {files:,} files", figures)


if __name__ == "__main__":
    main()
