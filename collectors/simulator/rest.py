"""The public methods that answer a question; the same over HTTP GET and over the socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from collectors.simulator.chain import instrument_json
from collectors.simulator.frames import pairs
from collectors.simulator.history.methods import RECENT_MS, PastMethods
from collectors.simulator.history.past import Past
from collectors.simulator.instrument import Instrument
from collectors.simulator.market import Market
from collectors.simulator.params import CURRENCIES, Params, boolean, integer, listed, text
from collectors.simulator.rpc import UNKNOWN_METHOD, VERSION, RpcError, invalid

DEPTHS: Final = (1, 5, 10, 20, 50, 100, 1000, 10000)


class MarketMethods(PastMethods):
    """Answers out of a generated market and its past."""

    def __init__(self, market: Market, past: Past) -> None:
        super().__init__(market, past)
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
            "get_last_trades_by_instrument": lambda p: self.trades_by_instrument(p, "www"),
            "get_last_trades_by_instrument_and_time": lambda p: self.trades_by_instrument(p, "www"),
            "get_last_trades_by_currency": lambda p: self.trades_by_currency(p, "www"),
            "get_last_trades_by_currency_and_time": lambda p: self.trades_by_currency(p, "www"),
            "get_tradingview_chart_data": self.get_chart,
            "get_index_price": self.get_index_price,
            "get_index_price_names": lambda _: list(market.indices.all),
            "get_supported_index_names": lambda _: list(market.indices.all),
            "get_index_chart_data": self.get_index_chart,
            "get_funding_rate_history": self.get_funding,
            "get_funding_rate_value": self.get_funding_value,
            "get_volatility_index_data": self.get_volatility,
            "get_mark_price_history": self.get_marks,
            "get_delivery_prices": self.get_delivery,
            "get_last_settlements_by_instrument": self.settlements_by_instrument,
            "get_last_settlements_by_currency": self.settlements_by_currency,
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
        """Live instruments, or with `expired` those that ended lately."""
        if boolean(params, "expired"):
            return self.expired(params, self.market.now_ms - RECENT_MS)
        items = self.market.instruments
        chosen = listed([item.spec for item in items.values()], params)
        return [instrument_json(s, self.market.now_ms, items[s.name].state) for s in chosen]

    def get_instrument(self, params: Params) -> object:
        """One instrument, live or expired."""
        spec = self.spec(params)
        live = self.live(spec.name)
        return instrument_json(spec, self.market.now_ms, "archivized" if live is None else live.state)

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
        items = self.market.instruments
        chosen = listed([item.spec for item in items.values()], params)
        return [_summary(items[spec.name], self.market.now_ms) for spec in chosen]

    def get_index_price(self, params: Params) -> object:
        """An index, with the estimated delivery price."""
        index = self.market.indices.all.get(text(params, "index_name"))
        if index is None:
            raise invalid("index_name")
        return {"index_price": index.price, "estimated_delivery_price": index.price}


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


def _summary(item: Instrument, now_ms: int) -> dict[str, Any]:
    """A row of `get_book_summary_by_currency`: null where there is no quote, no Greeks."""
    spec, book = item.spec, item.book
    bid = book.grid.price(book.best_bid) if book.best_bid else None
    ask = book.grid.price(book.best_ask) if book.best_ask else None
    option = spec.kind == "option"
    mark = round(item.value_usd / (1.0 if spec.linear else item.underlying), 8) if option else item.mark
    row: dict[str, Any] = {
        "high": item.high, "low": item.low, "last": item.last_price, "instrument_name": spec.name,
        "bid_price": bid, "ask_price": ask, "open_interest": item.open_interest, "mark_price": mark,
        "creation_timestamp": now_ms, "price_change": item.price_change, "volume": item.volume,
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
