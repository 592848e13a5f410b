"""A day of one-minute commits in three tables: does a commit cost the same in the evening as in the morning?

    python -m bench.many_commits [--long] [--allocators-as-they-come]
    default: 300 minutes; --long: the whole day of 1,440

Each minute appends a few rows to quotes, trades and book through `Table.append`, exactly as ingest does, data file,
commit, fsync and checkpoints included, with the allocators of the ingester beside a collector (`lake.memory`) or as
they come. Then the day is compacted, and one query is answered over it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.compaction import DAY
from bench.harness import Figure, cpu, own_memory_mb, report
from bench.sample_day import book_day, quotes_day, trades_day
from lake.conform import conform
from lake.delta import Table
from lake.delta_log import log_folder
from lake.memory import KEEP_LITTLE, give_back
from lake.root import Root, open_root
from lake.schema import TABLES, UNROUNDED
from lake.views import connect
from pipeline.compact import compact

MINUTES, MINUTES_LONG = 300, 1_440
ROWS_PER_COMMIT: Final = 50
HUNDRED: Final = 100


def days(rows: int) -> dict[str, pa.Table]:
    """`rows` rows of each tick table in storage types, with partition columns."""
    names = tuple(name for name in TABLES["quotes"].names if name != UNROUNDED)
    decoded = {
        "quotes": quotes_day(names, ticks=max(rows // 20, 100)),
        "trades": trades_day(TABLES["trades"].names, rows=rows),
        "book": book_day(TABLES["book"].names, messages=rows // 2),
    }
    found = {}
    for name, columns in decoded.items():
        stored = conform(TABLES[name], columns).rows.slice(0, rows)
        family = "btc_option" if name == "quotes" else "btc_perpetual"
        stored = stored.append_column("date", pa.array([DAY] * len(stored), pa.date32()))
        found[name] = stored.append_column("family", pa.array([family] * len(stored), pa.string()))
    return found


def commit_all(root: Root, minutes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Milliseconds of wall clock and of CPU of every commit, in order, and the kB of memory that grew with each after
    the first hundred."""
    tables = {name: Table.open(root, TABLES[name]) for name in ("quotes", "trades", "book")}
    rows = days(minutes * ROWS_PER_COMMIT)
    wall, used, early, early_mb = [], [], 0, 0.0
    for minute in range(minutes):
        for name, table in tables.items():
            batch = rows[name].slice(minute * ROWS_PER_COMMIT, ROWS_PER_COMMIT)
            started = time.perf_counter()
            with cpu() as clock:
                table.append(batch, app="bench", version=minute + 1, origin=f"i.bench.{minute + 1}")
            wall.append((time.perf_counter() - started) * 1e3)
            used.append(clock.used * 1e3)
        if not early and len(used) >= HUNDRED:
            give_back()
            early, early_mb = len(used), own_memory_mb()
    give_back()
    grown_kb = (own_memory_mb() - early_mb) * 1024 / (len(used) - early)
    return np.array(wall), np.array(used), grown_kb


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{MINUTES_LONG} minutes instead of {MINUTES}")
    parser.add_argument("--allocators-as-they-come", action="store_true")
    options = parser.parse_args()
    minutes = MINUTES_LONG if options.long else MINUTES
    if not options.allocators_as_they_come and not KEEP_LITTLE.items() <= os.environ.items():
        # Allocators read their settings when they are loaded, so it takes a new process.
        command = [sys.executable, "-m", "bench.many_commits", *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=os.environ | KEEP_LITTLE, check=False).returncode)
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        wall, used, grown_kb = commit_all(root, minutes)
        logs = [log_folder(root.table(name)) for name in ("quotes", "trades", "book")]
        log_mb = sum(path.stat().st_size for log in logs for path in log.iterdir()) / 1e6
        with cpu() as reopening:
            Table.open(root, TABLES["quotes"]).files()
        with cpu() as rewriting:
            done = compact(root, days=[DAY], tables=["quotes", "trades", "book"]).rewritten
        started = time.perf_counter()
        with connect(root) as lake:
            answer = lake.query(f"SELECT count(*) AS n FROM trades WHERE date = '{DAY}'")
        query_ms = (time.perf_counter() - started) * 1e3
    if pc.sum(answer["n"]).as_py() != minutes * ROWS_PER_COMMIT or sum(r.files for r in done) != 3 * minutes:
        raise ValueError(f"{answer.to_pylist()} rows, {done}")
    figures = []
    for what, part in (("first", slice(None, HUNDRED)), ("last", slice(-HUNDRED, None))):
        figures.append(Figure(f"commit, {what} hundred, median", float(np.median(wall[part])), "ms"))
        figures.append(Figure(f"commit, {what} hundred, mean CPU", float(used[part].mean()), "CPU-ms"))
    figures += [
        Figure("last hundred to first hundred, CPU", used[-HUNDRED:].mean() / used[:HUNDRED].mean(), "x"),
        Figure("longest commit (they write the checkpoints)", float(wall.max()), "ms"),
        Figure("the three logs", log_mb, "MB"),
        Figure("memory that grew with each commit after the first hundred", grown_kb, "kB"),
        Figure("open a table and list its files", reopening.used * 1e3, "CPU-ms"),
        Figure(f"compact {3 * minutes} files", rewriting.used, "CPU-s"),
        Figure("query after compaction, cold", query_ms, "ms", 300.0, 50.0),
    ]
    report(f"{minutes} one-minute commits in each of three tables", figures)


if __name__ == "__main__":
    main()
