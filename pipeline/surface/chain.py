"""The quotes of one expiry at one instant, and which of them a smile is fitted to."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.surface.settings import SurfaceSettings
from pipeline.surface.svi import Floats

SECONDS_PER_YEAR: Final = 365.0 * 86400.0  # Deribit's year
MIN_HALF_SPREAD: Final = 0.1
"""Volatility points; a spread narrower than twice this weighs no more."""

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Chain:
    """Quotes of the options of one underlying at one instant, as arrays of one length.

    `expiry`: µs since the epoch. `forward`: what the venue priced this option with when it sent the quote.
    Volatilities in percent, NaN where there is none. `age_s`: how old the quote is at the instant, seconds.
    `expiry_names`: what the venue calls an expiry, where that is known.
    """

    ts: int
    expiry: npt.NDArray[np.int64]
    strike: Floats
    is_call: Mask
    forward: Floats
    bid_iv: Floats
    ask_iv: Floats
    mark_iv: Floats
    age_s: Floats
    expiry_names: Mapping[int, str] = field(default_factory=dict)

    def take(self, rows: npt.NDArray[np.int64] | Mask) -> Chain:
        """The chain of these rows only."""
        return dataclasses.replace(self, **_of_rows(self, rows))


@dataclass(frozen=True, slots=True)
class Observations:
    """What one smile is fitted to, by ascending strike, and what was left out and why.

    `iv`, `bid_iv`, `ask_iv`: percent. `weight`: of a squared error in volatility; the largest is 1.
    `forward`: of the newest quote; `k` is against the forward that came with each quote, because a volatility
    belongs to the moneyness it was quoted at. `excluded`: quotes left out, by reason.
    """

    expiry: int
    years: float
    forward: float
    source: str
    strike: Floats
    k: Floats
    iv: Floats
    bid_iv: Floats
    ask_iv: Floats
    weight: Floats
    excluded: dict[str, int]

    @property
    def variance(self) -> Floats:
        """Total variance of each observation."""
        found: Floats = (self.iv / 100.0) ** 2 * self.years
        return found

    @property
    def variance_weight(self) -> Floats:
        """Weights for squared errors in total variance that mean the same as `weight` does in volatility."""
        found: Floats = self.weight / (2.0 * self.iv / 100.0 * self.years) ** 2
        return found

    def without(self, rows: Mask, reason: str) -> Observations:
        """The same without the flagged observations."""
        left_out = Counter(self.excluded) + Counter({reason: int(rows.sum())})
        return dataclasses.replace(self, **_of_rows(self, ~rows), excluded=dict(left_out))


def _of_rows(data: Chain | Observations, rows: npt.NDArray[np.int64] | Mask) -> dict[str, Any]:
    """These rows of each of its arrays, by name."""
    values = ((one.name, getattr(data, one.name)) for one in dataclasses.fields(data))
    return {name: value[rows] for name, value in values if isinstance(value, np.ndarray)}


def observations(chain: Chain, settings: SurfaceSettings) -> Observations:
    """What to fit for a `chain` of one expiry: empty arrays where nothing qualifies, forward NaN where unknown."""
    years = (int(chain.expiry[0]) - chain.ts) / 1e6 / SECONDS_PER_YEAR
    known = np.flatnonzero(chain.forward > 0.0)
    forward = float(chain.forward[known[np.argmin(chain.age_s[known])]]) if len(known) else np.nan
    source = settings.source
    chosen = _select(chain, years, settings, two_sided=source != "mark")
    if source == "auto":
        source = "mid" if _enough(chosen.k, settings) else "mark"
        chosen = chosen if source == "mid" else _select(chain, years, settings, two_sided=False)
    rows = chain.take(chosen.rows)
    arrays = rows.strike, chosen.k, chosen.iv, rows.bid_iv, rows.ask_iv
    weight = _spread_weight(rows) if source == "mid" else _vega_weight(chosen, years)
    return Observations(int(chain.expiry[0]), years, forward, source, *arrays, weight, chosen.excluded)


@dataclass(frozen=True, slots=True)
class _Selected:
    rows: npt.NDArray[np.int64]
    k: Floats
    iv: Floats
    excluded: dict[str, int]


def _select(chain: Chain, years: float, settings: SurfaceSettings, *, two_sided: bool) -> _Selected:
    """One row per strike, by ascending strike: of the pair the one out of the money, if it can be used."""
    bid, ask = chain.bid_iv, chain.ask_iv
    iv = (bid + ask) / 2.0 if two_sided else chain.mark_iv
    highest = np.fmax(bid, ask) if two_sided else iv
    with np.errstate(invalid="ignore", divide="ignore"):
        k = np.log(chain.strike / chain.forward)
        faults = {
            "expired": np.full(len(k), years <= 0.0),
            "no forward": ~np.isfinite(k),
            "stale": ~(chain.age_s <= settings.max_age_minutes * 60.0),
            "no volatility": ~((bid > 0.0) & (ask > 0.0)) if two_sided else ~(iv > 0.0),
            "crossed": (bid > ask) & two_sided,
            "capped": highest > settings.max_iv,
            "far from the money": np.abs(_d1(k, iv, years)) > NormalDist().inv_cdf(1.0 - settings.min_delta),
        }
    usable = np.ones(len(k), np.bool_)
    excluded: dict[str, int] = {}
    for reason, rows in faults.items():
        excluded[reason] = int((usable & rows).sum())
        usable &= ~rows
    in_money = np.where(chain.is_call, k < 0.0, k >= 0.0)
    rows = np.flatnonzero(usable)
    rows = rows[np.lexsort((in_money[rows], chain.strike[rows]))]
    first = np.ones(len(rows), np.bool_)
    first[1:] = chain.strike[rows][1:] != chain.strike[rows][:-1]
    excluded["other side of the strike"] = int((~first).sum())
    rows = rows[first]
    return _Selected(rows, k[rows], iv[rows], {reason: count for reason, count in excluded.items() if count})


def _enough(k: Floats, settings: SurfaceSettings) -> bool:
    return len(k) >= settings.min_two_sided and bool(k.min() < 0.0 < k.max())


def _d1(k: Floats, iv: Floats, years: float) -> Floats:
    deviation = iv / 100.0 * np.sqrt(max(years, 0.0))
    found: Floats = -k / deviation + deviation / 2.0
    return found


def _vega_weight(chosen: _Selected, years: float) -> Floats:
    """Vega squared, so that the errors weighed are those of the price."""
    d1 = _d1(chosen.k, chosen.iv, years)
    weight = np.exp(-d1 * d1)
    found: Floats = weight / weight.max() if len(weight) else weight
    return found


def _spread_weight(rows: Chain) -> Floats:
    """One over the half spread squared: where the market is unsure, so are we. The spread in volatility is that of
    the price over vega, so vega weighs here too."""
    weight = np.fmax((rows.ask_iv - rows.bid_iv) / 2.0, MIN_HALF_SPREAD) ** -2.0
    found: Floats = weight / weight.max() if len(weight) else weight
    return found
