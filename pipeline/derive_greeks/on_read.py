"""Greeks computed when they are read: for Arrow tables in Python, and as a view and a function of SQL.

The numbers are those of the stored table before they are rounded. Only rows that brought a forward have any: the
stored table also knows forwards of futures and of parity.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array, as_sent, to_floats
from lake.root import Root
from lake.schema import TABLES, TIMESTAMP
from lake.views import Extension, SqlFunction, view_columns
from pipeline.derive_greeks.terms import (
    NO_EXPIRY,
    Listing,
    Listings,
    OptionTerms,
    microseconds,
    named_codes,
    terms_of,
)
from pipeline.derive_greeks.values import GREEKS, Prices, values, years_until

Floats = npt.NDArray[np.float64]

FUNCTION: Final = "option_greeks"
VIEW: Final = "quotes_greeks"
OWN: Final = ("bid_iv", "ask_iv", "iv", *GREEKS)
"""Columns that carry `own_` before their name where the venue's stand beside them."""
FIELDS: Final = {
    "option_type": "VARCHAR",
    "strike": "DOUBLE",
    "expiration_ts": "TIMESTAMPTZ",
    "years": "DOUBLE",
    **dict.fromkeys(OWN, "DOUBLE"),
    "final_averaging": "BOOLEAN",
}
_ARGUMENTS: Final = ("underlying_price", "mark_price", "mark_iv", "bid_price", "ask_price")
_OPTION_TYPES: Final = pa.array(["put", "call"])
_NEVER: Final = np.iinfo(np.int64).max


def with_greeks(quotes: pa.Table, listing: Listing | None = None) -> pa.Table:
    """`quotes` with further columns: option_type, strike, expiration_ts, years (of 365 days), own_bid_iv, own_ask_iv,
    own_iv (of the mark), own_delta, own_gamma, own_vega, own_theta, own_rho, final_averaging.

    quotes: rows of the table or of the view `quotes`, with at least instrument, ts, bid_price, ask_price, mark_price,
    underlying_price and mark_iv. listing: terms of options (`Listings.read`); without, their names tell them.

    Volatilities are in percent, Greeks in the venue's units and of its mark_iv, else of own_iv; null where there
    is no such number. Raises KeyError where a column is missing.
    """
    numbers = [as_sent(quotes, name) for name in _ARGUMENTS]
    found = _computed(quotes["instrument"], quotes["ts"], listing or {}, *numbers)
    for name, column in found.items():
        quotes = quotes.append_column(f"own_{name}" if name in OWN else name, column)
    return quotes


def sql_greeks(root: Root) -> Extension:
    """For `lake.views.connect`: the function `option_greeks` and, made of it, the view `quotes_greeks`.

    option_greeks(instrument, ts, forward, price, venue_iv, bid, ask) gives a struct of `FIELDS`; whatever is
    unknown may be null: `option_greeks(instrument, ts, 64000, price, NULL, NULL, NULL)` is a trade's.
    """
    listings = _Lazily(root)

    def option_greeks(  # the engine counts the parameters
        instrument: Array, ts: Array, forward: Array, price: Array, venue_iv: Array, bid: Array, ask: Array
    ) -> Array:
        found = _computed(instrument, ts, listings, *map(to_floats, (forward, price, venue_iv, bid, ask)))
        return pa.StructArray.from_arrays(list(found.values()), list(found))

    returns = ", ".join(f"{name} {kind}" for name, kind in FIELDS.items())
    parameters = ("VARCHAR", "TIMESTAMPTZ", *["DOUBLE"] * len(_ARGUMENTS))
    columns = ", ".join(view_columns(TABLES["quotes"]))
    own = ", ".join(f"g.{name} AS own_{name}" if name in OWN else f"g.{name}" for name in FIELDS)
    call = f"{FUNCTION}(instrument, ts, {', '.join(_ARGUMENTS)})"
    view = f"SELECT {columns}, {own} FROM (SELECT *, {call} AS g FROM quotes)"  # noqa: S608 - our own names
    function = SqlFunction(FUNCTION, option_greeks, parameters, f"STRUCT({returns})")
    return Extension((function,), {VIEW: view})


class _Lazily:
    """The lake's listings, read when an option is first asked for."""

    def __init__(self, root: Root) -> None:
        self._root = root

    @cached_property
    def _listings(self) -> Listings:
        return Listings.read(self._root)

    def get(self, name: str, /) -> OptionTerms | None:
        return self._listings.get(name)


def _computed(
    instrument: Array, ts: Array, listing: Listing, forward: Floats, price: Floats, venue_iv: Floats, bid: Floats,
    ask: Floats,
) -> dict[str, Array]:  # fmt: skip
    """Columns by the names of `FIELDS`."""
    codes, names = named_codes(pc.fill_null(instrument, ""))
    terms = terms_of(names, listing).take(codes)
    moments = microseconds(ts, _NEVER)
    found = values(Prices(moments, np.where(forward > 0, forward, np.nan), price, bid, ask, venue_iv), terms)
    unknown = terms.expiry == NO_EXPIRY
    kinds = pa.array(terms.is_call.astype(np.int32), mask=unknown)
    return {
        "option_type": _OPTION_TYPES.take(kinds),
        "strike": _nullable(terms.strike),
        "expiration_ts": pa.array(terms.expiry, mask=unknown).cast(TIMESTAMP),
        "years": _nullable(years_until(terms.expiry, moments)),
        **{name: _nullable(getattr(found, name)) for name in OWN},
        "final_averaging": pa.array(found.final_averaging),
    }


def _nullable(numbers: Floats) -> Array:
    return pa.array(numbers, mask=np.isnan(numbers))
