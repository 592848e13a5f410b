"""The mathematics of Black (1976) in a form that loses no digits: ratios to the normal density, not probabilities.

An option is looked at from its out-of-the-money side, where its price is all time value. With `distance` |ln(F/K)|,
`spread` sigma * sqrt(T), `h = distance / spread`, `t = spread / 2`, `low` and `high` the lesser and the greater of F
and K, phi the standard normal density and N its distribution function, both the call with K >= F and the put with
K <= F are worth

    low * N(t - h) - high * N(-t - h)  =  sqrt(F K) * exp(-(h^2 + t^2) / 2) / sqrt(2 pi) * (Y(t - h) - Y(-t - h))

where Y(z) = N(z) / phi(z) (Black, "The pricing of commodity contracts", 1976; the second form because
low * phi(t - h) = high * phi(t + h)). Y is smooth and neither under- nor overflows where options live, so a price of
1e-300 keeps all its digits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

TINY: Final = float(np.finfo(np.float64).tiny)
"""Below it float64 numbers lose digits, so no argument may be there."""
LOG_SQRT_2PI: Final = 0.9189385332046727
SQRT_2PI: Final = 2.5066282746310002
SMALL_T: Final = 0.001
"""Below, the difference of two nearly equal ratios comes from its Taylor series; above, as it stands."""

# Y(-a) for a >= 0 as a quotient of polynomials, lowest power first: relative error 1e-17 on the whole half-line. Fitted
# by iterated weighted least squares in 50 digits; all coefficients are positive, so nothing cancels.
_TAIL_ABOVE: Final = (
    1.2533141373155002631, 2.1502694829420956107, 1.8225774616501229644, 0.989048974544222776,
    0.37746951764810326901, 0.10547405498656908824, 0.021839724605384792146, 0.0033158783449904380565,
    0.00035503969379628029625, 0.000024422975487570376677, 8.3271018834354782392e-7,
)  # fmt: skip
_TAIL_BELOW: Final = (
    1.0, 2.5135513828079257211, 2.9597302586449759352, 2.1598558130452479388, 1.0881355248074028695,
    0.39860748922454734479, 0.1087410873982356197, 0.022193098878525398725, 0.0033403013204806785276,
    0.00035587240398461056144, 0.000024422975487570402251, 8.3271018834354781599e-7,
)  # fmt: skip
# h^2 / u^2 as a function of u = ln(1 + distance / value): relative error of h below 1e-4 for h up to 54.
_BACHELIER_ABOVE: Final = (0.15915907, 0.027755567, 0.0036054465, 1.2572022e-05)
_BACHELIER_BELOW: Final = (1.0, 0.1749769, 0.029203286, 0.0018858372, 6.284998e-06)


def log_ratio(high: Floats, low: Floats) -> Floats:
    """ln(high / low) for high >= low > 0, to the last digit even where the two nearly agree."""
    return np.log1p((high - low) / low)


def tail_ratio(a: Floats) -> Floats:
    """Y(-a) = N(-a) / phi(a) for a >= 0: Mills' ratio."""
    return _polynomial(_TAIL_ABOVE, a) / _polynomial(_TAIL_BELOW, a)


def normal_ratio(z: Floats) -> Floats:
    """Y(z) = N(z) / phi(z) for z < 37."""
    size = np.abs(z)
    tail = tail_ratio(size)
    return np.where(z > 0, SQRT_2PI * np.exp(0.5 * size * size) - tail, tail)


def value_ratio(h: Floats, t: Floats) -> Floats:
    """(Y(t - h) - Y(-t - h)) / (2 t): value of the option over its derivative by ln(spread), for t < 37."""
    ratio = (normal_ratio(t - h) - tail_ratio(t + h)) / (2.0 * t)
    small = np.flatnonzero(t < SMALL_T)
    if small.size:
        ratio[small] = small_value_ratio(h[small], t[small])
    return ratio


def small_value_ratio(h: Floats, t: Floats) -> Floats:
    """`value_ratio` for t < `SMALL_T`, from the Taylor series of Y around -h: Y' = 1 + z Y gives its derivatives."""
    y = tail_ratio(h)
    first = 1.0 - h * y
    second = y - h * first
    third = 2.0 * first - h * second
    fifth = 4.0 * third - h * (3.0 * second - h * third)
    square = t * t
    return first + square / 6.0 * (third + square / 20.0 * fifth)


def bachelier_spread(distance: Floats, value: Floats) -> Floats:
    """Spread at which Bachelier's formula gives `value`, to 1e-4; both arguments over sqrt(F K), value > 0.

    Bachelier, "Theorie de la speculation", 1900: value = spread * phi(h) - distance * N(-h), Black's for small spreads.
    """
    ratio = np.maximum(distance / value, 1e-9)
    u = np.log1p(ratio)
    return value * (ratio / u) * np.sqrt(_polynomial(_BACHELIER_BELOW, u) / _polynomial(_BACHELIER_ABOVE, u))


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    """Horner's rule; `coefficients` from the lowest power."""
    total = coefficients[-1] * x
    for coefficient in coefficients[-2:0:-1]:
        total += coefficient
        total *= x
    total += coefficients[0]
    return total
