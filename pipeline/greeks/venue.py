"""Greeks as Deribit defines them, and what else its conventions decide.

Sources: Deribit, "Option Greeks" (support article; delta, vega per volatility point, theta per day or lifetime if shorter,
rho per rate point, net delta) and "Settlement and delivery" (average of the index over the last 30 minutes); the cap
of theta and the year of exactly 365 days were found by recomputing the venue's published rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline.greeks.black76 import SQRT_2PI, TINY, Floats, log_ratio, normal_ratio, value_ratio
from pipeline.greeks.chunks import Booleans, over_chunks

DAYS_PER_YEAR: Final = 365.0
FINAL_AVERAGING_YEARS: Final = 30.0 / (60.0 * 24.0 * DAYS_PER_YEAR)
"""The last 30 minutes, in years: the index is being averaged and the venue's delta fades to zero."""


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
) -> Greeks:
    """Greeks and value of European options on a forward; NaN where an argument is not a positive normal number.

    Arguments broadcast as numpy's do. `forward` and `strike` in the quote currency, `years` of 365 days, `volatility` a
    fraction, `is_call` booleans, `rate` the continuous discount rate (0 as the venue has it).
    """
    return Greeks(
        *over_chunks(_greeks, 6, numbers=(forward, strike, years, volatility, rate), flags=(is_call,))
    )


def _greeks(
    forward: Floats, strike: Floats, years: Floats, volatility: Floats, rate: Floats, is_call: Booleans
) -> tuple[Floats, ...]:
    high, low = np.maximum(forward, strike), np.minimum(forward, strike)
    distance = log_ratio(high, low)
    root = np.sqrt(years)
    spread = volatility * root
    h, t = distance / spread, 0.5 * spread
    # out-of-the-money side: the call where K >= F, else the put
    otm_call = strike >= forward
    same_side = is_call == otm_call
    d_near, d_far = t - h, -t - h  # of the currency whose amount is smaller, and of the other
    density = np.exp(-0.5 * d_near * d_near) / SQRT_2PI
    # F phi(d1) = K phi(d2): for the put with K <= F, d1 = h + t and N(-d1) is the far probability
    mass = np.where(otm_call, forward, strike) * density
    near = density * normal_ratio(d_near)
    far_density = np.exp(-0.5 * d_far * d_far) / SQRT_2PI
    far = far_density * normal_ratio(d_far)
    n1, n2 = np.where(otm_call, near, far), np.where(otm_call, far, near)
    n1, n2 = np.where(same_side, n1, 1.0 - n1), np.where(same_side, n2, 1.0 - n2)
    sign = np.where(is_call, 1.0, -1.0)
    discount = np.exp(-rate * years)
    value = discount * (mass * spread * value_ratio(h, t) + np.where(same_side, 0.0, high - low))
    mass = discount * mass
    delta = discount * sign * n1
    gamma = mass / forward / forward / spread
    vega = mass * root / 100.0
    decay = (mass * volatility / (2.0 * root) - rate * value) / DAYS_PER_YEAR
    decay = np.minimum(decay * np.minimum(1.0, years * DAYS_PER_YEAR), value)
    rho = discount * sign * strike * years * n2 / 100.0
    usable = (low >= TINY) & (years >= TINY) & (volatility >= TINY) & (spread < np.inf) & (distance < np.inf)
    return tuple(
        np.where(usable & np.isfinite(column), column, np.nan)
        for column in (delta, gamma, vega, -decay, rho, value)
    )


def premium_adjusted_delta(delta: ArrayLike, price_usd: ArrayLike, forward: ArrayLike) -> Floats:
    """The venue's net delta of an inverse option: delta less the premium in coin, whose own value moves with the coin."""

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
        return (np.where((vega > 0) & (half >= 0), half / (100.0 * vega), np.nan),)

    (result,) = over_chunks(kernel, 1, numbers=(tick, forward, vega), flags=(inverse,))
    return result


def in_final_averaging(years: ArrayLike) -> Booleans:
    """Whether the option is in its last 30 minutes, where prices and Greeks follow the settlement average instead."""
    remaining = np.asarray(years, np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray((remaining > 0) & (remaining <= FINAL_AVERAGING_YEARS))
