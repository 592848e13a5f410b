"""What cannot be right of a row, held against the terms of its instrument; of a whole batch, whether its unit can be.

Market data may be crossed, stale or far from anything: that is kept. Refused is only what no venue can have meant.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array, Floats, Mask
from lake.schema import TableSpec
from pipeline.importing.refusals import Verdicts
from pipeline.importing.terms import AFTER_EXPIRY_US, BEFORE_LISTING_US, RowTerms

PRICES: Final = frozenset({"price", "open", "high", "low", "close"})
MAYBE_NO_PRICES: Final = frozenset({"mark_price", "last_price", "bid_price", "ask_price"})
"""A worthless option has a mark of 0, and what may be 0 in the words of the venue is none."""
LEVELS: Final = frozenset(
    {
        "index_price",
        "prev_index_price",
        "underlying_price",
        "strike",
        "tick_size",
        "contract_size",
        "min_trade_amount",
    }
)
TRADED: Final = frozenset({"size", "contracts"})
AMOUNTS: Final = frozenset({"size", "bid_size", "ask_size", "open_interest", "volume"})
RATES: Final = frozenset(
    {
        "interest",
        "interest_1h",
        "interest_8h",
        "funding_8h",
        "current_funding",
        "maker_commission",
        "taker_commission",
    }
)
VOLATILITIES: Final = frozenset({"iv", "bid_iv", "ask_iv", "mark_iv"})
OF_LIFE: Final = frozenset({"trades", "quotes", "book", "candles", "chain", "marks", "funding"})

PRICE_MAX: Final = 1e9
AMOUNT_MAX: Final = 1e15
IV_PERCENT_MAX: Final = 5_000.0
"""Trades are capped at 500, marks of hours before an expiry have been near 1,000."""
COINS_MAX: Final = 3.0
"""An option that pays its coin is worth one at most; a put, as its price is in the coin, strike over forward."""
COINS_OF_PUT_MAX: Final = 10.0
"""Of a put where the row tells no forward: strikes have been many times the price of the coin."""
OVER_STRIKE: Final = 1.5
DELTA_MAX: Final = 1.5
"""Premium-adjusted ones lie a bit beyond 1."""
SIGN_SLACK: Final = 1e-3
SEQUENCE_MAX: Final = 1 << 60
TICK_DIRECTIONS: Final = 3
FRACTION_MEDIAN: Final = 1.5
PERCENT_SEEN: Final = 10.0
"""Half of all volatilities below 1.5 percent and none above 10: there has been no such market. They are fractions."""
IN_PERCENT_TWICE: Final = 1_000.0


def refuse_implausible(
    spec: TableSpec, columns: Mapping[str, Array], terms: RowTerms, verdicts: Verdicts
) -> None:
    """Refuse the rows of `columns` whose values cannot be right."""
    values = {
        name: np.asarray(pc.fill_null(cells.cast(pa.float64()), np.nan))
        for name, cells in columns.items()
        if pa.types.is_floating(cells.type)
    }
    with np.errstate(invalid="ignore"):
        for name, numbers in values.items():
            _bounds(spec.name, name, numbers, terms, verdicts)
        _coins(values, terms, verdicts)
        _greeks(values, terms, verdicts)
        if spec.name == "candles":
            _bars(values, verdicts)
        _counters(columns, verdicts)
    _times(spec, columns, terms, verdicts)


def _bounds(table: str, name: str, numbers: Floats, terms: RowTerms, verdicts: Verdicts) -> None:
    """A column's own bounds."""
    plain = ~terms.combo
    if name in LEVELS:
        verdicts.refuse(name, numbers <= 0, "is not above 0")
    if name in PRICES:
        verdicts.refuse(name, (numbers <= 0) & plain, "is not above 0", "only combos trade at such prices")
    if name in MAYBE_NO_PRICES:
        verdicts.refuse(name, (numbers < 0) & plain, "is below 0", "only combos have such prices")
    if name in PRICES | MAYBE_NO_PRICES | LEVELS:
        verdicts.refuse(name, np.abs(numbers) > PRICE_MAX, "is too large to be a price")
    if name in TRADED and table == "trades":
        cure = (
            "a size has no sign: write the amount without it, and who sold as the side"
            if (numbers < 0).any()
            else ""
        )
        verdicts.refuse(name, numbers <= 0, "is not above 0", cure)
    if name in AMOUNTS or (name == "cost" and plain.all()):
        verdicts.refuse(name, numbers < 0, "is below 0")
    if name in AMOUNTS | TRADED | {"cost"}:
        verdicts.refuse(name, np.abs(numbers) > AMOUNT_MAX, "is too large to be an amount")
    if name in RATES:
        cure = 'a rate is a fraction; write scale = "fraction" where the file has percent'
        verdicts.refuse(name, np.abs(numbers) > 1, "is no rate", cure if (np.abs(numbers) > 1).any() else "")
    if name in VOLATILITIES:
        most = IV_PERCENT_MAX / (100 if table == "marks" else 1)
        verdicts.refuse(name, numbers < 0, "is below 0")
        verdicts.refuse(name, numbers > most, "is too large to be a volatility", "is the scale right?")


def _coins(values: Mapping[str, Floats], terms: RowTerms, verdicts: Verdicts) -> None:
    """Prices of options that are paid in coins: those in USD are thousands of times as large."""
    if not terms.inverse_option.any():
        return
    forward = _first(values, "underlying_price", "index_price", like=terms.strike)
    of_put = np.where(np.isnan(forward), COINS_OF_PUT_MAX, OVER_STRIKE * terms.strike / forward + 1)
    most = np.where(terms.call < 0, np.maximum(of_put, COINS_MAX), COINS_MAX)
    for name in (PRICES | MAYBE_NO_PRICES) & values.keys():
        verdicts.refuse(
            name,
            terms.inverse_option & (values[name] > most),
            "coins cannot be the price of this option",
            "its price is in the coin, not in USD; divide by the index",
            general=True,
        )


def _first(values: Mapping[str, Floats], *names: str, like: Floats) -> Floats:
    found = np.full(len(like), np.nan)
    for name in names:
        if name in values:
            found = np.where(np.isnan(found), values[name], found)
    return found


def _greeks(values: Mapping[str, Floats], terms: RowTerms, verdicts: Verdicts) -> None:
    for name in ("gamma", "vega"):
        if name in values:
            verdicts.refuse(name, values[name] < -SIGN_SLACK, "is below 0")
    if "delta" in values:
        delta = values["delta"]
        verdicts.refuse(
            "delta", np.abs(delta) > DELTA_MAX, "is beyond 1", "is it per 1 of the underlying?", general=True
        )
        verdicts.refuse("delta", (delta < -SIGN_SLACK) & (terms.call > 0), "is below 0, which no call's is")
        verdicts.refuse("delta", (delta > SIGN_SLACK) & (terms.call < 0), "is above 0, which no put's is")


def _bars(values: Mapping[str, Floats], verdicts: Verdicts) -> None:
    nothing = np.full(verdicts.count, np.nan)
    high, low = values.get("high", nothing), values.get("low", nothing)
    verdicts.refuse("high", high < low, "is below the low of the bar")
    for name in ("open", "close"):
        if name in values:
            verdicts.refuse(
                name, (values[name] > high) | (values[name] < low), "is outside the low and high of the bar"
            )


def _counters(columns: Mapping[str, Array], verdicts: Verdicts) -> None:
    for name, least, most in (("trade_seq", 0, SEQUENCE_MAX), ("tick_direction", 0, TICK_DIRECTIONS)):
        if name in columns:
            numbers = np.asarray(pc.fill_null(columns[name], least).cast(pa.int64()))
            verdicts.refuse(name, (numbers < least) | (numbers > most), f"is not between {least} and {most}")


def _times(spec: TableSpec, columns: Mapping[str, Array], terms: RowTerms, verdicts: Verdicts) -> None:
    """Times against the life of the instrument, and against each other."""
    if spec.name in OF_LIFE:
        ts = np.asarray(pc.fill_null(columns["ts"].cast(pa.int64()), 0))
        known = np.asarray(columns["ts"].is_valid())
        late = known & (ts > terms.expires + AFTER_EXPIRY_US)
        early = known & (ts < terms.listed - BEFORE_LISTING_US)
        verdicts.refuse("ts", late, "is after the expiry of the instrument")
        verdicts.refuse("ts", early, "is before the instrument was listed")
    if spec.name == "chain":
        after = np.asarray(pc.fill_null(pc.greater(columns["quote_ts"], columns["ts"]), False))
        verdicts.refuse("quote_ts", after, "is after ts, whose last quote it should be")
        verdicts.refuse("instrument", terms.call == 0, "is no option, and the chain has only these")


def refuse_other_terms(columns: Mapping[str, Array], terms: RowTerms, verdicts: Verdicts) -> None:
    """Refuse rows of `instruments` that say otherwise than the name of the instrument does."""
    if "strike" in columns:
        strike = np.asarray(pc.fill_null(columns["strike"], np.nan))
        verdicts.refuse(
            "strike", np.abs(strike - terms.strike) > 1e-9 * terms.strike, "is not the strike in the name"
        )
    if "option_type" in columns:
        said = pc.fill_null(columns["option_type"], "")
        wrong = (np.asarray(pc.equal(said, "call")) & (terms.call != 1)) | (
            np.asarray(pc.equal(said, "put")) & (terms.call != -1)
        )
        verdicts.refuse("option_type", wrong, "is not what the name says")
    if "expiration_ts" in columns:
        said = np.asarray(pc.fill_null(columns["expiration_ts"].cast(pa.int64()), -1))
        named = terms.expires < int(dt.datetime(2900, 1, 1, tzinfo=dt.UTC).timestamp()) * 1_000_000
        day = 86_400_000_000
        off = named & (said >= 0) & (np.abs(said - terms.expires) > day) & ~terms.combo
        verdicts.refuse(
            "expiration_ts", off, "is not the expiry in the name", "is the unit right?", general=True
        )


def whole_volatilities(
    table: str, columns: Mapping[str, Array], kept: Mask, percent_seen: bool
) -> tuple[str, bool]:
    """What is wrong with the scale of all volatilities of a batch ("" if nothing), and whether they surely are percent.

    A genuine 2.5 percent among others, or alone, is left as it is: only where half of all are below 1.5 and none is
    above 10 are they taken for fractions.
    """
    names = [
        name for name in columns if name in VOLATILITIES or (table == "volatility_index" and name in PRICES)
    ]
    found = [np.asarray(pc.fill_null(columns[name].cast(pa.float64()), np.nan))[kept] for name in names]
    numbers = np.concatenate([part[part > 0] for part in found]) if found else np.zeros(0)
    if not len(numbers):
        return "", percent_seen
    median, most = float(np.median(numbers)), float(numbers.max())
    about = f"volatilities: half of them are below {median:g}, and the largest is {most:g}"
    if table == "marks":
        if median > PERCENT_SEEN:
            return (
                f'{about}; they look like percent, and this table has fractions: write scale = "fraction"',
                False,
            )
        return "", False
    if not percent_seen and median < FRACTION_MEDIAN and most < PERCENT_SEEN:
        return (
            f'{about}; they look like fractions, and this table has percent: write scale = "percent"',
            False,
        )
    if median > IN_PERCENT_TWICE:
        return f"{about}; no market has been like that: is the scale right?", percent_seen
    return "", percent_seen or most >= PERCENT_SEEN
