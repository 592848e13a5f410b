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
_SILENCE_MIN_NS: Final = int(SILENCE_MIN_S * S_IN_NS)
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
        self._habits: dict[str, _Habit] = {}
        self._silent: dict[str | None, int] = {}
        self._newest_ns = 0
        self._all_silent_until_ns = 0

    def heard(self, channel: str, recv_ns: int) -> list[Silent] | None:
        """A frame came; the silences that it ends, if any."""
        silent = self._silent
        if silent and None in silent:
            self._all_silent_until_ns = recv_ns
        habit = self._habits.get(channel)
        if habit is None:
            habit = self._habits[channel] = _Habit(recv_ns)
        arrivals = habit.arrivals
        if arrivals and recv_ns - arrivals[-1] > _LIQUID_NS:
            habit.note_pause(self._still_since_ns(habit), recv_ns)
        arrivals.append(recv_ns)
        self._newest_ns = recv_ns
        return self._end((None, channel), recv_ns) if silent else None

    def check(self, now_ns: int, resting_ns: RestingSince) -> tuple[list[Quiet], list[Silent]]:
        """The silences that have begun by now, and those that end because there is a reason to rest."""
        quiet: list[Quiet] = []
        ended: list[Silent] = []
        for channel, habit in self._habits.items():
            if not habit.arrivals or now_ns - habit.arrivals[-1] <= _SILENCE_MIN_NS:
                continue
            patience_ns = habit.patience_ns()
            if patience_ns == inf:
                continue
            rests_ns = resting_ns(channel)
            if rests_ns is not None:
                habit.rested_ns = now_ns
                ended += self._end((channel,), rests_ns)
                continue
            since_ns = self._still_since_ns(habit)
            if now_ns - since_ns > max(_SILENCE_MIN_NS, patience_ns):
                quiet.append(Quiet(channel, since_ns))
        if None in self._silent:
            return [], ended + (self._end((None,), now_ns) if not quiet else [])
        if quiet and now_ns - self._newest_ns > _SILENCE_MIN_NS:
            # Nobody speaks: that is one silence, of the connection, and not one per channel.
            since_ns = max(self._newest_ns, min(since_ns for _, since_ns in quiet))
            ended += self._end(tuple(self._silent), since_ns)
            begun = [Quiet(None, since_ns)]
        else:
            begun = [
                Quiet(channel, since_ns)
                for channel, since_ns in quiet
                if channel is not None
                and channel not in self._silent
                and self._habits[channel].is_broken_by(since_ns, now_ns)
            ]
        self._silent.update(begun)
        return begun, ended

    def keep_only(self, wanted: Set[str], now_ns: int) -> tuple[list[str], list[Silent]]:
        """Expect nothing of channels that are not `wanted` any more; which these are, and the silences that end."""
        gone = [channel for channel in self._habits if channel not in wanted]
        for channel in gone:
            del self._habits[channel]
        return gone, self._end(tuple(gone), now_ns)

    def interrupted(self, since_ns: int) -> list[Silent]:
        """The connection was lost, which is a gap of its own: what is usual is learnt anew. The silences that end."""
        for habit in self._habits.values():
            habit.arrivals.clear()
        return self._end(tuple(self._silent), since_ns)

    def _still_since_ns(self, habit: _Habit) -> int:
        """Since when a channel has said nothing, but for when nobody spoke or it had a reason to rest."""
        return max(habit.arrivals[-1], habit.rested_ns, self._all_silent_until_ns)

    def _end(self, channels: tuple[str | None, ...], until_ns: int) -> list[Silent]:
        return [Silent(c, self._silent.pop(c), until_ns) for c in channels if c in self._silent]


@dataclass(slots=True)
class _Habit:
    """When a channel has spoken, how it used to, and until when it had a reason not to."""

    first_ns: int
    arrivals: deque[int] = field(default_factory=lambda: deque(maxlen=ARRIVALS_KEPT))
    rested_ns: int = 0
    longest_ns: int = 0
    """The longest pause beyond `LIQUID_S` of the last hour, …"""
    longest_at_ns: int = 0
    """… and when it ended."""
    _patience_ns: float = inf
    _judged_ns: int = 0
    """After which arrival `_patience_ns` was found: most channels are still for many checks."""

    def note_pause(self, since_ns: int, until_ns: int) -> None:
        """The channel spoke again."""
        if until_ns - since_ns > self.longest_ns or until_ns - self.longest_at_ns > PAUSE_KEPT_S * S_IN_NS:
            self.longest_ns, self.longest_at_ns = until_ns - since_ns, until_ns

    def patience_ns(self) -> float:
        """How long a pause is usual by the last arrivals; infinite for what is not lively, or hardly known."""
        if self._judged_ns != self.arrivals[-1]:
            self._judged_ns, self._patience_ns = self.arrivals[-1], _patience_ns(self.arrivals)
        return self._patience_ns

    def is_broken_by(self, since_ns: int, now_ns: int) -> bool:
        """Whether a stillness that others do not share is more than one of the channel's own pauses."""
        is_old = since_ns - self.first_ns >= HABIT_S * S_IN_NS
        return is_old and now_ns - since_ns > _PAUSES_OF_SILENCE * self.longest_ns


def _patience_ns(arrivals: deque[int]) -> float:
    stamps = list(arrivals)
    pauses = [later - earlier for earlier, later in pairwise(stamps)]
    if len(pauses) < ARRIVALS_KEPT // 2:
        return inf
    usual = median(pauses)
    if usual >= _LIQUID_NS:
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
