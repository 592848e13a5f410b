"""Implied volatility: the inverse of Black's formula, or NaN where the price does not determine one.

The unknown is `spread = sigma * sqrt(T)`, found on the out-of-the-money side from the logarithm of the time value. Two
steps of Householder's method of the third order (A. S. Householder, "The Numerical Treatment of a Single Nonlinear
Equation", 1970; each step quadruples the right digits) from Bachelier's volatility corrected for the lognormal's
curvature give almost every row all its digits. The few that have not settled are searched within brackets, so that a
row ends either solved or NaN.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from pipeline.greeks.black76 import (
    LOG_SQRT_2PI,
    SMALL_T,
    TINY,
    Booleans,
    Floats,
    bachelier_spread,
    log_ratio,
    normal_ratio,
    tail_ratio,
    value_ratio,
)
from pipeline.greeks.chunks import over_chunks

RELATIVE_ERROR_MAX: Final = 1e-9
"""A volatility is given only where one digit (2^-52) of the price moves it by no more than this part of itself."""
_DIGIT: Final = 2.0**-52
_CONVERGED: Final = 1e-4  # what the step after one of this size changes is below the last digit
_FAST_STEPS: Final = 2
_SEARCH_STEPS: Final = 100
_FREE_STEPS: Final = 20  # after these, the search only halves brackets until a step settles it
_CURVATURE_MAX: Final = 1.0  # of the guess: for larger spreads the correction no longer helps
_SPREAD_MAX: Final = 60.0  # no price determines a larger one


def implied_volatility(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    is_call: ArrayLike,
    *,
    inverse: ArrayLike,
    rate: ArrayLike = 0.0,
) -> Floats:
    """Volatility (fraction per square root of a year) at which Black's formula gives `price`; NaN where there is none.

    Arguments broadcast as numpy's do; the result is a new float64 array of their common shape.

    price: premium, in coin where `inverse` (worth price * forward), else in the quote currency; forward, strike: quote
    currency; years: time to expiry in years of 365 days; is_call, inverse: booleans; rate: continuous discount rate
    per year, 0 as the venue has it.

    NaN where an argument is not a positive normal number, where the price is at or outside its bounds, and where its
    digits do not determine the volatility to `RELATIVE_ERROR_MAX`: far in the money, or close to the upper bound.

    Raises TypeError for arguments that are not numbers, ValueError for shapes that do not broadcast.
    """
    numbers = (price, forward, strike, years, rate)
    (result,) = over_chunks(_invert, 1, numbers=numbers, flags=(is_call, inverse))
    return result


def _invert(
    price: Floats,
    forward: Floats,
    strike: Floats,
    years: Floats,
    rate: Floats,
    is_call: Booleans,
    inverse: Booleans,
) -> tuple[Floats]:
    """`implied_volatility` of one chunk."""
    value = np.where(inverse, price * forward, price)
    high, low = np.maximum(forward, strike), np.minimum(forward, strike)
    leverage = np.ones_like(value)
    if rate.any():
        value *= np.exp(rate * years)
        leverage += np.abs(rate * years)
    time_value = np.where(is_call == (forward > strike), value - (high - low), value)
    distance = log_ratio(high, low)
    share = time_value / low  # of the upper bound
    usable = (share >= TINY) & (share < 1.0) & (price >= TINY) & (value >= TINY) & (value < np.inf)
    usable &= (low >= TINY) & (distance < np.inf) & (years >= TINY)
    leverage *= value / time_value
    if usable.all():
        return (_volatility(distance, share, leverage, years),)
    volatility = np.full(price.shape, np.nan)
    rows = np.flatnonzero(usable)
    volatility[rows] = _volatility(distance[rows], share[rows], leverage[rows], years[rows])
    return (volatility,)


def _volatility(distance: Floats, share: Floats, leverage: Floats, years: Floats) -> Floats:
    """Volatility where the price determines it, else NaN.

    `leverage`: by how many of its own digits the time value moves with one digit of the price.
    """
    target = np.log(share) - 0.5 * distance
    spread, ratio = _solve(distance, target)
    volatility = spread / np.sqrt(years)
    # the logarithm of the value is a difference of numbers up to spread^2 / 8: their digits count like the price's
    blur = _DIGIT * (leverage + 0.125 * spread * spread) * ratio
    determined = (blur <= RELATIVE_ERROR_MAX) & (volatility >= TINY)
    return np.where(determined, volatility, np.nan)


def _solve(distance: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Spread whose ln(value / sqrt(F K)) is `target`, and d ln(spread) / d target there; NaN where not found."""
    guess = spread = _guess(distance, target)
    for _ in range(_FAST_STEPS):
        h, t = distance / spread, 0.5 * spread
        ratio = normal_ratio(t - h) - tail_ratio(t + h)
        ratio /= spread
        spread, settled = _step(spread, ratio, h, t, target)
    left = np.flatnonzero(~(settled & (spread > 2.0 * SMALL_T)))
    if left.size:
        start = np.where(spread > 0, spread, guess)[left]
        spread[left], ratio[left] = _search(start, distance[left], target[left])
    return spread, ratio


def _guess(distance: Floats, target: Floats) -> Floats:
    """First estimate: Bachelier's spread, with the value lifted by what the lognormal lacks against it.

    Value is the integral of exp(-distance^2 / (2 s^2) - s^2 / 8) / sqrt(2 pi) over s up to spread; Bachelier's has not
    the second term, whose weight is a third at the money and tends to one far from it.
    """
    value = np.exp(target)
    first = bachelier_spread(distance, value)
    h = distance / first
    square = h * h
    weight = (1.0 / 3.0 + square) / (1.0 + square)
    return bachelier_spread(
        distance, value * np.exp(weight * np.minimum(0.125 * first * first, _CURVATURE_MAX))
    )


def _step(spread: Floats, ratio: Floats, h: Floats, t: Floats, target: Floats) -> tuple[Floats, Booleans]:
    """Spread after a step of Householder's method for ln(value), and whether that settles it."""
    h2, t2 = h * h, t * t
    newton = (np.log(spread * ratio) - 0.5 * (h2 + t2) - LOG_SQRT_2PI - target) * -ratio
    slope = 1.0 / ratio
    curve = h2 - t2  # spread * (d ln vega / d spread)
    second = curve - slope
    third = curve * (curve - 3.0 * slope) - 3.0 * h2 - t2 + 2.0 * slope * slope
    change = newton * (1.0 + 0.5 * second * newton) / (1.0 + newton * (second + newton * third / 6.0))
    return spread * (1.0 + change), np.abs(newton) * (1.0 + np.abs(second)) < _CONVERGED


def _search(start: Floats, distance: Floats, target: Floats) -> tuple[Floats, Floats]:
    """`_solve` for rows that need care: a step that leaves its bracket, or comes late, halves the bracket instead."""
    spread, slope = np.full(start.shape, np.nan), np.full(start.shape, np.nan)
    guess = np.where((start > 0) & (start < _SPREAD_MAX), start, 1.0)
    lowest, highest = np.full(start.shape, TINY), np.full(start.shape, _SPREAD_MAX)
    rows = np.arange(start.size)
    for step in range(_SEARCH_STEPS):
        h, t = distance / guess, 0.5 * guess
        ratio = value_ratio(h, t)
        moved, settled = _step(guess, ratio, h, t, target)
        # where the value is too small for its logarithm, the comparison says what is true: too low
        too_high = np.log(guess * ratio) - 0.5 * (h * h + t * t) - LOG_SQRT_2PI > target
        highest, lowest = np.where(too_high, guess, highest), np.where(too_high, lowest, guess)
        spread[rows[settled]], slope[rows[settled]] = moved[settled], ratio[settled]
        left = np.flatnonzero(~settled)
        if not left.size:
            break
        rows, moved, lowest, highest = rows[left], moved[left], lowest[left], highest[left]
        distance, target = distance[left], target[left]
        inside = (moved > lowest) & (moved < highest) & (step < _FREE_STEPS)
        guess = np.where(inside, moved, np.sqrt(lowest) * np.sqrt(highest))
    return spread, slope
