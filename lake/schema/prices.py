"""What is derived from prices: our own bars, and the basis of futures."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import INSTRUMENT, VENUE
from lake.schema.spec import TableSpec, flag, long, number, repeated_time, text, time

_BARS: Final = (
    VENUE,
    INSTRUMENT,
    text("resolution", "Length of the bar: 1m, 5m or 1h.", null=False),
    text(
        "source", "Table the bar is made of: trades, or candles for longer bars out of 1m ones.", null=False
    ),
    time("ts", "Start of the bar, UTC.", null=False),
    number("open", "First price, unit as in trades.", null=False),
    number("high", "Highest price.", null=False),
    number("low", "Lowest price.", null=False),
    number("close", "Last price.", null=False),
    number("volume", "Amount traded, in base coin.", null=False),
    number("cost", "Amount traded, in the currency of the price.", null=False),
    long("parts", "How many trades, or how many 1m candles, the bar is made of.", null=False),
)

_BASIS: Final = (
    VENUE,
    text("instrument", "The dated future.", null=False),
    time("ts", "Start of the minute, UTC: all prices are those at its end.", null=False),
    text("perpetual", "The perpetual of the same coin and currency.", null=False),
    number("future_price", "Close of the future's 1m candle.", null=False),
    number("perpetual_price", "Close of the perpetual's 1m candle.", null=False),
    number("index_price", "Last value of their index in the minute; null where none was recorded."),
    number("basis", "future_price less perpetual_price.", null=False),
    number("basis_index", "future_price less index_price."),
    number(
        "annualised",
        "basis over perpetual_price, times 365 days over the time to expiry: a fraction.",
        null=False,
    ),
    number("annualised_index", "Likewise against the index."),
    flag("contango", "Whether the future is dearer than the perpetual.", null=False),
    repeated_time("expiration_ts", "Expiry of the future, UTC.", null=False),
)

SPECS: Final = (
    TableSpec(
        name="bars",
        doc="Bars of our own, from trades, or from shorter candles. A bar without trades is not there.",
        columns=_BARS,
        natural_key=("venue", "instrument", "resolution", "source", "ts"),
        sort_key=("venue", "instrument", "resolution", "source", "ts"),
        period="month",
        derived=True,
    ),
    TableSpec(
        name="basis",
        doc="Dated futures against their perpetual and their index, for every minute in which both have a candle.",
        columns=_BASIS,
        natural_key=("venue", "instrument", "ts"),
        sort_key=("venue", "instrument", "ts"),
        period="month",
        derived=True,
    ),
)
