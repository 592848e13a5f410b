"""How often instruments move: Zipf weights, and the chance per 100 ms that meets a frame rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from collectors.simulator.chain import DAY_MS
from collectors.simulator.instrument import Instrument

ZIPF_EXPONENT: Final = 0.8
MAX_EVENT_CHANCE: Final = 0.95
FRAMES_PER_EVENT: Final = 1.5  # a book change, about every second time a ticker, now and then a trade
_TURNS_PER_SECOND: Final = 10
_BISECTIONS: Final = 40


def activity(items: Sequence[Instrument], now_ms: int) -> dict[str, float]:
    """Weight by name: perpetuals first, then by distance from the money and life left."""

    def rank(item: Instrument) -> tuple[int, float]:
        spec = item.spec
        if spec.perpetual:
            return 0, 0.0
        months = (spec.expiry_ms - now_ms) / DAY_MS / 30
        if spec.kind != "option":
            return 1, months + (2.0 if spec.linear else 0.0)
        distance = abs(spec.strike / item.index.price - 1.0)
        return 1, distance * 10 + months + (2.0 if spec.linear else 0.0)

    ordered = sorted(items, key=rank)
    return {item.spec.name: 1.0 / (position + 1) ** ZIPF_EXPONENT for position, item in enumerate(ordered)}


def first_chance(weights: Sequence[float], event_frames_per_second: float) -> float:
    """Factor on the weights with which events make about so many frames a second."""
    low, high = 0.0, 1e6
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        made = sum(min(MAX_EVENT_CHANCE, weight * middle) for weight in weights)
        if made * FRAMES_PER_EVENT * _TURNS_PER_SECOND < event_frames_per_second:
            low = middle
        else:
            high = middle
    return high
