"""What the venue's history holds, so that a test can say whether a lake holds all of it.

`rows` counts and `sha256` covers the rows in rising order, each as little-endian float64 of the columns that
`columns` names, without separators: `numpy.column_stack(columns).astype("<f8").tobytes()`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from collectors.simulator.chain import DAY_MS, Spec
from collectors.simulator.history import series
from collectors.simulator.history.candles import MAX_BARS, RESOLUTIONS, Bars, bars_of
from collectors.simulator.history.course import HOUR_MS
from collectors.simulator.history.methods import PastMethods
from collectors.simulator.history.noise import Floats
from collectors.simulator.orders import Truth
from lake.errors import InputError

_CHUNK: Final = 100_000
_FUNDING = ("timestamp", "index_price", "prev_index_price", "interest_8h", "interest_1h")
_SETTLED = ("timestamp", "mark_price", "index_price", "position", "session_profit_loss")


def truth(venue: PastMethods, order: Truth) -> dict[str, Any]:
    """The account of what the order names, for times from `start` to `end` inclusive.

    Raises:
        InputError: no such instrument, currency or resolution.
    """
    end = venue.market.now_ms if order.end is None else min(order.end, venue.market.now_ms)
    if order.dataset == "instruments":
        names = sorted(venue.past.expired)
        return {
            "rows": len(names),
            "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
            "names": names,
        }
    if order.dataset in ("candles", "trades", "funding"):
        chosen = _specs(venue, order)
        told = {spec.name: _of_instrument(venue, order, spec, end) for spec in chosen}
        return told[chosen[0].name] if order.instrument else {"instruments": told}
    if order.currency is None:
        raise InputError(f"truth of {order.dataset}: give a currency")
    if order.dataset == "volatility":
        if order.resolution not in series.VOLATILITY_RESOLUTIONS:
            raise InputError(f"truth: no resolution {order.resolution!r}")
        return _summed(("ts", "open", "high", "low", "close"), _volatility(venue, order, end))
    if order.dataset == "deliveries":
        return _summed(("ts", "delivery_price"), _deliveries(venue, order, end))
    return _summed(_SETTLED, _settlements(venue, order, end))


def _specs(venue: PastMethods, order: Truth) -> list[Spec]:
    found = [s for s in venue.all_specs() if order.currency in (None, s.currency)]
    if order.instrument is not None:
        found = [spec for spec in found if spec.name == order.instrument]
        if not found:
            raise InputError(f"truth: no instrument {order.instrument!r}")
    return [spec for spec in found if spec.perpetual] if order.dataset == "funding" else found


def _of_instrument(venue: PastMethods, order: Truth, spec: Spec, end: int) -> dict[str, Any]:
    if order.dataset == "trades":
        columns = ("trade_seq", "timestamp", "price", "amount")
        return _summed(columns, _trades(venue, spec, order.start, end))
    if order.dataset == "funding":
        return _summed(_FUNDING, _funding(venue, spec, order.start, end))
    if order.resolution not in RESOLUTIONS:
        raise InputError(f"truth: no resolution {order.resolution!r}")
    step = RESOLUTIONS[order.resolution]
    found = _summed(Bars._fields, _candles(venue, spec, order.start, end, step), step)
    found["listed"], found["expires"] = spec.creation_ms, spec.expiry_ms
    return found


def _summed(columns: Iterable[str], parts: Iterable[Floats], step: int = 0) -> dict[str, Any]:
    """Count, hash and ends of rows; with a `step`, where times are further apart than it."""
    rows, hashed = 0, hashlib.sha256()
    first: int | None = None
    last: int | None = None
    names = list(columns)
    times = next(n for n, name in enumerate(names) if name in ("ts", "timestamp", "ticks"))
    holes: list[list[int]] = []
    for part in parts:
        if not len(part):
            continue
        hashed.update(np.ascontiguousarray(part, "<f8").tobytes())
        at = part[:, times].astype(np.int64)
        if step:
            known = at if last is None else np.concatenate(([last], at))
            gaps = np.flatnonzero(np.diff(known) > step)
            holes += np.column_stack((known[gaps] + step, known[gaps + 1] - step)).tolist()
        rows += len(part)
        first, last = int(at[0]) if first is None else first, int(at[-1])
    told: dict[str, Any] = {
        "columns": names,
        "rows": rows,
        "sha256": hashed.hexdigest(),
        "first": first,
        "last": last,
    }
    return {**told, "holes": holes} if step else told


def _candles(venue: PastMethods, spec: Spec, start: int, end: int, step: int) -> Iterator[Floats]:
    at = max(start, spec.creation_ms, venue.past.first_ms) // step * step
    while at <= min(end, spec.expiry_ms):
        stop = min(at + (MAX_BARS - 1) * step, end)
        bars = bars_of(venue.past, spec, venue.live(spec.name), max(at, start) - 1, stop, step)
        yield np.column_stack(bars)
        at += MAX_BARS * step


def _trades(venue: PastMethods, spec: Spec, start: int, end: int) -> Iterator[Floats]:
    tape = venue.past.tape(spec)
    first, last = tape.before(start) + 1, tape.before(end + 1)
    for low in range(first, last + 1, _CHUNK):
        rows = tape.rows(low, min(low + _CHUNK - 1, last))
        yield np.column_stack((rows.seq, rows.ts, rows.price, rows.amount))
    live = venue.live(spec.name)
    held = [] if live is None else list(live.trades)
    fresh = [(t.seq, t.timestamp, t.price, t.amount) for t in held if start <= t.timestamp <= end]
    yield np.array(fresh, np.float64).reshape(-1, 4)


def _funding(venue: PastMethods, spec: Spec, start: int, end: int) -> Iterator[Floats]:
    at = max(start, series.FUNDING_SINCE_MS) - 1
    while at < end:
        stop = min(at + (series.MAX_FUNDING_ROWS - 1) * HOUR_MS, end)
        rows = series.funding_rows(venue.past.course, spec, at, stop)
        yield np.array([[row[name] for name in _FUNDING] for row in rows]).reshape(-1, len(_FUNDING))
        at = stop


def _volatility(venue: PastMethods, order: Truth, end: int) -> Iterator[Floats]:
    step = series.VOLATILITY_RESOLUTIONS[order.resolution]
    at = -(-max(order.start, series.VOLATILITY_SINCE_MS) // step) * step
    while at <= end:
        stop = min(at + (series.MAX_VOLATILITY_ROWS - 1) * step, end)
        page = series.volatility_page(venue.past.course, str(order.currency), at, stop, step)
        yield np.array(page["data"]).reshape(-1, 5)
        at += series.MAX_VOLATILITY_ROWS * step


def _deliveries(venue: PastMethods, order: Truth, end: int) -> Iterator[Floats]:
    first, last = max(order.start, series.DELIVERY_SINCE_MS) // DAY_MS, (end - 8 * HOUR_MS) // DAY_MS
    days = np.arange(first, last + 1)
    yield np.column_stack(
        (days * DAY_MS, series.delivery_prices(venue.past.course, str(order.currency), days))
    )


def _settlements(venue: PastMethods, order: Truth, end: int) -> Iterator[Floats]:
    asked = {"currency": order.currency, "count": 1_000, "search_start_timestamp": end}
    found: list[list[float]] = []
    while True:
        page = venue.settlements_by_currency(asked)
        found += [
            [row[name] for name in _SETTLED] for row in page["settlements"] if row["timestamp"] >= order.start
        ]
        if page["continuation"] is None:
            break
        asked["continuation"] = page["continuation"]
    yield np.array(found[::-1], np.float64).reshape(-1, len(_SETTLED))
