"""Whether recording for long costs more and more: memory, files and logs of a daemon at a steady rate.

    python -m bench.soak [--minutes N] [--rate 500] [--folder DIR]      default: one minute; --long: one hour

`lake collect` with its ingester records the simulated venue as it would the real one, its memory sampled every
second; `lake compact` runs beside it as a schedule would have it run. The slope of memory is the least-squares
line through all samples after the warm-up (the first third). Segments are kept for a fifth of the run, so that
the spool reaches its steady size within it. At the end the daemon is stopped, the lake verified, and the frames
in `coverage` are held against those that the venue says it has sent.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.harness import Figure, report
from bench.watched import Sample, Watched, daemon, lake_says, wait_until_flowing
from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.root import open_root
from lake.views import query

INSTRUMENTS: Final = 300
WARM_UP: Final = 1 / 3
RETAINED: Final = 1 / 5
COMPACTIONS: Final = 12
SLOPE_MUST_MB_PER_H, SLOPE_AIM_MB_PER_H = 20.0, 5.0
MEMORY_MUST_MB, MEMORY_AIM_MB = 500.0, 250.0
LOGS_MUST_BYTES: Final = 2 * 5 * 10_000_000
"""Two processes, each with at most five files of 10 MB."""


def slope_mb_per_h(samples: Sequence[Sample]) -> tuple[float, float]:
    """Growth of memory by least squares after the warm-up, and its standard error."""
    at_s = np.array([sample.at_s for sample in samples])
    rss = np.array([sample.rss_mb for sample in samples])
    late = at_s >= at_s[0] + (at_s[-1] - at_s[0]) * WARM_UP
    hours, rss = at_s[late] / 3600, rss[late]
    slope, at_zero = np.polyfit(hours - hours.mean(), rss, 1)
    rest = rss - (slope * (hours - hours.mean()) + at_zero)
    error = np.sqrt((rest**2).sum() / max(len(rss) - 2, 1) / ((hours - hours.mean()) ** 2).sum())
    return float(slope), float(error)


def files_below(folder: Path) -> tuple[int, int]:
    """How many files there are, and their bytes; those that vanish meanwhile do not count."""
    count = size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(place) / name).stat().st_size
                count += 1
            except FileNotFoundError:
                continue
    return count, size


def compacting(root: Path, every_s: float, ended: threading.Event, failures: list[str]) -> None:
    """Compact now and then until it is over, as a schedule does."""
    while not ended.wait(every_s):
        try:
            lake_says(root, "compact")
        except ValueError as error:
            failures.append(str(error))


def soak(folder: Path, seconds: float, rate: float) -> list[Figure]:
    """Record for so long and look at what became of it; raise ValueError where anything is missing."""
    root, ended, failures = folder / "lake", threading.Event(), []  # type: tuple[Path, threading.Event, list[str]]
    settings = {
        "LAKE_SPOOL_RETAIN_HOURS": seconds * RETAINED / 3600,
        "LAKE_SPOOL_SEGMENT_SECONDS": min(60.0, seconds / 30),
        "LAKE_COMPACT_ROLL_UP_FILES": 12,
        "LAKE_COMPACT_GRACE_HOURS": seconds * RETAINED / 3600,
    }
    os.environ.update({name: str(value) for name, value in settings.items()})
    market = SimulatorSettings(instruments=INSTRUMENTS, rate=rate, hold=True)
    with start(market) as venue, daemon(root, venue, settings, folder / "output.log") as watched:
        wait_until_flowing(venue, watched, int(rate))
        schedule = threading.Thread(
            target=compacting, args=(root, seconds / COMPACTIONS, ended, failures), daemon=True
        )
        schedule.start()
        spool_files = _watch(watched, root, seconds)
        sent = _sent(venue)
        ended.set()
        schedule.join()
        stopped_s = watched.stop()
    problems = [*failures, *_problems(root, sent)]
    if problems:
        raise ValueError("; ".join(problems))
    return _figures(root, watched, sent, spool_files, stopped_s)


def _watch(watched: Watched, root: Path, seconds: float) -> tuple[int, int]:
    """Sample all the time; the files of the spool at half-time and at the end."""
    watched.watch(seconds / 2, 1.0)
    half = files_below(root / "spool")[0]
    watched.watch(seconds / 2, 1.0)
    return half, files_below(root / "spool")[0]


def _sent(venue: SimulatorProcess) -> int:
    return int(venue.control("stats")["sent"])


def _problems(root: Path, sent: int) -> list[str]:
    lake_says(root, "verify")  # raises with what it finds
    [row] = query(
        open_root(root),
        "SELECT sum(frames)::BIGINT AS frames, sum(rejected)::BIGINT AS rejected FROM coverage",
    ).to_pylist()
    told = query(open_root(root), "SELECT cause, count(*) AS n FROM gaps GROUP BY cause").to_pylist()
    problems = [f"{row['n']} gaps: {row['cause']}" for row in told]
    if row["frames"] < sent or row["rejected"]:
        problems.append(
            f"{sent} frames sent before the end, {row['frames']} in the lake, {row['rejected']} refused"
        )
    return problems


def _figures(
    root: Path, watched: Watched, sent: int, spool_files: tuple[int, int], stopped_s: float
) -> list[Figure]:
    figures = []
    for role in ("collector", "ingester"):
        slope, error = slope_mb_per_h(watched.samples[role])
        figures += [
            Figure(f"{role}: growth of memory", slope, "MB/h", SLOPE_MUST_MB_PER_H, SLOPE_AIM_MB_PER_H),
            Figure("  standard error of that", error, "MB/h"),
            Figure("  most memory", watched.peak_mb(role), "MB", MEMORY_MUST_MB, MEMORY_AIM_MB),
            Figure("  CPU", watched.cores(role), "cores"),
        ]
    tables, spool, logs = (files_below(root / name) for name in ("tables", "spool", "logs"))
    return [
        *figures,
        Figure("frames sent, all of them in the lake", sent, "frames"),
        Figure("files of the spool at half-time", spool_files[0], "files"),
        Figure("files of the spool at the end", spool_files[1], "files"),
        Figure("bytes of the spool after the end", spool[1], "bytes"),
        Figure("files of the tables", tables[0], "files"),
        Figure("bytes of the tables", tables[1], "bytes"),
        Figure("bytes of the logs", logs[1], "bytes", LOGS_MUST_BYTES),
        Figure("from SIGTERM to the end of both processes", stopped_s, "s"),
        Figure("load of the machine over the last 15 min", os.getloadavg()[2], "runnable"),
    ]


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=500.0, help="frames per second")
    parser.add_argument("--long", action="store_true", help="one hour")
    parser.add_argument("--folder", type=Path, help="keep the lake here")
    options = parser.parse_args()
    seconds = 3600.0 if options.long else options.minutes * 60
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            sys.exit(f"{folder} is not empty; give another folder")
        figures = soak(folder, seconds, options.rate)
    report(f"Soak: {options.rate:,.0f} frames/s for {seconds / 60:g} min", figures)


if __name__ == "__main__":
    main()
