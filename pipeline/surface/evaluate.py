"""Reading a surface: volatility at any strike or delta of any expiry, and what a desk quotes of a smile.

Deltas are Black's, N(d₁) of the call and N(d₁) − 1 of the put, not premium-adjusted, as the venue's are. "At the
money" is the strike that equals the forward. Volatilities are percent. Between two expiries total variance is linear
in time at the same log-moneyness, which keeps a surface free of calendar arbitrage where its smiles are. Before the
first and after the last expiry, and beyond the strikes that were fitted, there is no volatility: it would be invented.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from lake.errors import InputError
from pipeline.surface.chain import SECONDS_PER_YEAR
from pipeline.surface.svi import Floats, Svi

_NORMAL: Final = NormalDist()
_REACH: Final = 10.0  # log-moneyness: strikes from 1/22026 to 22026 times the forward
_BISECTIONS: Final = 50
_D1_ERROR: Final = 1e-6
_PERCENT: Final = 100.0


Variance = Callable[[float], float]
"""Total variance of one log-moneyness."""


class Wing(NamedTuple):
    """What a desk quotes of a smile, percent: volatility at the money, that of the 25-delta call less that of the
    put (risk reversal), and their mean less at the money (butterfly). NaN where the smile has no such delta."""

    atm: float
    rr25: float
    bf25: float


def wing(variance: Variance, years: float, low: float, high: float) -> Wing:
    """The quotes of a smile that has `years` to live and was fitted between log-moneyness `low` and `high`."""

    def volatility(k: float) -> float:
        w = variance(k) if low <= k <= high else math.nan
        return math.sqrt(w / years) * _PERCENT if w > 0.0 else math.nan

    call, put = (volatility(log_moneyness_of_delta(variance, delta, low, high)) for delta in (0.25, -0.25))
    atm = volatility(0.0)
    return Wing(atm, call - put, (call + put) / 2.0 - atm)


def log_moneyness_of_delta(variance: Variance, delta: float, low: float, high: float) -> float:
    """The k in [low, high] at which an option has this delta: in (0, 1) a call's, in (-1, 0) a put's; NaN without.

    There d1 falls in k wherever the smile admits no butterfly arbitrage (Fukasawa, "The normalizing transformation of
    the implied volatility smile", 2012), so that there is no second one; beyond, an extrapolated wing may have several.

    Raises:
        InputError: no option has such a delta.
    """
    if not -1.0 < delta < 1.0 or delta == 0.0:
        raise InputError(f"no option has a delta of {delta}; give 0.25 for a call or -0.25 for a put")
    wanted = _NORMAL.inv_cdf(delta if delta > 0.0 else 1.0 + delta)

    def above(k: float) -> float:
        """d1 at k less the wanted one; NaN where the variance is not positive."""
        w = variance(k)
        return -k / math.sqrt(w) + math.sqrt(w) / 2.0 - wanted if w > 0.0 else math.nan

    if not above(low) >= 0.0 >= above(high):
        return math.nan
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if above(middle) > 0.0 else (low, middle)
    middle = (low + high) / 2.0
    return middle if abs(above(middle)) < _D1_ERROR else math.nan


class Expiry(NamedTuple):
    """One smile of a surface, its forward price, and the log-moneyness of the outermost strikes it was fitted to;
    `ts` in µs since the epoch."""

    ts: int
    forward: float
    k_low: float
    k_high: float
    smile: Svi


_Place = tuple[Expiry, Expiry, float]
"""The expiries around a moment, and how far between them it lies."""


class Surface:
    """The smiles of one underlying at one instant, read at any strike or delta and expiry."""

    def __init__(self, ts: int, expiries: Sequence[Expiry], *, extrapolate: bool = False) -> None:
        """`ts`: the instant, µs since the epoch. Expiries may come in any order, each once.

        With `extrapolate`, smiles are read beyond the strikes that they were fitted to.
        """
        self.ts: Final = ts
        self.extrapolate: Final = extrapolate
        self.expiries: Final = tuple(sorted(expiries))
        if len({expiry.ts for expiry in self.expiries}) < len(self.expiries):
            raise InputError("a surface has one smile per expiry; two were given for the same")

    def forward(self, expiry: int) -> float:
        """Forward price at `expiry` (µs since the epoch), between two expiries linear in its logarithm; NaN outside."""
        place = self._place(expiry)
        if place is None:
            return math.nan
        near, far, share = place
        return math.exp(math.log(near.forward) * (1.0 - share) + math.log(far.forward) * share)

    def volatility(self, strike: npt.ArrayLike, expiry: int) -> Floats:
        """Volatility, percent, of any shape of strikes at `expiry` (µs since the epoch); NaN where there is none."""
        strikes = np.asarray(strike, np.float64)
        place = self._place(expiry)
        if place is None:
            return np.full(strikes.shape, np.nan)
        near, far, share = place
        k = np.log(np.where((strikes > 0.0) & (strikes < np.inf), strikes, np.nan) / self.forward(expiry))
        low, high = self._bounds(place)
        k = np.where((k >= low) & (k <= high), k, np.nan)
        w = near.smile.total_variance(k) * (1.0 - share) + far.smile.total_variance(k) * share
        found: Floats = np.sqrt(np.where(w > 0.0, w, np.nan) / self._years(expiry)) * _PERCENT
        return found

    def strike_of_delta(self, delta: float, expiry: int) -> float:
        """Strike of the option that has this delta, in (0, 1) a call's and in (-1, 0) a put's; NaN where none has.

        Raises:
            InputError: no option has such a delta.
        """
        place = self._place(expiry)
        if place is None:
            return math.nan
        return self.forward(expiry) * math.exp(
            log_moneyness_of_delta(_variance(place), delta, *self._bounds(place))
        )

    def delta(self, strike: float, expiry: int, *, is_call: bool) -> float:
        """Delta of the option at this strike; NaN where there is no volatility."""
        volatility = float(self.volatility(strike, expiry)) / _PERCENT
        if not volatility > 0.0:
            return math.nan
        deviation = volatility * math.sqrt(self._years(expiry))
        d1 = math.log(self.forward(expiry) / strike) / deviation + deviation / 2.0
        return _NORMAL.cdf(d1) - (0.0 if is_call else 1.0)

    def wing(self, expiry: int) -> Wing:
        """What a desk quotes of the smile at `expiry` (µs since the epoch); NaN where there is none."""
        place = self._place(expiry)
        if place is None:
            return Wing(math.nan, math.nan, math.nan)
        return wing(_variance(place), self._years(expiry), *self._bounds(place))

    def constant_maturity(self, days: float) -> Wing:
        """The same for an expiry that is `days` from the instant."""
        return self.wing(self.ts + round(days * 86400e6))

    def _years(self, expiry: int) -> float:
        return (expiry - self.ts) / 1e6 / SECONDS_PER_YEAR

    def _bounds(self, place: _Place) -> tuple[float, float]:
        """Between which log-moneyness there are volatilities; between two expiries linear in time."""
        if self.extrapolate:
            return -_REACH, _REACH
        near, far, share = place
        low, high = (
            (n * (1.0 - share) + f * share) for n, f in ((near.k_low, far.k_low), (near.k_high, far.k_high))
        )
        return low, high

    def _place(self, expiry: int) -> _Place | None:
        """The expiries around this one, and how far between them it lies; None outside."""
        index = bisect.bisect_left(self.expiries, expiry, key=lambda known: known.ts)
        if index == len(self.expiries):
            return None
        far = self.expiries[index]
        if far.ts == expiry:
            return far, far, 0.0
        if index == 0:
            return None
        near = self.expiries[index - 1]
        return near, far, (expiry - near.ts) / (far.ts - near.ts)


def _variance(place: _Place) -> Variance:
    near, far, share = place
    if near is far:
        return near.smile.variance_at
    return lambda k: near.smile.variance_at(k) * (1.0 - share) + far.smile.variance_at(k) * share
