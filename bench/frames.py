"""Frames as the venue would send them, made by the simulated market: real shapes, digits that move as a market's do.

What costs and what compresses is decided by which digits change from one frame to the next, so frames are never
filled with random digits: the market's index walks, marks and Greeks follow by the venue's formulas, books change
one level at a time, busy instruments speak more often than quiet ones.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from collectors.simulator.chain import build_chain
from collectors.simulator.frames import notification
from collectors.simulator.market import Market

START_MS: Final = 1_790_755_200_000  # 2026-09-30 08:00 UTC: no benchmark reaches the end of the day
INSTRUMENTS: Final = 1_000
MARKET_FRAMES_PER_S: Final = 5_000.0
SHUFFLED_STEPS_MAX: Final = 1_000_000


class _Everything:
    """The channels somebody listens to: all of the wanted kinds."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self._starts = tuple(f"{kind}." for kind in kinds)

    def __contains__(self, channel: object) -> bool:
        return (
            isinstance(channel, str) and channel.startswith(self._starts) and channel.count(".") == len("..")
        )


class _Outlet:
    """Keeps what the market publishes."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.listened: Container[str] = _Everything(kinds)
        self.frames: list[bytes] = []

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        del seq, prev
        self.frames.append(notification(channel, data).encode())


def market_frames(
    count: int, kinds: tuple[str, ...] = ("ticker",), *, instruments: int = INSTRUMENTS, seed: int = 1
) -> list[bytes]:
    """`count` notifications of the channel kinds wanted ("ticker", "book", "trades"), in the order of the market.

    With books, each begins with its snapshot. The same arguments give the same bytes.
    """
    outlet = _Outlet(kinds)
    specs = build_chain(instruments, START_MS)
    market = Market(specs, seed=seed, rate=MARKET_FRAMES_PER_S, start_ms=START_MS, outlet=outlet)  # type: ignore[arg-type]
    if "book" in kinds:
        for item in market.instruments.values():
            outlet.frames.append(notification(item.channel_book, item.snapshot_data(START_MS)).encode())
    while len(outlet.frames) < count:
        market.step()
    return outlet.frames[:count]
