"""Black's formula in as many digits as it takes: the judge of the kernel, written from the textbook formula alone."""

from __future__ import annotations

from typing import Any, Final

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DIGITS: Final = 40


def price(forward: Any, strike: Any, years: Any, volatility: Any, is_call: bool) -> Any:
    """w (F N(w d1) - K N(w d2)), exact to about `DIGITS` digits; arguments are numbers of float64 or mpmath."""
    f, k, t, v = (mp.mpf(value) for value in (forward, strike, years, volatility))
    with mp.workdps(DIGITS):
        spread = v * mp.sqrt(t)
        h = mp.log(f / k) / spread
        lost = 2 * max(0.0, float(-mp.log10(spread))) + max(0.0, float(2 * mp.log10(abs(h) + 1)))
    with mp.workdps(DIGITS + int(lost) + 20):
        spread = v * mp.sqrt(t)
        sign = 1 if is_call else -1
        d1 = mp.log(f / k) / spread + spread / 2
        return sign * (f * _cdf(sign * d1) - k * _cdf(sign * (d1 - spread)))


def _cdf(z: Any) -> Any:
    return mp.erfc(-z / mp.sqrt(2)) / 2


def is_right(
    volatility: float, quoted: float, forward: float, strike: float, years: float, is_call: bool, *, inverse: bool,
    relative: float,
) -> bool:  # fmt: skip
    """Whether the price at the volatility a little lower and a little higher encloses the quoted one."""
    with mp.workdps(2 * DIGITS):
        value = mp.mpf(quoted) * mp.mpf(forward) if inverse else mp.mpf(quoted)
        # compare time values: the same option from its other side, so that nothing is lost in intrinsic value
        out_is_call = strike >= forward
        time_value = value if out_is_call == is_call else value - abs(mp.mpf(forward) - mp.mpf(strike))
        low, high = (mp.mpf(volatility) * (1 + sign * mp.mpf(relative)) for sign in (-1, 1))
        if low <= 0:
            return False
        below = price(forward, strike, years, low, out_is_call)
        above = price(forward, strike, years, high, out_is_call)
        return bool(below <= time_value <= above)
