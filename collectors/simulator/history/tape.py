"""Every trade of an instrument's past, by its number: the tape is computed, never stored.

A day has a number of trades; trade `i` of `n` falls into the `i`-th part of the day, so times rise with the
number and any trade can be computed alone. Some come in pairs within a millisecond, and a few milliseconds of
a tape hold a burst of very many.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from collectors.simulator.chain import DAY_MS, Spec
from collectors.simulator.history.course import Course
from collectors.simulator.history.noise import Floats, Ints, key, one, uniform
from collectors.simulator.options import YEAR_MS

_PAIRS: Final = 0.3  # of the odd trades: at the same millisecond as the one before
_NEVER_TRADED: Final = 0.03  # of the dated instruments
_BURSTY: Final = 0.12  # of the dated instruments have a burst
_BURST_DAYS: Final = 60  # a perpetual has one burst in so many days
_EPOCH_2016_MS: Final = 1_451_606_400_000
_IDS_PER_MS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Trades in rising order; arrays of one length. `cost` in USD, `volume` in the coin."""

    seq: Ints
    ts: Ints
    price: Floats
    amount: Floats
    volume: Floats
    cost: Floats
    index: Floats


class Tape:
    """The trades of one instrument from its listing until `end_ms`, numbered from 1."""

    def __init__(
        self,
        spec: Spec,
        course: Course,
        *,
        seed: int,
        first_ms: int,
        end_ms: int,
        trades: int,
        burst: int,
    ) -> None:
        """`trades`: per day of a perpetual, the most a dated instrument has in its life."""
        self.spec = spec
        self._course = course
        self.first_ms = max(spec.creation_ms, first_ms)
        self.end_ms = max(min(spec.expiry_ms, end_ms), self.first_ms)
        self._names = {what: key(seed, spec.name, what) for what in ("time", "pair", "price", "size", "day")}
        self._key = key(seed, spec.name)
        self._first_day = self.first_ms // DAY_MS
        life_end = end_ms if spec.perpetual else spec.expiry_ms
        days = max(-(-life_end // DAY_MS) - self._first_day, 0)
        starts = (self._first_day + np.arange(days)) * DAY_MS
        self._open = np.maximum(starts, self.first_ms)
        self._length = np.minimum(starts + DAY_MS, spec.expiry_ms) - self._open
        self._breaks = np.zeros((2, days), np.int64)  # start, as an offset into the day's life, and length
        for number in range(days):
            stop = course.outage(self._first_day + number)
            if stop is not None:
                limits = self._open[number], self._open[number] + self._length[number]
                first, last = np.clip((stop[0], stop[1] + 1), *limits)
                self._breaks[:, number] = first - limits[0], last - first
        self._counts = self._plan(days, trades)
        self._bursts = np.zeros((2, days), np.int64)  # position in the day, and how many more
        self._place_bursts(burst)
        self._before = np.concatenate(([0], np.cumsum(self._counts + self._bursts[1])))
        self.count = 0 if not days else self.before(self.end_ms)

    def _plan(self, days: int, trades: int) -> Ints:
        """Ordinary trades of each day."""
        weight = (
            (0.5 + uniform(self._names["day"], np.arange(days) + self._first_day)) * self._length / DAY_MS
        )
        if self.spec.perpetual:
            return np.asarray((weight * trades).astype(np.int64))
        luck = one(self._key, 1)
        if luck < _NEVER_TRADED or not days:
            return np.zeros(days, np.int64)
        total = max(int(np.exp(log(trades) * one(self._key, 2))), 1)
        grown = np.cumsum(weight) / weight.sum()
        return np.asarray(np.diff(np.round(grown * total).astype(np.int64), prepend=0))

    def _place_bursts(self, burst: int) -> None:
        days = np.flatnonzero(self._counts)
        if not len(days) or not burst:
            return
        if self.spec.perpetual:
            chosen = days[(days + self._key % _BURST_DAYS) % _BURST_DAYS == 0]
        else:
            chosen = days[len(days) // 2 :][:1] if one(self._key, 3) < _BURSTY else days[:0]
        self._bursts[0, chosen] = self._counts[chosen] // 2
        self._bursts[1, chosen] = burst

    # -- where trades are ------------------------------------------------------------------------

    def _times(self, day: Ints, position: Ints) -> Ints:
        """Timestamps of trades by day of life and position in it."""
        at, many = self._bursts[0][day], self._bursts[1][day]
        place = np.where(position > at + many, position - many, np.minimum(position, at))
        address = (day + self._first_day) * (1 << 24) + place
        paired = (place & 1 == 1) & (uniform(self._names["pair"], address) < _PAIRS)
        place = place - paired
        shift = uniform(self._names["time"], address - paired)
        stop, pause = self._breaks[0][day], self._breaks[1][day]
        share = (place + shift) / self._counts[day]
        offset = (share * (self._length[day] - pause)).astype(np.int64)
        return np.asarray(self._open[day] + offset + np.where(offset >= stop, pause, 0))

    def before(self, at_ms: int) -> int:
        """How many trades came before a time."""
        day = at_ms // DAY_MS - self._first_day
        if day < 0:
            return 0
        if day >= len(self._counts):
            return int(self._before[-1]) if at_ms <= self.end_ms else self.count
        many = int(self._before[day + 1] - self._before[day])
        times = self._times(np.full(many, day), np.arange(many))
        found = int(self._before[day]) + int(np.searchsorted(times, at_ms))
        return found if at_ms <= self.end_ms else min(found, self.count)

    def times(self, seq: Ints) -> Ints:
        """Timestamps of trades by number."""
        day = np.searchsorted(self._before, seq - 1, side="right") - 1
        return self._times(day, seq - 1 - self._before[day])

    # -- what they were --------------------------------------------------------------------------

    def rows(self, first: int, last: int) -> Rows:
        """The trades from number `first` to number `last`."""
        spec = self.spec
        seq = np.arange(max(first, 1), min(last, self.count) + 1)
        ts = self.times(seq)
        index = self._course.index(spec.base, ts)
        fair = self.fair(ts, index)
        swing = uniform(self._names["price"], seq) - 0.5
        if spec.kind == "option":
            price = np.maximum(to_tick(fair * (1.0 + 0.04 * swing), spec), spec.tick)
        else:
            price = to_tick(fair * (1.0 + 0.0006 * swing), spec)
        units = np.ceil(-25.0 * np.log1p(-uniform(self._names["size"], seq)) + 1e-9)
        amount = np.round(units * spec.min_amount, 6)
        if spec.kind == "future" and not spec.linear:
            return Rows(seq, ts, price, amount, amount / price, amount, index)
        cost = amount * price if spec.linear else amount * price * index
        return Rows(seq, ts, price, amount, amount, cost, index)

    def fair(self, ts: Ints, index: Floats) -> Floats:
        """The mark price at each time, unrounded, in the unit of the instrument's price."""
        spec, course = self.spec, self._course
        if spec.perpetual:
            return np.asarray(index * (1.0 + course.premium(spec.base, ts)))
        years = np.maximum(spec.expiry_ms - ts, 60_000) / YEAR_MS
        forward = index * np.exp(course.basis(spec.base, ts) * years)
        if spec.kind != "option":
            return np.asarray(forward)
        spread = self.volatility(ts) / 100.0 * np.sqrt(years)
        d1 = np.log(forward / spec.strike) / spread + 0.5 * spread
        value = spec.sign * (
            forward * normal(spec.sign * d1) - spec.strike * normal(spec.sign * (d1 - spread))
        )
        return np.asarray(value if spec.linear else value / forward)

    def volatility(self, ts: Ints) -> Floats:
        """Implied volatility in percent, two decimals: the coin's, higher away from where it was listed."""
        return np.asarray(np.round(self._course.volatility(self.spec.base, ts) + 10.0 * one(self._key, 4), 2))

    def trade_ids(self, rows: Rows) -> Ints:
        """Ids that rise with time and differ within an instrument."""
        low = (np.int64(self._key % _IDS_PER_MS) + rows.seq) % _IDS_PER_MS
        return np.asarray((rows.ts - _EPOCH_2016_MS) * _IDS_PER_MS + low)


def normal(x: Floats) -> Floats:
    """Standard normal distribution function, the tanh approximation (Page 1977), error below 2e-4."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))))


def to_tick(price: Floats, spec: Spec) -> Floats:
    """The nearest price on the instrument's grid."""
    tick = np.full(len(price), spec.tick)
    for above, coarser in spec.steps:
        tick = np.where(price > above, coarser, tick)
    return np.asarray(np.round(np.round(price / tick) * tick, 8))


def first_id(at_ms: int) -> int:
    """An id above all before a time, for a live market to go on from."""
    return (at_ms - _EPOCH_2016_MS) * _IDS_PER_MS
