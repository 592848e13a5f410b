"""What every benchmark shares: CPU seconds of this process and its children, and figures beside their targets.

The machines are shared and noisy, so figures are CPU-seconds and ratios wherever that is meaningful.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number with the design's target: `must` has to hold, `aim` is where we want to be."""

    name: str
    value: float
    unit: str
    must: float | None = None
    aim: float | None = None
    higher_is_better: bool = False

    @property
    def verdict(self) -> str:
        """Where the value stands against its targets."""
        if self.must is None:
            return ""
        if self._reaches(self.aim):
            return "aim"
        return "must" if self._reaches(self.must) else "MISSED"

    def _reaches(self, target: float | None) -> bool:
        if target is None:
            return False
        return self.value >= target if self.higher_is_better else self.value <= target


class CpuSeconds:
    """User and system time spent between entering and leaving `cpu()`."""

    used: float = 0.0


@contextmanager
def cpu(*, children: bool = False) -> Iterator[CpuSeconds]:
    """Measure CPU seconds of this process, or of the children waited for inside the block."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    clock = CpuSeconds()
    before = resource.getrusage(who)
    yield clock
    after = resource.getrusage(who)
    clock.used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def peak_rss_mb() -> float:
    """Most memory this process has held so far, MB; not, as getrusage has it, also that of whoever started it."""
    return _status_mb("VmHWM")


def own_memory_mb() -> float:
    """Memory that this process holds for itself, MB, without what it has mapped of files."""
    return _status_mb("RssAnon")


def _status_mb(field: str) -> float:
    (line,) = [line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def report(title: str, figures: Sequence[Figure]) -> None:
    """Print the figures of one benchmark, each with its targets and verdict."""
    out = sys.stdout
    out.write(f"\n{title}\n")
    for figure in figures:
        targets = "" if figure.must is None else f"must {figure.must:g}"
        targets += "" if figure.aim is None else f", aim {figure.aim:g}"
        out.write(
            f"  {figure.name:<58}{figure.value:>12,.4g} {figure.unit:<17}{targets:<24}{figure.verdict}\n"
        )
    out.flush()
