"""The public methods that answer a question; the same over HTTP GET and over the socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from collectors.simulator.candles import RESOLUTIONS, chart, past_price
from collectors.simulator.chain import Spec, instrument_json
from collectors.simulator.frames import pairs
from collectors.simulator.instrument import Instrument, Trade
from collectors.simulator.market import Market
from collectors.simulator.rpc import UNKNOWN_METHOD, VERSION, RpcError, invalid

KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo", "any")
CURRENCIES: Final = ("BTC", "ETH", "USDC", "USDT", "EURR", "any")
DEPTHS: Final = (1, 5, 10, 20, 50, 100, 1000, 10000)
MAX_TRADES: Final = 1_000
DEFAULT_TRADES: Final = 10
MAX_FUNDING_ROWS: Final = 744
HOUR_MS: Final = 3_600_000
TRADES_HORIZON_MS: Final = 24 * HOUR_MS
Params = dict[str, Any]


class Methods(Protocol):
    """What the server needs: an answer to one public method."""

    def call(self, method: str, params: Params) -> object:
        """The `result` of `public/<method>`; raises RpcError as the venue would."""


def text(params: Params, name: str, allowed: Iterable[str] | None = None, default: str | None = None) -> str:
    """A string parameter."""
    value = params.get(name, default)
    if not isinstance(value, str):
        raise invalid(name, "value is required" if value is None else "must be a string")
    if allowed is not None and value not in allowed:
        raise invalid(name)
    return value


def integer(params: Params, name: str, default: int | None = None) -> int:
    """An integer parameter; GET sends it as text."""
    value = params.get(name, default)
    if value is None:
        raise invalid(name, "value is required")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise invalid(name, "must be an integer") from None


def boolean(params: Params, name: str) -> bool:
    """A boolean parameter, false by default; GET sends it as text."""
    value = params.get(name, False)
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise invalid(name, "must be a boolean")


def listed(specs: Iterable[Spec], params: Params) -> list[Spec]:
    """The instruments a `currency` and `kind` choose."""
    currency = text(params, "currency", CURRENCIES, "any")
    kind = text(params, "kind", KINDS, "any")
    return [s for s in specs if currency in ("any", s.currency) and kind in ("any", s.kind)]


class MarketMethods:
    """Answers out of a generated market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._methods: dict[str, Callable[[Params], object]] = {
            "get_time": lambda _: market.now_ms,
            "test": lambda _: {"version": VERSION},
            "hello": lambda _: {"version": VERSION},
            "status": self.get_status,
            "get_currencies": self.get_currencies,
            "get_instruments": self.get_instruments,
            "get_instrument": self.get_instrument,
            "get_order_book": self.get_order_book,
            "ticker": lambda p: msgspec.Raw(self._item(p).ticker_data(market.now_ms).encode()),
            "get_book_summary_by_currency": self.get_book_summary,
            "get_last_trades_by_instrument": self.trades_by_instrument,
            "get_last_trades_by_instrument_and_time": self.trades_by_instrument,
            "get_last_trades_by_currency": self.trades_by_currency,
            "get_last_trades_by_currency_and_time": self.trades_by_currency,
            "get_tradingview_chart_data": self.get_chart,
            "get_index_price": self.get_index_price,
            "get_index_price_names": lambda _: list(market.indices.all),
            "get_funding_rate_history": self.get_funding,
        }

    def call(self, method: str, params: Params) -> object:
        """The `result` of `public/<method>`; raises RpcError as the venue would."""
        found = self._methods.get(method)
        if found is None:
            raise RpcError(UNKNOWN_METHOD, "Method not found")
        return found(params)

    def _item(self, params: Params) -> Instrument:
        name = text(params, "instrument_name")
        found = self.market.instruments.get(name) or self.market.expired.get(name)
        if found is None:
            raise invalid("instrument_name", "instrument not found")
        return found

    def get_status(self, _: Params) -> object:
        """Locked during settlement."""
        locked = self.market.locked
        indices = list(self.market.indices.all) if locked else []
        return {"locked": "true" if locked else "false", "locked_indices": indices}

    def get_currencies(self, _: Params) -> object:
        """The coins of this market."""
        return currencies({item.spec.currency for item in self.market.instruments.values()})

    def get_instruments(self, params: Params) -> object:
        """Live instruments, or with `expired` those that ended during this run."""
        expired = boolean(params, "expired")
        items = self.market.expired if expired else self.market.instruments
        chosen = listed([item.spec for item in items.values()], params)
        return [instrument_json(s, self.market.now_ms, items[s.name].state) for s in chosen]

    def get_instrument(self, params: Params) -> object:
        """One instrument, live or expired."""
        item = self._item(params)
        return instrument_json(item.spec, self.market.now_ms, item.state)

    def get_order_book(self, params: Params) -> object:
        """Levels to `depth`, the ticker's fields and the change id."""
        item = self._item(params)
        depth = integer(params, "depth", 5)
        if depth not in DEPTHS:
            raise invalid("depth")
        book = item.book
        levels = f'"bids":{pairs(book.levels(0, depth))},"asks":{pairs(book.levels(1, depth))}'
        body = item.ticker_data(self.market.now_ms)
        return msgspec.Raw(f'{body[:-1]},"change_id":{book.change_id},{levels}}}'.encode())

    def get_book_summary(self, params: Params) -> object:
        """A whole currency at once; `any` is refused, as the venue does."""
        text(params, "currency", [c for c in CURRENCIES if c != "any"])
        names = {spec.name for spec in listed((i.spec for i in self.market.instruments.values()), params)}
        items = [item for name, item in self.market.instruments.items() if name in names]
        return [_summary(item, self.market.now_ms) for item in items]

    def trades_by_instrument(self, params: Params) -> object:
        """Trades of one instrument, newest first unless a range is given."""
        return _page(self._recent(self._item(params).trades), params)

    def trades_by_currency(self, params: Params) -> object:
        """Trades of a currency, and of one `kind` if wanted."""
        currency = text(params, "currency", CURRENCIES)
        kind = text(params, "kind", KINDS, "any")
        found = [t for c, trades in self.market.trades.items() if currency in ("any", c) for t in trades]
        if currency == "any":
            found.sort(key=lambda trade: trade.timestamp)
        if kind != "any":
            names = self.market.instruments | self.market.expired
            chosen = {name for name, item in names.items() if item.spec.kind == kind}
            found = [t for t in found if t.instrument in chosen]
        return _page(self._recent(found), params)

    def _recent(self, trades: Iterable[Trade]) -> list[Trade]:
        """What the venue still tells: older trades are left out without an error."""
        horizon = self.market.now_ms - TRADES_HORIZON_MS
        return [trade for trade in trades if trade.timestamp > horizon]

    def get_chart(self, params: Params) -> object:
        """Candles; the newest 5,001 of the window."""
        item = self._item(params)
        resolution = RESOLUTIONS[text(params, "resolution", RESOLUTIONS)]
        first, last = integer(params, "start_timestamp"), integer(params, "end_timestamp")
        if first > last:
            raise invalid("start_timestamp", "must not be after end_timestamp")
        return chart(item, first, min(last, self.market.now_ms), resolution, self.market.start_ms)

    def get_index_price(self, params: Params) -> object:
        """An index, with the estimated delivery price."""
        index = self.market.indices.all.get(text(params, "index_name"))
        if index is None:
            raise invalid("index_name")
        return {"index_price": index.price, "estimated_delivery_price": index.price}

    def get_funding(self, params: Params) -> object:
        """Hourly rows after `start_timestamp` (exclusive), the newest 744 of them."""
        item = self._item(params)
        if not item.spec.perpetual:
            raise invalid("instrument_name", "not a perpetual")
        first, last = integer(params, "start_timestamp"), integer(params, "end_timestamp")
        last = min(last, self.market.now_ms) // HOUR_MS * HOUR_MS
        first = max(first // HOUR_MS * HOUR_MS + HOUR_MS, last - (MAX_FUNDING_ROWS - 1) * HOUR_MS)
        return [_funding_row(item, at, self.market.start_ms) for at in range(first, last + 1, HOUR_MS)]


def currencies(names: Iterable[str]) -> list[dict[str, Any]]:
    """`get_currencies` rows for coins."""
    long = {"BTC": "Bitcoin", "ETH": "Ethereum", "USDC": "USD Coin"}
    return [
        {
            "coin_type": name, "currency": name, "currency_long": long.get(name, name),
            "min_confirmations": 1, "fee_precision": 4, "min_withdrawal_fee": 0.0001,
            "withdrawal_fee": 0.0001, "withdrawal_priorities": [], "in_cross_collateral_pool": True,
            "network_currency": name,
            "network_fee": 0.0001, "decimals": 8, "apr": 0.0,
        }
        for name in sorted(names)
    ]  # fmt: skip


def _page(trades: Iterable[Trade], params: Params) -> object:
    """A page of trades: by time or sequence bounds, `count` of them, sorted."""
    count = integer(params, "count", DEFAULT_TRADES)
    if not 1 <= count <= MAX_TRADES:
        raise invalid("count", "value must be between 1 and 1000")
    start, end = integer(params, "start_timestamp", 0), integer(params, "end_timestamp", 1 << 62)
    first, last = integer(params, "start_seq", 0), integer(params, "end_seq", 1 << 62)
    found = [t for t in trades if start <= t.timestamp <= end and first <= t.seq <= last]
    ranged = "start_timestamp" in params or "start_seq" in params
    sorting = text(params, "sorting", ("asc", "desc", "default"), "default")
    rising = sorting == "asc" or (sorting == "default" and ranged)
    chosen = found[:count] if rising else found[::-1][:count]
    rows = [msgspec.Raw(trade.text.encode()) for trade in chosen]
    return {"trades": rows, "has_more": len(found) > count}


def _summary(item: Instrument, now_ms: int) -> dict[str, Any]:
    """A row of `get_book_summary_by_currency`: null where there is no quote, no Greeks."""
    spec, book = item.spec, item.book
    bid = book.grid.price(book.best_bid) if book.best_bid else None
    ask = book.grid.price(book.best_ask) if book.best_ask else None
    change = None
    if item.first_price and item.last_price is not None:
        change = round((item.last_price / item.first_price - 1.0) * 100.0, 4)
    option = spec.kind == "option"
    mark = round(item.value_usd / (1.0 if spec.linear else item.underlying), 8) if option else item.mark
    row: dict[str, Any] = {
        "high": item.high, "low": item.low, "last": item.last_price, "instrument_name": spec.name,
        "bid_price": bid, "ask_price": ask, "open_interest": item.open_interest, "mark_price": mark,
        "creation_timestamp": now_ms, "price_change": change, "volume": item.volume,
        "base_currency": spec.base, "quote_currency": spec.quote,
        "estimated_delivery_price": item.index.price, "volume_usd": item.volume_usd,
        "mid_price": round((bid + ask) / 2, 8) if bid and ask else None,
    }  # fmt: skip
    if option:
        row |= {
            "interest_rate": 0.0, "mark_iv": round(item.mark_iv * 100, 2),
            "underlying_price": item.underlying, "underlying_index": item.underlying_index,
        }  # fmt: skip
    else:
        row["volume_notional"] = item.volume_usd
    if spec.perpetual:
        row |= {"current_funding": item.funding, "funding_8h": round(item.index.funding_8h, 8)}
    return row


def _funding_row(item: Instrument, at_ms: int, start_ms: int) -> dict[str, Any]:
    price = past_price(item, min(at_ms, start_ms), start_ms)
    hour = at_ms // HOUR_MS
    return {
        "timestamp": at_ms,
        "index_price": price,
        "prev_index_price": past_price(item, min(at_ms - HOUR_MS, start_ms), start_ms),
        "interest_8h": (hour * 7919 % 2000 - 900) * 1e-8,
        "interest_1h": (hour * 7919 % 2000 - 900) * 1.25e-9,
    }
