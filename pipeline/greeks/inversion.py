"""Implied volatility: the inverse of Black's formula, or NaN where the price does not determine one.

The unknown is `spread = sigma * sqrt(T)`. It is found on the out-of-the-money side, from the logarithm of the time value,
whose dependence on ln(spread) is nearly linear for prices in the body and smooth in the tails, by Householder's method of the third order
(each step quadruples the number of right digits; A. S. Householder, "The Numerical Treatment of a Single Nonlinear
Equation", 1970).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from pipeline.greeks.black76 import LOG_SQRT_2PI, SQRT_2PI, TINY, Floats, log_ratio, value_ratio
from pipeline.greeks.chunks import Booleans, over_chunks

RELATIVE_ERROR_MAX: Final = 1e-9
"""A volatility is given only where one digit (2^-52) of the price moves it by no more than this part of itself."""
_DIGIT: Final = 2.0**-52
_STEPS: Final = 60
_LOG_STEP_MAX: Final = 1.0
_CONVERGED: Final = 1e-4  # the step after one of this size is below the last digit


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

    Arguments broadcast as numpy's do; the result is a float64 array of their common shape.

    price: premium, in coin where `inverse`, else in the quote currency; `forward` and `strike` in the quote currency;
    years: time to expiry, years of 365 days; is_call, inverse: booleans; rate: continuous discount rate per year,
    0 as the venue has it.

    NaN where an argument is not a positive normal number, the price is at or outside its bounds, or the digits of the
    price do not determine the volatility to `RELATIVE_ERROR_MAX` (deep in the money, or close to the upper bound).
    """
    (result,) = over_chunks(
        _invert, 1, numbers=(price, forward, strike, years, rate), flags=(is_call, inverse)
    )
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
    value = np.where(inverse, price * forward, price)
    value = value * np.exp(rate * years)
    high, low = np.maximum(forward, strike), np.minimum(forward, strike)
    in_the_money = is_call == (forward > strike)
    time_value = np.where(in_the_money, value - (high - low), value)
    distance = log_ratio(high, low)
    share = time_value / low
    usable = (
        (share >= TINY)
        & (share < 1.0)
        & (price >= TINY)
        & (value < np.inf)
        & (years >= TINY)
        & (years < np.inf)
        & (low >= TINY)
        & (distance < np.inf)
        & (np.abs(rate) < np.inf)
    )
    volatility = np.full(price.shape, np.nan)
    rows = np.flatnonzero(usable)
    if rows.size:
        target = np.log(share[rows]) - 0.5 * distance[rows]
        spread, slope = _solve(distance[rows], target)
        # relative change of the volatility for one digit of the price
        blur = _DIGIT * (value[rows] / time_value[rows]) / slope
        found = spread / np.sqrt(years[rows])
        determined = (blur <= RELATIVE_ERROR_MAX) & (found >= TINY) & (found < np.inf)
        volatility[rows] = np.where(determined, found, np.nan)
    return (volatility,)


def _solve(distance: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Spread whose log value (over sqrt(F K)) is `target`, and d target / d ln spread there; NaN where not found."""
    spread, slope = np.full(target.shape, np.nan), np.full(target.shape, np.nan)
    open_rows = np.arange(target.size)
    guess = _guess(distance, target)
    lowest, highest = np.full(target.shape, 0.0), np.full(target.shape, np.inf)
    for _ in range(_STEPS):
        h, t = distance / guess, 0.5 * guess
        log_value, one_over_slope = _log_value(guess, h, t)
        error = log_value - target
        np.maximum(lowest, np.where(error < 0, guess, 0.0), out=lowest)
        np.minimum(highest, np.where(error > 0, guess, np.inf), out=highest)
        step, small = _householder(error, h, t, one_over_slope)
        moved = guess * np.exp(np.clip(step, -_LOG_STEP_MAX, _LOG_STEP_MAX))
        inside = (moved > lowest) & (moved < highest)
        done = small | (error == 0)
        moved = np.where(inside | done, moved, np.where(highest < np.inf, np.sqrt(lowest * highest), 2 * guess))
        moved = np.where((lowest == 0) & ~inside & ~done, 0.5 * guess, moved)
        spread[open_rows[done]], slope[open_rows[done]] = moved[done], 1.0 / one_over_slope[done]
        left = ~done
        if not left.any():
            break
        open_rows, guess, distance, target = open_rows[left], moved[left], distance[left], target[left]
        lowest, highest = lowest[left], highest[left]
    return spread, slope


def _log_value(spread: Floats, h: Floats, t: Floats) -> tuple[Floats, Floats]:
    ratio = value_ratio(h, t)
    return np.log(spread * ratio) - 0.5 * (h * h + t * t) - LOG_SQRT_2PI, ratio


def _householder(error: Floats, h: Floats, t: Floats, ratio: Floats) -> tuple[Floats, np.ndarray]:
    """Step in ln(spread), and whether it ends the search."""
    slope = 1.0 / ratio
    curve = h * h - t * t
    second = curve - slope
    third = curve * curve - 3.0 * h * h - t * t - 3.0 * slope * curve + 2.0 * slope * slope
    newton = -error * ratio
    step = newton * (1.0 + 0.5 * second * newton) / (1.0 + newton * (second + third * newton / 6.0))
    return np.log1p(np.maximum(step, -0.9)), np.abs(newton) * (1.0 + np.abs(second)) < _CONVERGED


def _guess(distance: Floats, target: Floats) -> Floats:
    """First estimate of the spread from the at-the-money and the tail asymptotics."""
    body = SQRT_2PI * np.exp(target)
    tail = distance / np.sqrt(-2.0 * np.minimum(target, -1e-3))
    return np.maximum(body, tail)
