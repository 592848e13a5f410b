"""`get_tradingview_chart_data`: candles made of trades, those of the tape and those of the live market alike."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from collectors.simulator.chain import DAY_MS, Spec
from collectors.simulator.history.course import MINUTE_MS
from collectors.simulator.history.noise import Floats, Ints
from collectors.simulator.history.past import Past
from collectors.simulator.instrument import Instrument

MAX_BARS: Final = 5_001  # more are cut, the newest kept (seen in the code of several clients)
RESOLUTIONS: Final = {
    **{str(minutes): minutes * MINUTE_MS for minutes in (1, 3, 5, 10, 15, 30, 60, 120, 180, 360, 720)},
    "1D": DAY_MS,
}
_DECIMALS: Final = 8
_SPAN_MS: Final = 30 * DAY_MS  # of trades held at a time


class Bars(NamedTuple):
    """Candles in rising order; `cost` in USD, `volume` in the coin."""

    ticks: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    cost: Floats


def chart(bars: Bars) -> dict[str, Any]:
    """The venue's answer: one list per column."""
    columns = {name: column.tolist() for name, column in zip(Bars._fields, bars, strict=True)}
    return {**columns, "status": "ok" if columns["ticks"] else "no_data"}


def bars_of(
    past: Past, spec: Spec, live: Instrument | None, first_ms: int, last_ms: int, resolution_ms: int
) -> Bars:
    """Candles whose ticks are after `first_ms` and not after `last_ms`, the newest 5,001 of them.

    A bar without trades is flat at the last close, with volume 0. There is none before the first trade and
    after expiry, nor where the venue itself has a hole.
    """
    step = resolution_ms
    last = min(last_ms, spec.expiry_ms - 1) // step * step
    first = max(first_ms // step * step + step, last - (MAX_BARS - 1) * step)
    if last < first:
        return _EMPTY
    before = _last_price(past, spec, live, first)
    traded = _traded(past, spec, live, first, last + step, step)
    if before is None:
        if not len(traded.ticks):
            return _EMPTY
        first = int(traded.ticks[0])
    found = _filled(traded, before, np.arange(first, last + 1, step), step)
    if step != MINUTE_MS:
        return found
    lost = past.lost(spec, found.ticks // MINUTE_MS)
    return Bars(*(column[~lost] for column in found)) if lost.any() else found


_EMPTY: Final = Bars(np.empty(0, np.int64), *(np.empty(0) for _ in range(6)))


def _filled(traded: Bars, before: float | None, ticks: Ints, step: int) -> Bars:
    """Bars at every tick, flat at the last close where nothing was traded; `before` is the close before the first."""
    place = (traded.ticks - ticks[0]) // step
    latest = np.full(len(ticks), -1)
    latest[place] = np.arange(len(place))
    latest = np.maximum.accumulate(latest)
    known = latest >= 0
    held = np.full(len(ticks), np.nan if before is None else before)
    held[known] = traded.close[latest[known]]
    prices, sums = [held.copy() for _ in range(4)], [np.zeros(len(ticks)) for _ in range(2)]
    for column, values in zip((*prices, *sums), traded[1:], strict=True):
        column[place] = values
    return Bars(ticks, *prices, *sums)


def _traded(past: Past, spec: Spec, live: Instrument | None, first_ms: int, end_ms: int, step: int) -> Bars:
    """The bars in which something was traded."""
    span = max(_SPAN_MS // step, 1) * step
    parts = [
        _bars(*_trades(past, spec, live, start, min(start + span, end_ms)), step)
        for start in range(max(first_ms, past.first_ms // step * step), end_ms, span)
    ]
    return Bars(*(np.concatenate(columns) for columns in zip(*(_EMPTY, *parts), strict=True)))


def _bars(ts: Ints, price: Floats, volume: Floats, cost: Floats, step: int) -> Bars:
    if not len(ts):
        return _EMPTY
    starts = np.flatnonzero(np.diff(ts // step, prepend=-1))
    return Bars(
        ts[starts] // step * step,
        price[starts],
        np.maximum.reduceat(price, starts),
        np.minimum.reduceat(price, starts),
        price[np.append(starts[1:], len(ts)) - 1],
        *(np.asarray(np.round(np.add.reduceat(c, starts), _DECIMALS), np.float64) for c in (volume, cost)),
    )


def _last_price(past: Past, spec: Spec, live: Instrument | None, at_ms: int) -> float | None:
    """The price of the last trade before a time."""
    if live is not None:
        earlier = [t.price for t in list(live.trades) if t.timestamp < at_ms]
        if earlier:
            return earlier[-1]
    tape = past.tape(spec)
    number = tape.before(at_ms)
    return float(tape.rows(number, number).price[0]) if number else None


def _trades(
    past: Past, spec: Spec, live: Instrument | None, first_ms: int, end_ms: int
) -> tuple[Ints, Floats, Floats, Floats]:
    """Time, price, volume and cost of the trades of a span."""
    tape = past.tape(spec)
    rows = tape.rows(tape.before(first_ms) + 1, tape.before(min(end_ms, past.end_ms)))
    taped = rows.ts, rows.price, rows.volume, rows.cost
    if live is None or end_ms <= past.end_ms:
        return taped
    held = list(live.trades)
    fresh = [(t.timestamp, t.price, t.volume, t.cost) for t in held if first_ms <= t.timestamp < end_ms]
    added = np.array(fresh, np.float64).reshape(-1, 4).T
    ts, price, volume, cost = (np.concatenate((old, new)) for old, new in zip(taped, added, strict=True))
    return ts.astype(np.int64), price, volume, cost
