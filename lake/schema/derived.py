"""What jobs compute from other tables. It can be made again at any time, and is replaced whole, never appended to."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import EVENT
from lake.schema.spec import (
    UNROUNDED,
    ColumnSpec,
    Encoding,
    TableSpec,
    decimal,
    flag,
    greek,
    identifier,
    money,
    number,
    text,
    time,
    vol,
)

_IV_SCALE: Final = 4
_GAMMA_SCALE: Final = 9


def _iv(name: str, doc: str) -> ColumnSpec:
    return ColumnSpec(name, decimal(_IV_SCALE), True, Encoding.DELTA, doc)


_GREEKS: Final = (
    *EVENT,
    time("recv_ts", "Of the source row, which it identifies together with instrument and ts.", null=False),
    text("source", "Table the price is from: quotes, trades or candles.", null=False),
    identifier("trade_id", "Of the trade; null for the other sources."),
    text("resolution", "Of the candle; null for the other sources."),
    text("option_type", "call or put."),
    number("strike", "In counter currency."),
    time("expiration_ts", "Expiry, UTC; years of 365 days from ts until then went into every number here."),
    money("forward", "Forward that everything here was computed with, quote currency."),
    text(
        "forward_source",
        "underlying_price: the venue's forward; future: mark of the future of the same expiry; "
        "parity: put-call parity over the chain; null: none was known, so all else is null.",
    ),
    _iv("bid_iv", "Implied volatility of the bid, percent; null where no volatility gives that price."),
    _iv("ask_iv", "Implied volatility of the ask, percent."),
    _iv(
        "iv", "Implied volatility of the mark of quotes, the price of trades, the close of candles; percent."
    ),
    text(
        "volatility_source",
        "What delta to rho were computed with: venue (the venue's mark_iv of quotes), or own (iv).",
    ),
    greek("delta", "Per 1 of the underlying, not premium adjusted."),
    ColumnSpec("gamma", decimal(_GAMMA_SCALE), True, Encoding.DELTA, "Change of delta per 1 USD."),
    greek("vega", "USD per volatility point."),
    greek("theta", "USD per day, or until expiry where that is sooner."),
    greek("rho", "USD per rate point."),
    vol("residual_bid_iv", "bid_iv, rounded as the venue rounds, less the venue's; 0 is full agreement."),
    vol("residual_ask_iv", "Likewise of ask_iv."),
    vol("residual_iv", "Likewise of iv, against the venue's mark_iv of quotes and iv of trades."),
    greek("residual_delta", "delta, rounded as the venue rounds, less the venue's; 0 is full agreement."),
    greek("residual_gamma", "Likewise of gamma."),
    greek("residual_vega", "Likewise of vega."),
    greek("residual_theta", "Likewise of theta."),
    greek("residual_rho", "Likewise of rho."),
    flag(
        "final_averaging", "Whether ts is in the last 30 minutes, where price and Greeks follow an average."
    ),
    flag("bid_undetermined", "Whether there is a bid, and no volatility that gives it."),
    flag("ask_undetermined", "Likewise of the ask."),
    flag("undetermined", "Likewise of the price that iv belongs to."),
    text(
        UNROUNDED,
        "JSON object, column: number before rounding, of forward, vega, theta and rho where the forward is below "
        "100 and the decimals of these columns are too few; the SQL views put the two together.",
    ),
)

SPECS: Final = (
    TableSpec(
        name="greeks",
        doc="Implied volatilities and Greeks of our own, and how far the venue's are from them. One row per row of "
        "the source, of quotes the last in each interval (`quotes_every_s`). Null is what cannot be computed.",
        columns=_GREEKS,
        natural_key=("venue", "instrument", "source", "ts", "recv_ts", "trade_id", "resolution"),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        derived=True,
    ),
)
