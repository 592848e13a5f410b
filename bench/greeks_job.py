"""Greeks end to end: quotes in Parquet to Greeks in Parquet, and what it costs to compute them on read instead.

    python -m bench.greeks_job [--long]

A compacted day of option quotes (`bench.sample_day`) is derived by the product's own job, every quote of it: three
inversions (bid, ask, mark), the five Greeks of the mark, residuals against the venue's, hashes, files with fsync and the
commit. Then the same numbers are asked for by SQL: from the stored table, and computed on read. The better of two
rounds counts. Memory is that of a process which does nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from bench.at_rest import column_bytes
from bench.compaction import DAY, fill, quotes
from bench.harness import Figure, cpu, peak_rss_mb, report
from bench.stages import Stages
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.views import connect
from pipeline.compact import compact
from pipeline.derive_greeks import GreeksSettings, derive_greeks, sql_greeks, with_greeks

TICKS, TICKS_LONG = 30_000, 84_000
FILES: Final = 12
ROUNDS: Final = 2
MUST, MUST_MB = 1.5, 500.0
EVERYTHING: Final = GreeksSettings(quotes_every_s=0)
UNIT: Final = "CPU-s/M quotes"
JOB: Final = "pipeline.derive_greeks"
STAGES: Final = (
    (f"{JOB}.job", "ranges", "read"),
    (f"{JOB}.values", "implied_volatility", "invert bid, ask, mark"),
    (f"{JOB}.values", "greeks", "Greeks of the mark"),
    (f"{JOB}.rows", "as_sent", "decimals to numbers"),
    (f"{JOB}.job", "stored", "numbers to decimals, residuals"),
    ("lake.delta", "content_hash", "hash"),
    ("lake.delta", "write_file", "write, fsync"),
)
OWN: Final = "own_bid_iv, own_ask_iv, own_iv, own_delta, own_gamma, own_vega, own_theta, own_rho"
SUMS: Final = ", ".join(f"sum({name.strip()})" for name in OWN.split(","))


def day(folder: Path, ticks: int) -> tuple[Root, int]:
    """A lake with a compacted day of quotes, and how many."""
    root = open_root(folder, create=True)
    rows = quotes(ticks)
    fill(root, rows, FILES)
    compact(root, days=[DAY], tables=["quotes"])
    return root, len(rows)


def peak_of_job(folder: Path, result: multiprocessing.SimpleQueue[float]) -> None:
    """In a process of its own: the most memory that the job ever holds."""
    derive_greeks(open_root(folder), EVERYTHING)
    result.put(peak_rss_mb())


def measured(work: Callable[[], object]) -> float:
    """CPU seconds of the better of the rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        with cpu() as clock:
            work()
        best = min(best, clock.used)
    return best


def in_memory(root: Root) -> pa.Table:
    """The day's quotes, as the Python API would be given them."""
    with connect(root) as sql:
        return sql.query("FROM quotes")


def sum_over(root: Root, statement: str) -> Callable[[], object]:
    """A query over the whole day, in one thread's worth of plan."""

    def run() -> object:
        with connect(root, sql_greeks(root)) as sql:
            return sql.query(statement)

    return run


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--long", action="store_true", help=f"{TICKS_LONG} quotes an option instead of {TICKS}"
    )
    ticks = TICKS_LONG if parser.parse_args().long else TICKS
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        root, count = day(Path(folder) / "lake", ticks)
        million = count / 1e6
        spawn = multiprocessing.get_context("spawn")
        peak: multiprocessing.SimpleQueue[float] = spawn.SimpleQueue()
        child = spawn.Process(target=peak_of_job, args=(root.path, peak))
        child.start()
        figures.append(Figure("memory of the job", peak.get(), "MB", MUST_MB))
        child.join()
        rounds = []
        for number in range(ROUNDS):
            # Another bound on the age of forwards makes the day due again and changes no number of this one.
            settings = GreeksSettings(quotes_every_s=0, forward_max_age_s=100 + number)
            stages = Stages()
            with cpu() as clock, stages.watching(*STAGES):
                derive_greeks(root, settings)
            rounds.append((clock.used, stages))
        used, stages = min(rounds, key=lambda found: found[0])
        figures = [
            Figure("Parquet to Parquet, every quote", used / million, UNIT, MUST),
            *(Figure(f"  {stage}", seconds / million, UNIT) for stage, seconds in stages.seconds.items()),
            Figure("  the rest", (used - sum(stages.seconds.values())) / million, UNIT),
            *figures,
        ]
        figures += sizes(root, count)
        stored = f"SELECT {SUMS.replace('own_', '')} FROM greeks"
        figures.append(Figure("read stored", measured(sum_over(root, stored)) / million, UNIT))
        computed = f"SELECT {SUMS} FROM quotes_greeks"
        figures.append(Figure("computed on read, SQL", measured(sum_over(root, computed)) / million, UNIT))
        rows = in_memory(root)
        figures.append(
            Figure("computed on read, with_greeks", measured(lambda: with_greeks(rows)) / million, UNIT)
        )
        sampled = derive_greeks(root, GreeksSettings()).written[0]
        figures.append(Figure("stored, last of each minute", sampled.bytes / count, "B/quote"))
    report(f"Greeks of {count:,} quotes", figures)


def sizes(root: Root, count: int) -> list[Figure]:
    """Bytes at rest of what the job wrote, by column where it costs anything, beside the quotes' own."""
    found = {}
    for name in ("greeks", "quotes"):
        table = Table.open(root, TABLES[name])
        files = table.files()
        found[name] = sum(file.size for file in files) / count
        if name == "greeks":
            columns = column_bytes(table.folder / files[0].path)
    return [
        Figure("stored, every quote", found["greeks"], "B/quote"),
        *(Figure(f"  {name}", size, "B/quote") for name, size in columns.items() if size >= 0.05),
        Figure("the quotes themselves", found["quotes"], "B/quote"),
    ]


if __name__ == "__main__":
    main()
