"""What the venue tells of its past beside candles and trades: funding, volatility, indices, settlements."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from collectors.simulator.chain import DAY_MS, Spec
from collectors.simulator.history.course import HOUR_MS, MINUTE_MS, Course, month_ms
from collectors.simulator.history.noise import Floats, Ints, key, uniform
from collectors.simulator.prices import DAMPER

FUNDING_SINCE_MS: Final = 1_556_618_400_000  # 2019-04-30 10:00
FUNDING_MISSING_MS: Final = (1_598_508_000_000, 1_598_511_600_000)  # 2020-08-27 06:00 and 07:00
VOLATILITY_SINCE_MS: Final = 1_616_544_000_000  # 2021-03-24
DELIVERY_SINCE_MS: Final = month_ms("2018-08")
MAX_FUNDING_ROWS: Final = 744
MAX_VOLATILITY_ROWS: Final = 1_000
VOLATILITY_RESOLUTIONS: Final = {
    "1": 1_000,
    "60": 60_000,
    "3600": HOUR_MS,
    "43200": 12 * HOUR_MS,
    "1D": DAY_MS,
}
VOLATILITY_CURRENCIES: Final = ("BTC", "ETH")
INDEX_RANGES: Final = {  # length and step
    "1h": (HOUR_MS, MINUTE_MS),
    "1d": (DAY_MS, 10 * MINUTE_MS),
    "2d": (2 * DAY_MS, 20 * MINUTE_MS),
    "1m": (30 * DAY_MS, 4 * HOUR_MS),
    "1y": (365 * DAY_MS, DAY_MS),
    "all": (0, 2 * DAY_MS),
}
_SETTLED_AT_MS: Final = 8 * HOUR_MS
_MARK_STEP_MS: Final = 5 * MINUTE_MS
_FUNDING_HOURS: Final = 8


def interest(course: Course, base: str, hours: Ints) -> Floats:
    """Funding that accrued in the hour before each full hour, a fraction."""
    premium = course.premium(base, hours * HOUR_MS)
    outside = np.maximum(premium - DAMPER, 0.0) + np.minimum(premium + DAMPER, 0.0)
    return np.asarray(outside / _FUNDING_HOURS)


def funding_rows(course: Course, spec: Spec, first_ms: int, last_ms: int) -> list[dict[str, Any]]:
    """Hourly rows after `first_ms` and up to `last_ms`, the newest 744 of them.

    `interest_8h` trails: neighbouring rows overlap, only `interest_1h` can be summed.
    """
    last = last_ms // HOUR_MS
    first = max(first_ms // HOUR_MS + 1, FUNDING_SINCE_MS // HOUR_MS, -(-spec.creation_ms // HOUR_MS))
    hours = np.arange(first, last + 1)
    hours = hours[~np.isin(hours * HOUR_MS, FUNDING_MISSING_MS)][-MAX_FUNDING_ROWS:]
    if not len(hours):
        return []
    wider = np.arange(int(hours[0]) - _FUNDING_HOURS, int(hours[-1]) + 1)
    hourly = np.round(interest(course, spec.base, wider), 18)
    summed = np.convolve(hourly, np.ones(_FUNDING_HOURS), "full")[: len(wider)]
    index = np.round(course.index(spec.base, wider * HOUR_MS), 2)
    place = hours - wider[0]
    return [
        {
            "timestamp": at,
            "index_price": now,
            "prev_index_price": then,
            "interest_8h": eight,
            "interest_1h": one,
        }
        for at, now, then, eight, one in zip(
            (hours * HOUR_MS).tolist(),
            index[place].tolist(),
            index[place - 1].tolist(),
            summed[place].tolist(),
            hourly[place].tolist(),
            strict=True,
        )
    ]


def funding_value(course: Course, spec: Spec, first_ms: int, last_ms: int) -> float:
    """The sum of what accrued in the hours that end after `first_ms` and up to `last_ms`."""
    first = max(first_ms // HOUR_MS + 1, FUNDING_SINCE_MS // HOUR_MS)
    return float(interest(course, spec.base, np.arange(first, last_ms // HOUR_MS + 1)).sum())


def volatility_page(
    course: Course, base: str, first_ms: int, last_ms: int, resolution_ms: int
) -> dict[str, Any]:
    """Rows `[ts, open, high, low, close]`, the newest 1,000 of the span; `continuation` ends the next page."""
    first = -(-max(first_ms, VOLATILITY_SINCE_MS) // resolution_ms) * resolution_ms
    last = last_ms // resolution_ms * resolution_ms
    oldest = max(first, last - (MAX_VOLATILITY_ROWS - 1) * resolution_ms)
    ticks = np.arange(oldest, last + 1, resolution_ms)
    points = [np.round(course.volatility(base, ticks + n * resolution_ms // 4), 2) for n in range(5)]
    columns = (ticks, points[0], np.maximum.reduce(points), np.minimum.reduce(points), points[4])
    rows = [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]
    return {"data": rows, "continuation": oldest - resolution_ms if oldest > first else None}


def index_chart(course: Course, base: str, length: str, now_ms: int, since_ms: int) -> list[list[float]]:
    """Rows `[ts, price]` up to now, coarse."""
    span, step = INDEX_RANGES[length]
    ticks = np.arange(-(-max(now_ms - span if span else since_ms, since_ms) // step) * step, now_ms + 1, step)
    prices = np.round(course.index(base, ticks), 2)
    return [list(row) for row in zip(ticks.tolist(), prices.tolist(), strict=True)]


def mark_times(spec: Spec, first_ms: int, last_ms: int) -> Ints:
    """The 5-minute marks of a span of an instrument's life."""
    first = -(-max(first_ms, spec.creation_ms) // _MARK_STEP_MS) * _MARK_STEP_MS
    return np.arange(first, min(last_ms, spec.expiry_ms - 1) + 1, _MARK_STEP_MS)


def delivery_prices(course: Course, base: str, days: Ints) -> Floats:
    """The mean of the index over 07:30 to 08:00 of days since the epoch, two decimals."""
    minutes = np.arange(-30, 0) * MINUTE_MS
    at = (days * DAY_MS + _SETTLED_AT_MS)[:, None] + minutes
    return np.asarray(np.round(course.index(base, at.ravel()).reshape(at.shape).mean(axis=1), 2))


def delivery_page(course: Course, base: str, offset: int, count: int, now_ms: int) -> dict[str, Any]:
    """A page of daily delivery prices, the newest first."""
    newest, oldest = (now_ms - _SETTLED_AT_MS) // DAY_MS, DELIVERY_SINCE_MS // DAY_MS
    total = max(newest - oldest + 1, 0)
    days = newest - np.arange(min(offset, total), min(offset + count, total))
    prices = delivery_prices(course, base, days) if len(days) else np.empty(0)
    rows = [
        {"date": datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d"), "delivery_price": price}
        for day, price in zip(days.tolist(), prices.tolist(), strict=True)
    ]
    return {"data": rows, "records_total": total}


class Settlements:
    """Settlements and deliveries, the newest first; the cursor names the last row that was told."""

    def __init__(self, course: Course, seed: int) -> None:
        self._course = course
        self._seed = seed
        self._prices: dict[tuple[str, int], float] = {}

    def page(
        self,
        specs: Iterable[Spec],
        kind: str | None,
        count: int,
        cursor: str | None,
        last_ms: int,
        first_ms: int,
    ) -> dict[str, Any]:
        """`count` rows not after `last_ms`, going on behind `cursor`, not before `first_ms`.

        Raises:
            ValueError: no cursor of this venue.
        """
        futures, ending = _by_day(specs, kind)
        day, skip = (last_ms - _SETTLED_AT_MS) // DAY_MS, 0
        if cursor is not None:
            day, skip = (int(part, 16) for part in cursor.split("z"))
        rows: list[dict[str, Any]] = []
        while day * DAY_MS + _SETTLED_AT_MS >= first_ms:
            events = self._events(futures, ending.get(day, ()), day, last_ms)[skip:]
            room = count - len(rows)
            rows += [self._row(spec, what, ts, day) for spec, what, ts in events[:room]]
            if len(events) > room:
                return {"settlements": rows, "continuation": f"{day:x}z{skip + room:x}"}
            day, skip = day - 1, 0
        return {"settlements": rows, "continuation": None}

    def _events(
        self, futures: Iterable[Spec], ending: Iterable[Spec], day: int, last_ms: int
    ) -> list[tuple[Spec, str, int]]:
        """What was settled on a day, in the order of telling: instrument, type and time."""
        at = day * DAY_MS + _SETTLED_AT_MS
        found = [(spec, "settlement") for spec in futures if spec.creation_ms < at < spec.expiry_ms]
        found += [(spec, "delivery") for spec in ending]
        timed = [(spec, what, at + key(self._seed, spec.name, day) % 900) for spec, what in found]
        return sorted((e for e in timed if e[2] <= last_ms), key=lambda event: (-event[2], event[0].name))

    def _row(self, spec: Spec, kind: str, ts: int, day: int) -> dict[str, Any]:
        one, two, three = uniform(key(self._seed, spec.name, "settled"), np.arange(3) + 3 * day).tolist()
        index = self._prices.get((spec.base, day), 0.0)
        if not index:
            index = float(delivery_prices(self._course, spec.base, np.array([day]))[0])
            self._prices[spec.base, day] = index
        if kind == "delivery" and spec.kind == "option":
            mark = max(spec.sign * (index - spec.strike), 0.0) / (1.0 if spec.linear else index)
        elif kind == "delivery":
            mark = index
        else:
            mark = index * (1.0 + 0.002 * (one - 0.5))
        row: dict[str, Any] = {
            "type": kind,
            "timestamp": ts,
            "session_profit_loss": round((two - 0.5) * 10.0, 9),
            "profit_loss": round((three - 0.5) * 1e-8, 18),
            "position": int(one * 1_000_000) * 10 if spec.kind == "future" else round(one * 500.0, 1),
            "mark_price": round(mark, 6 if spec.kind == "option" else 2),
            "instrument_name": spec.name,
            "index_price": index,
        }
        if spec.perpetual:
            row["funding"] = round((two - 0.5) * 1e-3, 9)
        return row


def _by_day(specs: Iterable[Spec], kind: str | None) -> tuple[list[Spec], dict[int, list[Spec]]]:
    """Futures, if settlements are wanted; and, if deliveries are, what ends on each day since the epoch."""
    futures: list[Spec] = []
    ending: dict[int, list[Spec]] = {}
    for spec in specs:
        if kind in (None, "settlement") and spec.kind == "future":
            futures.append(spec)
        if kind in (None, "delivery") and spec.kind in ("future", "option") and not spec.perpetual:
            ending.setdefault(spec.expiry_ms // DAY_MS, []).append(spec)
    return futures, ending
