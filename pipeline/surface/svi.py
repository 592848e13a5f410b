"""One expiry's smile as raw SVI: total variance against log-moneyness in five numbers, and how they are found.

    w(k) = a + b (ρ (k − m) + √((k − m)² + σ²)),   k = ln(strike / forward),   w = volatility² × years

(Gatheral, "A parsimonious arbitrage-free implied volatility parameterization", 2004.) With y = (k − m)/σ and
z = √(y² + 1) it is linear in three of them:

    w = a + p (z + y) + q (z − y),   p = bσ(1 + ρ)/2,   q = bσ(1 − ρ)/2

so the best a, p, q of any (m, σ) are a small least-squares problem with a closed answer, and only the plane of
(m, σ) is searched (the quasi-explicit calibration of De Marco and Martini, Zeliade 2009). What makes a smile
possible is a box in these coordinates: p and q not negative (|ρ| ≤ 1, b ≥ 0), neither above σ (no wing steeper
than 2: Lee's moment formula), and a ≥ −2√(pq) (no negative variance). The vertex m is sought among the quoted strikes
and σ not below a small part of their width, because of what lies outside or between them the quotes say nothing.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MIN_POINTS: Final = 5
"""Distinct strikes below which five parameters are not determined."""
_GRID_M: Final = 15
_GRID_SIGMA: Final = 12
_SIGMA_RANGE: Final = (
    0.04,
    4.0,
)  # of the width of the quoted strikes: noise must not make a kink between two of them
_STEPS: Final = 100
_MOST_DAMPING: Final = 1e8
_ENOUGH: Final = 1e-6
"""A step that lowers the squared error by less than this part of it is the last."""


class Svi(NamedTuple):
    """Raw SVI parameters of one expiry; see the module for the formula. All plain numbers, k without unit."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float

    def total_variance(self, k: npt.ArrayLike) -> Floats:
        """w at log-moneyness `k`, of any shape."""
        x = np.asarray(k, np.float64) - self.m
        found: Floats = self.a + self.b * (self.rho * x + np.sqrt(x * x + self.sigma * self.sigma))
        return found

    def variance_at(self, k: float) -> float:
        """As `total_variance` of one k, in a tenth of the time: for root finding."""
        x = k - self.m
        return self.a + self.b * (self.rho * x + math.sqrt(x * x + self.sigma * self.sigma))

    def derivatives(self, k: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """w and its first two derivatives in k, at log-moneyness `k`, of any shape."""
        x = np.asarray(k, np.float64) - self.m
        root = np.sqrt(x * x + self.sigma * self.sigma)
        first = self.b * (self.rho + x / root)
        second = self.b * self.sigma * self.sigma / root**3
        return self.a + self.b * (self.rho * x + root), first, second

    def volatility(self, k: npt.ArrayLike, years: float) -> Floats:
        """Volatility, a fraction, at log-moneyness `k`; NaN where the variance is not positive."""
        w = self.total_variance(k)
        found: Floats = np.sqrt(np.where(w > 0.0, w, np.nan) / years)
        return found


class _Problem(NamedTuple):
    """Observations with weights that sum to one, and the box to search."""

    k: Floats
    w: Floats
    weight: Floats
    m_bounds: tuple[float, float]
    sigma_bounds: tuple[float, float]


def fit_svi(k: Floats, w: Floats, weight: Floats, *, start: Svi | None = None) -> Svi | None:
    """Raw SVI with the least Σ weight (w(k) − w)² over the box of the module; None where it is not determined.

    `k`, `w`, `weight`: log-moneyness, total variance, weight of each observation, 1-d and finite. `start`, such as
    the neighbouring expiry's smile, joins the points of the grid from which the search goes downhill.
    """
    width = float(np.ptp(k)) if len(k) else 0.0
    if len(np.unique(k)) < MIN_POINTS or not weight.sum() > 0.0 or not width > 0.0:
        return None
    lowest, highest = float(k.min()), float(k.max())
    problem = _Problem(
        k,
        w,
        weight / weight.sum(),
        (lowest, highest),
        (_SIGMA_RANGE[0] * width, _SIGMA_RANGE[1] * width),
    )
    m, sigma = _grid(problem, start)
    cost, linear = _inner(problem, m, sigma)
    best = int(np.argmin(cost))
    return _svi(_downhill(problem, np.array([*linear[best], m[best], np.log(sigma[best])])))


def _grid(problem: _Problem, start: Svi | None) -> tuple[Floats, Floats]:
    """Candidates for (m, σ), flat."""
    m = np.linspace(*problem.m_bounds, _GRID_M)
    sigma = np.geomspace(*problem.sigma_bounds, _GRID_SIGMA)
    all_m, all_sigma = (axis.ravel() for axis in np.meshgrid(m, sigma, indexing="ij"))
    if start is not None:
        all_m = np.append(all_m, np.clip(start.m, *problem.m_bounds))
        all_sigma = np.append(all_sigma, np.clip(start.sigma, *problem.sigma_bounds))
    return all_m, all_sigma


def _inner(problem: _Problem, m: Floats, sigma: Floats) -> tuple[Floats, Floats]:
    """The least squared error of each candidate (m, σ), and its a, p, q."""
    y = (problem.k - m[:, None]) / sigma[:, None]
    z = np.sqrt(y * y + 1.0)
    right, left = z + y, z - y
    weight = problem.weight
    mean_w = weight @ problem.w
    mean_r, mean_l = right @ weight, left @ weight
    # Central moments: what is left of the squared error once a is the best for given p and q.
    right, left, target = right - mean_r[:, None], left - mean_l[:, None], problem.w - mean_w
    rr, ll, rl = right * right @ weight, left * left @ weight, (right * left) @ weight
    rt, lt = right @ (weight * target), left @ (weight * target)
    p, q = _box(rr, ll, rl, rt, lt, sigma)
    a = mean_w - p * mean_r - q * mean_l
    a = np.maximum(a, -2.0 * np.sqrt(p * q))
    error = a[:, None] + p[:, None] * (z + y) + q[:, None] * (z - y) - problem.w
    return error * error @ weight, np.stack([a, p, q], axis=1)


def _box(rr: Floats, ll: Floats, rl: Floats, rt: Floats, lt: Floats, top: Floats) -> tuple[Floats, Floats]:
    """The p and q in [0, top]² with the least  rr p² + 2 rl p q + ll q² − 2 rt p − 2 lt q."""
    tiny = np.finfo(np.float64).tiny
    determinant = rr * ll - rl * rl
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = np.stack([(rt * ll - lt * rl) / determinant, (lt * rr - rt * rl) / determinant])
    zero = np.zeros_like(top)

    def q_for(p: Floats) -> Floats:
        return np.clip((lt - rl * p) / np.maximum(ll, tiny), 0.0, top)

    def p_for(q: Floats) -> Floats:
        return np.clip((rt - rl * q) / np.maximum(rr, tiny), 0.0, top)

    # A convex function whose minimum lies outside the box has its least value in the box on one of the four sides.
    sides = np.stack(
        [
            np.stack([zero, q_for(zero)]),
            np.stack([top, q_for(top)]),
            np.stack([p_for(zero), zero]),
            np.stack([p_for(top), top]),
        ]
    )
    p, q = sides[:, 0], sides[:, 1]
    value = rr * p * p + 2.0 * rl * p * q + ll * q * q - 2.0 * (rt * p + lt * q)
    best = np.argmin(value, axis=0)
    column = np.arange(len(top))
    feasible = ((inside >= 0.0) & (inside <= top)).all(axis=0)  # not where NaN
    return (
        np.where(feasible, inside[0], p[best, column]),
        np.where(feasible, inside[1], q[best, column]),
    )


def _downhill(problem: _Problem, point: Floats) -> Floats:
    """Levenberg-Marquardt in (a, p, q, m, ln σ) from `point`, each step brought back into the box."""
    root_weight = np.sqrt(problem.weight)
    residual, jacobian = _linearised(problem, point, root_weight)
    cost = float(residual @ residual)
    damping = 1e-3
    for _ in range(_STEPS):
        normal = jacobian.T @ jacobian
        gradient = jacobian.T @ residual
        scale = np.diag(normal) + 1e-12 * normal.trace()
        while damping < _MOST_DAMPING:
            step = np.linalg.solve(normal + damping * np.diag(scale), -gradient)
            trial = _into_box(problem, point + step)
            new_residual, new_jacobian = _linearised(problem, trial, root_weight)
            new_cost = float(new_residual @ new_residual)
            if new_cost < cost:
                break
            damping *= 6.0
        else:
            break
        gain = cost - new_cost
        point, residual, jacobian, cost = trial, new_residual, new_jacobian, new_cost
        damping = max(damping / 6.0, 1e-12)
        if gain <= _ENOUGH * cost:
            break
    return point


def _linearised(problem: _Problem, point: Floats, root_weight: Floats) -> tuple[Floats, Floats]:
    """Weighted errors at `point`, and their derivatives in its five coordinates."""
    a, p, q, m, log_sigma = point
    sigma = np.exp(log_sigma)
    y = (problem.k - m) / sigma
    z = np.sqrt(y * y + 1.0)
    slope = p * (1.0 + y / z) - q * (1.0 - y / z)  # dw/dy
    columns = np.stack([np.ones_like(y), z + y, z - y, -slope / sigma, -slope * y], axis=1)
    residual = root_weight * (a + p * (z + y) + q * (z - y) - problem.w)
    return residual, columns * root_weight[:, None]


def _into_box(problem: _Problem, point: Floats) -> Floats:
    a, p, q, m, log_sigma = point
    sigma = np.clip(np.exp(np.clip(log_sigma, -50.0, 50.0)), *problem.sigma_bounds)
    p, q = np.clip(p, 0.0, sigma), np.clip(q, 0.0, sigma)
    m = np.clip(m, *problem.m_bounds)
    return np.array([max(a, -2.0 * np.sqrt(p * q)), p, q, m, np.log(sigma)])


def _svi(point: Floats) -> Svi:
    a, p, q, m, log_sigma = (float(value) for value in point)
    sigma = float(np.exp(log_sigma))
    total = p + q
    return Svi(a, total / sigma, (p - q) / total if total > 0.0 else 0.0, m, sigma)
