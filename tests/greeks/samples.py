"""Prices that options could have, and a million that try to break the inversion."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.greeks import greeks
from tests.greeks.exact import Quote

Floats = NDArray[np.float64]
HOUR: Final = 1.0 / (365.0 * 24.0)
EPSILON: Final = 2.0**-52


class Quotes(NamedTuple):
    """Arguments of `implied_volatility`, arrays of one length."""

    price: Floats
    forward: Floats
    strike: Floats
    years: Floats
    is_call: NDArray[np.bool_]
    inverse: NDArray[np.bool_]

    def row(self, n: int) -> Quote:
        """Row `n` as plain numbers."""
        price, forward, strike, years = (float(column[n]) for column in self[:4])
        return Quote(price, forward, strike, years, bool(self.is_call[n]), bool(self.inverse[n]))


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    """Numbers whose logarithm is uniform."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def any_float(rng: np.random.Generator, count: int) -> Floats:
    """Float64 numbers of uniform bits: every exponent, denormals, infinities and NaN."""
    return rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)


def hostile(count: int, seed: int) -> Iterator[tuple[str, Quotes]]:
    """Ten families of `count` quotes each, from any bits to what lies within some digits of a bound."""
    rng = np.random.default_rng(seed)

    def log(low: float, high: float) -> Floats:
        return log_uniform(rng, low, high, count)

    def market() -> tuple[Floats, Floats, Floats]:
        forward = log(1.0, 1e5)
        return forward, forward * log(0.3, 3.0), log(1e-6, 5.0)

    def digits(*numbers: float) -> Floats:
        return rng.choice(np.array(numbers), count) * EPSILON

    either = rng.random(count) < 0.5
    families: dict[str, tuple[Floats, Floats, Floats, Floats]] = {}
    a, b, c, d = (any_float(rng, count) for _ in range(4))
    families["any bits"] = a, b, c, d
    families["any positive"] = np.abs(d), np.abs(c), np.abs(b), np.abs(a)
    forward = log(1e-300, 1e300)
    strike = forward * log(1e-6, 1e6)
    low = np.minimum(forward, strike)
    families["any scale"] = low * rng.uniform(0.0, 1.2, count), forward, strike, log(1e-12, 1e3)
    forward, strike, years = market()
    families["tiny price"] = np.minimum(forward, strike) * log(1e-305, 1.0), forward, strike, years
    forward, strike, years = market()
    above = 1.0 + digits(-1, 0, 1, 2, 3, 10, 100, 1e4, 1e6, 1e8, 1e10)
    families["at intrinsic"] = np.abs(forward - strike) * above, forward, strike, years
    forward, strike, years = market()
    below = 1.0 - digits(-1, 0, 0.5, 1, 2, 10, 100, 1e4, 1e6, 1e8, 1e12)
    families["at the upper bound"] = np.where(either, forward, strike) * below, forward, strike, years
    forward, _, years = market()
    strike = forward * (1.0 + np.where(either, -1.0, 1.0) * log(1e-16, 1e-2))
    families["near the money"] = forward * log(1e-16, 0.5), forward, strike, years
    families["at the money"] = forward * log(1e-300, 1.0), forward, forward.copy(), years
    forward, strike, years = market()
    volatility = log(0.01, 20.0)
    families["in the money"] = (
        greeks(forward, strike, years, volatility, forward > strike).price_usd,
        forward,
        strike,
        years,
    )
    forward, strike, years = market()
    families["on the tick"] = rng.integers(0, 2000, count) * 0.0005 * forward, forward, strike, years
    for name, (price, forward, strike, years) in families.items():
        is_call = np.where(name in ("at intrinsic", "in the money"), forward > strike, either)
        inverse = rng.random(count) < 0.3
        with np.errstate(all="ignore"):
            price = np.where(inverse, price / forward, price)
        yield name, Quotes(price, forward, strike, years, is_call, inverse)
