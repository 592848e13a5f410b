"""What may be chosen about a surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SOURCES: Final = ("auto", "mid", "mark")


@dataclass(frozen=True, slots=True)
class SurfaceSettings:
    """Which quotes make a volatility surface, and how it is fitted."""

    source: str = "auto"
    """What is fitted: mid (the middle of bid and ask volatility, each weighing by its spread), mark (the venue's
    mark volatility, weighing by vega), or auto: mid where an expiry has enough two-sided quotes, else mark."""

    min_two_sided: int = 8
    """With auto, an expiry needs this many strikes quoted on both sides, around the forward, to be fitted to mid."""

    max_age_minutes: float = 30.0
    """A quote whose last tick is older than this at the instant is stale and left out."""

    max_iv: float = 499.0
    """Volatilities above this, percent, are left out; Deribit writes 500 for whatever it cannot compute."""

    min_delta: float = 0.005
    """Options whose delta is nearer than this to 0 or 1 are left out: their price is mostly the tick."""

    outlier_factor: float = 8.0
    """A quote is an outlier, and left out, if it is off the smile by more than this many times the median error."""

    outlier_floor: float = 0.5
    """No quote off by less than this, in volatility points at the money, is an outlier."""

    fallback_error: float = 0.5
    """An SVI smile with butterfly arbitrage between its quoted strikes gives way to eSSVI where that fits at most
    this much worse, in volatility points."""

    workers: int = 1
    """Processes to compute partitions in."""

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"source must be one of {', '.join(SOURCES)}, not {self.source!r}")
        for name in ("min_two_sided", "max_age_minutes", "max_iv", "outlier_factor", "workers"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive")
        for name in ("outlier_floor", "fallback_error"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative")
        if not 0.0 <= self.min_delta < 0.5:
            raise ValueError("min_delta must be at least 0 and below 0.5")
