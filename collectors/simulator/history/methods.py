"""The public methods that speak of the past, for both hosts: `www` beside the live market, `history` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from collectors.simulator.chain import DAY_MS, Spec, instrument_json
from collectors.simulator.history import series
from collectors.simulator.history.candles import RESOLUTIONS, bars_of, chart
from collectors.simulator.history.pages import FOREVER, MAX_TRADES, Host, Pages, Range, Sorting
from collectors.simulator.history.past import Past
from collectors.simulator.instrument import Instrument, Trade
from collectors.simulator.market import Market
from collectors.simulator.params import (
    CURRENCIES,
    Params,
    boolean,
    bounded,
    integer,
    listed,
    span,
    text,
)  # fmt: skip
from collectors.simulator.rpc import UNKNOWN_METHOD, VERSION, RpcError, invalid

DEFAULT_TRADES: Final = 10
RECENT_MS: Final = 3 * DAY_MS  # how long the live host lists what has expired
SETTLEMENT_TYPES: Final = ("settlement", "delivery", "bankruptcy")
_MAX_PAGE: Final = 1_000


class PastMethods:
    """Answers about the past of a market, live part included."""

    def __init__(self, market: Market, past: Past) -> None:
        self.market = market
        self.past = past
        self.pages = Pages(past)
        self._settlements = series.Settlements(past.course, past.settings.seed)

    def spec(self, params: Params) -> Spec:
        """The instrument a request names, of any time."""
        name = text(params, "instrument_name")
        live = self.live(name)
        found = live.spec if live is not None else self.past.expired.get(name)
        if found is None:
            raise invalid("instrument_name", "instrument not found")
        return found

    def live(self, name: str) -> Instrument | None:
        """The instrument of the live market, listed or expired during it."""
        return self.market.instruments.get(name) or self.market.expired.get(name)

    def all_specs(self) -> list[Spec]:
        """Every instrument there is or was."""
        live = [i.spec for i in (*self.market.instruments.values(), *self.market.expired.values())]
        return [*live, *self.past.expired.values()]

    def expired(self, params: Params, since_ms: int) -> list[dict[str, Any]]:
        """Rows of get_instruments for what expired after a time."""
        now, lately = self.market.now_ms, self.market.expired
        rows = [
            instrument_json(spec, now, lately[spec.name].state)
            for spec in listed((item.spec for item in lately.values()), params)
        ]
        past = (spec for spec in self.past.expired.values() if spec.expiry_ms > since_ms)
        return rows + [instrument_json(spec, now, "archivized") for spec in listed(past, params)]

    def trades_by_instrument(self, params: Params, host: Host) -> dict[str, Any]:
        """Trades of one instrument, newest first unless a range is given."""
        spec = self.spec(params)
        return self.pages.of_instrument(
            spec, self.live(spec.name), _range(params, host), host, self.market.now_ms
        )

    def trades_by_currency(self, params: Params, host: Host) -> dict[str, Any]:
        """Trades of a currency, and of one `kind` if wanted."""
        currency = text(params, "currency", CURRENCIES)
        specs = listed(self.all_specs(), params)
        names = {spec.name for spec in specs}
        live: Iterable[Trade] = (
            t for c, ts in self.market.trades.items() if currency in ("any", c) for t in ts
        )
        chosen = sorted((t for t in live if t.instrument in names), key=lambda t: t.timestamp)
        return self.pages.of_many(specs, chosen, _range(params, host), host, self.market.now_ms)

    def get_chart(self, params: Params) -> dict[str, Any]:
        """Candles after `start_timestamp` (exclusive), the newest 5,001 of the window."""
        spec = self.spec(params)
        resolution = RESOLUTIONS[text(params, "resolution", RESOLUTIONS)]
        first, last = span(params, self.market.now_ms)
        return chart(bars_of(self.past, spec, self.live(spec.name), first, last, resolution))

    def get_funding(self, params: Params) -> list[dict[str, Any]]:
        """Hourly rows after `start_timestamp` (exclusive), the newest 744 of them."""
        return series.funding_rows(
            self.past.course, self._perpetual(params), *span(params, self.market.now_ms)
        )

    def get_funding_value(self, params: Params) -> float:
        """Funding summed over a span."""
        return series.funding_value(
            self.past.course, self._perpetual(params), *span(params, self.market.now_ms)
        )

    def _perpetual(self, params: Params) -> Spec:
        spec = self.spec(params)
        if not spec.perpetual:
            raise invalid("instrument_name", "not a perpetual")
        return spec

    def get_volatility(self, params: Params) -> dict[str, Any]:
        """Candles of the volatility index, the newest 1,000."""
        base = text(params, "currency", series.VOLATILITY_CURRENCIES)
        step = series.VOLATILITY_RESOLUTIONS[text(params, "resolution", series.VOLATILITY_RESOLUTIONS)]
        return series.volatility_page(self.past.course, base, *span(params, self.market.now_ms), step)

    def _index(self, params: Params) -> str:
        return text(params, "index_name", self.market.indices.all).split("_")[0].upper()

    def get_index_chart(self, params: Params) -> list[list[float]]:
        """Coarse history of an index up to now."""
        base, length = self._index(params), text(params, "range", series.INDEX_RANGES)
        return series.index_chart(self.past.course, base, length, self.market.now_ms, self.past.first_ms)

    def get_marks(self, params: Params) -> list[list[float]]:
        """Marks every 5 minutes of the options that make the volatility index, none of anything else."""
        spec = self.spec(params)
        first, last = span(params, self.market.now_ms)
        left = spec.expiry_ms - self.market.now_ms
        if spec.kind != "option" or spec.linear or not 0 < left < 60 * DAY_MS:
            return []
        times = series.mark_times(spec, first, last)
        marks = self.past.outright(spec).fair(times, self.past.course.index(spec.base, times))
        return [list(row) for row in zip(times.tolist(), np.round(marks, 4).tolist(), strict=True)]

    def get_delivery(self, params: Params) -> dict[str, Any]:
        """Delivery prices by day, newest first."""
        offset, count = bounded(params, "offset", 0, FOREVER, 0), bounded(params, "count", 10, _MAX_PAGE)
        return series.delivery_page(self.past.course, self._index(params), offset, count, self.market.now_ms)

    def settlements_by_instrument(self, params: Params) -> dict[str, Any]:
        """Settlements and deliveries of one instrument, newest first."""
        return self._settled([self.spec(params)], params)

    def settlements_by_currency(self, params: Params) -> dict[str, Any]:
        """Settlements and deliveries of a currency, newest first."""
        currency = text(params, "currency", CURRENCIES)
        return self._settled([s for s in self.all_specs() if s.currency == currency], params)

    def _settled(self, specs: list[Spec], params: Params) -> dict[str, Any]:
        """`search_start_timestamp` is where the search backwards starts: an upper bound."""
        kind = text(params, "type", SETTLEMENT_TYPES) if "type" in params else None
        count = bounded(params, "count", 20, _MAX_PAGE)
        last = min(integer(params, "search_start_timestamp", self.market.now_ms), self.market.now_ms)
        cursor = text(params, "continuation") if "continuation" in params else None
        first = min((spec.creation_ms for spec in specs), default=FOREVER)
        try:
            return self._settlements.page(specs, kind, count, cursor, last, max(first, self.past.first_ms))
        except ValueError:
            raise invalid("continuation") from None


class HistoryMethods:
    """What the history host answers: trades, the full list of what has expired, candles; nothing else."""

    def __init__(self, past: PastMethods) -> None:
        self._methods: dict[str, Callable[[Params], object]] = {
            "get_time": lambda _: past.market.now_ms,
            "test": lambda _: {"version": VERSION},
            "get_instruments": self.get_instruments,
            "get_last_trades_by_instrument": lambda p: past.trades_by_instrument(p, "history"),
            "get_last_trades_by_instrument_and_time": lambda p: past.trades_by_instrument(p, "history"),
            "get_last_trades_by_currency": lambda p: past.trades_by_currency(p, "history"),
            "get_last_trades_by_currency_and_time": lambda p: past.trades_by_currency(p, "history"),
            "get_tradingview_chart_data": past.get_chart,
        }
        self._past = past

    def call(self, method: str, params: Params) -> object:
        """The `result` of `public/<method>`; raises RpcError as the host would."""
        found = self._methods.get(method)
        if found is None:
            raise RpcError(UNKNOWN_METHOD, "Method not found")
        return found(params)

    def get_instruments(self, params: Params) -> list[dict[str, Any]]:
        """All that ever expired; of living instruments this host lists none."""
        return self._past.expired(params, 0) if boolean(params, "expired") else []


def _range(params: Params, host: Host) -> Range:
    """Bounds, `count` and order of a request for trades."""
    sortings: dict[str, Sorting] = {"asc": "asc", "desc": "desc", "default": "default"}
    sorting = sortings[text(params, "sorting", sortings, "default")]
    ranged = "start_timestamp" in params or "start_seq" in params
    return Range(
        first_ms=integer(params, "start_timestamp", 0),
        last_ms=integer(params, "end_timestamp", FOREVER),
        first_seq=integer(params, "start_seq", 0),
        last_seq=integer(params, "end_seq", FOREVER),
        count=bounded(params, "count", DEFAULT_TRADES, MAX_TRADES[host]),
        rising=sorting == "asc" or (sorting == "default" and ranged),
        sorting=sorting,
    )
