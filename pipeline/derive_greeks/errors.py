"""Statistics of errors over billions of rows: sums, a histogram for quantiles, and the worst rows; they add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS_PER_DECADE: Final = 50
LOWEST_DECADE, HIGHEST_DECADE = -10, 6
BINS: Final = (HIGHEST_DECADE - LOWEST_DECADE) * BINS_PER_DECADE
QUANTILE_ERROR: Final = 10 ** (1 / BINS_PER_DECADE) - 1
"""Quantiles are upper edges of bins: too large by at most this part of themselves, 4.7 %."""
WORST: Final = 5


@dataclass(slots=True)
class Errors:
    """Of one measure in several buckets. `own` and `sent` of a row are compared as own - sent."""

    buckets: int
    rows: Ints = field(init=False)
    squares: Floats = field(init=False)
    sent_squares: Floats = field(init=False)
    largest: Floats = field(init=False)
    histogram: Ints = field(init=False)
    worst: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = np.zeros(self.buckets, np.int64)
        self.squares, self.sent_squares, self.largest = np.zeros((3, self.buckets))
        self.histogram = np.zeros((self.buckets, BINS), np.int64)

    def add(self, own: Floats, sent: Floats, bucket: Ints, name_rows: Any) -> None:
        """Compare rows, where both are known; `name_rows(places)` tells what the rows at these places are."""
        known = np.flatnonzero(~np.isnan(own) & ~np.isnan(sent))
        bucket, sent = bucket[known], sent[known]
        error = np.abs(own[known] - sent)
        self.rows += np.bincount(bucket, minlength=self.buckets)
        self.squares += np.bincount(bucket, error * error, self.buckets)
        self.sent_squares += np.bincount(bucket, sent * sent, self.buckets)
        np.maximum.at(self.largest, bucket, error)
        cells = bucket * BINS + _bin(error)
        self.histogram += np.bincount(cells, minlength=self.buckets * BINS).reshape(self.buckets, BINS)
        worst = np.argpartition(error, -WORST)[-WORST:] if len(error) > WORST else np.arange(len(error))
        rows = zip(error[worst].tolist(), name_rows(known[worst]), strict=True)
        self._keep_worst([*self.worst, *rows])

    def merge(self, other: Errors) -> None:
        """Take in what another process compared."""
        self.rows += other.rows
        self.squares += other.squares
        self.sent_squares += other.sent_squares
        self.largest = np.maximum(self.largest, other.largest)
        self.histogram += other.histogram
        self._keep_worst([*self.worst, *other.worst])

    def figures(self, buckets: Sequence[int]) -> dict[str, float | int | None]:
        """Over the named buckets together: rows; root mean square of the venue's numbers (rms) and of the error (rmse),
        the latter also in percent of the former; median, 99 % quantile and maximum of the error. None without rows."""
        chosen = list(buckets)
        rows = int(self.rows[chosen].sum())
        if not rows:
            return dict.fromkeys(("rms", "rmse", "rmse %", "median", "p99", "largest"), None) | {"rows": 0}
        rms, rmse = (float(np.sqrt(s[chosen].sum() / rows)) for s in (self.sent_squares, self.squares))
        median, p99 = (self._quantile(chosen, rows, share) for share in (0.5, 0.99))
        return {
            "rows": rows, "rms": rms, "rmse": rmse, "rmse %": 100 * rmse / rms if rms else None, "median": median,
            "p99": p99, "largest": float(self.largest[chosen].max()),
        }  # fmt: skip

    def _quantile(self, buckets: list[int], rows: int, share: float) -> float:
        filled = np.cumsum(self.histogram[buckets].sum(axis=0))
        place = int(np.searchsorted(filled, share * rows))
        edge = 10.0 ** (LOWEST_DECADE + (place + 1) / BINS_PER_DECADE)
        return float(min(edge, self.largest[buckets].max()))

    def _keep_worst(self, found: list[tuple[float, dict[str, Any]]]) -> None:
        self.worst = sorted(found, key=lambda row: row[0], reverse=True)[:WORST]


def _bin(error: Floats) -> Ints:
    with np.errstate(divide="ignore"):
        place = np.floor((np.log10(error) - LOWEST_DECADE) * BINS_PER_DECADE)
    return np.asarray(np.clip(place, 0, BINS - 1), np.int64)
