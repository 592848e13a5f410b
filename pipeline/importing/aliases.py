"""What others call the columns of our tables: Tardis, Deribit's own answers, ccxt, Kaiko, Amberdata and pandas users.

Names are compared in lower case and without anything between their letters and digits.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Final

_BID: Final = ("bestbidprice", "bid", "bestbid", "bidprice1", "bidpx")
_ASK: Final = ("bestaskprice", "ask", "bestask", "askprice1", "askpx", "offer")

ALIASES: Final[Mapping[str, Sequence[str]]] = {
    "venue": ("exchange",),
    "instrument": (
        "instrumentname", "symbol", "market", "contract", "ticker", "product", "instrumentid", "name", "pair", "index",
        "indexname",
    ),
    "instruments.instrument": ("instrumentname", "symbol", "contract", "ticker", "name", "id"),
    "ts": (
        "timestamp", "time", "exchangetimestamp", "tradetimestamp", "datetime", "date", "t", "timestampms", "timems",
        "tms", "eventtime", "createdat", "snapshotdate", "datetimeutc", "snapshottime", "timestamputc",
    ),
    "recv_ts": (
        "localtimestamp", "recvtimestamp", "receivedtimestamp", "receivetime", "received", "collectedat", "localtime",
    ),
    "trade_id": ("id", "tradeid", "tid"),
    "trade_seq": ("seq", "sequence", "tradesequence"),
    "price": ("px", "p", "tradeprice", "value"),
    "size": ("amount", "qty", "quantity", "volume", "q", "sz", "vol", "tradeamount"),
    "side": ("direction", "takerside", "isbuy", "isbuyside", "aggressor", "s"),
    "iv": ("impliedvolatility", "impliedvol", "sigma", "volatility", "tradeiv"),
    "mark_iv": ("markimpliedvolatility", "markvol", "impliedvolatility", "iv"),
    "bid_iv": ("bidimpliedvolatility", "bestbidiv"),
    "ask_iv": ("askimpliedvolatility", "bestaskiv"),
    "mark_price": ("mark", "markpx"),
    "index_price": ("index", "indexpx", "spot", "estimateddeliveryprice"),
    "underlying_price": ("forward", "forwardprice", "underlying", "futureprice"),
    "bid_price": _BID,
    "bid_size": ("bidamount", "bestbidamount", "bidqty", "bidquantity", "bidsize1"),
    "ask_price": _ASK,
    "ask_size": ("askamount", "bestaskamount", "askqty", "askquantity", "asksize1"),
    "last_price": ("last", "lastpx"),
    "open_interest": ("oi",),
    "current_funding": ("fundingrate",),
    "cost": ("quotevolume", "volumeusd", "turnover"),
    "resolution": ("interval", "timeframe", "period"),
    "interest_1h": ("fundingrate", "rate"),
    "creation_ts": ("creationtimestamp", "listed", "listing", "availablesince"),
    "expiration_ts": ("expirationtimestamp", "expiry", "expiration", "expirationdate"),
    "valid_from": ("snapshotdate", "timestamp", "ts", "date", "asof", "creationtimestamp"),
    "strike": ("strikeprice",),
    "option_type": ("type", "callput", "cp", "right"),
}  # fmt: skip
"""Per column, or per table and column where the table has its own; the likeliest first."""

_BIDS: Final = ("bidprice", *_BID, "bidiv", "bidamount")
_ASKS: Final = ("askprice", *_ASK, "askiv", "askamount")
_GREEKS: Final = ("delta", "gamma", "vega", "markiv")

TABLE_OF: Final[Sequence[tuple[str, Sequence[Sequence[str]]]]] = (
    ("quotes", (_BIDS, _ASKS)),
    ("candles", (("open",), ("high",), ("low",), ("close",), ("volume", "vol", "amount"))),
    ("volatility_index", (("open",), ("high",), ("low",), ("close",))),
    ("trades", (("price", *ALIASES["price"]), ("size", *ALIASES["size"]), ALIASES["side"])),
    (
        "instruments",
        (("ticksize", "contractsize", "expirationtimestamp"), ("kind", "optiontype", "instrumenttype")),
    ),
    ("funding", (("interest1h", "interest8h", "fundingrate"),)),
    ("quotes", (_GREEKS,)),
    ("marks", (("markprice", "mark"), ("iv", "markiv"))),
    ("quotes", (("markprice", "mark"), ("openinterest", "oi", "indexprice"))),
    ("trades", (("price",), ("size", *ALIASES["size"]))),
    ("index_prices", (("price", "indexprice", "value"),)),
)
"""The first table of whose groups of names the file has one each."""

SIDES: Final = {
    "b": "buy", "bid": "buy", "long": "buy", "1": "buy", "1.0": "buy", "true": "buy", "bought": "buy",
    "s": "sell", "a": "sell", "ask": "sell", "short": "sell", "-1": "sell", "-1.0": "sell", "0": "sell", "2": "sell",
    "false": "sell", "sold": "sell",
}  # fmt: skip


class CCXT:
    """The names that ccxt gives to Deribit's instruments: BTC/USD:BTC-240329-60000-C."""

    FORM: Final = re.compile(
        r"(?P<base>[A-Z0-9]+)/(?P<quote>[A-Z0-9]+):(?P<settle>[A-Z0-9]+)"
        r"(?:-(?P<day>[0-9]{6})(?:-(?P<strike>[0-9.]+)-(?P<type>[CP]))?)?"
    )

    @classmethod
    def as_venue(cls, name: str) -> str | None:
        """The venue's name; None where it is not of ccxt's form, or no such day."""
        match = cls.FORM.fullmatch(name)
        if match is None:
            return None
        base = match["base"] if match["settle"] == match["base"] else f"{match['base']}_{match['quote']}"
        if match["day"] is None:
            return f"{base}-PERPETUAL"
        try:
            day = dt.datetime.strptime(match["day"], "%y%m%d").replace(tzinfo=dt.UTC)
        except ValueError:
            return None
        dated = f"{base}-{day.day}{day:%b%y}".upper()
        return (
            dated
            if match["strike"] is None
            else f"{dated}-{match['strike'].replace('.', 'd')}-{match['type']}"
        )
