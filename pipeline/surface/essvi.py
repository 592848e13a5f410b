"""All expiries' smiles as one eSSVI surface, free of butterfly and calendar arbitrage by construction.

    w(k) = ½ (θ + ρψk + √((ψk + θρ)² + θ²(1 − ρ²)))

One (θ, ρ, ψ) per expiry (Hendriks and Martini, "The extended SSVI volatility surface", 2019): a raw SVI smile with
two of its parameters tied. Calibrated from the first expiry to the last, each within what arbitrage against the one
before it allows (after Corbetta, Cohort, Laachir and Martini, "Robust calibration and arbitrage-free interpolation
of SSVI slices", 2019):

    no butterfly   ψ(1 + |ρ|) ≤ 4   and   ψ²(1 + |ρ|) ≤ 4θ
    no calendar    θ ≥ θ₀,   ψ(1 ± ρ) ≥ ψ₀(1 ± ρ₀)   and   ψ/θ ≤ ψ₀/θ₀   (₀: the expiry before)

For given θ and ρ these leave an interval of ψ, so the search runs over (θ, ρ, place in that interval).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from pipeline.surface.svi import Floats, Svi

MIN_POINTS: Final = 3
"""Distinct strikes below which three parameters are not determined."""
_FIRST_GRID: Final = 11  # points along each of the three axes, in the first round and in the later ones
_GRID: Final = 5
_ROUNDS: Final = 14
_SHRINK: Final = 0.55  # of the box, from one round to the next
_THETA_RANGE: Final = (0.7, 1.3)  # of the variance observed nearest the money
_RHO_LIMIT: Final = 0.999
_LEAST_PSI: Final = 1e-8


class Essvi(NamedTuple):
    """eSSVI parameters of one expiry; `theta` is the total variance at the money."""

    theta: float
    rho: float
    psi: float

    def as_svi(self) -> Svi:
        """The same smile as raw SVI (Gatheral and Jacquier 2014, lemma 3.1)."""
        spread = np.sqrt(1.0 - self.rho * self.rho)
        ratio = self.theta / self.psi
        return Svi(
            float(self.theta * (1.0 - self.rho * self.rho) / 2.0),
            float(self.psi / 2.0),
            self.rho,
            float(-self.rho * ratio),
            float(spread * ratio),
        )


class Observed(NamedTuple):
    """One expiry's log-moneyness, total variances and weights, 1-d arrays of one length."""

    k: Floats
    w: Floats
    weight: Floats


def fit_essvi(smiles: Sequence[Observed]) -> list[Essvi | None]:
    """eSSVI of every expiry, `smiles` in the order of their expiries; None where one has too few strikes.

    Each has the least Σ weight (w(k) − w)² that is free of arbitrage given the one found before it.
    """
    found: list[Essvi | None] = []
    before: Essvi | None = None
    for smile in smiles:
        one = _fit_one(smile, before)
        found.append(one)
        before = one or before
    return found


def _fit_one(smile: Observed, before: Essvi | None) -> Essvi | None:
    if len(np.unique(smile.k)) < MIN_POINTS or not smile.weight.sum() > 0.0:
        return None
    at_money = float(smile.w[np.argmin(np.abs(smile.k))])
    floor = before.theta if before else 0.0
    theta_low, theta_high = (max(floor, share * at_money) for share in _THETA_RANGE)
    corners = np.array([[theta_low, -_RHO_LIMIT, 0.0], [theta_high, _RHO_LIMIT, 1.0]])
    # The expiry before, at this one's level, is always free of arbitrage: there is always an answer.
    known = [] if before is None else [np.array([max(floor, at_money), before.rho, 0.0])]
    low, high = corners
    best_cost, best = np.inf, Essvi(0.0, 0.0, 0.0)
    for number in range(_ROUNDS):
        count = _FIRST_GRID if number == 0 else _GRID
        axes = np.meshgrid(*(np.linspace(*ends, count) for ends in zip(low, high, strict=True)))
        points = np.stack([axis.ravel() for axis in axes], axis=1)
        points = np.concatenate([points, *(point[None] for point in known)])
        psi = _psi(points, before)
        cost = _cost(smile, points[:, 0], points[:, 1], psi)
        i = int(np.argmin(cost))
        if cost[i] < best_cost:
            best_cost, best = cost[i], Essvi(float(points[i, 0]), float(points[i, 1]), float(psi[i]))
            known = [points[i]]
        half = (corners[1] - corners[0]) * _SHRINK ** (number + 1) / 2.0
        middle = np.clip(known[0] if known else corners.mean(axis=0), corners[0] + half, corners[1] - half)
        low, high = middle - half, middle + half
    return best if np.isfinite(best_cost) else None


def _psi(points: Floats, before: Essvi | None) -> Floats:
    """ψ at the given place between its bounds for θ and ρ; NaN where there is no room between them."""
    theta, rho, place = points.T
    skewed = 1.0 + np.abs(rho)
    high = np.minimum(4.0 / skewed, 2.0 * np.sqrt(theta / skewed))
    low = np.full_like(high, _LEAST_PSI)
    if before is not None:
        wings = np.maximum((1.0 + before.rho) / (1.0 + rho), (1.0 - before.rho) / (1.0 - rho))
        low = np.maximum(low, before.psi * wings)
        high = np.minimum(high, before.psi * theta / before.theta)
    room = np.where(high >= low * (1.0 - 1e-12), np.maximum(high - low, 0.0), np.nan)
    found: Floats = low + place * room
    return found


def _cost(smile: Observed, theta: Floats, rho: Floats, psi: Floats) -> Floats:
    theta, rho, psi = theta[:, None], rho[:, None], psi[:, None]
    slope = psi * smile.k
    root = np.sqrt((slope + theta * rho) ** 2 + theta * theta * (1.0 - rho * rho))
    error = (theta + rho * slope + root) / 2.0 - smile.w
    cost: Floats = (error * error) @ (smile.weight / smile.weight.sum())
    return np.where(np.isfinite(cost), cost, np.inf)
