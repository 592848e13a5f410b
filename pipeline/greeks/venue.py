"""Greeks as Deribit defines them, and what else its conventions decide.

Sources: Deribit's support articles on option Greeks (delta and net delta, vega per volatility point, theta per day or
lifetime if shorter, rho per rate point; 25944751433757 on the delta of the last 30 minutes, while the index is
averaged for settlement). The cap of theta and the year of exactly 365 days were found by recomputing the venue's
published rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline.greeks.black76 import (
    SMALL_T,
    SQRT_2PI,
    TINY,
    Booleans,
    Floats,
    log_ratio,
    small_value_ratio,
    tail_ratio,
)
from pipeline.greeks.chunks import over_chunks

DAYS_PER_YEAR: Final = 365.0
FINAL_AVERAGING_YEARS: Final = 30.0 / (60.0 * 24.0 * DAYS_PER_YEAR)
"""The last 30 minutes, in years: the index is being averaged and the venue's delta fades to zero."""
_TAIL_MAX: Final = 1e3  # beyond, the density is zero whatever multiplies it


class Greeks(NamedTuple):
    """Float64 arrays of one shape, for one option on one unit of the underlying; quote currency is USD or USDC."""

    delta: Floats
    """Per 1 of the underlying: calls in [0, 1], puts in [-1, 0]; not premium adjusted."""
    gamma: Floats
    """Change of delta per 1 USD."""
    vega: Floats
    """USD per volatility point."""
    theta: Floats
    """USD per day, or until expiry where that is sooner; never more than the option is worth."""
    rho: Floats
    """USD per rate point."""
    price_usd: Floats
    """Value in USD; over the forward it is the premium in coin."""


def greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    is_call: ArrayLike,
    *,
    rate: ArrayLike = 0.0,
    mark_price_usd: ArrayLike = np.nan,
) -> Greeks:
    """Greeks and value of European options on a forward; NaN where an argument is not a positive normal number.

    Arguments broadcast as numpy's do. `forward` and `strike` in the quote currency, `years` of 365 days, `volatility` a
    fraction, `is_call` booleans, `rate` the continuous discount rate (0 as the venue has it). `mark_price_usd`: the
    price by which the venue caps theta, where it is known to more digits than the volatility gives; NaN or zero
    (unknown, or rounded away) caps by the value computed here.

    Raises TypeError for arguments that are not numbers, ValueError for shapes that do not broadcast.
    """
    numbers = (forward, strike, years, volatility, rate, mark_price_usd)
    return Greeks(*over_chunks(_greeks, len(Greeks._fields), numbers=numbers, flags=(is_call,)))


def _greeks(
    forward: Floats,
    strike: Floats,
    years: Floats,
    volatility: Floats,
    rate: Floats,
    mark_price_usd: Floats,
    is_call: Booleans,
) -> tuple[Floats, ...]:
    """`greeks` of one chunk."""
    high, low = np.maximum(forward, strike), np.minimum(forward, strike)
    distance = log_ratio(high, low)
    root = np.sqrt(years)
    spread = volatility * root
    h, t = distance / spread, 0.5 * spread
    near, far, mass, time_value = _out_of_the_money(h, t, spread, low)
    far_probability = far / high
    call_is_out = strike >= forward
    out = is_call == call_is_out
    n1 = np.where(call_is_out, near, far_probability)
    n2 = np.where(call_is_out, far_probability, near)
    n1, n2 = np.where(out, n1, 1.0 - n1), np.where(out, n2, 1.0 - n2)
    sign = np.where(is_call, 1.0, -1.0)
    value = np.where(out, time_value, time_value + (high - low))
    value = np.minimum(value, np.where(is_call, forward, strike))
    decay = 0.5 * mass * volatility / root
    usable = (low >= TINY) & (years >= TINY) & (volatility >= TINY) & (spread >= TINY)
    usable &= (spread < np.inf) & (distance < np.inf)
    if rate.any():
        usable &= np.isfinite(rate)
        discount = np.exp(-rate * years)
        for column in (n1, n2, mass, value, decay):
            column *= discount
        decay -= rate * value
    theta_cap = np.where(mark_price_usd > 0, mark_price_usd, value)
    columns = (
        sign * n1,
        mass / spread / forward / forward,
        mass * root / 100.0,
        -np.minimum(decay * np.minimum(1.0 / DAYS_PER_YEAR, years), theta_cap),
        sign * strike * years * n2 / 100.0,
        value,
    )
    return tuple(
        column if (fit := usable & np.isfinite(column)).all() else np.where(fit, column, np.nan)
        for column in columns
    )


def _out_of_the_money(
    h: Floats, t: Floats, spread: Floats, low: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """N(t - h), high * N(-t - h), low * phi(t - h) = high * phi(t + h), and the option's time value."""
    d = t - h
    size = np.abs(d)
    density = np.exp(-0.5 * d * d) / SQRT_2PI
    mass = low * density
    tail = density * tail_ratio(np.minimum(size, _TAIL_MAX))
    near = np.where(d > 0, 1.0 - tail, tail)
    far = mass * tail_ratio(np.minimum(t + h, _TAIL_MAX))
    time_value = np.maximum(low * near - far, 0.0)
    small = np.flatnonzero(t < SMALL_T)
    if small.size:
        time_value[small] = (
            mass[small] * spread[small] * small_value_ratio(np.minimum(h[small], _TAIL_MAX), t[small])
        )
    return near, far, mass, time_value


def premium_adjusted_delta(delta: ArrayLike, price_usd: ArrayLike, forward: ArrayLike) -> Floats:
    """The venue's net delta of an inverse option: delta less the premium in coin, which itself moves with the coin."""

    def kernel(delta: Floats, price_usd: Floats, forward: Floats) -> tuple[Floats]:
        return (np.where(forward > 0, delta - price_usd / forward, np.nan),)

    (result,) = over_chunks(kernel, 1, numbers=(delta, price_usd, forward))
    return result


def volatility_uncertainty(
    tick: ArrayLike, forward: ArrayLike, vega: ArrayLike, *, inverse: ArrayLike
) -> Floats:
    """Volatility (fraction) that half a price tick is worth: the price says no more than this; NaN without vega.

    `tick` in the unit of the price (coin where `inverse`), `vega` in USD per volatility point.
    """

    def kernel(tick: Floats, forward: Floats, vega: Floats, inverse: Booleans) -> tuple[Floats]:
        half = 0.5 * np.where(inverse, tick * forward, tick)
        uncertainty = half / (100.0 * vega)
        return (np.where((vega > 0) & (half >= 0) & (uncertainty < np.inf), uncertainty, np.nan),)

    (result,) = over_chunks(kernel, 1, numbers=(tick, forward, vega), flags=(inverse,))
    return result


def in_final_averaging(years: ArrayLike) -> Booleans:
    """Whether the option is in its last 30 minutes, where prices and Greeks follow the settlement average instead."""
    remaining = np.asarray(years, np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray((remaining > 0) & (remaining <= FINAL_AVERAGING_YEARS))
