"""Whether fitted smiles admit arbitrage: butterflies within one expiry, calendar spreads between two.

A surface that is fitted to what was quoted may well admit some; that is reported, never repaired in silence.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.surface.svi import Floats, Svi

CHECKED_POINTS: Final = 201
TOLERANCE: Final = 1e-9
"""Crossings by less total variance than this are rounding."""


def durrleman(smile: Svi, k: npt.ArrayLike) -> Floats:
    """Durrleman's g(k); the density of the price at expiry is g times something positive, so it must not be
    negative (Gatheral and Jacquier, "Arbitrage-free SVI volatility surfaces", 2014, equation 2.1).

    NaN where the smile's variance is not positive.
    """
    k = np.asarray(k, np.float64)
    w, first, second = smile.derivatives(k)
    w = np.where(w > 0.0, w, np.nan)
    found: Floats = (1.0 - k * first / (2.0 * w)) ** 2 - first * first / 4.0 * (1.0 / w + 0.25) + second / 2.0
    return found


class Crossing(NamedTuple):
    """Where one expiry's total variance exceeds the next one's the most."""

    k: float
    variance: float


def least_g(smile: Svi, lowest: float, highest: float) -> float:
    """The least g(k) over [lowest, highest] of log-moneyness; negative means butterfly arbitrage there. Minus
    infinity where the variance is not positive somewhere."""
    g = durrleman(smile, np.linspace(lowest, highest, CHECKED_POINTS))
    return float(g.min()) if np.isfinite(g).all() else -np.inf


def crossing(near: Svi, far: Svi, lowest: float, highest: float) -> Crossing | None:
    """The worst calendar arbitrage of the nearer expiry against the farther over [lowest, highest] of
    log-moneyness, each against its own forward; None where there is none, or where that range is empty."""
    if lowest > highest:
        return None
    k = np.linspace(lowest, highest, CHECKED_POINTS)
    excess = near.total_variance(k) - far.total_variance(k)
    worst = int(np.argmax(excess))
    if not excess[worst] > TOLERANCE:
        return None
    return Crossing(float(k[worst]), float(excess[worst]))
