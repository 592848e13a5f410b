"""Price history of a listing: before the start from a repeatable curve, afterwards from its trades."""

from __future__ import annotations

import zlib
from math import exp, sin
from typing import Any, Final

from collectors.simulator.instrument import Instrument

MAX_BARS: Final = 5_001  # more are cut, the newest kept (seen in the code of several clients)
RESOLUTIONS: Final = {
    **{str(minutes): minutes * 60_000 for minutes in (1, 3, 5, 10, 15, 30, 60, 120, 180, 360, 720)},
    "1D": 86_400_000,
}
_WAVES_MS: Final = (
    (86_400_000.0 * 90, 0.12),
    (86_400_000.0 * 7, 0.04),
    (3_600_000.0 * 5, 0.008),
    (420_000.0, 0.001),
)


def past_price(item: Instrument, at_ms: int, start_ms: int) -> float:
    """Price on the tick grid at a time before the start; it meets the first mark at the start."""
    phase = zlib.crc32(item.spec.name.encode()) % 1_000
    swing = 0.0
    for period, size in _WAVES_MS:
        swing += size * (sin(at_ms / period * 6.2832 + phase) - sin(start_ms / period * 6.2832 + phase))
    grid = item.book.grid
    return grid.price(max(grid.floor(item.mark * exp(swing)), 1))


def chart(item: Instrument, first_ms: int, last_ms: int, resolution_ms: int, start_ms: int) -> dict[str, Any]:
    """`get_tradingview_chart_data`: bars from `first_ms` to `last_ms`, the newest 5,001 of them.

    A bar without trades is flat at the last close, with volume 0, as the venue sends it.
    """
    last_tick = last_ms // resolution_ms * resolution_ms
    first_tick = -(-first_ms // resolution_ms) * resolution_ms
    listed = item.spec.creation_ms // resolution_ms * resolution_ms
    first_tick = max(first_tick, listed, last_tick - (MAX_BARS - 1) * resolution_ms)
    live = _live_bars(item, start_ms, resolution_ms)
    columns: dict[str, list[Any]] = {
        k: [] for k in ("ticks", "open", "high", "low", "close", "volume", "cost")
    }
    close = past_price(item, min(first_tick, start_ms), start_ms)
    for tick in range(first_tick, last_tick + 1, resolution_ms):
        bar = live.get(tick)
        if bar is None and tick + resolution_ms <= start_ms:
            bar = _past_bar(item, tick, resolution_ms, start_ms)
        if bar is None:
            bar = (close, close, close, close, 0.0, 0.0)
        close = bar[3]
        for name, value in zip(columns, (tick, *bar), strict=True):
            columns[name].append(value)
    return {**columns, "status": "ok" if columns["ticks"] else "no_data"}


_Bar = tuple[float, float, float, float, float, float]


def _past_bar(item: Instrument, tick: int, resolution_ms: int, start_ms: int) -> _Bar | None:
    """A bar from the curve; quiet listings have many without trades."""
    luck = zlib.crc32(f"{item.spec.name}{tick}".encode()) % 1_000
    busy = 950 if item.spec.perpetual else 200
    if luck >= busy and resolution_ms < 3_600_000:
        return None
    points = [past_price(item, tick + resolution_ms * n // 4, start_ms) for n in range(5)]
    volume = round(item.spec.min_amount * (1 + luck), 8)
    inverse_future = item.spec.kind == "future" and not item.spec.linear
    cost = volume if inverse_future else round(volume * points[4], 8)
    volume = round(volume / points[4], 8) if inverse_future else volume
    return points[0], max(points), min(points), points[4], volume, cost


def _live_bars(item: Instrument, start_ms: int, resolution_ms: int) -> dict[int, _Bar]:
    bars: dict[int, _Bar] = {}
    for trade in item.trades:
        if trade.timestamp < start_ms:
            continue
        tick = trade.timestamp // resolution_ms * resolution_ms
        price = trade.price
        opened, high, low, _, volume, cost = bars.get(tick, (price, price, price, price, 0.0, 0.0))
        volume, cost = round(volume + trade.volume, 8), round(cost + trade.cost, 8)
        bars[tick] = (opened, max(high, price), min(low, price), price, volume, cost)
    return bars
