"""Rows of `greeks` from rows of `quotes`, `trades` and `candles`.

A number is stored with the decimals of its column, like the venue's own; a residual is what the venue's number lacks to
ours once that is rounded as the venue rounds, so that zero means the same number. Of coins worth little, what the
decimals are too few for stands in `unrounded` besides.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.deribit.history_answers import CHART_RESOLUTIONS
from lake.exact import Array, as_sent, decimal_array, to_units
from lake.schema import TABLES, UNROUNDED
from pipeline.derive_greeks.forwards import NO_SOURCE, SOURCES, Forwards
from pipeline.derive_greeks.terms import NO_EXPIRY, Listing, TermsOf, microseconds, named_codes, terms_of
from pipeline.derive_greeks.values import GREEKS, Prices, Values, values

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SPEC: Final = TABLES["greeks"]
RESOLUTION_US: Final = {name: length_ms * 1000 for name, length_ms in CHART_RESOLUTIONS.values()}
VENUE_IV: Final = {"bid_iv": "bid_iv", "ask_iv": "ask_iv", "iv": "mark_iv"}
"""Our volatilities of a quote and the columns of `quotes` with the venue's."""
CHEAP_MAX: Final = 100.0
"""Below this forward, decimals that were chosen for coins of thousands of USD are a visible part of a number."""
IN_CURRENCY: Final = ("vega", "theta", "rho")
"""Greeks that are as small as the coin is cheap."""
DIGITS: Final = 12
_OPTION_TYPES: Final = ("put", "call")
_VOLATILITY_SOURCES: Final = ("own", "venue")
_IDENTITY: Final = ("venue", "instrument", "ts", "recv_ts")


@dataclass(frozen=True, slots=True)
class Source:
    """A table with prices of options: the columns needed of it, and how its rows are read.

    rows: which rows of a sorted table count, given the interval in µs; prices: what is known of each, with the forward
    that came with it; sent: the venue's own numbers by our column.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[pa.Table, int], pa.Table]
    prices: Callable[[pa.Table], tuple[Prices, dict[str, Floats]]]


@dataclass(frozen=True, slots=True)
class Derived:
    """What was computed of some rows, row by row: everything that the stored form is made of."""

    terms: TermsOf
    price: Floats
    forward: Floats
    forward_source: npt.NDArray[np.int8]
    values: Values
    sent: dict[str, Floats]


def derive(source: Source, rows: pa.Table, listing: Listing, forwards: Forwards | None) -> Derived:
    """Volatilities and Greeks of `rows`; without `forwards`, only rows that brought a forward have any."""
    codes, names = named_codes(rows["instrument"])
    terms = terms_of(names, listing).take(codes)
    prices, sent = source.prices(rows)
    if forwards is None:
        forward = np.where(prices.forward > 0, prices.forward, np.nan)
        origin = np.where(np.isnan(forward), NO_SOURCE, 0).astype(np.int8)
    else:
        forward, origin = forwards.fill(prices.forward, terms, prices.ts)
    priced = Prices(prices.ts, forward, prices.price, prices.bid, prices.ask, prices.venue_iv)
    return Derived(terms, prices.price, forward, origin, values(priced, terms), sent)


def stored(source: Source, rows: pa.Table, found: Derived) -> pa.Table:
    """Rows of the table `greeks`, in its storage types, short texts as dictionaries."""
    made = found.values
    nothing = np.isnan(made.delta)
    columns: dict[str, Array] = {
        **{name: rows[name] for name in _IDENTITY},
        # Spelled out, because a file would hold the whole dictionary in each of its row groups.
        "instrument": rows["instrument"].cast(pa.string()),
        "source": _words(np.zeros(len(rows), np.int8), (source.name,)),
        **{name: rows[name] for name in ("trade_id", "resolution") if name in source.columns},
        "option_type": _words(
            np.where(found.terms.expiry == NO_EXPIRY, -1, found.terms.is_call), _OPTION_TYPES
        ),
        "strike": _numbers(found.terms.strike),
        "expiration_ts": _times(found.terms.expiry),
        "forward": _decimals("forward", found.forward),
        "forward_source": _words(found.forward_source, SOURCES),
        "volatility_source": _words(np.where(nothing, -1, made.by_venue_iv), _VOLATILITY_SOURCES),
    }
    for name in (*VENUE_IV, *GREEKS):
        own: Floats = getattr(made, name)
        columns[name] = _decimals(name, own)
        if name in found.sent:
            columns[f"residual_{name}"] = _residuals(f"residual_{name}", own, found.sent[name])
    for name in ("final_averaging", "bid_undetermined", "ask_undetermined", "undetermined"):
        columns[name] = pa.array(getattr(made, name))
    columns[UNROUNDED] = _unrounded(found)
    arrays = [columns.get(column.name, pa.nulls(len(rows), column.type)) for column in SPEC.columns]
    fields = [
        pa.field(column.name, array.type, column.nullable)
        for column, array in zip(SPEC.columns, arrays, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _all(rows: pa.Table, interval_us: int) -> pa.Table:
    del interval_us
    return rows


def _last_of_each_interval(rows: pa.Table, interval_us: int) -> pa.Table:
    """Of each instrument the last quote of each interval since the epoch; all of them where the interval is 0."""
    if not interval_us or not len(rows):
        return rows
    codes, _ = named_codes(rows["instrument"])
    interval = microseconds(rows["ts"]) // interval_us
    last = np.ones(len(rows), np.bool_)
    last[:-1] = (codes[1:] != codes[:-1]) | (interval[1:] != interval[:-1])
    return rows.take(pa.array(np.flatnonzero(last)))


def _of_quotes(rows: pa.Table) -> tuple[Prices, dict[str, Floats]]:
    sent = {own: as_sent(rows, theirs) for own, theirs in VENUE_IV.items()}
    sent |= {name: as_sent(rows, name) for name in GREEKS}
    prices = Prices(
        ts=microseconds(rows["ts"]),
        forward=as_sent(rows, "underlying_price"),
        price=as_sent(rows, "mark_price"),
        bid=as_sent(rows, "bid_price"),
        ask=as_sent(rows, "ask_price"),
        venue_iv=sent["iv"],
    )
    return prices, sent


def _of_trades(rows: pa.Table) -> tuple[Prices, dict[str, Floats]]:
    prices = Prices(microseconds(rows["ts"]), np.full(len(rows), np.nan), as_sent(rows, "price"))
    return prices, {"iv": as_sent(rows, "iv")}


def _of_candles(rows: pa.Table) -> tuple[Prices, dict[str, Floats]]:
    """The close is a price of the end of its bar; none where nothing was traded in it, or nobody knows its length."""
    codes, names = named_codes(rows["resolution"])
    length = np.array([RESOLUTION_US.get(name, 0) for name in names], np.int64)[codes]
    close = np.where((as_sent(rows, "volume") > 0) & (length > 0), as_sent(rows, "close"), np.nan)
    return Prices(microseconds(rows["ts"]) + length, np.full(len(rows), np.nan), close), {}


_QUOTED: Final = (
    "bid_price", "ask_price", "mark_price", "underlying_price", "bid_iv", "ask_iv", "mark_iv", *GREEKS, UNROUNDED,
)  # fmt: skip
QUOTES: Final = Source("quotes", (*_IDENTITY, *_QUOTED), _last_of_each_interval, _of_quotes)
TRADES: Final = Source("trades", (*_IDENTITY, "trade_seq", "trade_id", "price", "iv"), _all, _of_trades)
CANDLES: Final = Source("candles", (*_IDENTITY, "resolution", "source", "close", "volume"), _all, _of_candles)
SOURCE_TABLES: Final = {source.name: source for source in (QUOTES, TRADES, CANDLES)}


def _decimals(name: str, numbers: Floats) -> Array:
    """Numbers rounded to the column's decimals; null where NaN."""
    kind = SPEC.column(name).type
    units, _, valid = to_units(numbers, kind.scale)
    return decimal_array(units, kind, None if valid.all() else valid)


def _unrounded(found: Derived) -> Array:
    """Of each row whose coin is worth little, a JSON object of the numbers that the decimals of their columns are too
    few for; null for all others, whose numbers are large."""
    texts: list[str | None] = [None] * len(found.forward)
    columns = {"forward": found.forward, **{name: getattr(found.values, name) for name in IN_CURRENCY}}
    for row in np.flatnonzero(found.forward < CHEAP_MAX).tolist():
        told = {name: float(f"{numbers[row]:.{DIGITS}g}") for name, numbers in columns.items()}
        finer = {
            name: number
            for name, number in told.items()
            if math.isfinite(number) and number != round(number, SPEC.column(name).type.scale)
        }
        texts[row] = json.dumps(finer, separators=(",", ":")) if finer else None
    return pa.array(texts, pa.string())


def _residuals(name: str, own: Floats, sent: Floats) -> Array:
    kind = SPEC.column(name).type
    (ours, _, known), (theirs, _, given) = (to_units(numbers, kind.scale) for numbers in (own, sent))
    return decimal_array(ours - theirs, kind, known & given)


def _numbers(numbers: Floats) -> Array:
    return pa.array(numbers, mask=np.isnan(numbers))


def _times(moments: Ints) -> Array:
    return pa.array(moments, mask=moments == NO_EXPIRY).cast(pa.timestamp("us", tz="UTC"))


def _words(codes: npt.NDArray[Any], names: tuple[str, ...]) -> Array:
    """Text by number; null where negative."""
    numbers = pa.array(codes.astype(np.int32), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(numbers, pa.array(names))
