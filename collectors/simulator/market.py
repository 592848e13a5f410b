"""The generated market: a clock of 10 ms steps that moves prices, books and trades, and publishes them.

Every instrument belongs to one of ten slots and is touched once per 100 ms, so no channel can speak more
often. Nothing here depends on who listens: subscriptions decide only which texts are built.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

import msgspec

from collectors.simulator import frames
from collectors.simulator.activity import MAX_EVENT_CHANCE, activity, first_chance
from collectors.simulator.book import order_units
from collectors.simulator.chain import Spec, instrument_json
from collectors.simulator.instrument import Instrument, Trade
from collectors.simulator.prices import Indices, Smile, make_smile, years_left
from collectors.simulator.publisher import Outlet, Publisher
from collectors.simulator.slow import publish_slow
from lake.errors import InputError

STEP_MS: Final = 10
SLOTS: Final = 10
ROUNDS_PER_SECOND: Final = 10
FRAMES_PER_INSTRUMENT_S: Final = 6.0  # denser than this and the clock runs faster instead
TICKER_SHARE: Final = 0.5  # of the frame rate that quiet tickers may use
TIGHT_CHANCE: Final = 0.7  # that a maker of futures closes the spread after a move
HISTORY_MS: Final = 6 * 3_600_000
TRADES_PER_CURRENCY: Final = 50_000
_FIRST_CHANGE_ID: Final = 118_850_965_713
_FIRST_MATCH_ID: Final = 225_046_781_992_378_368
_FIRST_TRADE_ID: Final = 267_258_393


class Market:
    """State of the venue. `step` is the only thing that moves it.

    `trades_before` tells how many trades an instrument had before the market's own; `trade_seq` goes on from there.
    Trade ids of every coin go on from `first_trade_id`.
    """

    def __init__(
        self,
        specs: Sequence[Spec],
        *,
        seed: int,
        rate: float,
        start_ms: int,
        outlet: Outlet,
        prices: Mapping[str, float] | None = None,
        trades_before: Callable[[Spec], int] = lambda _: 0,
        first_trade_id: int = _FIRST_TRADE_ID,
    ) -> None:
        self.rng = Random(seed)
        self.outlet = outlet
        self._publisher = Publisher(outlet)
        self.now_ms = start_ms
        self.start_ms = start_ms
        self.steps = 0
        self.listings = 0  # how often what is listed has changed
        self.frames = 0  # tickers, book changes and trade messages of all instruments, listened to or not
        self.change_id = _FIRST_CHANGE_ID
        self.match_id = _FIRST_MATCH_ID
        self.trade_ids: dict[str, int] = {}
        self._trades_before = trades_before
        self._first_trade_id = first_trade_id
        capacity = len(specs) * FRAMES_PER_INSTRUMENT_S
        self.locked = False  # settlement: told by platform_state and `public/status`
        self.speed = max(1.0, rate / capacity) if rate else 1.0
        self.per_second = rate / self.speed if rate else capacity  # frames per simulated second
        self.indices = Indices(sorted({spec.index for spec in specs}), self.rng, prices or {})
        self.smiles: dict[tuple[str, int], Smile] = {}
        self.instruments: dict[str, Instrument] = {}
        self.expired: dict[str, Instrument] = {}
        self.trades: dict[str, deque[Trade]] = {}
        self._positions: dict[str, int] = {}
        self._groups: list[list[tuple[Instrument, float, int]]] = []
        self._chance = 1.0
        self._frames_at_second = 0
        for spec in specs:
            self._list(spec)
        self._name_underlyings()
        self._activity = activity(list(self.instruments.values()), start_ms)
        self._open()
        self._regroup()

    # -- listing ---------------------------------------------------------------------------------

    def _list(self, spec: Spec) -> Instrument:
        index = self.indices.all[spec.index]
        smile = None
        if spec.kind == "option":
            key = (spec.base, spec.expiry_ms)
            if key not in self.smiles:
                self.smiles[key] = make_smile(years_left(spec.expiry_ms, self.now_ms), self.rng)
            smile = self.smiles[key]
        found = self.instruments[spec.name] = Instrument(spec, index, smile, self.rng)
        self._positions[spec.name] = len(self._positions)  # for good: a listing keeps its slot
        return found

    def _name_underlyings(self) -> None:
        for item in self.instruments.values():
            future = f"{item.spec.prefix}-{item.spec.expiry_code}" if item.spec.kind == "option" else ""
            item.underlying_index = future if future in self.instruments else f"SYN.{future}"

    def _open(self) -> None:
        """First marks, a trading history of some hours, and resting books."""
        for item in self.instruments.values():
            item.remark(self.now_ms)
            item.settle_first(self.rng)
            item.trade_seq = self._trades_before(item.spec)
        self._seed_trades()
        for item in self.instruments.values():
            self._seed_book(item)
            item.rebuild_stats()
            item.remark(self.now_ms)

    def _seed_book(self, item: Instrument) -> None:
        ceiling, floor = item.bounds
        for side, levels in enumerate(item.depth_target):
            tick = ceiling if side == 0 else floor
            for _ in range(levels):
                if tick >= 1:
                    item.book.set(side, tick, order_units(self.rng))
                tick += (1 + int(self.rng.expovariate(0.7))) * (-1 if side == 0 else 1)
        if item.book.changes() != ([], []):
            self.change_id += self.rng.randint(1, 900)
            item.book.change_id = self.change_id

    def _seed_trades(self) -> None:
        rng, plan = self.rng, []
        for item in self.instruments.values():
            count = min(int(self._activity[item.spec.name] * 400 * rng.random()), 400)
            plan += [(self.now_ms - 1 - int(HISTORY_MS * rng.random()), item) for _ in range(count)]
        plan.sort(key=lambda entry: entry[0])
        for timestamp, item in plan:
            grid, tick = item.book.grid, item.book.grid.floor(item.mark * (1.0 + rng.gauss(0.0, 0.003)))
            if tick >= 1:
                units = order_units(rng)
                self._make_trade(item, timestamp, grid.price(tick), units, rng.random() < 0.5)

    def _regroup(self) -> None:
        """Instruments by slot, each with its activity and the round of its marks: what is listed has changed."""
        self.listings += 1
        items = list(self.instruments.values())
        quiet = max(self.per_second * TICKER_SHARE, 1.0)
        period = max(ROUNDS_PER_SECOND, round(len(items) * ROUNDS_PER_SECOND / quiet))
        self._mark_rounds = period
        self._groups = [[] for _ in range(SLOTS)]
        for item in items:
            position = self._positions[item.spec.name]
            group = self._groups[position % SLOTS]
            group.append((item, self._activity[item.spec.name], position // SLOTS * 7 % period))
        tickers = len(items) * ROUNDS_PER_SECOND / period
        self._chance = first_chance(
            [self._activity[name] for name in self.instruments], self.per_second - tickers
        )

    # -- time ------------------------------------------------------------------------------------

    def step(self) -> None:
        """Advance 10 ms of venue time and publish what happened in this slot."""
        slot = self.steps % SLOTS
        turn = self.steps // SLOTS
        self.steps += 1
        self.now_ms += STEP_MS
        if slot == 0:
            if turn % ROUNDS_PER_SECOND == 0:
                self._second()
            self._publisher.flush_trades()
        rng, chance, period = self.rng, self._chance, self._mark_rounds
        for item, weight, phase in self._groups[slot]:
            event = rng.random() < min(weight * chance, MAX_EVENT_CHANCE)
            due = (turn + phase) % period == 0 or (item.spec.perpetual and turn % 5 == 0)
            if event or due:
                self._touch(item, event=event, due=due)

    def _touch(self, item: Instrument, *, event: bool, due: bool) -> None:
        """One instrument in its 100 ms: marks, then the book, then the frames these two cause."""
        now, outlet = self.now_ms, self.outlet
        listened = outlet.listened
        book = item.book
        top = book.top()
        fresh: list[Trade] = []
        if event:
            fresh = self._event(item)
        if due:
            item.remark(now)
            if item.spec.perpetual and item.channel_perpetual in listened:
                outlet.publish(item.channel_perpetual, item.perpetual_data(now), now, None)
        if fresh:
            self.frames += 1
            item.rebuild_stats()
            self._publisher.trades(item, fresh)
        if event:
            self._publish_book(item)
        moved = book.top() != top
        if moved and item.channel_quote in listened:
            outlet.publish(item.channel_quote, item.quote_data(now), now, None)
        if due or moved or fresh:
            self.frames += 1
            if item.channel_ticker in listened:
                outlet.publish(item.channel_ticker, item.ticker_data(now), now, None)

    def _event(self, item: Instrument) -> list[Trade]:
        """Makers follow the mark; somebody may trade."""
        rng, book = self.rng, item.book
        option = item.spec.kind == "option"
        fresh: list[Trade] = []
        if rng.random() < (0.06 if option else 0.25):
            fresh = self._take(item)
        ceiling, floor = item.bounds
        book.retreat(ceiling, floor)
        target = item.depth_target
        if not option:
            for side, tick in enumerate(item.bounds):
                if tick >= 1 and rng.random() < TIGHT_CHANCE and not book.amount(side, tick):
                    book.set(side, tick, order_units(rng))
        if target != (0, 0):
            for _ in range(1 if option else rng.randint(1, 4)):
                book.churn(rng, ceiling, floor, target)
        return fresh

    def _take(self, item: Instrument) -> list[Trade]:
        """A taker walks the book: one trade per level it empties or bites into."""
        rng, book = self.rng, item.book
        buy = rng.random() < 0.5
        side = 1 if buy else 0
        units = order_units(rng)
        fresh = []
        for _ in range(4):
            tick = book.best_ask if buy else book.best_bid
            if tick is None or not units:
                break
            resting = book.amount(side, tick)
            taken = min(units, resting)
            units -= taken
            book.set(side, tick, resting - taken)
            fresh.append(self._make_trade(item, self.now_ms, book.grid.price(tick), taken, buy))
        return fresh

    def _make_trade(self, item: Instrument, timestamp: int, price: float, units: int, buy: bool) -> Trade:
        spec, rng = item.spec, self.rng
        amount = round(units * spec.min_amount, 6)
        item.trade_seq += 1
        self.match_id += rng.randint(1, 40)
        count = self.trade_ids.get(spec.prefix, self._first_trade_id) + 1
        self.trade_ids[spec.prefix] = count
        trade_id = str(count) if spec.prefix == "BTC" else f"{spec.prefix}-{count}"
        last = item.last_price
        if last is None or price > last:
            item.tick_direction = 0
        elif price < last:
            item.tick_direction = 2
        else:
            item.tick_direction |= 1
        vol = None
        if spec.kind == "option":
            years = years_left(spec.expiry_ms, timestamp)
            vol = item.price_iv(price, item.underlying, years, item.mark_iv)
        text = frames.trade(
            spec.name,
            timestamp,
            side="buy" if buy else "sell",
            numbers=(price, amount, item.index.price, item.mark, round(amount / spec.contract_size, 6)),
            vol=vol,
            ids=(item.trade_seq, trade_id, item.tick_direction, self.match_id),
            nanoseconds=timestamp * 1_000_000 + rng.randrange(1_000_000),
        )
        inverse_future = spec.kind == "future" and not spec.linear
        volume = round(amount / price, 8) if inverse_future else amount
        cost = (
            amount if inverse_future else round(amount * price * (1.0 if spec.linear else item.underlying), 2)
        )
        trade = Trade(timestamp, spec.name, item.trade_seq, trade_id, price, amount, volume, cost, text)
        item.record(trade)
        kept = self.trades.get(spec.currency)
        if kept is None:
            kept = self.trades[spec.currency] = deque(maxlen=TRADES_PER_CURRENCY)
        kept.append(trade)
        return trade

    def _second(self) -> None:
        """Once a simulated second: prices move, expiries happen, slow channels speak."""
        done = self.frames - self._frames_at_second
        self._frames_at_second = self.frames
        if self.steps > SLOTS * ROUNDS_PER_SECOND:
            ratio = self.per_second / max(done, 1)
            self._chance = min(max(self._chance * min(max(ratio, 0.8), 1.25), 0.001), 1_000.0)
        self.indices.second(self.rng)
        for smile in self.smiles.values():
            smile.second(self.rng)
        self._expire()
        publish_slow(self)

    def _expire(self) -> None:
        gone = [item for item in self.instruments.values() if item.spec.expiry_ms <= self.now_ms]
        if gone:
            self.retire(gone)

    def retire(self, gone: Sequence[Instrument]) -> None:
        """End the life of instruments: they fall silent and move to the expired list."""
        for item in gone:
            del self.instruments[item.spec.name]
            self.expired[item.spec.name] = item
            self.set_state(item, "inactive")
        self._regroup()

    def add(self, spec: Spec) -> Instrument:
        """List a new instrument: marks, but no quote, no trade and no settlement price yet."""
        if spec.index not in self.indices.all:
            raise InputError(f"{spec.name}: this market has no index {spec.index}")
        item = self._list(spec)
        self._name_underlyings()
        self._activity[spec.name] = min(self._activity.values())
        item.remark(self.now_ms)
        self._regroup()
        created = msgspec.json.encode(instrument_json(spec, self.now_ms)).decode()
        self._publisher.listing(item, "creation", created, self.now_ms)
        self.set_state(item, "open")
        return item

    def set_state(self, item: Instrument, state: str) -> None:
        """Move an instrument to another life-cycle state and tell `instrument.state` about it."""
        item.state = state
        item.rebuild_stats()
        told = frames.instrument_state(item.spec.name, self.now_ms, state)
        self._publisher.listing(item, "state", told, self.now_ms)

    def _publish_book(self, item: Instrument) -> None:
        bids, asks = item.book.changes()
        if not bids and not asks:
            return
        self.frames += 1
        self.change_id += self.rng.randint(1, 900)
        previous, item.book.change_id = item.book.change_id, self.change_id
        self._publisher.book(item, self.now_ms, previous, (bids, asks))
