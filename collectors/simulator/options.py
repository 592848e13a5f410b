"""Deribit's option formulas: price, Greeks and implied volatility of one option, as plain numbers.

Conventions of the venue (support notice on Greeks; recomputed from published payloads): a year has exactly
365 days, the forward is `underlying_price`, rates are zero, every Greek is in USD per unit of the underlying,
vega per volatility point, rho per percent, theta per day and never more than what is left to lose.
"""

from __future__ import annotations

from math import erfc, exp, log, pi, sqrt
from typing import Final, NamedTuple

YEAR_MS: Final = 365 * 86_400_000
DAYS_PER_YEAR: Final = 365.0
MAX_VOL: Final = 5.0  # the venue caps implied volatilities at 500 %
MIN_VOL: Final = 0.001
_SQRT_2: Final = sqrt(2.0)
_INV_SQRT_2PI: Final = 1.0 / sqrt(2.0 * pi)
_VOL_TOLERANCE: Final = 1e-6
_NEWTON_STEPS: Final = 12


class Greeks(NamedTuple):
    """The five Greeks in the venue's units (see the module)."""

    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


def cdf(x: float) -> float:
    """Standard normal distribution function."""
    return 0.5 * erfc(-x / _SQRT_2)


def price_usd(forward: float, strike: float, years: float, vol: float, sign: int) -> float:
    """Undiscounted Black-76 value in USD; `sign` is +1 for a call and -1 for a put, `vol` a fraction."""
    spread = vol * sqrt(years) if years > 0 else 0.0
    if spread <= 0:
        return max(sign * (forward - strike), 0.0)
    d1 = log(forward / strike) / spread + 0.5 * spread
    return sign * (forward * cdf(sign * d1) - strike * cdf(sign * (d1 - spread)))


def greeks(forward: float, strike: float, years: float, vol: float, sign: int) -> tuple[float, Greeks]:
    """Value in USD and the five Greeks, unrounded; `years` and `vol` must be positive."""
    root = sqrt(years)
    spread = vol * root
    d1 = log(forward / strike) / spread + 0.5 * spread
    n_d2 = cdf(sign * (d1 - spread))
    delta = sign * cdf(sign * d1)
    value = forward * delta - sign * strike * n_d2
    density = _INV_SQRT_2PI * exp(-0.5 * d1 * d1)
    vega = forward * density * root / 100.0
    decay = forward * density * vol / (2.0 * root) / DAYS_PER_YEAR * min(1.0, years * DAYS_PER_YEAR)
    rho = sign * strike * years * n_d2 / 100.0
    theta = -min(decay, max(value, 0.0))
    return value, Greeks(delta, density / (forward * spread), vega, theta, rho)


def implied_vol(value: float, forward: float, strike: float, years: float, sign: int, guess: float) -> float:
    """Volatility (fraction) whose price is `value` USD; 0.0, as the venue sends it, where there is none.

    Bracketed Newton on the out-of-the-money side, where time value is not lost in intrinsic value.
    """
    time_value = value - max(sign * (forward - strike), 0.0)
    ceiling = min(forward, strike)
    if years <= 0 or time_value <= ceiling * 1e-10 or time_value >= ceiling:
        return 0.0
    otm = 1 if strike >= forward else -1
    if time_value >= price_usd(forward, strike, years, MAX_VOL, otm):
        return MAX_VOL
    low, high, vol = MIN_VOL, MAX_VOL, min(max(guess, 0.05), MAX_VOL)
    root = sqrt(years)
    moneyness = log(forward / strike)
    for _ in range(_NEWTON_STEPS * 4):
        spread = vol * root
        d1 = moneyness / spread + 0.5 * spread
        model = otm * (forward * cdf(otm * d1) - strike * cdf(otm * (d1 - spread)))
        error = model - time_value
        if error > 0:
            high = vol
        else:
            low = vol
        slope = forward * _INV_SQRT_2PI * exp(-0.5 * d1 * d1) * root
        step = error / slope if slope > 1e-12 * forward else 0.0
        moved = vol - step if step else 0.5 * (low + high)
        if not low < moved < high:
            moved = 0.5 * (low + high)
        if abs(moved - vol) < _VOL_TOLERANCE:
            return moved if moved > 2 * MIN_VOL else 0.0
        vol = moved
    return vol if vol > 2 * MIN_VOL else 0.0
