"""The contract of every table: its columns, their exact storage types, keys and order.

What a table may hold is written here and nowhere else. Data that does not fit is refused row by row
with a reason (`conform`), never bent and never inferred.

**How numbers are stored.** A number arrives as the float64 of the JSON text. Two storage types
keep it exactly:

- `DOUBLE` for whatever repeats (prices on ticks, sizes): dictionary encoding makes its width free.
- `DECIMAL(18, s)` of the natural scale for whatever hardly repeats (index, Greeks): its integers
  pack to a few bits as differences, where a double needs all of its 52.

A value with more decimals than its column's scale is not refused where the table has the column
`unrounded`: the decimal column then holds the nearest value of its scale, and `unrounded` the number as sent.
`lake.exact.as_sent` (in SQL: `as_sent_sql`) puts the two together again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import pyarrow as pa

SCHEMA_VERSION: Final = 1
PARTITION_COLUMNS: Final = ("date", "family")
UNROUNDED: Final = "unrounded"
DECIMAL_PRECISION: Final = 18  # the widest decimal that Parquet stores as a 64-bit integer

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")  # naive timestamps would need a newer Delta protocol
STRING: Final = pa.string()
DOUBLE: Final = pa.float64()
StorageType = Any
"""An Arrow type; the stubs of pyarrow know too many of them to tell them apart here."""


class Encoding(enum.Enum):
    """How a column is laid out in Parquet; see `lake.parquet`."""

    DICTIONARY = "dictionary"  # values that repeat within an instrument's day
    DELTA = "delta"  # integers whose differences are small: times, ids, decimals of natural scale
    DELTA_TEXT = "delta_text"  # text that shares a prefix with the row before, such as trade ids
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column: `type` is the storage type, `doc` one sentence with the unit."""

    name: str
    type: StorageType
    nullable: bool
    encoding: Encoding
    doc: str


@dataclass(frozen=True)
class TableSpec:
    """One table of the lake.

    `natural_key` says which rows are the same tick. `sort_key` is the order of rows at rest.
    `partitioned` tables live in folders `date=/family=`, the others in one folder. `stats` are the columns
    whose minimum, maximum and null count go into the Delta log.
    """

    name: str
    doc: str
    columns: tuple[ColumnSpec, ...]
    natural_key: tuple[str, ...]
    sort_key: tuple[str, ...]
    partitioned: bool
    stats: tuple[str, ...]

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Storage types in contract order, without the partition columns."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @cached_property
    def delta_schema(self) -> pa.Schema:
        """What the Delta log declares: the contract and, where there are any, the partition columns."""
        extra = [pa.field("date", pa.date32(), False), pa.field("family", STRING, False)]
        return pa.schema([*self.arrow_schema, *(extra if self.partitioned else [])])

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """Names of the partition columns, in directory order."""
        return PARTITION_COLUMNS if self.partitioned else ()

    @cached_property
    def required(self) -> frozenset[str]:
        """Columns that every row must have."""
        return frozenset(c.name for c in self.columns if not c.nullable)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in contract order."""
        return tuple(c.name for c in self.columns)

    @property
    def keeps_unrounded(self) -> bool:
        """Whether numbers beyond a decimal's scale are kept (in `unrounded`) rather than refused."""
        return UNROUNDED in self.names

    def column(self, name: str) -> ColumnSpec:
        """The specification of column `name`; KeyError where the table has none."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, ColumnSpec]:
        return {c.name: c for c in self.columns}


def decimal(scale: int) -> pa.Decimal128Type:
    """The decimal storage type with `scale` digits after the point."""
    return pa.decimal128(DECIMAL_PRECISION, scale)


def _maker(type_: pa.DataType, encoding: Encoding) -> Callable[..., ColumnSpec]:
    def make(name: str, doc: str, *, null: bool = True) -> ColumnSpec:
        return ColumnSpec(name, type_, null, encoding, doc)

    return make


_text = _maker(STRING, Encoding.DICTIONARY)
_flag = _maker(pa.bool_(), Encoding.PLAIN)
_time = _maker(TIMESTAMP, Encoding.DELTA)
_long = _maker(pa.int64(), Encoding.DELTA)
# What all rows of one message share, in runs too short for a dictionary to pay: zstd sees them as copies.
_repeated_time = _maker(TIMESTAMP, Encoding.PLAIN)
_repeated_long = _maker(pa.int64(), Encoding.PLAIN)
_repeated_number = _maker(DOUBLE, Encoding.PLAIN)
_number32 = _maker(pa.int32(), Encoding.DICTIONARY)
_id = _maker(STRING, Encoding.DELTA_TEXT)
_small = _maker(pa.int16(), Encoding.DICTIONARY)
_tiny = _maker(pa.int8(), Encoding.DICTIONARY)
_number = _maker(DOUBLE, Encoding.DICTIONARY)
_money = _maker(decimal(4), Encoding.DELTA)
_vol = _maker(decimal(2), Encoding.DELTA)
_greek = _maker(decimal(5), Encoding.DELTA)

_EVENT: Final = (
    _text("venue", "Exchange, lower case: deribit.", null=False),
    _text("instrument", "The venue's own name of the instrument.", null=False),
    _time("ts", "The venue's time of the event, UTC.", null=False),
)
_RECV_DOC: Final = "When the frame reached us, UTC, by our clock."

_QUOTES: Final = (
    *_EVENT,
    _time("recv_ts", _RECV_DOC, null=False),
    _number("bid_price", "Best bid; coin for inverse options, else quote currency."),
    _number("bid_size", "Amount at the best bid; USD for inverse futures, else base coin."),
    _number("ask_price", "Best ask, unit as bid_price."),
    _number("ask_size", "Amount at the best ask, unit as bid_size."),
    _number("last_price", "Price of the last trade; null if never traded."),
    _number("mark_price", "The venue's mark price, unit as bid_price."),
    _money("index_price", "Spot index of the base coin in USD."),
    _money("underlying_price", "Forward the venue prices the option with, USD."),
    _text("underlying_index", "Future or synthetic (SYN.…) behind underlying_price."),
    _vol("bid_iv", "Implied volatility of the bid, percent; null where not computable."),
    _vol("ask_iv", "Implied volatility of the ask, percent; null where not computable."),
    _vol("mark_iv", "Implied volatility of the mark, percent."),
    _greek("delta", "Per 1 of the underlying, not premium adjusted."),
    _greek("gamma", "Per 1 USD."),
    _greek("vega", "USD per 1 volatility point."),
    _greek("theta", "USD per day."),
    _greek("rho", "USD per 1 rate point."),
    _number("open_interest", "USD for inverse futures, else base coin."),
    _number("funding_8h", "Funding realised over the last 8 h, a fraction; perpetuals."),
    _number("current_funding", "Momentary 8 h funding rate, a fraction; perpetuals."),
    _text(
        UNROUNDED, "JSON object, column: number as sent, for numbers with more decimals than their column."
    ),
)

_TRADES: Final = (
    *_EVENT,
    _repeated_time("recv_ts", _RECV_DOC, null=False),
    _id("trade_id", "The venue's id, text because other markets prefix it (ETH-284830839).", null=False),
    _long("trade_seq", "Counter per instrument without gaps."),
    _repeated_number("price", "Unit as in quotes.", null=False),
    _number("size", "USD for inverse futures, else base coin.", null=False),
    _text("side", "Direction of the taker: buy or sell.", null=False),
    _number("iv", "Implied volatility of the trade, percent; options; null where not computable."),
    _repeated_number("index_price", "Spot index of the base coin in USD at the trade."),
    _repeated_number("mark_price", "The venue's mark price at the trade."),
    _number("contracts", "size in contracts."),
    _tiny("tick_direction", "0 plus, 1 zero-plus, 2 minus, 3 zero-minus."),
    _text("liquidation", "M, T or MT: which side was liquidated."),
    _text("block_trade_id", "Block trade this was a leg of."),
    _small("block_trade_leg_count", "Legs of that block trade."),
    _text("block_rfq_id", "Request for quote that led to the block trade."),
    _text("combo_id", "Combo whose trade this is a leg of: counted once more on the combo itself."),
    _text("combo_trade_id", "Id of the trade on the combo."),
    _long("starbase_match_id", "Id of the match in the venue's engine; exceeds 2^53."),
    _repeated_long("starbase_timestamp", "The engine's own time, ns since 1970 UTC."),
)

_BOOK: Final = (
    *_EVENT,
    _time("recv_ts", _RECV_DOC, null=False),
    _text("type", "snapshot (every level, all new) or change.", null=False),
    _repeated_long("change_id", "Id of the message, venue-wide counter.", null=False),
    _repeated_long("prev_change_id", "change_id of the message before: the link that proves continuity."),
    _small("level", "Position of the level in the message: bids first, then asks.", null=False),
    _text("side", "bid or ask; null in the one row of an empty message."),
    _text("action", "new, change or delete; null in the one row of an empty message."),
    _number("price", "Price of the level, unit as in quotes."),
    _number("size", "Amount now at the level, 0 after a delete, unit as in quotes."),
)

_INSTRUMENTS: Final = (
    _text("venue", "Exchange, lower case.", null=False),
    _text("instrument", "The venue's own name.", null=False),
    _time("valid_from", "When this version was first seen, UTC.", null=False),
    _text("kind", "option, future, spot, option_combo, future_combo.", null=False),
    _text("instrument_type", "reversed (coin-settled) or linear."),
    _text("base_currency", "Coin that is priced."),
    _text("quote_currency", "Currency of the price."),
    _text("counter_currency", "Currency of the strike and the index."),
    _text("settlement_currency", "Currency of profit and loss."),
    _text("price_index", "Index the instrument settles against."),
    _text("option_type", "call or put."),
    _number("strike", "Strike in counter currency."),
    _time("creation_ts", "Listing time, UTC."),
    _time("expiration_ts", "Expiry, UTC; the year 3000 for perpetuals."),
    _number("contract_size", "Amount of one contract."),
    _number("tick_size", "Smallest price step."),
    _text("tick_size_steps", "JSON list of {above_price, tick_size}: steps that grow with the price."),
    _number("min_trade_amount", "Smallest amount of an order."),
    _number("maker_commission", "Fraction of the amount."),
    _number("taker_commission", "Fraction of the amount."),
    _text("settlement_period", "day, week, month, perpetual."),
    _long("instrument_id", "The venue's number; known to flap, so never a key."),
    _text("state", "open, settlement, delivered, inactive, …: as the venue says."),
    _flag("is_active", "Whether the venue listed it as tradable."),
)

_GAPS: Final = (
    _text("venue", "Exchange, lower case.", null=False),
    _text("stream", "Spool stream the interval belongs to.", null=False),
    _number32("connection", "Connection of the collector; null when all were concerned."),
    _text("instrument", "Instrument; null when all were concerned."),
    _text("channel", "Channel; null when all were concerned, but for those a healed row names."),
    _time("start_ts", "Last moment known to be recorded, UTC.", null=False),
    _time("end_ts", "First moment recorded again, UTC.", null=False),
    _text("cause", "Why nothing was recorded.", null=False),
    _flag(
        "healed", "Whether the records were obtained later; this takes them out of wider rows.", null=False
    ),
    _long("records_lost", "How many, where that is known."),
)

_COVERAGE: Final = (
    _text("venue", "Exchange, lower case.", null=False),
    _text("stream", "Spool stream.", null=False),
    _long("first_offset", "Offset of the segment's first record.", null=False),
    _long("end_offset", "Offset after the segment's last record.", null=False),
    _time("start_ts", "Receive time of the first record, UTC.", null=False),
    _time("end_ts", "Receive time of the last record, UTC.", null=False),
    _long("frames", "WebSocket frames in the segment.", null=False),
    _long("events", "Our own events in the segment.", null=False),
    _long("responses", "REST responses in the segment.", null=False),
    _long("control", "Frames that carry no data: acknowledgements, heartbeats.", null=False),
    _long("rejected", "Frames or rows put into quarantine.", null=False),
    _long("rows_quotes", "Rows that went to quotes.", null=False),
    _long("rows_trades", "Rows that went to trades.", null=False),
    _long("rows_book", "Rows that went to book.", null=False),
)

_SPECS: Final = (
    TableSpec(
        name="quotes",
        doc="Ticker frames: best bid and ask, mark, volatilities, the venue's Greeks. "
        "A null is what the venue did not quote or could not compute.",
        columns=_QUOTES,
        natural_key=tuple(c.name for c in _QUOTES if c.name != "recv_ts"),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        partitioned=True,
        stats=("instrument", "ts"),
    ),
    TableSpec(
        name="trades",
        doc="Every trade. A combo's trade appears on the combo and again on each leg (combo_id).",
        columns=_TRADES,
        natural_key=("venue", "instrument", "trade_id"),
        sort_key=("venue", "instrument", "ts", "trade_seq", "recv_ts"),
        partitioned=True,
        stats=("instrument", "ts"),
    ),
    TableSpec(
        name="book",
        doc="Order book: one row per level of every snapshot and change message.",
        columns=_BOOK,
        natural_key=("venue", "instrument", "type", "change_id", "level"),
        sort_key=("venue", "instrument", "ts", "change_id", "type", "level", "recv_ts"),
        partitioned=True,
        stats=("instrument", "ts"),
    ),
    TableSpec(
        name="instruments",
        doc="Every version of every instrument's metadata.",
        columns=_INSTRUMENTS,
        natural_key=("venue", "instrument", "valid_from"),
        sort_key=("venue", "instrument", "valid_from"),
        partitioned=False,
        stats=("instrument", "valid_from"),
    ),
    TableSpec(
        name="gaps",
        doc="Intervals that were not recorded, each with its cause.",
        columns=_GAPS,
        natural_key=(
            "venue",
            "stream",
            "connection",
            "instrument",
            "channel",
            "start_ts",
            "end_ts",
            "cause",
            "healed",
            "records_lost",
        ),
        sort_key=("venue", "start_ts", "stream", "end_ts"),
        partitioned=False,
        stats=("start_ts", "end_ts"),
    ),
    TableSpec(
        name="coverage",
        doc="What each ingested spool segment held.",
        columns=_COVERAGE,
        natural_key=("stream", "first_offset"),
        sort_key=("stream", "first_offset"),
        partitioned=False,
        stats=("stream", "start_ts", "end_ts"),
    ),
)

TABLES: Final[dict[str, TableSpec]] = {spec.name: spec for spec in _SPECS}
