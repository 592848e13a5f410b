"""Deribit's channel names: built for subscribing, and sorted when a notification arrives.

Tabulated are

    ticker.{instrument}.{interval}
    book.{instrument}.{interval}                        increments, not the grouped books
    trades.{instrument}.{interval} and trades.{kind}.{currency}.{interval}
    perpetual.{instrument}.{interval}                   funding
    deribit_price_index.{index}
    deribit_volatility_index.{index}                    DVOL
    markprice.options.{index}                           marks of a whole chain

Names of instruments and indices hold no dot, so counting the parts of a channel tells forms apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

Interval = Literal["raw", "100ms", "agg2"]
PERPETUAL: Final = "perpetual"
PRICE_INDEX: Final = "deribit_price_index"
VOLATILITY_INDEX: Final = "deribit_volatility_index"
MARKS: Final = "markprice.options"
TABULATED: Final = ("ticker", "book", "trades", PERPETUAL, PRICE_INDEX, VOLATILITY_INDEX, MARKS)
PLATFORM: Final = ("platform_state", "platform_state.public_methods_state")
"""What the venue says of itself: evidence for the gaps, not tabulated."""
CREATION: Final = "instrument.creation"
STATE: Final = "instrument.state"

CHANNELS_REMEMBERED: Final = 1 << 16
_TWO_PART_CLASSES: Final = ("instrument", "chart", "block_rfq")


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel sorted: its class ("ticker", "book", "trades", "book_grouped", "quote",
    "instrument.creation", ...) and the one instrument or index it speaks of, None where it covers many or
    the class is not tabulated."""

    kind: str
    instrument: str | None = None
    index: str | None = None

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


def is_all_trades(channel: str) -> bool:
    """Whether it brings the trades of many instruments, which can be listed by kind and currency."""
    return classify(channel) == Channel("trades")


def creations(kind: str = "any", currency: str = "any") -> str:
    """The channel that announces each newly listed instrument with its complete terms."""
    return f"{CREATION}.{kind}.{currency}"


def states(kind: str = "any", currency: str = "any") -> str:
    """The channel of instruments' changes of state."""
    return f"{STATE}.{kind}.{currency}"


def perpetual(instrument: str, interval: str = "agg2") -> str:
    """The channel of a perpetual's momentary funding rate."""
    return f"{PERPETUAL}.{instrument}.{interval}"


def price_index(index: str) -> str:
    """The channel of a price index, such as btc_usd: a value a second."""
    return f"{PRICE_INDEX}.{index}"


def volatility_index(index: str) -> str:
    """The channel of the volatility index (DVOL) of what a price index stands for."""
    return f"{VOLATILITY_INDEX}.{index}"


def marks(index: str) -> str:
    """The channel of the marks of all options on an index: all of them first, then those that changed."""
    return f"{MARKS}.{index}"


@lru_cache(maxsize=CHANNELS_REMEMBERED)
def classify(channel: str) -> Channel:
    """Sort a channel name; an unknown one gets its first part as class, so nothing is ever refused here."""
    parts = channel.split(".")
    head = parts[0]
    if head in ("ticker", "book") and len(parts) == 3:
        return Channel(head, parts[1])
    if head == PERPETUAL and len(parts) == 3:
        return Channel(head, parts[1])
    if head in (PRICE_INDEX, VOLATILITY_INDEX) and len(parts) == 2:
        return Channel(head, index=parts[1])
    if channel.startswith(f"{MARKS}.") and len(parts) == 3:
        return Channel(MARKS, index=parts[2])
    if head == "book":
        return Channel("book_grouped")
    if head == "trades" and len(parts) in (3, 4):
        return Channel("trades", parts[1] if len(parts) == 3 else None)
    if head in _TWO_PART_CLASSES and len(parts) > 1:
        return Channel(f"{head}.{parts[1]}")
    return Channel(f"{head}_unknown_form" if head in TABULATED else head)
