"""Black's formula in as many digits as it takes: the judge of the kernel, written from the textbook formula alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import mpmath as mp

DIGITS: Final = 40


@dataclass(frozen=True, slots=True)
class Quote:
    """One price with what it is the price of; all numbers float64."""

    price: float
    forward: float
    strike: float
    years: float
    is_call: bool
    inverse: bool


def price(forward: Any, strike: Any, years: Any, volatility: Any, is_call: bool) -> Any:
    """w (F N(w d1) - K N(w d2)), right to `DIGITS` digits or the context's, even where the two terms nearly agree."""
    digits = max(DIGITS, mp.mp.dps)
    f, k, t, v = (mp.mpf(value) for value in (forward, strike, years, volatility))
    with mp.workdps(digits):
        spread = v * mp.sqrt(t)
        h = mp.log(f / k) / spread
        lost = 2 * max(0.0, float(-mp.log10(spread))) + max(0.0, float(2 * mp.log10(abs(h) + 1)))
    with mp.workdps(digits + int(lost) + 20):
        spread = v * mp.sqrt(t)
        sign = 1 if is_call else -1
        d1 = mp.log(f / k) / spread + spread / 2
        return sign * (f * cdf(sign * d1) - k * cdf(sign * (d1 - spread)))


def cdf(z: Any) -> Any:
    """Standard normal distribution function."""
    return mp.erfc(-z / mp.sqrt(2)) / 2


def encloses(quote: Quote, volatility: float, relative: float) -> bool:
    """Whether the prices at the volatility a little lower and a little higher, each by `relative`, enclose the quoted.

    Time values are compared, which grow with volatility like prices: the same option seen from its other side.
    """
    with mp.workdps(2 * DIGITS):
        value = mp.mpf(quote.price) * (mp.mpf(quote.forward) if quote.inverse else 1)
        call_is_out = quote.strike >= quote.forward
        if call_is_out != quote.is_call:
            value -= abs(mp.mpf(quote.forward) - mp.mpf(quote.strike))
        low, high = (mp.mpf(volatility) * (1 + sign * mp.mpf(relative)) for sign in (-1, 1))
        below = price(quote.forward, quote.strike, quote.years, low, call_is_out)
        above = price(quote.forward, quote.strike, quote.years, high, call_is_out)
        return bool(below <= value <= above)
