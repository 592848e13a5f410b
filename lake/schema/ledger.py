"""What is known about the rest: instruments, and the lake's own record of what it holds and what it lacks."""

from __future__ import annotations

from typing import Final

from lake.schema import books, market, ticks
from lake.schema.shared import INSTRUMENT, VENUE
from lake.schema.spec import TableSpec, flag, long, number, number32, text, time

_INSTRUMENTS: Final = (
    VENUE,
    INSTRUMENT,
    time("valid_from", "When this version was first seen, UTC.", null=False),
    text("kind", "option, future, spot, option_combo, future_combo.", null=False),
    text("instrument_type", "reversed (coin-settled) or linear."),
    text("base_currency", "Coin that is priced."),
    text("quote_currency", "Currency of the price."),
    text("counter_currency", "Currency of the strike and the index."),
    text("settlement_currency", "Currency of profit and loss."),
    text("price_index", "Index the instrument settles against."),
    text("option_type", "call or put."),
    number("strike", "Strike in counter currency."),
    time("creation_ts", "Listing time, UTC."),
    time("expiration_ts", "Expiry, UTC; the year 3000 for perpetuals."),
    number("contract_size", "Amount of one contract."),
    number("tick_size", "Smallest price step."),
    text("tick_size_steps", "JSON list of {above_price, tick_size}: steps that grow with the price."),
    number("min_trade_amount", "Smallest amount of an order."),
    number("maker_commission", "Fraction of the amount."),
    number("taker_commission", "Fraction of the amount."),
    text("settlement_period", "day, week, month, perpetual."),
    long("instrument_id", "The venue's number; known to flap, so never a key."),
    text("state", "open, settlement, delivered, inactive, …: as the venue says."),
    flag("is_active", "Whether the venue listed it as tradable."),
)

_GAPS: Final = (
    VENUE,
    text("stream", "Spool stream the interval belongs to.", null=False),
    number32("connection", "Connection of the collector; null when all were concerned."),
    text("instrument", "Instrument; null when all were concerned."),
    text("channel", "Channel; null when all were concerned, but for those a healed row names."),
    time("start_ts", "Last moment known to be recorded, UTC.", null=False),
    time("end_ts", "First moment recorded again, UTC.", null=False),
    text("cause", "Why nothing was recorded.", null=False),
    flag("healed", "Whether the records were obtained later; this takes them out of wider rows.", null=False),
    long("records_lost", "How many, where that is known."),
)

COUNTED: Final = (
    *(spec.name for spec in (*ticks.SPECS, *market.SPECS, *books.SPECS) if spec.streamed),
    "instruments",
    "gaps",
)
"""Tables whose rows `coverage` counts."""

_COVERAGE: Final = (
    VENUE,
    text("stream", "Spool stream.", null=False),
    long("first_offset", "Offset of the segment's first record.", null=False),
    long("end_offset", "Offset after the segment's last record.", null=False),
    time("start_ts", "Receive time of the first record, UTC.", null=False),
    time("end_ts", "Receive time of the last record, UTC.", null=False),
    long("frames", "WebSocket frames in the segment.", null=False),
    long("events", "Our own events in the segment.", null=False),
    long("responses", "REST responses in the segment.", null=False),
    long("imported", "Rows of an imported file, which is a stream of its own.", null=False),
    long("control", "Frames that carry no data: acknowledgements, heartbeats.", null=False),
    long("records_lost", "Records of the segment that the disk no longer gave back.", null=False),
    long("rejected", "Frames or rows put into quarantine.", null=False),
    long("repeated", "Rows left out because the tables held them already.", null=False),
    flag(
        "rebuilt", "Whether this is told by the tables' own logs, because the records are gone.", null=False
    ),
    *(long(f"rows_{name}", f"Rows that went to {name}.", null=False) for name in COUNTED),
)


SPECS: Final = (
    TableSpec(
        name="instruments",
        doc="Every version of every instrument's metadata.",
        columns=_INSTRUMENTS,
        natural_key=tuple(column.name for column in _INSTRUMENTS),
        sort_key=("venue", "instrument", "valid_from"),
        partitioned=False,
        stats=("instrument", "valid_from"),
    ),
    TableSpec(
        name="gaps",
        doc="Intervals that were not recorded, each with its cause.",
        columns=_GAPS,
        natural_key=tuple(column.name for column in _GAPS),
        sort_key=("venue", "start_ts", "stream", "end_ts"),
        partitioned=False,
        stats=("start_ts", "end_ts"),
    ),
    TableSpec(
        name="coverage",
        doc="What each ingested spool segment held.",
        columns=_COVERAGE,
        natural_key=tuple(column.name for column in _COVERAGE),
        sort_key=("stream", "first_offset"),
        partitioned=False,
        stats=("stream", "start_ts", "end_ts"),
    ),
)
