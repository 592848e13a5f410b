"""A venue that does everything wrong for minutes, and the proof that the lake says what it lacks: no more and no less.

    python -m bench.chaos [--cycles N] [--seed N] [--long]      default: 1 cycle, about a minute; --long: 6

One cycle gives every order of docs/simulator.md at least once, in an order drawn by chance, kills the collector and
stops it. Afterwards the lake is held against the venue's own account by `tests.system.proof`, which prints every
frame that is lacking without a gap, every gap without a reason, every book that is not the venue's, every
missing trade.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from bench.harness import Figure, report
from quality.verify import verify
from tests.system.chaos import run
from tests.system.proof import Verdict, prove

CYCLES, CYCLES_LONG = 1, 6
BOOKS_MUST: Final = 100
PROBLEMS_SHOWN: Final = 40


def figures(verdict: Verdict, orders: Counter[str], seconds: float) -> list[Figure]:
    """What was ordered, what was found."""
    return [
        Figure("problems", len(verdict.problems), "findings", 0, 0),
        Figure("faults ordered", sum(orders.values()), "orders"),
        Figure("  of so many kinds", len(orders), "kinds"),
        Figure("  each at least so often", min(orders.values()), "times"),
        Figure(
            "books equal to the venue's", verdict.counts["books compared"], "books", BOOKS_MUST, None, True
        ),
        *(
            Figure(name, count, "")
            for name, count in sorted(verdict.counts.items())
            if name != "books compared"
        ),
        Figure("time, with the proof", seconds, "s"),
        Figure("load of the machine over the last minute", os.getloadavg()[0], "runnable"),
    ]


def main() -> None:
    """Command line of the benchmark; exit code 1 where the proof fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--long", action="store_true", help=f"{CYCLES_LONG} cycles instead of {CYCLES}")
    parser.add_argument("--folder", type=Path, help="keep the lake and the account here")
    options = parser.parse_args()
    cycles = options.cycles or (CYCLES_LONG if options.long else CYCLES)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        case, done = run(options.folder or Path(temporary), cycles=cycles, seed=options.seed)
        verdict = prove(case)
        verdict.problems += verify(case.root).problems
    report(
        f"Chaos: {cycles} cycles of every fault, seed {options.seed}",
        figures(verdict, Counter(done), time.monotonic() - began_s),
    )
    for problem in verdict.problems[:PROBLEMS_SHOWN]:
        sys.stdout.write(f"  {problem}\n")
    sys.exit(1 if verdict.problems else 0)


if __name__ == "__main__":
    main()
