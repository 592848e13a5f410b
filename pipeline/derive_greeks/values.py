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
    value: Floats
    """Value in quote currency at the volatility of the Greeks."""
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
    prices = np.stack(
        [rows.price] if rows.bid is None or rows.ask is None else [rows.bid, rows.ask, rows.price]
    )
    # All in one call: over the few rows of a chunk of SQL, calls cost more than numbers.
    ivs = PERCENT * implied_volatility(
        prices, rows.forward, terms.strike, years, terms.is_call, inverse=terms.inverse
    )
    failed = np.isnan(ivs) & ~np.isnan(prices)
    if len(ivs) == 1:
        nothing, never = np.full_like(ivs, np.nan), np.zeros_like(failed)
        ivs, failed = np.concatenate([nothing, nothing, ivs]), np.concatenate([never, never, failed])
    bid_iv, ask_iv, iv = ivs
    known = np.zeros(len(iv), np.bool_) if rows.venue_iv is None else ~np.isnan(rows.venue_iv)
    chosen = iv if rows.venue_iv is None else np.where(known, rows.venue_iv, iv)
    cap = np.nan if rows.venue_iv is None else _mark_usd(rows.price, rows.forward, terms.inverse)
    found = greeks(rows.forward, terms.strike, years, chosen / PERCENT, terms.is_call, mark_price_usd=cap)
    return Values(
        bid_iv, ask_iv, iv, found.delta, found.gamma, found.vega, found.theta, found.rho, found.price_usd,
        known, in_final_averaging(years), failed[0], failed[1], failed[2],
    )  # fmt: skip


def _mark_usd(mark: Floats, forward: Floats, inverse: Mask) -> Floats:
    """The venue's mark in quote currency, by which it caps theta; NaN where it was sent too coarsely to be that.

    A mark in coin has eight decimals in records of 2021 and four in those of 2024: a step of several USD, more than the
    value at the venue's volatility is off by.
    """
    steps = mark * COARSE_STEPS
    coarse = np.abs(steps - np.rint(steps)) < COARSE_TOLERANCE
    return np.where(inverse, np.where(coarse, np.nan, mark * forward), mark)
