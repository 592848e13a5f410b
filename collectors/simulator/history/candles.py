"""`get_tradingview_chart_data`: candles made of trades, those of the tape and those of the live market alike."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from collectors.simulator.chain import Spec
from collectors.simulator.history.course import MINUTE_MS
from collectors.simulator.history.noise import Floats, Ints
from collectors.simulator.history.past import Past
from collectors.simulator.instrument import Instrument

MAX_BARS: Final = 5_001  # more are cut, the newest kept (seen in the code of several clients)
RESOLUTIONS: Final = {
    **{str(minutes): minutes * MINUTE_MS for minutes in (1, 3, 5, 10, 15, 30, 60, 120, 180, 360, 720)},
    "1D": 86_400_000,
}
_DECIMALS: Final = 8


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
    ts, price, volume, cost, before = _trades(past, spec, live, first, last + step)
    if last < first or (not len(ts) and before is None):
        return _EMPTY
    if before is None:
        first = int(ts[0]) // step * step
    ticks = np.arange(first, last + 1, step)
    starts = np.flatnonzero(np.diff(ts // step, prepend=-1))
    place = (ts[starts] // step * step - first) // step
    closes = price[np.append(starts[1:], len(ts)) - 1] if len(ts) else price
    held = np.full(len(ticks), np.nan if before is None else before)
    filled = np.full(len(ticks), -1)
    filled[place] = np.arange(len(place))
    latest = np.maximum.accumulate(filled)
    known = latest >= 0
    held[known] = closes[latest[known]]
    columns = [held.copy() for _ in range(4)]
    sums = [np.zeros(len(ticks)) for _ in range(2)]
    if len(ts):
        columns[0][place] = price[starts]
        columns[1][place] = np.maximum.reduceat(price, starts)
        columns[2][place] = np.minimum.reduceat(price, starts)
        for total, column in zip(sums, (volume, cost), strict=True):
            total[place] = np.round(np.add.reduceat(column, starts), _DECIMALS)
    found = Bars(ticks, *columns, *sums)
    if step != MINUTE_MS:
        return found
    lost = past.lost(spec, ticks // MINUTE_MS)
    return Bars(*(column[~lost] for column in found)) if lost.any() else found


_EMPTY: Final = Bars(np.empty(0, np.int64), *(np.empty(0) for _ in range(6)))


def _trades(
    past: Past, spec: Spec, live: Instrument | None, first_ms: int, end_ms: int
) -> tuple[Ints, Floats, Floats, Floats, float | None]:
    """Trades of a span, and the price of the last before it."""
    tape = past.tape(spec)
    low, high = tape.before(first_ms), tape.before(min(end_ms, past.end_ms))
    rows = tape.rows(max(low, 1), high)
    skip = min(low, 1) if len(rows.seq) else 0
    before = float(rows.price[0]) if skip else None
    columns: list[Any] = [rows.ts[skip:], rows.price[skip:], rows.volume[skip:], rows.cost[skip:]]
    if live is not None and live.trades and end_ms > past.end_ms:
        held = list(live.trades)
        earlier = [t.price for t in held if t.timestamp < first_ms]
        before = earlier[-1] if earlier else before
        fresh = [(t.timestamp, t.price, t.volume, t.cost) for t in held if first_ms <= t.timestamp < end_ms]
        if fresh:
            added = np.array(fresh, np.float64).T
            columns = [np.concatenate((old, new)) for old, new in zip(columns, added, strict=True)]
    return columns[0].astype(np.int64), columns[1], columns[2], columns[3], before
