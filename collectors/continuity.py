"""Whether what arrives is whole: pure trackers, fed in the order of receipt.

They know nothing of sockets or of a venue's messages. Times are receive times in ns since the epoch, UTC.
Feeding them costs a dictionary look-up or two; what costs more is asked for seldom.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

S_IN_NS: Final = 1_000_000_000
CHANGES_AHEAD_MAX: Final = 1024
NO_CHANGE_ID: Final = -1
SKEW_SAMPLES: Final = 16
SKEW_MAX_S: Final = 0.5
LEAP_MAX: Final = 1_000_000
"""Trades of an instrument whose numbers lie further apart are no neighbours, and what is between is not lost."""
SEQ_MAX: Final = 1 << 53
"""No number is larger: JSON, where every number is a double, could not tell it from the next."""
CHANGE_LEAP_MAX: Final = 1 << 40
"""The same of the ids of changes, which count through all books of a venue."""
ASTRAY_MAX: Final = 3
"""So many in a row that follow one another elsewhere are right: the venue counts anew."""
CLOCK_LEAP_NS: Final = 86_400 * S_IN_NS


class Whole(NamedTuple):
    """A book that can be built again, from `at_ns` on; it could not since `since_ns`."""

    since_ns: int
    at_ns: int


class ChainNews(Enum):
    """What a change does to a book."""

    BROKE = "broke"
    MENDED = "mended"
    """What was missing came after all, late: nothing is lacking."""


@dataclass(slots=True)
class _Chain:
    last: int
    good_ns: int
    broken: bool = False
    ahead: dict[int, int] = field(default_factory=dict)
    """Changes that came before the one they follow: their ids by the id of that one."""


class BookChains:
    """Per channel, whether each change continues the one before it.

    A snapshot begins a chain anew. A change whose predecessor is not the last message breaks it, until the missing
    ones have come; one that comes before any snapshot breaks it until that comes. What has been seen already (a
    duplicate) does neither.
    """

    def __init__(self) -> None:
        self._chains: dict[str, _Chain] = {}

    def snapshot(self, channel: str, change_id: int, recv_ns: int) -> Whole | None:
        """The book as a whole came; told if it had been broken."""
        chain = self._chains.get(channel)
        if chain is None:
            self._chains[channel] = _Chain(change_id, recv_ns)
            return None
        healed = Whole(chain.good_ns, recv_ns) if chain.broken else None
        chain.last, chain.good_ns, chain.broken = change_id, recv_ns, False
        chain.ahead.clear()
        return healed

    def change(
        self, channel: str, change_id: int, prev_change_id: int | None, recv_ns: int
    ) -> ChainNews | None:
        """A change came; whether it breaks a chain that was whole, or makes one whole again."""
        chain = self._chains.get(channel)
        if chain is None:
            self._chains[channel] = _Chain(NO_CHANGE_ID, recv_ns, broken=True)
            return ChainNews.BROKE
        if abs(change_id - chain.last) > CHANGE_LEAP_MAX:  # one of the two cannot be: a snapshot will tell
            newly, chain.broken = not chain.broken, True
            return ChainNews.BROKE if newly else None
        if change_id <= chain.last:
            return None
        if prev_change_id == chain.last:
            chain.last = change_id
            while (following := chain.ahead.pop(chain.last, None)) is not None:
                chain.last = following
            if chain.ahead:
                return None
            mended, chain.broken, chain.good_ns = chain.broken, False, recv_ns
            return ChainNews.MENDED if mended else None
        if prev_change_id is not None and len(chain.ahead) < CHANGES_AHEAD_MAX:
            chain.ahead[prev_change_id] = change_id
        newly, chain.broken = not chain.broken, True
        return ChainNews.BROKE if newly else None

    def last(self, channel: str) -> int:
        """Id of the last message up to which a book is whole; NO_CHANGE_ID where it never was."""
        chain = self._chains.get(channel)
        return chain.last if chain is not None else NO_CHANGE_ID

    def broken_since_ns(self, channel: str) -> int | None:
        """Receive time of the last good message of a broken book; None while it is whole or unknown."""
        chain = self._chains.get(channel)
        return chain.good_ns if chain is not None and chain.broken else None

    def forget(self, channel: str) -> None:
        """The channel is left: whatever it says next begins a new chain."""
        self._chains.pop(channel, None)


class Hole(NamedTuple):
    """Sequence numbers `first` to `last` of an instrument did not come between two that did.

    `after_ns` and `before_ns` are the receive times of the numbers before and after the hole.
    """

    instrument: str
    first: int
    last: int
    after_ns: int
    before_ns: int


class Leap(NamedTuple):
    """A trade of an instrument has a number that cannot be: nobody knows what came between `after_ns` and `at_ns`."""

    instrument: str
    after_ns: int
    at_ns: int


@dataclass(slots=True)
class _Sequence:
    high: int
    high_ns: int
    missing: list[tuple[int, int]]
    """Ranges below `high` not seen yet, ascending and apart."""
    astray: int = 0
    """How many in a row have come from elsewhere, the last of them with the number `elsewhere`."""
    elsewhere: int = 0
    leapt: bool = False
    """A leap has been told, and the numbers have not settled since."""


class TradeSequences:
    """Per instrument, which sequence numbers are missing since the first that came.

    Any order will do, and any number may come twice: a hole that fills itself is no hole any more. A number far from
    all others is a fault of the venue and moves nothing, unless more follow it.
    """

    def __init__(self) -> None:
        self._sequences: dict[str, _Sequence] = {}

    def note(self, instrument: str, seq: int, recv_ns: int) -> Hole | Leap | None:
        """A trade came; the hole that it leaves behind itself, if any. Of leaps in a row only the first is told."""
        known = self._sequences.get(instrument)
        if known is None:
            if 0 <= seq <= SEQ_MAX:
                self._sequences[instrument] = _Sequence(seq, recv_ns, [])
            return None
        if abs(seq - known.high) > LEAP_MAX:
            return _leap(instrument, known, seq, recv_ns)
        known.astray = 0
        if seq <= known.high:
            if known.missing:
                _take_out(known.missing, seq)
            return None
        hole = None
        if seq != known.high + 1:
            hole = Hole(instrument, known.high + 1, seq - 1, known.high_ns, recv_ns)
            known.missing.append((hole.first, hole.last))
        known.high, known.high_ns = seq, recv_ns
        return hole

    def newest(self) -> dict[str, int]:
        """The highest number seen, by instrument."""
        return {name: known.high for name, known in self._sequences.items()}

    def forget(self, instrument: str) -> None:
        """It is over with this instrument."""
        self._sequences.pop(instrument, None)

    def missing(self, hole: Hole) -> list[tuple[int, int]]:
        """The ranges within `hole` that are still missing, ascending; both ends included."""
        known = self._sequences.get(hole.instrument)
        ranges = known.missing if known is not None else []
        return [
            (max(first, hole.first), min(last, hole.last))
            for first, last in ranges
            if first <= hole.last and last >= hole.first
        ]

    def give_up(self, hole: Hole) -> None:
        """What is missing within `hole` will not be asked for again: keep no account of it."""
        known = self._sequences.get(hole.instrument)
        if known is not None:
            known.missing = [r for r in known.missing if r[1] < hole.first or r[0] > hole.last]


def _leap(instrument: str, known: _Sequence, seq: int, recv_ns: int) -> Leap | None:
    if 0 <= seq <= SEQ_MAX:
        follows = known.astray > 0 and abs(seq - known.elsewhere) <= LEAP_MAX
        known.astray = known.astray + 1 if follows else 1
        known.elsewhere = seq
    leap = None if known.leapt else Leap(instrument, known.high_ns, recv_ns)
    known.leapt = known.astray < ASTRAY_MAX
    if not known.leapt:
        known.high, known.high_ns, known.astray = seq, recv_ns, 0
    return leap


def _take_out(ranges: list[tuple[int, int]], seq: int) -> None:
    at = bisect_left(ranges, (seq + 1,)) - 1
    if at < 0 or ranges[at][1] < seq:
        return
    first, last = ranges.pop(at)
    for rest in ((first, seq - 1), (seq + 1, last)):
        if rest[0] <= rest[1]:
            insort(ranges, rest)


class Skew(NamedTuple):
    """How far our clock is ahead of the venue's (negative: behind), and how far samples lay apart."""

    offset_ns: int
    spread_ns: int
    samples: int


class ClockSkew:
    """Our clock against the times at which the venue says it sent its replies.

    Every sample holds the way of the reply as well, which only adds: the smallest of the last samples
    is the best, and still an upper bound.
    """

    def __init__(self) -> None:
        self._samples: deque[int] = deque(maxlen=SKEW_SAMPLES)
        self._astray = 0
        self._told = False

    def note(self, sent_ns: int, recv_ns: int) -> Skew | None:
        """A reply came; the skew, if it has just gone beyond `SKEW_MAX_S` or come back within.

        A sample a day from the last is a fault of the venue, unless more follow it: then a clock was set.
        """
        sample = recv_ns - sent_ns
        if self._samples and abs(sample - self._samples[-1]) > CLOCK_LEAP_NS:
            self._astray += 1
            if self._astray < ASTRAY_MAX:
                return None
            self._samples.clear()
        self._astray = 0
        self._samples.append(sample)
        skew = self.skew
        beyond = skew is not None and abs(skew.offset_ns) > SKEW_MAX_S * S_IN_NS
        if beyond == self._told:
            return None
        self._told = beyond
        return skew

    def forget(self) -> None:
        """Our clock was corrected: what was seen before says nothing of it now."""
        self._samples.clear()

    @property
    def skew(self) -> Skew | None:
        """As far as known; None before the first sample."""
        if not self._samples:
            return None
        least = min(self._samples)
        return Skew(least, max(self._samples) - least, len(self._samples))
