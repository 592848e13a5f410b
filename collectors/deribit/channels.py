"""Deribit's channel names: built for subscribing, and sorted when a notification arrives.

Tabulated are three classes: `ticker.{instrument}.{interval}`, `book.{instrument}.{interval}` (increments,
not the grouped books) and `trades.{instrument}.{interval}` or `trades.{kind}.{currency}.{interval}`.
Instrument names hold no dot, so counting the parts of a channel tells the two forms apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Interval = Literal["raw", "100ms", "agg2"]
TABULATED: Final = ("ticker", "book", "trades")
CREATION: Final = "instrument.creation"
STATE: Final = "instrument.state"
PLATFORM: Final = "platform_state"

CHANNELS_REMEMBERED: Final = 1 << 16
_TWO_PART_CLASSES: Final = ("instrument", "chart", "block_rfq")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel sorted: its class ("ticker", "book", "trades", "book_grouped", "quote",
    "instrument.creation", ...) and the one instrument it speaks of, None where it covers many or the class
    is not tabulated."""

    kind: str
    instrument: str | None = None

    @property
    def tabulated(self) -> bool:
        return self.kind in TABULATED


def ticker(instrument: str, interval: Interval = "100ms") -> str:
    """The channel of an instrument's ticker: best quote, marks, IVs and Greeks."""
    return f"ticker.{instrument}.{interval}"


def book(instrument: str, interval: Interval = "100ms") -> str:
    """The channel of an instrument's full book: a snapshot, then every change, linked by change ids."""
    return f"book.{instrument}.{interval}"


def trades(instrument: str, interval: Interval = "100ms") -> str:
    """The channel of one instrument's trades."""
    return f"trades.{instrument}.{interval}"


def all_trades(kind: str = "any", currency: str = "any", interval: Interval = "100ms") -> str:
    """The channel of every trade of a kind ("future", "option", "spot", ..., "any") and currency."""
    return f"trades.{kind}.{currency}.{interval}"


def creations(kind: str = "any", currency: str = "any") -> str:
    """The channel that announces each newly listed instrument with its complete terms."""
    return f"{CREATION}.{kind}.{currency}"


def states(kind: str = "any", currency: str = "any") -> str:
    """The channel of instruments' changes of state."""
    return f"{STATE}.{kind}.{currency}"


@lru_cache(maxsize=CHANNELS_REMEMBERED)
def classify(channel: str) -> Channel:
    """Sort a channel name; an unknown one gets its first part as class, so nothing is ever refused here."""
    parts = channel.split(".")
    head = parts[0]
    if head in ("ticker", "book") and len(parts) == 3:
        return Channel(head, parts[1])
    if head == "book":
        return Channel("book_grouped")
    if head == "trades" and len(parts) in (3, 4):
        return Channel("trades", parts[1] if len(parts) == 3 else None)
    if head in _TWO_PART_CLASSES and len(parts) > 1:
        return Channel(f"{head}.{parts[1]}")
    return Channel(f"{head}_unknown_form" if head in TABULATED else head)
