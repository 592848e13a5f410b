"""One listed instrument: its book, marks, statistics and trades, and the texts made of them.

Marks (mark price, volatilities, Greeks) are recomputed about once a second; best prices change at once. So a
ticker can show a new best ask beside the old `ask_iv`, as the venue's own do.
"""

from __future__ import annotations

from collections import deque
from math import floor
from random import Random
from typing import Final, NamedTuple

from collectors.simulator import frames
from collectors.simulator.book import Book, Grid
from collectors.simulator.chain import Spec
from collectors.simulator.frames import number, optional
from collectors.simulator.options import greeks, implied_vol
from collectors.simulator.prices import Index, Smile, years_left

TRADES_KEPT: Final = 10_000
_OPTION_SPREAD_VOL_POINTS: Final = 0.9
_OPTION_SPREAD_SHARE: Final = 0.004
_SPREAD_TICKS: Final = 0.6  # half spread of futures


class Trade(NamedTuple):
    """One trade as REST and the streams tell it; `text` is its JSON object."""

    timestamp: int
    instrument: str
    seq: int
    trade_id: str
    price: float
    amount: float
    volume: float  # in the base coin
    cost: float  # USD
    text: str


class Instrument:
    """Mutable state of one listing. `market.Market` moves it; everything here is deterministic."""

    def __init__(self, spec: Spec, index: Index, smile: Smile | None, rng: Random) -> None:
        self.spec = spec
        self.index = index
        self.smile = smile
        self.underlying_index = ""
        self.book = Book(Grid(spec.tick, spec.steps), spec.min_amount)
        self.depth_target = _depth_target(spec, rng)
        self.trades: deque[Trade] = deque(maxlen=TRADES_KEPT)
        self.state = "open"
        self.trade_seq = 0
        self.tick_direction = 0
        self.last_price: float | None = None
        self.first_price: float | None = None
        self.high: float | None = None
        self.low: float | None = None
        self.volume = 0.0
        self.volume_usd = 0.0
        self.mark = 0.0
        self.mark_iv = 0.0  # fraction, unrounded
        self.underlying = 0.0
        self.value_usd = 0.0
        self.vega = 0.0
        self.bounds = (0, 1)  # highest tick a maker bids at, lowest one it asks at
        self.settlement_price: float | None = None
        self.open_interest = 0.0
        self.skip_changes = 0
        self._bid_iv = self._ask_iv = 0.0
        self._marks = ("", "")
        self._stats = self._last = self._head = ""
        self.channel_ticker = f"ticker.{spec.name}.100ms"
        self.channel_book = f"book.{spec.name}.100ms"
        self.channel_grouped = [(f"book.{spec.name}.none.{n}.100ms", n) for n in (1, 10, 20)]
        self.channel_trades = f"trades.{spec.name}.100ms"
        self.channel_quote = f"quote.{spec.name}"
        self.channel_perpetual = f"perpetual.{spec.name}.100ms"

    def settle_first(self, rng: Random) -> None:
        """Yesterday's settlement and the open interest, once the first mark is known."""
        if self.spec.kind == "option":
            listed_today = rng.random() < 0.03
            price = self.mark * (1.0 + rng.gauss(0.0, 0.05)) + 0.00000123
            self.settlement_price = None if listed_today else round(price, 8)
            self.open_interest = 0.0 if listed_today else round(rng.paretovariate(0.8) * 2, 1) % 5_000
            self.open_interest = round(self.open_interest, 1)
        else:
            self.settlement_price = round(self.mark * (1.0 + rng.gauss(0.0, 0.005)), 2)
            self.open_interest = float(int(rng.uniform(1e7, 1e9)) // 10 * 10)

    def remark(self, now_ms: int) -> None:
        """New mark price, and for options volatilities and Greeks, from the index and the smile."""
        spec = self.spec
        if spec.kind == "option":
            self._remark_option(now_ms)
            return
        if spec.perpetual:
            self.mark = round(self.index.price * (1.0 + self.index.premium), 2)
        else:
            self.mark = self.index.forward(spec.expiry_ms, now_ms)
        half = spec.tick * _SPREAD_TICKS
        grid = self.book.grid
        self.bounds = (grid.floor(self.mark - half), grid.floor(self.mark + half) + 1)
        low, high = grid.floor(self.mark * 0.985), grid.floor(self.mark * 1.015)
        settled = f',"settlement_price":{number(self.settlement_price)}' if self.settlement_price else ""
        open_interest = number(self.open_interest) if spec.linear else str(int(self.open_interest))
        rest = (
            f'{settled},"min_price":{grid.text(low)},"max_price":{grid.text(high)},"open_interest":{open_interest}'
            f',"mark_price":{number(self.mark)}'
        )
        index_price = number(self.index.price)
        if spec.perpetual:
            premium = self.index.premium
            rest += (
                f',"interest_value":{number(premium)},"current_funding":{number(self.funding)}'
                f',"estimated_delivery_price":{index_price},"funding_8h":{number(round(self.index.funding_8h, 8))}'
            )
        else:
            rest += f',"estimated_delivery_price":{index_price}'
        self._marks = (f',"index_price":{index_price},"instrument_name":"{spec.name}"', rest + ",")
        self._tail = ","
        self._rebuild()

    @property
    def funding(self) -> float:
        """Momentary funding of a perpetual, eight decimals."""
        return round(self.index.current_funding, 8)

    def _remark_option(self, now_ms: int) -> None:
        spec, smile = self.spec, self.smile
        if smile is None:
            raise AssertionError("an option has a smile")
        forward = self.index.forward(spec.expiry_ms, now_ms)
        years = years_left(spec.expiry_ms, now_ms)
        vol = smile.vol(forward, spec.strike, years)
        value, greek = greeks(forward, spec.strike, years, vol, spec.sign)
        self.underlying, self.mark_iv, self.value_usd, self.vega = forward, vol, value, greek.vega
        scale = 1.0 if spec.linear else forward
        self.mark = round(max(value, 0.0) / scale, 4)
        grid = self.book.grid
        half = (
            greek.vega * _OPTION_SPREAD_VOL_POINTS + value * _OPTION_SPREAD_SHARE
        ) / scale + spec.tick * 0.3
        fair = value / scale
        self.bounds = (grid.floor(fair - half), grid.floor(fair + half) + 1)
        bid, ask = self.book.best_bid, self.book.best_ask
        self._bid_iv = self._side_iv(bid, forward, years, vol)
        self._ask_iv = self._side_iv(ask, forward, years, vol)
        low, high = (
            max(grid.floor(fair - 0.035 * forward / scale), 1),
            grid.floor(fair + 0.04 * forward / scale) + 1,
        )
        index_price = number(self.index.price)
        settled = (
            f',"settlement_price":{number(self.settlement_price)}'
            if self.settlement_price is not None
            else ""
        )
        self._marks = (
            f',"greeks":{{"delta":{number(round(greek.delta, 5))},"gamma":{number(round(greek.gamma, 5))}'
            f',"vega":{number(round(greek.vega, 5))},"theta":{number(round(greek.theta, 5))}'
            f',"rho":{number(round(greek.rho, 5))}}},"index_price":{index_price},"instrument_name":"{spec.name}"',
            f'{settled},"min_price":{grid.text(low)},"max_price":{grid.text(high)}'
            f',"open_interest":{number(self.open_interest)},"mark_price":{number(self.mark)},"interest_rate":0.0'
            f',"estimated_delivery_price":{index_price},',
        )
        self._tail = (
            f',"mark_iv":{number(round(vol * 100, 2))},"bid_iv":{number(self._bid_iv)},"ask_iv":{number(self._ask_iv)}'
            f',"underlying_price":{number(forward)},"underlying_index":"{self.underlying_index}",'
        )
        self._rebuild()

    def _side_iv(self, tick: int | None, forward: float, years: float, vol: float) -> float:
        if tick is None:
            return 0.0
        return self.price_iv(self.book.grid.price(tick), forward, years, vol)

    def price_iv(self, price: float, forward: float, years: float, guess: float) -> float:
        """Implied volatility in percent of a price in the venue's unit; 0.0 where there is none."""
        value = price if self.spec.linear else price * forward
        return round(100.0 * implied_vol(value, forward, self.spec.strike, years, self.spec.sign, guess), 2)

    def record(self, trade: Trade, *, in_stats: bool = True) -> None:
        """Take a trade into history and statistics."""
        self.trades.append(trade)
        self.last_price = trade.price
        if in_stats:
            if self.first_price is None:
                self.first_price = self.high = self.low = trade.price
            self.high = max(self.high or trade.price, trade.price)
            self.low = min(self.low or trade.price, trade.price)
            self.volume = round(
                self.volume + (trade.amount if self.spec.kind == "option" else trade.volume), 8
            )
            self.volume_usd = round(self.volume_usd + trade.cost, 2)

    def rebuild_stats(self) -> None:
        """Texts that change with trades."""
        change = None
        if self.first_price and self.last_price is not None:
            change = round((self.last_price / self.first_price - 1.0) * 100.0, 4)
        notional = f',"volume_notional":{number(self.volume_usd)}' if self.spec.kind != "option" else ""
        self._stats = (
            f',"state":"{self.state}","stats":{{"high":{optional(self.high)},"low":{optional(self.low)}'
            f',"price_change":{optional(change)},"volume":{number(self.volume)}'
            f',"volume_usd":{number(self.volume_usd)}{notional}}}'
        )
        self._last = f',"last_price":{optional(self.last_price)}'
        self._rebuild()

    def _rebuild(self) -> None:
        self._head = f"{self._stats}{self._marks[0]}{self._last}{self._marks[1]}"

    _tail = ","

    def ticker_data(self, timestamp: int) -> str:
        """`data` of the ticker channel; also the result of public/ticker."""
        bid, ask, bid_amount, ask_amount = self.top_texts()
        return (
            f'{{"timestamp":{timestamp}{self._head}"best_ask_price":{ask},"best_bid_price":{bid}{self._tail}'
            f'"best_ask_amount":{ask_amount},"best_bid_amount":{bid_amount}}}'
        )

    def top_texts(self) -> tuple[str, str, str, str]:
        """Best bid, best ask and their amounts; 0.0 where a side is empty."""
        bid, ask, bid_units, ask_units = self.book.top()
        text, unit = self.book.grid.text, self.spec.min_amount
        return (
            text(bid) if bid else "0.0",
            text(ask) if ask else "0.0",
            number(round(bid_units * unit, 6)),
            number(round(ask_units * unit, 6)),
        )

    def quote_data(self, timestamp: int) -> str:
        bid, ask, bid_amount, ask_amount = self.top_texts()
        return frames.quote(self.spec.name, timestamp, ask, bid, ask_amount, bid_amount)

    def snapshot_data(self, timestamp: int) -> str:
        book = self.book
        return frames.book_snapshot(self.spec.name, timestamp, book.change_id, book.levels(0), book.levels(1))

    def grouped_data(self, timestamp: int, depth: int) -> str:
        book = self.book
        return frames.grouped_book(
            self.spec.name, timestamp, book.change_id, book.levels(0, depth), book.levels(1, depth)
        )

    def perpetual_data(self, timestamp: int) -> str:
        return frames.perpetual(timestamp, self.index.price, self.index.premium)

    def mark_row(self, timestamp: int) -> str:
        return frames.mark_price_row(self.spec.name, timestamp, self.mark, round(self.mark_iv, 4))


def _depth_target(spec: Spec, rng: Random) -> tuple[int, int]:
    """Levels per side a book tends to; some options have one side or none at all."""
    if spec.perpetual:
        return 60, 60
    if spec.kind != "option":
        return 15, 15
    luck = rng.random()
    levels = 1 + floor(rng.expovariate(0.3))
    if luck < 0.02:
        return 0, 0
    if luck < 0.06:
        return 0, levels
    if luck < 0.12:
        return levels, 0
    return levels, max(1, levels + rng.randint(-1, 1))
