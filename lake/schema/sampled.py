"""What we sample ourselves from what was streamed, at even times: the option chain, hour by hour."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import EVENT, INSTRUMENT, VENUE
from lake.schema.spec import TableSpec, time
from lake.schema.ticks import QUOTES

_NOT_OF_OPTIONS: Final = ("funding_8h", "current_funding")

_CHAIN: Final = (
    VENUE,
    INSTRUMENT,
    time("ts", "The even time that this row describes, UTC.", null=False),
    time("quote_ts", "The venue's time of the quote: the last one at or before ts.", null=False),
    *(c for c in QUOTES if c not in EVENT and c.name not in _NOT_OF_OPTIONS),
)

SPECS: Final = (
    TableSpec(
        name="chain",
        doc="The option chain every hour: of each option the last quote at or before the hour, with the venue's "
        "volatilities and Greeks as they were in it. An option without a recent quote has no row.",
        columns=_CHAIN,
        natural_key=("venue", "instrument", "ts"),
        sort_key=("venue", "instrument", "ts"),
        period="month",
    ),
)
