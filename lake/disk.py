"""How full the disk is, and how many days are left at the pace it fills."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from lake.beats import DiskFigures, DiskSample

NS_PER_DAY: Final = 86_400_000_000_000
SAMPLE_EVERY_NS: Final = NS_PER_DAY // 96
SAMPLES_MAX: Final = 97
WATCHED_MIN_NS: Final = NS_PER_DAY // 144
"""Ten minutes: less says nothing about a pace."""


def _free_and_total(path: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(path)
    return usage.free, usage.total


class DiskWatch:
    """Watches the file system of `path`; `samples` are those of an earlier process, so that the pace is known at once.

    The pace counts everything that fills the disk, whoever writes it. While a new lake's spool has not reached
    its retention the disk fills faster than later on, so the days left are rather too few.
    """

    def __init__(
        self,
        path: Path,
        samples: Iterable[DiskSample] = (),
        *,
        usage: Callable[[Path], tuple[int, int]] = _free_and_total,
    ) -> None:
        self._path = path
        self._samples = list(samples)
        self._usage = usage

    def figures(self, now_ns: int) -> DiskFigures:
        """The figures now; takes a sample every quarter of an hour and keeps those of a day."""
        free, total = self._usage(self._path)
        self._samples = [s for s in self._samples if now_ns - NS_PER_DAY <= s[0] <= now_ns]
        if not self._samples or now_ns - self._samples[-1][0] >= SAMPLE_EVERY_NS:
            self._samples = [*self._samples[1 - SAMPLES_MAX :], (now_ns, free)]
        return DiskFigures(
            total_bytes=total,
            free_bytes=free,
            days_left=self._days_left(now_ns, free),
            samples=self._samples,
        )

    def _days_left(self, now_ns: int, free: int) -> float | None:
        then_ns, then_free = self._samples[0]
        used = then_free - free
        if now_ns - then_ns < WATCHED_MIN_NS or used <= 0:
            return None
        return free / used * (now_ns - then_ns) / NS_PER_DAY
