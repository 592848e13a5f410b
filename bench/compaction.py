"""The daily rewrite: CPU seconds per million quotes, from many minute files to one, and its peak memory.

    python -m bench.compaction [--long]

A day of quotes (`bench.sample_day`) is appended in order of arrival, one commit and one file a batch, as ingest
does; then the product's own `compact` finishes the day. The figure includes everything it does: reading all
files, hashes of input and output, duplicates, order, the new file with fsync, reading it back, the commit. The
better of two rounds counts: the first also pays for memory that the process touches for the first time. Files hold
15,000 to 24,000 rows; a minute of the BTC options has some 40,000.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.harness import Figure, cpu, peak_rss_mb, report
from bench.sample_day import DAY_START_S, quotes_day
from bench.stages import Stages
from lake.conform import conform
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES, UNROUNDED
from pipeline.compact import Rewritten, compact

DAY: Final = dt.datetime.fromtimestamp(DAY_START_S, dt.UTC).date()
SPEC: Final = TABLES["quotes"]
FILES, TICKS = 24, 15_000
FILES_LONG, TICKS_LONG = 60, 60_000
ROUNDS: Final = 2
MUST, AIM = 1.5, 1.0
STAGES: Final = (
    ("pipeline.compact", "_read", "read the files"),
    ("pipeline.compact", "content_hash", "hashes"),
    ("lake.delta", "content_hash", "hashes"),
    ("pipeline.compact", "drop_duplicates", "duplicates"),
    ("pipeline.compact", "sort_rows", "sort"),
    ("lake.delta", "write_file", "write, fsync"),
    ("pipeline.compact", "_check_written", "read back"),
)


def quotes(ticks: int) -> pa.Table:
    """A day of quotes in storage types, in order of arrival, with partition columns."""
    decoded = quotes_day(tuple(name for name in SPEC.names if name != UNROUNDED), ticks=ticks)
    rows = conform(SPEC, decoded).rows
    rows = rows.append_column("date", pc.cast(rows["ts"], pa.date32()))
    rows = rows.append_column("family", pa.array(["btc_option"] * len(rows), pa.string()))
    rows = rows.filter(pc.equal(rows["date"], pa.scalar(DAY)))
    return rows.take(np.argsort(rows["recv_ts"].to_numpy(), kind="stable"))


def fill(root: Root, rows: pa.Table, files: int) -> None:
    """Append `rows` in `files` commits."""
    table = Table.open(root, SPEC)
    bounds = np.linspace(0, len(rows), files + 1).astype(int).tolist()
    for start, stop in itertools.pairwise(bounds):
        batch = rows.slice(start, stop - start)
        table.append(batch, app="bench", version=stop, origin=f"i.bench.{stop}")


def measure(rows: pa.Table, files: int) -> tuple[float, Stages, Rewritten]:
    """CPU seconds, by stage too, of rewriting `rows` from so many files in a new lake."""
    stages = Stages()
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        fill(root, rows, files)
        with cpu() as clock, stages.watching(*STAGES):
            (rewritten,) = compact(root, days=[DAY], tables=["quotes"]).rewritten
    return clock.used, stages, rewritten


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{FILES_LONG} files instead of {FILES}")
    long = parser.parse_args().long
    rows = quotes(TICKS_LONG if long else TICKS)
    rounds = [measure(rows, FILES_LONG if long else FILES) for _ in range(ROUNDS)]
    used, stages, rewritten = min(rounds, key=lambda found: found[0])
    count = len(rows)
    million = count / 1e6
    unit = "CPU-s/M rows"
    figures = [
        Figure("daily rewrite with proof", used / million, unit, MUST, AIM),
        *(Figure(f"  {stage}", seconds / million, unit) for stage, seconds in stages.seconds.items()),
        Figure("  the rest", (used - sum(stages.seconds.values())) / million, unit),
        Figure("bytes before", rewritten.bytes_before / count, "B/row"),
        Figure("bytes after", rewritten.bytes_after / count, "B/row"),
        Figure("peak memory, with the rows to compare", peak_rss_mb(), "MB"),
    ]
    report(f"Compaction of {count:,} quotes in {rewritten.files} files", figures)


if __name__ == "__main__":
    main()
