"""Volatilities and Greeks of rows of options: from arrays to arrays, no tables, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.derive_greeks.terms import NO_EXPIRY, TermsOf
from pipeline.greeks import greeks, implied_volatility, in_final_averaging

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

YEAR_US: Final = 365 * 86_400 * 1_000_000
PERCENT: Final = 100.0
COARSE_STEPS: Final = 1e4
COARSE_TOLERANCE: Final = 1e-6
GREEKS: Final = ("delta", "gamma", "vega", "theta", "rho")


@dataclass(frozen=True, slots=True)
class Prices:
    """What is known of each row, NaN where it is not.

    ts: µs since the epoch, the moment of the price; price: the mark of a quote, or the price of a trade; venue_iv: the
    venue's volatility of the mark, percent, or None where the Greeks shall follow from `price`. Prices are in coin for
    inverse options, else in the quote currency, as is `forward`.
    """

    ts: Ints
    forward: Floats
    price: Floats
    bid: Floats | None = None
    ask: Floats | None = None
    venue_iv: Floats | None = None


class Values(NamedTuple):
    """What follows: volatilities in percent, Greeks in the venue's units, NaN where there is none."""

    bid_iv: Floats
    ask_iv: Floats
    iv: Floats
    delta: Floats
    gamma: Floats
    vega: Floats
    theta: Floats
    rho: Floats
    by_venue_iv: Mask
    """Whether the Greeks are of the venue's volatility and not of `iv`."""
    final_averaging: Mask
    bid_undetermined: Mask
    ask_undetermined: Mask
    undetermined: Mask


def years_until(expiry: Ints, ts: Ints) -> Floats:
    """Years of 365 days from `ts` to `expiry`, both µs; NaN at and after it, and where there is no expiry."""
    with np.errstate(invalid="ignore"):
        years = np.where(expiry == NO_EXPIRY, np.nan, (expiry - ts) / YEAR_US)
        return np.where(years > 0, years, np.nan)


def values(rows: Prices, terms: TermsOf) -> Values:
    """Invert bid, ask and price of each row, and take the Greeks at the venue's volatility, else at the price's own."""
    years = years_until(terms.expiry, rows.ts)
    nothing = np.full(len(rows.ts), np.nan)

    def inverted(price: Floats | None) -> tuple[Floats, Mask]:
        if price is None:
            return nothing, np.zeros(len(nothing), np.bool_)
        volatility = implied_volatility(
            price, rows.forward, terms.strike, years, terms.is_call, inverse=terms.inverse
        )
        return volatility * PERCENT, np.isnan(volatility) & ~np.isnan(price)

    bid_iv, bid_undetermined = inverted(rows.bid)
    ask_iv, ask_undetermined = inverted(rows.ask)
    iv, undetermined = inverted(rows.price)
    known = np.zeros(len(iv), np.bool_) if rows.venue_iv is None else ~np.isnan(rows.venue_iv)
    chosen = iv if rows.venue_iv is None else np.where(known, rows.venue_iv, iv)
    cap = np.nan if rows.venue_iv is None else _mark_usd(rows.price, rows.forward, terms.inverse)
    found = greeks(rows.forward, terms.strike, years, chosen / PERCENT, terms.is_call, mark_price_usd=cap)
    return Values(
        bid_iv, ask_iv, iv, found.delta, found.gamma, found.vega, found.theta, found.rho,
        known, in_final_averaging(years), bid_undetermined, ask_undetermined, undetermined,
    )  # fmt: skip


def _mark_usd(mark: Floats, forward: Floats, inverse: Mask) -> Floats:
    """The venue's mark in quote currency, by which it caps theta; NaN where it was sent too coarsely to be that.

    A mark in coin has eight decimals in records of 2021 and four in those of 2024: a step of several USD, more than the value
    at the venue's volatility is off by.
    """
    steps = mark * COARSE_STEPS
    coarse = np.abs(steps - np.rint(steps)) < COARSE_TOLERANCE
    return np.where(inverse, np.where(coarse, np.nan, mark * forward), mark)
