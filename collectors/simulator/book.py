"""A price ladder on the venue's tick grid, and the changes it went through since it was last published."""

from __future__ import annotations

from bisect import bisect_left, insort
from math import floor
from random import Random
from typing import Final, NamedTuple

from collectors.simulator.frames import number

_EPSILON: Final = 1e-9
_MAX_ORDER_UNITS: Final = 300_000


def order_units(rng: Random) -> int:
    """Size of an order in multiples of the minimum: many small ones, some round and large."""
    units = int(rng.paretovariate(0.9) * 4)
    return min(units if rng.random() < 0.7 else units * 10, _MAX_ORDER_UNITS)


class Change(NamedTuple):
    """One level event as the venue names it; `price` and `amount` are JSON number texts."""

    action: str
    price: str
    amount: str


class Grid:
    """Tick indices to prices and back: index 1 is the lowest price; one coarser step above a bound."""

    __slots__ = ("_bound", "_bound_index", "_coarse", "_fine", "_texts")

    def __init__(self, tick: float, steps: tuple[tuple[float, float], ...]) -> None:
        self._fine = tick
        self._bound, self._coarse = steps[0] if steps else (0.0, tick)
        self._bound_index = round(self._bound / tick)
        self._texts: dict[int, str] = {}

    def price(self, index: int) -> float:
        """Price of a tick index, as the shortest decimal."""
        above = index - self._bound_index
        raw = index * self._fine if above <= 0 else self._bound + above * self._coarse
        return round(raw, 6)

    def text(self, index: int) -> str:
        """JSON number of the price."""
        found = self._texts.get(index)
        if found is None:
            found = self._texts[index] = number(self.price(index))
        return found

    def floor(self, price: float) -> int:
        """Highest index whose price is not above `price`; 0 or less means below the first tick."""
        if price <= self._bound:
            return floor(price / self._fine + _EPSILON)
        return self._bound_index + floor((price - self._bound) / self._coarse + _EPSILON)


class Book:
    """Bids and asks by tick index; amounts in multiples of the instrument's minimum."""

    __slots__ = ("_amounts", "_before", "_ticks", "change_id", "grid", "unit")

    def __init__(self, grid: Grid, unit: float) -> None:
        self.grid = grid
        self.unit = unit
        self.change_id = 0  # as the venue has it until the first quote
        self._ticks: tuple[list[int], list[int]] = ([], [])  # both ascending: best bid last, best ask first
        self._amounts: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._before: tuple[dict[int, int], dict[int, int]] = ({}, {})  # amounts at the last publication

    @property
    def best_bid(self) -> int | None:
        """Tick of the best bid."""
        return self._ticks[0][-1] if self._ticks[0] else None

    @property
    def best_ask(self) -> int | None:
        """Tick of the best ask."""
        return self._ticks[1][0] if self._ticks[1] else None

    def amount(self, side: int, tick: int) -> int:
        """Units resting at a level; side 0 bids, 1 asks."""
        return self._amounts[side].get(tick, 0)

    def top(self) -> tuple[int | None, int | None, int, int]:
        """Best bid and ask with their units: what a ticker shows."""
        bid, ask = self.best_bid, self.best_ask
        return bid, ask, self._amounts[0].get(bid or 0, 0), self._amounts[1].get(ask or 0, 0)

    def set(self, side: int, tick: int, units: int) -> None:
        """Put `units` at a level; 0 removes it."""
        amounts, ticks = self._amounts[side], self._ticks[side]
        old = amounts.get(tick, 0)
        self._before[side].setdefault(tick, old)
        if units > 0:
            if not old:
                insort(ticks, tick)
            amounts[tick] = units
        elif old:
            del amounts[tick]
            del ticks[bisect_left(ticks, tick)]

    def level(self, side: int, position: int) -> int:
        """Tick of the level at `position` counted from the best."""
        ticks = self._ticks[side]
        return ticks[-1 - position] if side == 0 else ticks[position]

    def retreat(self, bid_ceiling: int, ask_floor: int) -> None:
        """Withdraw every quote beyond the bounds makers accept now."""
        bids, asks = self._ticks
        while bids and bids[-1] > bid_ceiling:
            self.set(0, bids[-1], 0)
        while asks and asks[0] < ask_floor:
            self.set(1, asks[0], 0)

    def churn(self, rng: Random, bid_ceiling: int, ask_floor: int, target: tuple[int, int]) -> None:
        """One maker's move: a changed amount, a new level or a withdrawn one, mostly near the top."""
        side = 1 if rng.random() < 0.5 else 0
        if not target[side]:
            side = 1 - side
        depth, wanted = len(self._ticks[side]), target[side]
        move = rng.random() * (1.0 + 0.5 * (wanted - depth) / max(wanted, 1))
        if depth and move < 0.35:
            self.set(side, self.level(side, self._near(rng, depth)), 0)
        elif depth and move < 0.6:
            tick = self.level(side, self._near(rng, depth))
            self.set(side, tick, order_units(rng))
        else:
            distance = int(rng.expovariate(1.0) * (1 + wanted * 0.6)) if depth else 0
            tick = bid_ceiling - distance if side == 0 else ask_floor + distance
            if tick >= 1 and (side or tick <= bid_ceiling):
                self.set(side, tick, order_units(rng))

    @staticmethod
    def _near(rng: Random, depth: int) -> int:
        return min(int(rng.expovariate(0.5)), depth - 1)

    def changes(self) -> tuple[list[Change], list[Change]]:
        """What happened to bids and asks since the last call, best price first."""
        return self._take(0), self._take(1)

    def _take(self, side: int) -> list[Change]:
        before, amounts = self._before[side], self._amounts[side]
        if not before:
            return []
        found = []
        for tick in sorted(before, reverse=side == 0) if len(before) > 1 else before:
            old, new = before[tick], amounts.get(tick, 0)
            if old == new:
                continue
            action = "new" if not old else "delete" if not new else "change"
            found.append(Change(action, self.grid.text(tick), number(round(new * self.unit, 6))))
        before.clear()
        return found

    def levels(self, side: int, depth: int | None = None) -> list[tuple[str, str]]:
        """(price, amount) texts of the best `depth` levels, best first."""
        ticks = self._ticks[side]
        chosen = ticks[:depth] if side else ticks[::-1][:depth]
        amounts, text = self._amounts[side], self.grid.text
        return [(text(tick), number(round(amounts[tick] * self.unit, 6))) for tick in chosen]
