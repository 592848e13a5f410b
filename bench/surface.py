"""Surfaces of every recorded option chain: error, arbitrage and failures by file and year, and CPU per smile.

    python -m bench.surface [--long]

The chains are those of `bench.real_chains`; the short form takes every 40th snapshot of each file, --long all. Each is
fitted to mark volatilities, and where bid and ask are there, also as the job does it (source auto). All errors are
volatility points: `error` is with the weights of the fit (vega, or the spread), `equal` counts every strike alike,
`10Δ` too, but only those from 10 to 90 delta, `max` is the largest of a smile; medians over smiles, and p95 the 95th
percentile of `error`. `bfly` and `cal.` count smiles with arbitrage, `none` expiries without a smile. `ms` is the CPU
time of `fit_surface` per expiry: filter, SVI, eSSVI, checks, desk quotes. Last, the job itself: a day of quotes
(`bench.sample_day`) in a compacted table, read as of every hour, fitted and appended.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from bench.compaction import DAY, fill, quotes
from bench.harness import Figure, cpu, report
from bench.real_chains import REAL_DATA, Snapshot, snapshots
from lake.display import as_tables
from lake.root import open_root
from pipeline.compact import compact
from pipeline.surface.fit import Smile, errors_of, fit_surface
from pipeline.surface.job import compute
from pipeline.surface.settings import SurfaceSettings

SHORT_STEP: Final = 40
TICKS, LONG_TICKS = 15_000, 60_000  # a day's, per option
FILES: Final = 24
MUST_ERROR: Final = 0.15
RECENT: Final = 2026
TEN_DELTA: Final = 1.2815515655446004  # N⁻¹(0.9)
WIDTH: Final = 160


@dataclass(slots=True)
class Tally:
    """What was found of one file, year and currency, fitted to one source."""

    snapshots: int = 0
    cpu_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    errors: list[tuple[float, float, float, float]] = field(default_factory=list)

    def add(self, smiles: list[Smile], cpu_s: float) -> None:
        """Count the smiles of one snapshot."""
        self.snapshots += 1
        self.cpu_s += cpu_s
        for smile in smiles:
            self.counts["expiries"] += 1
            self.counts["quotes"] += smile.quotes
            self.counts["mid"] += smile.observed.source == "mid"
            self.excluded.update(smile.observed.excluded)
            if smile.errors is None:
                self.failures[str(smile.failure)] += 1
                continue
            self.counts[str(smile.method)] += 1
            self.counts["butterfly"] += bool(smile.butterfly)
            self.counts["calendar"] += smile.calendar is not None
            self.errors.append(
                (smile.errors.weighted, smile.errors.equal, smile.errors.largest, _core_error(smile))
            )

    def as_row(self) -> dict[str, Any]:
        """For display."""
        weighted, equal, largest, core = (np.array(column) for column in zip(*self.errors, strict=True))
        return {
            "chains": self.snapshots,
            "quotes": self.counts["quotes"],
            "expiries": self.counts["expiries"],
            "of mid": self.counts["mid"],
            "SVI": self.counts["svi"],
            "eSSVI": self.counts["essvi"],
            "none": sum(self.failures.values()),
            "bfly": self.counts["butterfly"],
            "cal.": self.counts["calendar"],
            "error": round(float(np.median(weighted)), 3),
            "p95": round(float(np.percentile(weighted, 95)), 3),
            "10Δ": round(float(np.nanmedian(core)), 3),
            "equal": round(float(np.median(equal)), 3),
            "max": round(float(np.median(largest)), 2),
            "ms": round(1e3 * self.cpu_s / self.counts["expiries"], 2),
        }


def _core_error(smile: Smile) -> float:
    """Root mean square error, strikes alike, of those whose delta lies between 0.1 and 0.9; NaN without such."""
    seen, svi = smile.observed, smile.svi
    assert svi is not None
    deviation = np.sqrt(seen.variance)
    core = np.abs(-seen.k / deviation + deviation / 2.0) < TEN_DELTA
    return float(np.sqrt(np.mean(errors_of(seen, svi)[core] ** 2))) if core.any() else np.nan


def measure(every: int) -> dict[tuple[str, int, str, str], Tally]:
    """Tallies by file, year, currency and source."""
    tallies: dict[tuple[str, int, str, str], Tally] = {}
    for snapshot in snapshots(REAL_DATA, every=every):
        two_sided = bool(np.isfinite(snapshot.chain.bid_iv).any())
        for source in ("mark", "auto") if two_sided else ("mark",):
            key = snapshot.file, snapshot.year, snapshot.currency, source
            smiles, cpu_s = _fitted(snapshot, SurfaceSettings(source=source))
            tallies.setdefault(key, Tally()).add(smiles, cpu_s)
    return tallies


def _fitted(snapshot: Snapshot, settings: SurfaceSettings) -> tuple[list[Smile], float]:
    began = time.process_time()
    smiles = fit_surface(snapshot.chain, settings)
    return smiles, time.process_time() - began


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="every snapshot of every file")
    long = parser.parse_args().long
    if not (REAL_DATA / "chain").is_dir():
        sys.stdout.write(f"\nSurfaces: no recorded chains, {REAL_DATA / 'chain'} is not a folder\n")
        return
    tallies = measure(1 if long else SHORT_STEP)
    rows = [
        {
            "file": _short(file),
            "year": str(year),
            "of": currency,
            "fitted": source,
            **tally.as_row(),
        }
        for (file, year, currency, source), tally in sorted(tallies.items())
    ]
    Console(width=WIDTH, highlight=False).print(*as_tables(rows, "Surfaces of recorded chains", WIDTH))
    for title, name in (("No smile because of", "failures"), ("Quotes left out", "excluded")):
        total: Counter[str] = sum((getattr(tally, name) for tally in tallies.values()), Counter())
        sys.stdout.write(f"  {title}: " + ", ".join(f"{k} {n:,}" for k, n in total.most_common()) + "\n")
    report("Surfaces", [*_figures(tallies), *_job(LONG_TICKS if long else TICKS)])


def _short(file: str) -> str:
    """Its collector, and the day where it holds just one."""
    days = re.findall(r"20\d{6}|20\d\d-\d\d-\d\d", file)
    return " ".join([file.partition("_")[0], *days[:1]])


def _figures(tallies: dict[tuple[str, int, str, str], Tally]) -> list[Figure]:
    recent = [tally for (_, year, _, source), tally in tallies.items() if year >= RECENT and source == "mark"]
    errors = np.array([error for tally in recent for error in tally.errors])
    every = list(tallies.values())
    expiries = sum(tally.counts["expiries"] for tally in every)
    smiles = sum(len(tally.errors) for tally in every)
    return [
        Figure(
            f"median error, marks of {RECENT}, {len(errors):,} smiles",
            float(np.median(errors[:, 0])),
            "points",
            MUST_ERROR,
        ),
        Figure("  strikes from 10 to 90 delta, all alike", float(np.nanmedian(errors[:, 3])), "points"),
        Figure("  all strikes alike", float(np.median(errors[:, 1])), "points"),
        Figure("expiries fitted", 100.0 * smiles / expiries, "%"),
        Figure(
            "butterfly arbitrage", 100.0 * sum(t.counts["butterfly"] for t in every) / smiles, "% of smiles"
        ),
        Figure(
            "calendar arbitrage", 100.0 * sum(t.counts["calendar"] for t in every) / smiles, "% of smiles"
        ),
        Figure("CPU per smile", 1e3 * sum(t.cpu_s for t in every) / expiries, "ms"),
    ]


def _job(ticks: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        rows = quotes(ticks)
        fill(root, rows, FILES)
        compact(root, days=[DAY], tables=["quotes"])
        with cpu() as clock:
            (done,) = compute(root)
    what = f"{len(rows):,} quotes to {done.instants} surfaces of {done.smiles + done.failures} rows"
    return [Figure(what, clock.used / len(rows) * 1e6, "CPU-s/M quotes")]


if __name__ == "__main__":
    main()
