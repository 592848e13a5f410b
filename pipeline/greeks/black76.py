"""The mathematics of Black (1976) in a form that loses no digits: a normal ratio instead of normal probabilities.

An option is looked at from its out-of-the-money side: `distance` is |ln(F/K)| >= 0 and `spread` is sigma * sqrt(T). With
`h = distance / spread`, `t = spread / 2`, the standard normal density phi and `Y(z) = N(z) / phi(z)`, both the call with
K >= F and the put with K <= F are worth

    sqrt(F K) * exp(-(h^2 + t^2) / 2) / sqrt(2 pi) * (Y(t - h) - Y(-t - h))

(Black, "The pricing of commodity contracts", 1976, with the two densities written as one: F phi(d1) = K phi(d2)). `Y` is
`sqrt(pi / 2) * erfcx(-z / sqrt(2))`, a smooth function that neither under- nor overflows where options live, so tails
of 1e-300 keep all their digits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TINY: Final = float(np.finfo(np.float64).tiny)  # below it numbers lose digits: no argument may be there
LOG_SQRT_2PI: Final = 0.9189385332046727
SQRT_2PI: Final = 2.5066282746310002
_SQRT_HALF: Final = 0.7071067811865476
_SQRT_HALF_PI: Final = 1.2533141373155003
_SMALL_T: Final = 0.01  # below: the difference of two ratios by its Taylor series, above: as it stands
Z_MAX: Final = 35.0  # Y(z) overflows at 37.6


def log_ratio(high: Floats, low: Floats) -> Floats:
    """ln(high / low) for high >= low > 0, to the last digit even where both nearly agree."""
    return np.log1p((high - low) / low)


def normal_ratio(z: Floats) -> Floats:
    """N(z) / phi(z), the (mirrored) Mills ratio; z below `Z_MAX`."""
    from scipy.special import erfcx

    return np.asarray(_SQRT_HALF_PI * erfcx(-_SQRT_HALF * z), np.float64)


def value_ratio(h: Floats, t: Floats) -> Floats:
    """(Y(t - h) - Y(-t - h)) / (2 t): value of the option over its vega per unit of spread, over the spread.

    For small t the difference is that of two nearly equal numbers, so there it is taken from the Taylor series
    in t; the derivatives follow from Y' = 1 + z Y.
    """
    ratio = (normal_ratio(t - h) - normal_ratio(-t - h)) / (2.0 * t)
    small = np.flatnonzero(t < _SMALL_T)
    if small.size:
        z, square = -h[small], t[small] ** 2
        y = normal_ratio(z)
        first = 1.0 + z * y
        second = y + z * first
        third = 2.0 * first + z * second
        fourth = 3.0 * second + z * third
        fifth = 4.0 * third + z * fourth
        seventh = 6.0 * fifth + z * (5.0 * fourth + z * fifth)
        ratio[small] = first + square / 6.0 * (third + square / 20.0 * (fifth + square / 42.0 * seventh))
    return ratio
