"""What the venue streams tick by tick: quotes, trades, and the order book."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import EVENT, RECV_TS, SHARED_RECV_TS, as_sent
from lake.schema.spec import (
    UNROUNDED,
    TableSpec,
    greek,
    identifier,
    long,
    money,
    number,
    repeated_long,
    repeated_number,
    small,
    text,
    tiny,
    vol,
)  # fmt: skip

QUOTES: Final = (
    *EVENT,
    RECV_TS,
    number("bid_price", "Best bid; coin for inverse options, else quote currency."),
    number("bid_size", "Amount at the best bid; USD for inverse futures, else base coin."),
    number("ask_price", "Best ask, unit as bid_price."),
    number("ask_size", "Amount at the best ask, unit as bid_size."),
    number("last_price", "Price of the last trade; null if never traded."),
    number("mark_price", "The venue's mark price, unit as bid_price."),
    money("index_price", "Spot index of the base coin in quote currency (USD for inverse instruments)."),
    money("underlying_price", "Forward the venue prices the option with, USD."),
    text("underlying_index", "Future or synthetic (SYN.…) behind underlying_price."),
    vol("bid_iv", "Implied volatility of the bid, percent; null where not computable."),
    vol("ask_iv", "Implied volatility of the ask, percent; null where not computable."),
    vol("mark_iv", "Implied volatility of the mark, percent."),
    greek("delta", "Per 1 of the underlying, not premium adjusted."),
    greek("gamma", "Per 1 USD."),
    greek("vega", "USD per 1 volatility point."),
    greek("theta", "USD per day."),
    greek("rho", "USD per 1 rate point."),
    number("open_interest", "USD for inverse futures, else base coin."),
    number("funding_8h", "Funding realised over the last 8 h, a fraction; perpetuals."),
    number("current_funding", "Momentary 8 h funding rate, a fraction; perpetuals."),
    text(UNROUNDED, "JSON object, column: number as sent, for numbers with more decimals than their column."),
)

_TRADES: Final = (
    *EVENT,
    SHARED_RECV_TS,
    identifier(
        "trade_id", "The venue's id, text because other markets prefix it (ETH-284830839).", null=False
    ),
    long("trade_seq", "Counter per instrument without gaps."),
    repeated_number("price", "Unit as in quotes.", null=False),
    number("size", "USD for inverse futures, else base coin.", null=False),
    text("side", "Direction of the taker: buy or sell.", null=False),
    number("iv", "Implied volatility of the trade, percent; options; null where not computable."),
    repeated_number("index_price", "Spot index of the base coin in quote currency at the trade."),
    repeated_number("mark_price", "The venue's mark price at the trade, unit as price."),
    number("contracts", "size in contracts."),
    tiny("tick_direction", "0 plus, 1 zero-plus, 2 minus, 3 zero-minus."),
    text("liquidation", "M, T or MT: which side was liquidated."),
    text("block_trade_id", "Block trade this was a leg of."),
    small("block_trade_leg_count", "Legs of that block trade."),
    text("block_rfq_id", "Request for quote that led to the block trade."),
    text("combo_id", "Combo whose trade this is a leg of: counted once more on the combo itself."),
    text("combo_trade_id", "Id of the trade on the combo."),
    long("starbase_match_id", "Id of the match in the venue's engine; exceeds 2^53."),
    repeated_long("starbase_timestamp", "The engine's own time, ns since 1970 UTC."),
)

_BOOK: Final = (
    *EVENT,
    RECV_TS,
    text("type", "snapshot (every level, all new) or change.", null=False),
    repeated_long("change_id", "Id of the message, venue-wide counter.", null=False),
    repeated_long("prev_change_id", "change_id of the message before: the link that proves continuity."),
    small("level", "Position of the level in the message: bids first, then asks.", null=False),
    text("side", "bid or ask; null in the one row of an empty message."),
    text("action", "new, change or delete; null in the one row of an empty message."),
    number("price", "Price of the level, unit as in quotes."),
    number("size", "Amount now at the level, 0 after a delete, unit as in quotes."),
)


SPECS: Final = (
    TableSpec(
        name="quotes",
        doc="Ticker frames: best bid and ask, mark, volatilities, the venue's Greeks. "
        "A null is what the venue did not quote or could not compute.",
        columns=QUOTES,
        natural_key=as_sent(QUOTES),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        streamed=True,
    ),
    TableSpec(
        name="trades",
        doc="Every trade. A combo's trade appears on the combo and again on each leg (combo_id). The venue tells of a "
        "liquidation only an hour later: of two rows of one trade the one that tells is kept.",
        columns=_TRADES,
        # Two sources that give one id another price, size or side contradict each other: both rows stay.
        natural_key=("venue", "instrument", "trade_id", "price", "size", "side"),
        sort_key=("venue", "instrument", "ts", "trade_seq", "recv_ts"),
        streamed=True,
        prefer="liquidation",
    ),
    TableSpec(
        name="book",
        doc="Order book: one row per level of every snapshot and change message.",
        columns=_BOOK,
        # Two connections may be told of the same change from different ones on: these are two messages.
        natural_key=tuple(name for name in as_sent(_BOOK) if name != "level"),
        position="level",
        sort_key=("venue", "instrument", "ts", "change_id", "type", "prev_change_id", "level", "recv_ts"),
        streamed=True,
    ),
)
