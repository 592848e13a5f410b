"""What the venue samples or keeps as history: candles, funding, indices, marks, settlements."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import EVENT, INSTRUMENT, RECV_TS, SHARED_RECV_TS, TS, VENUE, as_sent
from lake.schema.spec import TableSpec, long, number, text, time

_INDEX: Final = text("instrument", "The venue's name of the index: btc_usd.", null=False)

_CANDLES: Final = (
    VENUE,
    INSTRUMENT,
    text("resolution", "Length of the bar: 1m, 5m, 1h, 1d.", null=False),
    TS,
    SHARED_RECV_TS,
    number("open", "First price of the bar, unit as in quotes."),
    number("high", "Highest price."),
    number("low", "Lowest price."),
    number("close", "Last price; the one before carried forward where the bar has no trade."),
    number("volume", "Amount traded, in base coin; 0 marks a bar in which nothing was traded.", null=False),
    number("cost", "Amount traded, in quote currency.", null=False),
    text(
        "source",
        "venue: as it sent the bar; of an imported file what its mapping says.",
        null=False,
    ),
)

_FUNDING: Final = (
    *EVENT,
    SHARED_RECV_TS,
    text("type", "hourly: a row of the venue's history; momentary: a sample of the live rate.", null=False),
    number("interest_1h", "Funding of the hour that ends at ts, a fraction; hourly. Sums of it are exact."),
    number("interest_8h", "Funding of the 8 h that end at ts, a fraction; hourly. Overlaps its neighbours."),
    number("interest", "The rate of the moment for 8 h, a fraction; momentary."),
    number("index_price", "Index at ts, in its quote currency."),
    number("prev_index_price", "Index an hour before; hourly."),
)

_INDEX_PRICES: Final = (
    VENUE,
    _INDEX,
    TS,
    SHARED_RECV_TS,
    number("price", "Value of the index in its quote currency.", null=False),
)

_VOLATILITY_INDEX: Final = (
    VENUE,
    _INDEX,
    text(
        "resolution", "Length of the bar: 1s, 1m, 1h, 12h, 1d; tick: a value as it was streamed.", null=False
    ),
    TS,
    SHARED_RECV_TS,
    number("open", "First value of the bar, percent a year; null on a tick."),
    number("high", "Highest value; null on a tick."),
    number("low", "Lowest value; null on a tick."),
    number("close", "Last value of the bar, or the tick.", null=False),
)

_SETTLEMENTS: Final = (
    VENUE,
    text(
        "instrument",
        "Instrument; of a delivery_price the index; of a bankruptcy that names none the currency.",
        null=False,
    ),
    TS,
    SHARED_RECV_TS,
    text("type", "settlement, delivery, bankruptcy, or delivery_price of an index.", null=False),
    number("index_price", "Index the settlement used, or the delivery price itself."),
    number("mark_price", "Mark price at the settlement."),
    number("position", "Sum of positions, USD for inverse futures, else base coin."),
    number("session_profit_loss", "Profit and loss of the session, settlement currency."),
    number("profit_loss", "Profit and loss as the venue adds it, settlement currency."),
    number("funding", "Funding of the session, settlement currency; perpetuals."),
    number("funded", "Amount funded; bankruptcy."),
    number("session_bankruptcy", "Value of the bankruptcies of the session; bankruptcy."),
    number("session_tax", "Tax of the session; bankruptcy."),
    number("session_tax_rate", "Rate of that tax, a fraction; bankruptcy."),
    number("socialized", "Amount of socialised losses; bankruptcy."),
)

_MARKS: Final = (
    *EVENT,
    SHARED_RECV_TS,
    number("mark_price", "The venue's mark price, unit as in quotes.", null=False),
    number(
        "mark_iv",
        "Implied volatility of the mark, percent as in quotes; the channel says a fraction, whose digits are kept.",
    ),
)

_BACKFILLS: Final = (
    VENUE,
    text(
        "dataset",
        "What was asked for: candles, trades, funding, index, volatility, settlements, delivery_prices, "
        "instruments, expired_instruments.",
        null=False,
    ),
    text("instrument", "Instrument, index or currency that was asked about.", null=False),
    text("resolution", "Length of the bars, range of a chart, or type of the settlements."),
    time("start_ts", "All that happened from here on, UTC; of cursors: together with the pages before."),
    time("end_ts", "And before here, UTC, is in the answer."),
    long("start_seq", "All trades from this trade_seq on; null where the time was asked for."),
    long("end_seq", "And up to this one are in the answer; null: up to the newest there was."),
    long("rows", "Rows that the answer gave within these bounds.", null=False),
    text("refusal", "What the venue said where it refused for good."),
    text("cursor", "The venue's word for where the next page begins; null on the last page."),
    text("host", "The address that answered.", null=False),
    RECV_TS,
)


SPECS: Final = (
    TableSpec(
        name="candles",
        doc="Bars of price and volume; `ts` is the start of the bar. A bar without trades has volume 0.",
        columns=_CANDLES,
        natural_key=as_sent(_CANDLES),
        sort_key=("venue", "instrument", "resolution", "source", "ts", "recv_ts"),
        period="month",
        streamed=True,
    ),
    TableSpec(
        name="funding",
        doc="Funding of perpetuals: every hour as the venue keeps it, and the rate of the moment as it was streamed.",
        columns=_FUNDING,
        natural_key=as_sent(_FUNDING),
        sort_key=("venue", "instrument", "type", "ts", "recv_ts"),
        period="month",
        streamed=True,
    ),
    TableSpec(
        name="index_prices",
        doc="Values of the venue's price indices.",
        columns=_INDEX_PRICES,
        natural_key=as_sent(_INDEX_PRICES),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        streamed=True,
    ),
    TableSpec(
        name="volatility_index",
        doc="The venue's volatility indices (DVOL), streamed values and bars.",
        columns=_VOLATILITY_INDEX,
        natural_key=as_sent(_VOLATILITY_INDEX),
        sort_key=("venue", "instrument", "resolution", "ts", "recv_ts"),
        period="month",
        streamed=True,
    ),
    TableSpec(
        name="settlements",
        doc="Daily settlements, deliveries at expiry, and delivery prices of indices.",
        columns=_SETTLEMENTS,
        natural_key=as_sent(_SETTLEMENTS),
        sort_key=("venue", "instrument", "type", "ts", "recv_ts"),
        period="month",
        streamed=True,
    ),
    TableSpec(
        name="marks",
        doc="Mark price and volatility of whole option chains, where the venue's cheap channel of them is recorded.",
        columns=_MARKS,
        natural_key=as_sent(_MARKS),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        streamed=True,
    ),
    TableSpec(
        name="backfills",
        doc="What answers about the past are on record, also those without rows and those refused: whatever an "
        "answer here spans is not asked again, and what its rows lack the venue lacks.",
        columns=_BACKFILLS,
        natural_key=(
            "venue",
            "dataset",
            "instrument",
            "resolution",
            "start_ts",
            "end_ts",
            "start_seq",
            "end_seq",
            "host",
            "recv_ts",
        ),
        sort_key=("venue", "dataset", "instrument", "recv_ts"),
        partitioned=False,
        stats=("instrument", "recv_ts"),
        streamed=True,
    ),
)
