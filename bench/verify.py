"""The proof: CPU seconds per million rows of a lake, of a finished day and of one in progress, and when nothing is new.

    python -m bench.verify [--long]

A day of quotes is proven as ingest leaves it, in many files, and as compaction does, in one; then once more with
`--since-last`, where nothing has changed. Each is the better of two. The rows were never in a spool, so the proof says
that nobody has counted them: what it costs is the same.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from bench.compaction import DAY, FILES, FILES_LONG, TICKS, TICKS_LONG, fill, quotes
from bench.harness import Figure, cpu, report
from lake.root import Root, open_root
from pipeline.compact import compact
from quality.verify import verify

ROUNDS: Final = 2


def cost(root: Root, *, since_last: bool = False) -> float:
    """CPU seconds of a proof."""
    rounds = []
    for _ in range(ROUNDS):
        with cpu() as clock:
            found = verify(root, since_last=since_last, remember=True)
        assert all("were ingested" in problem for problem in found.problems), found.problems
        rounds.append(clock.used)
    return min(rounds)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="a larger day")
    long = parser.parse_args().long
    rows = quotes(TICKS_LONG if long else TICKS)
    millions = len(rows) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        fill(root, rows, FILES_LONG if long else FILES)
        fresh = cost(root)
        compact(root, days=[DAY], tables=["quotes"])
        whole = cost(root)
        again = cost(root, since_last=True)
    report(
        f"verify: {millions:.2f} million quotes",
        [
            Figure("a day in progress", fresh / millions, "CPU-s per M rows"),
            Figure("a finished day", whole / millions, "CPU-s per M rows"),
            Figure("the same, --since-last, nothing new", 100 * again / whole, "% of it"),
        ],
    )


if __name__ == "__main__":
    main()
