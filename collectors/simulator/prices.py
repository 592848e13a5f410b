"""Where prices come from: indices that wander, forwards with a basis, and one volatility smile per expiry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log, sqrt
from random import Random
from typing import Final

from collectors.simulator.chain import index_start
from collectors.simulator.options import YEAR_MS

SECONDS_PER_YEAR: Final = YEAR_MS / 1000
_INDEX_VOL: Final = 0.45
_BASIS_RATE: Final = 0.055  # annualised premium of dated futures over the index
_MIN_YEARS: Final = 60_000 / YEAR_MS  # Greeks of the last minute are those of one minute
DAMPER: Final = 0.00025  # a premium within it costs nothing


@dataclass(slots=True)
class Index:
    """A price index and its perpetual's premium."""

    name: str
    price: float
    start: float
    premium: float = 0.0
    basis: float = _BASIS_RATE
    funding_8h: float = 0.0
    volatility: float = 45.0

    def second(self, rng: Random) -> None:
        """One second of a geometric Brownian motion; premium and basis return to their means."""
        sigma = _INDEX_VOL / sqrt(SECONDS_PER_YEAR)
        self.price = round(self.price * exp(rng.gauss(0.0, sigma) - 0.5 * sigma * sigma), 2)
        self.premium += 0.02 * (0.00005 - self.premium) + rng.gauss(0.0, 0.00003)
        self.basis += 0.001 * (_BASIS_RATE - self.basis) + rng.gauss(0.0, 0.00005)
        self.funding_8h += (self.current_funding - self.funding_8h) / 28_800.0
        self.volatility = max(10.0, self.volatility + rng.gauss(0.0, 0.01))

    @property
    def current_funding(self) -> float:
        """Momentary 8 h rate: the premium outside a damper of 0.025 %."""
        return max(0.0, self.premium - DAMPER) + min(0.0, self.premium + DAMPER)

    def forward(self, expiry_ms: int, now_ms: int) -> float:
        """Mark of the dated future, two decimals as published."""
        years = max(expiry_ms - now_ms, 0) / YEAR_MS
        return round(self.price * exp(self.basis * years), 2)


class Indices:
    """All indices of a chain; a linear one is pegged to the USD index of the same coin."""

    def __init__(self, names: list[str], rng: Random, prices: Mapping[str, float]) -> None:
        self.all: dict[str, Index] = {}
        for name in names:
            base = name.split("_")[0].upper()
            price = round(prices.get(base, index_start(base)) * (1.0 + rng.uniform(-0.002, 0.002)), 2)
            self.all[name] = Index(name, price, price, premium=rng.gauss(0.0, 0.0002))

    def second(self, rng: Random) -> None:
        """One second for every index."""
        for index in self.all.values():
            pegged = self.all.get(index.name.removesuffix("c")) if index.name.endswith("_usdc") else None
            index.second(rng)
            if pegged:
                index.price = pegged.price


@dataclass(slots=True)
class Smile:
    """Raw SVI in total variance over ln(strike/forward), its level moving with time."""

    level: float
    slope: float
    rho: float
    shift: float
    width: float

    def second(self, rng: Random) -> None:
        """One second of a wandering level."""
        self.level = min(max(self.level * (1.0 + rng.gauss(0.0, 0.0004)), 0.05), 4.0)

    def vol(self, forward: float, strike: float, years: float) -> float:
        """Volatility as a fraction, the same smile in moneyness measured in standard deviations."""
        scaled = log(strike / forward) / sqrt(max(years, _MIN_YEARS)) - self.shift
        wing = self.rho * scaled + sqrt(scaled * scaled + self.width * self.width)
        return min(max(self.level * sqrt(max(0.85 + self.slope * wing, 0.05)), 0.05), 4.0)


def make_smile(years: float, rng: Random) -> Smile:
    """A smile as seen in 2026: 30-60 % at the money, downside skew, steeper when short."""
    level = 0.36 + 0.10 * exp(-years * 3.0) * rng.uniform(0.4, 1.4) + 0.02 * rng.random()
    return Smile(level, 0.45 + rng.uniform(-0.08, 0.08), -0.18 + rng.uniform(-0.08, 0.08), 0.02, 0.3)


def years_left(expiry_ms: int, now_ms: int) -> float:
    """Time to expiry as the venue counts it, at least one minute."""
    return max((expiry_ms - now_ms) / YEAR_MS, _MIN_YEARS)
