"""The course of prices over the years: indices, premiums, bases and volatilities at any millisecond."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from math import log
from typing import Final

import numpy as np

from collectors.simulator.chain import DAY_MS, index_start
from collectors.simulator.history.noise import Floats, Ints, key, one, wave

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
# Where a coin stood, about, in USD; the last is where simulated markets begin.
_MARKS: Final = {
    "BTC": (
        ("2016-01", 430), ("2017-01", 1_000), ("2018-01", 14_000), ("2019-01", 3_800), ("2019-07", 10_500),
        ("2020-03", 6_500), ("2021-03", 55_000), ("2021-07", 34_000), ("2021-11", 62_000), ("2022-07", 20_000),
        ("2023-07", 30_000), ("2024-03", 65_000), ("2025-01", 98_000), ("2025-09", 112_000), ("2026-11", 84_000),
    ),
    "ETH": (
        ("2016-01", 1), ("2017-01", 9), ("2018-01", 900), ("2019-01", 130), ("2020-03", 170), ("2021-05", 3_400),
        ("2021-11", 4_500), ("2022-07", 1_200), ("2023-07", 1_900), ("2024-03", 3_600), ("2025-04", 1_700),
        ("2025-09", 4_300), ("2026-11", 2_700),
    ),
}  # fmt: skip
_WAVES: Final = (
    (90 * DAY_MS, 0.08),
    (10 * DAY_MS, 0.04),
    (DAY_MS, 0.015),
    (3 * HOUR_MS, 0.005),
    (20 * MINUTE_MS, 0.0012),
    (MINUTE_MS, 0.0004),
)
_OUTAGE_CHANCE: Final = 1 / 45  # of a day
_LONGEST_OUTAGE: Final = 40  # minutes


def month_ms(text: str) -> int:
    """First millisecond of a month such as `2018-08`."""
    return int(datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).timestamp() * 1000)


_LEVELS: Final = {  # times and logarithms of the marks
    base: ([month_ms(month) for month, _ in marks], [log(price) for _, price in marks])
    for base, marks in _MARKS.items()
}


class Course:
    """Prices of all coins. `start` moves a coin's whole course so that it passes a price at a time."""

    def __init__(self, seed: int, prices: Mapping[str, float], start_ms: int) -> None:
        self._seed = seed
        self._scale: dict[str, float] = {}
        self._keys: dict[tuple[str, object], int] = {}
        self._outages: dict[int, tuple[int, int] | None] = {}
        for base, price in prices.items():
            self._scale[base] = price / float(self.index(base, np.array([start_ms]))[0])

    def _key(self, base: str, what: object) -> int:
        found = self._keys.get((base, what))
        if found is None:
            found = self._keys[base, what] = key(self._seed, base, what)
        return found

    def index(self, base: str, at_ms: Ints) -> Floats:
        """The index in USD, unrounded."""
        if base in _LEVELS:
            found: Floats = np.interp(at_ms, *_LEVELS[base])
        else:
            found = np.full(len(at_ms), log(index_start(base)))
        for period, size in _WAVES:
            found += size * wave(self._key(base, period), period, at_ms)
        return np.asarray(np.exp(found) * self._scale.get(base, 1.0))

    def index_at(self, base: str, at_ms: int) -> float:
        """The index at one time, two decimals."""
        return round(float(self.index(base, np.array([at_ms]))[0]), 2)

    def premium(self, base: str, at_ms: Ints) -> Floats:
        """What a perpetual costs more than its index, a fraction."""
        slow = wave(self._key(base, "premium"), 8 * HOUR_MS, at_ms)
        return np.asarray(0.0001 + 0.0005 * slow)

    def basis(self, base: str, at_ms: Ints) -> Floats:
        """Annualised premium of dated futures, continuously compounded; now and then negative."""
        return np.asarray(0.05 + 0.08 * wave(self._key(base, "basis"), 20 * DAY_MS, at_ms))

    def volatility(self, base: str, at_ms: Ints) -> Floats:
        """Implied volatility of the coin in percent."""
        slow = wave(self._key(base, "vol"), 30 * DAY_MS, at_ms)
        fast = wave(self._key(base, "vol hour"), HOUR_MS, at_ms)
        return np.asarray(
            55.0 + 18.0 * slow + 1.5 * fast + 0.1 * wave(self._key(base, "vol s"), 1_000, at_ms)
        )

    def outage(self, day: int) -> tuple[int, int] | None:
        """When the whole venue stood still on a day since the epoch: first and last ms, whole minutes; or never."""
        if day not in self._outages:
            self._outages[day] = self._outage(day)
        return self._outages[day]

    def _outage(self, day: int) -> tuple[int, int] | None:
        luck = one(self._key("venue", "outage"), day)
        if luck >= _OUTAGE_CHANCE:
            return None
        minutes = 3 + int(luck / _OUTAGE_CHANCE * (_LONGEST_OUTAGE - 3))
        first = day * DAY_MS + (9 * 60 + int(one(self._key("venue", "outage at"), day) * 780)) * MINUTE_MS
        return first, first + minutes * MINUTE_MS - 1
