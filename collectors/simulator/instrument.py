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
_BAND: Final = 0.015  # min_price and max_price of futures around the mark
_OPTION_BAND: Final = 0.035  # and of options, in units of the underlying


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
        self.skip_trades = 0  # how many of the next trades no channel will tell
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
        self.bounds = (0, 1)  # highest tick a maker bids at, lowest one it asks at
        self.settlement_price: float | None = None
        self.open_interest = 0.0
        self.skip_changes = 0
        # Pieces of the ticker's text, in their order; "last" is last_price, "quote" the best prices.
        self._stats = self._before_last = self._last = self._after_last = self._head = ""
        self._after_quote = ","
        self.channel_ticker = f"ticker.{spec.name}.100ms"
        self.channel_book = f"book.{spec.name}.100ms"
        self.channel_grouped = [(f"book.{spec.name}.none.{n}.100ms", n) for n in (1, 10, 20)]
        self.channel_trades = f"trades.{spec.name}.100ms"
        self.channel_quote = f"quote.{spec.name}"
        self.channel_perpetual = f"perpetual.{spec.name}.100ms"
        self.channel_perpetual_slow = f"perpetual.{spec.name}.agg2"
        self.told_mark = (0.0, 0.0)

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
        if self.smile is not None:
            self._remark_option(self.smile, now_ms)
        else:
            self._remark_future(now_ms)
        self._rebuild()

    def _remark_future(self, now_ms: int) -> None:
        spec, index, grid = self.spec, self.index, self.book.grid
        if spec.perpetual:
            self.mark = round(index.price * (1.0 + index.premium), 2)
        else:
            self.mark = index.forward(spec.expiry_ms, now_ms)
        half = spec.tick * _SPREAD_TICKS
        self.bounds = (grid.floor(self.mark - half), grid.floor(self.mark + half) + 1)
        band = grid.text(grid.floor(self.mark * (1 - _BAND))), grid.text(grid.floor(self.mark * (1 + _BAND)))
        index_price = number(index.price)
        estimate = f',"estimated_delivery_price":{index_price}'
        if spec.perpetual:
            estimate = (
                f',"interest_value":{number(index.premium)},"current_funding":{number(self.funding)}{estimate}'
                f',"funding_8h":{number(round(index.funding_8h, 8))}'
            )
        self._before_last = f',"index_price":{index_price},"instrument_name":"{spec.name}"'
        self._after_last = f"{self._limits(*band)}{estimate},"

    @property
    def funding(self) -> float:
        """Momentary funding of a perpetual, eight decimals."""
        return round(self.index.current_funding, 8)

    def _remark_option(self, smile: Smile, now_ms: int) -> None:
        spec, grid = self.spec, self.book.grid
        forward = self.index.forward(spec.expiry_ms, now_ms)
        years = years_left(spec.expiry_ms, now_ms)
        vol = smile.vol(forward, spec.strike, years)
        value, greek = greeks(forward, spec.strike, years, vol, spec.sign)
        scale = 1.0 if spec.linear else forward
        self.underlying, self.mark_iv, self.value_usd = forward, vol, value
        self.mark = round(max(value, 0.0) / scale, 4)
        half = (
            greek.vega * _OPTION_SPREAD_VOL_POINTS + value * _OPTION_SPREAD_SHARE
        ) / scale + spec.tick * 0.3
        fair, band = value / scale, _OPTION_BAND * forward / scale
        self.bounds = (grid.floor(fair - half), grid.floor(fair + half) + 1)
        limits = grid.text(max(grid.floor(fair - band), 1)), grid.text(grid.floor(fair + band) + 1)
        bid_iv = self._side_iv(self.book.best_bid, forward, years, vol)
        ask_iv = self._side_iv(self.book.best_ask, forward, years, vol)
        index_price = number(self.index.price)
        self._before_last = (
            f'{frames.greeks(greek)},"index_price":{index_price},"instrument_name":"{spec.name}"'
        )
        self._after_last = (
            f'{self._limits(*limits)},"interest_rate":0.0,"estimated_delivery_price":{index_price},'
        )
        self._after_quote = (
            f',"mark_iv":{number(round(vol * 100, 2))},"bid_iv":{number(bid_iv)},"ask_iv":{number(ask_iv)}'
            f',"underlying_price":{number(forward)},"underlying_index":"{self.underlying_index}",'
        )

    def _limits(self, low: str, high: str) -> str:
        """Settlement, price band, open interest and mark; open interest of inverse futures is an integer."""
        settled = self.settlement_price
        interest = self.open_interest
        whole = self.spec.kind == "future" and not self.spec.linear
        return (
            ("" if settled is None else f',"settlement_price":{number(settled)}')
            + f',"min_price":{low},"max_price":{high}'
            + f',"open_interest":{int(interest) if whole else number(interest)}'
            + f',"mark_price":{number(self.mark)}'
        )

    def _side_iv(self, tick: int | None, forward: float, years: float, vol: float) -> float:
        if tick is None:
            return 0.0
        return self.price_iv(self.book.grid.price(tick), forward, years, vol)

    def price_iv(self, price: float, forward: float, years: float, guess: float) -> float:
        """Implied volatility in percent of a price in the venue's unit; 0.0 where there is none."""
        value = price if self.spec.linear else price * forward
        return round(100.0 * implied_vol(value, forward, self.spec.strike, years, self.spec.sign, guess), 2)

    def record(self, trade: Trade) -> None:
        """Take a trade into history and statistics."""
        self.trades.append(trade)
        price = self.last_price = trade.price
        if self.first_price is None:
            self.first_price = price
        self.high = price if self.high is None else max(self.high, price)
        self.low = price if self.low is None else min(self.low, price)
        self.volume = round(self.volume + trade.volume, 8)
        self.volume_usd = round(self.volume_usd + trade.cost, 2)

    @property
    def price_change(self) -> float | None:
        """Percent since the first trade; None without one."""
        if self.first_price is None or self.last_price is None:
            return None
        return round((self.last_price / self.first_price - 1.0) * 100.0, 4)

    def rebuild_stats(self) -> None:
        """Texts that change with trades."""
        change = self.price_change
        notional = f',"volume_notional":{number(self.volume_usd)}' if self.spec.kind != "option" else ""
        self._stats = (
            f',"state":"{self.state}","stats":{{"high":{optional(self.high)},"low":{optional(self.low)}'
            f',"price_change":{optional(change)},"volume":{number(self.volume)}'
            f',"volume_usd":{number(self.volume_usd)}{notional}}}'
        )
        self._last = f',"last_price":{optional(self.last_price)}'
        self._rebuild()

    def _rebuild(self) -> None:
        self._head = f"{self._stats}{self._before_last}{self._last}{self._after_last}"

    def ticker_data(self, timestamp: int) -> str:
        """`data` of the ticker channel; also the result of public/ticker."""
        bid, ask, bid_amount, ask_amount = self.top_texts()
        return (
            f'{{"timestamp":{timestamp}{self._head}"best_ask_price":{ask},"best_bid_price":{bid}{self._after_quote}'
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
        """`data` of the quote channel."""
        bid, ask, bid_amount, ask_amount = self.top_texts()
        return frames.quote(self.spec.name, timestamp, ask, bid, ask_amount, bid_amount)

    def snapshot_data(self, timestamp: int) -> str:
        """`data` of a book snapshot."""
        book = self.book
        return frames.book_snapshot(self.spec.name, timestamp, book.change_id, book.levels(0), book.levels(1))

    def grouped_data(self, timestamp: int, depth: int) -> str:
        """`data` of a grouped book: the best `depth` levels."""
        book = self.book
        return frames.grouped_book(
            self.spec.name, timestamp, book.change_id, book.levels(0, depth), book.levels(1, depth)
        )

    def perpetual_data(self, timestamp: int) -> str:
        """`data` of the perpetual channel."""
        return frames.perpetual(timestamp, self.index.price, self.funding)

    def mark_row(self, timestamp: int) -> str:
        """Its row of `markprice.options`."""
        return frames.mark_price_row(self.spec.name, timestamp, *self.published_mark)

    @property
    def published_mark(self) -> tuple[float, float]:
        """Mark price and volatility (a fraction) as the venue rounds them."""
        return self.mark, round(self.mark_iv, 4)


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
