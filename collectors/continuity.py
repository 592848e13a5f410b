"""Whether what arrives is whole: pure trackers, fed in the order of receipt.

They know nothing of sockets or of a venue's messages. Times are receive times in ns since the epoch, UTC.
Feeding them costs a dictionary look-up or two; what costs more is asked for seldom.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from math import inf
from statistics import median
from typing import Final, NamedTuple

S_IN_NS: Final = 1_000_000_000
SILENCE_MIN_S: Final = 10.0
LIQUID_S: Final = 1.0
"""A channel whose frames come closer than this in the median is expected to go on."""
ARRIVALS_KEPT: Final = 32
HABIT_S: Final = 600.0
"""A channel heard for less is not missed while others speak: options are lively for minutes and then rest."""
PAUSE_KEPT_S: Final = 3600.0
"""So long a channel is known to be used to a pause that it made."""
_LIQUID_NS: Final = int(LIQUID_S * S_IN_NS)
_MEDIANS_OF_SILENCE: Final = 30
_PAUSES_OF_SILENCE: Final = 3
CHANGES_AHEAD_MAX: Final = 1024
NO_CHANGE_ID: Final = -1
SKEW_SAMPLES: Final = 16
SKEW_MAX_S: Final = 0.5


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


@dataclass(slots=True)
class _Sequence:
    high: int
    high_ns: int
    missing: list[tuple[int, int]]
    """Ranges below `high` not seen yet, ascending and apart."""


class TradeSequences:
    """Per instrument, which sequence numbers are missing since the first that came.

    Any order will do, and any number may come twice: a hole that fills itself is no hole any more.
    """

    def __init__(self) -> None:
        self._sequences: dict[str, _Sequence] = {}

    def note(self, instrument: str, seq: int, recv_ns: int) -> Hole | None:
        """A trade came; the hole that it leaves behind itself, if any."""
        known = self._sequences.get(instrument)
        if known is None:
            self._sequences[instrument] = _Sequence(seq, recv_ns, [])
            return None
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


def _take_out(ranges: list[tuple[int, int]], seq: int) -> None:
    at = bisect_left(ranges, (seq + 1,)) - 1
    if at < 0 or ranges[at][1] < seq:
        return
    first, last = ranges.pop(at)
    for rest in ((first, seq - 1), (seq + 1, last)):
        if rest[0] <= rest[1]:
            insort(ranges, rest)


class Silent(NamedTuple):
    """A channel that used to be lively said nothing between two receive times; None: all channels."""

    channel: str | None
    since_ns: int
    until_ns: int


class Quiet(NamedTuple):
    """A silence that lasts: of a channel (None: of all), since the receive time of the last frame."""

    channel: str | None
    since_ns: int


RestingSince = Callable[[str], int | None]
"""Since when, ns, there has been a reason for a channel to say nothing; None: there is none."""


class Silence:
    """The channels of one connection, and which of them are silent against their own habit.

    A channel is judged by its last arrivals: only one with a median pause below `LIQUID_S` is expected to go
    on. It is silent after ten seconds, and after thirty of its usual and three of its longest recent pauses. That is
    enough where nobody else speaks; otherwise the habit must be older than `HABIT_S`, and its longest pause of the
    last hour counts too, because options are quoted in bursts. While there is a reason for a channel to rest, it is
    not expected to speak.
    """

    def __init__(self) -> None:
        self._arrivals: dict[str, deque[int]] = {}
        self._silent: dict[str | None, int] = {}
        self._rested_ns: dict[str, int] = {}
        self._first_ns: dict[str, int] = {}
        self._longest: dict[str, tuple[int, int]] = {}
        """The longest pause beyond `LIQUID_S` that a channel made, and when it ended."""
        self._patience: dict[str, tuple[int, float]] = {}
        """What `_patience_ns` came to, and after which arrival: most channels are still for many checks."""
        self._newest_ns = 0
        self._all_silent_until_ns = 0

    def heard(self, channel: str, recv_ns: int) -> list[Silent] | None:
        """A frame came; the silences that it ends, if any."""
        silent = self._silent
        if silent and None in silent:
            self._all_silent_until_ns = recv_ns
        arrivals = self._arrivals.get(channel)
        if arrivals is None:
            arrivals = self._arrivals[channel] = deque(maxlen=ARRIVALS_KEPT)
            self._first_ns.setdefault(channel, recv_ns)
        elif recv_ns - arrivals[-1] > _LIQUID_NS:
            self._note_pause(channel, arrivals[-1], recv_ns)
        arrivals.append(recv_ns)
        self._newest_ns = recv_ns
        return self._end((None, channel), recv_ns) if silent else None

    def check(self, now_ns: int, resting_ns: RestingSince) -> tuple[list[Quiet], list[Silent]]:
        """The silences that have begun by now, and those that end because there is a reason to rest."""
        quiet: list[Quiet] = []
        ended: list[Silent] = []
        for channel, arrivals in self._arrivals.items():
            last_ns = arrivals[-1]
            if now_ns - last_ns <= SILENCE_MIN_S * S_IN_NS:
                continue
            patience_ns = self._patience_ns(channel, arrivals)
            if patience_ns == inf:
                continue
            rests_ns = resting_ns(channel)
            if rests_ns is not None:
                self._rested_ns[channel] = now_ns
                ended += self._end((channel,), rests_ns)
                continue
            since_ns = max(last_ns, self._rested_ns.get(channel, 0), self._all_silent_until_ns)
            pause_ns = now_ns - since_ns
            if pause_ns > SILENCE_MIN_S * S_IN_NS and pause_ns > patience_ns:
                quiet.append(Quiet(channel, since_ns))
        if None in self._silent:
            return [], ended + (self._end((None,), now_ns) if not quiet else [])
        if quiet and now_ns - self._newest_ns > SILENCE_MIN_S * S_IN_NS:
            # Nobody speaks: that is one silence, of the connection, and not one per channel.
            since_ns = max(self._newest_ns, min(since_ns for _, since_ns in quiet))
            ended += self._end(tuple(self._silent), since_ns)
            quiet = [Quiet(None, since_ns)]
        begun = [
            one for one in quiet if one.channel not in self._silent and self._is_unusual(*one, now_ns=now_ns)
        ]
        self._silent.update(begun)
        return begun, ended

    def keep_only(self, wanted: Set[str], now_ns: int) -> tuple[list[str], list[Silent]]:
        """Expect nothing of channels that are not `wanted` any more; which these are, and the silences that end."""
        gone = [channel for channel in self._arrivals if channel not in wanted]
        for channel in gone:
            del self._arrivals[channel]
            for known in (self._rested_ns, self._patience, self._first_ns, self._longest):
                known.pop(channel, None)
        return gone, self._end(tuple(gone), now_ns)

    def interrupted(self, since_ns: int) -> list[Silent]:
        """The connection was lost, which is a gap of its own: what is usual is learnt anew. The silences that end."""
        ended = self._end(tuple(self._silent), since_ns)
        self._arrivals.clear()
        self._rested_ns.clear()
        self._patience.clear()
        return ended

    def _note_pause(self, channel: str, since_ns: int, until_ns: int) -> None:
        """Remember a pause, but for the part in which nobody spoke or there was a reason to rest."""
        pause_ns = until_ns - max(since_ns, self._all_silent_until_ns, self._rested_ns.get(channel, 0))
        longest_ns, at_ns = self._longest.get(channel, (0, 0))
        if pause_ns > longest_ns or until_ns - at_ns > PAUSE_KEPT_S * S_IN_NS:
            self._longest[channel] = pause_ns, until_ns

    def _is_unusual(self, channel: str | None, since_ns: int, *, now_ns: int) -> bool:
        """Whether a channel that is silent while others speak (None: all are) has long been used to speak."""
        if channel is None:
            return True
        longest_ns, _ = self._longest.get(channel, (0, 0))
        is_habit = since_ns - self._first_ns[channel] >= HABIT_S * S_IN_NS
        return is_habit and now_ns - since_ns > _PAUSES_OF_SILENCE * longest_ns

    def _patience_ns(self, channel: str, arrivals: deque[int]) -> float:
        known = self._patience.get(channel)
        if known is None or known[0] != arrivals[-1]:
            known = self._patience[channel] = arrivals[-1], _patience_ns(arrivals)
        return known[1]

    def _end(self, channels: tuple[str | None, ...], until_ns: int) -> list[Silent]:
        return [Silent(c, self._silent.pop(c), until_ns) for c in channels if c in self._silent]


def _patience_ns(arrivals: deque[int]) -> float:
    stamps = list(arrivals)
    pauses = [later - earlier for earlier, later in pairwise(stamps)]
    if len(pauses) < ARRIVALS_KEPT // 2:
        return inf
    usual = median(pauses)
    if usual >= LIQUID_S * S_IN_NS:
        return inf
    return max(_MEDIANS_OF_SILENCE * usual, _PAUSES_OF_SILENCE * max(pauses))


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
        self._told = False

    def note(self, sent_ns: int, recv_ns: int) -> Skew | None:
        """A reply came; the skew, if it has just gone beyond `SKEW_MAX_S` or come back within."""
        self._samples.append(recv_ns - sent_ns)
        skew = self.skew
        beyond = skew is not None and abs(skew.offset_ns) > SKEW_MAX_S * S_IN_NS
        if beyond == self._told:
            return None
        self._told = beyond
        return skew

    @property
    def skew(self) -> Skew | None:
        """As far as known; None before the first sample."""
        if not self._samples:
            return None
        least = min(self._samples)
        return Skew(least, max(self._samples) - least, len(self._samples))
