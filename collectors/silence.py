"""Which channels of a connection are silent against their own habit: a pure tracker, fed in the order of receipt.

It knows nothing of sockets or of a venue's messages. Times are receive times in ns since the epoch, UTC.
Feeding it costs a dictionary look-up or two; what costs more is asked for seldom.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from statistics import median
from typing import Final, NamedTuple

from collectors.continuity import S_IN_NS

SILENCE_MIN_S: Final = 10.0
LIQUID_S: Final = 1.0
"""A channel whose frames come closer than this in the median is expected to go on."""
ARRIVALS_KEPT: Final = 32
HABIT_S: Final = 600.0
"""While others speak, a channel that nobody can be asked about is not missed before: it may be lively for minutes, and
rest."""
PAUSE_KEPT_S: Final = 3600.0
"""So long a channel is known to be used to a pause that it made."""
_LIQUID_NS: Final = int(LIQUID_S * S_IN_NS)
_SILENCE_MIN_NS: Final = int(SILENCE_MIN_S * S_IN_NS)
_MEDIANS_OF_SILENCE: Final = 30
_PAUSES_OF_SILENCE: Final = 3


class Silent(NamedTuple):
    """A channel that used to be lively said nothing between two receive times; None: all channels."""

    channel: str | None
    since_ns: int
    until_ns: int


class Quiet(NamedTuple):
    """A silence that lasts: of a channel (None: of all), since the receive time of the last frame."""

    channel: str | None
    since_ns: int


class Still(NamedTuple):
    """A channel that used to be lively says nothing, since the receive time of its last frame or since it was known to
    lack nothing."""

    channel: str
    since_ns: int


class Judged(NamedTuple):
    """What a look at the channels found."""

    begun: list[Quiet]
    """Silences that have begun."""
    suspect: list[Still]
    """While others speak, all of them at each look: the venue knows whether they have missed anything."""
    ended: list[Silent]
    """Silences that are over because there is a reason to rest."""


RestingSince = Callable[[str], int | None]
"""Since when, ns, there has been a reason for a channel to say nothing; None: there is none."""
Askable = Callable[[str], bool]
"""Whether the venue can be asked if a channel has missed anything."""


class Silence:
    """The channels of one connection, and which of them are silent against their own habit.

    A channel is judged by its last arrivals: only one with a median pause below `LIQUID_S` is expected to go
    on. It is still after ten seconds, and after thirty of its usual and three of its longest recent pauses. Where
    nobody else speaks either, that is a silence of the connection. While others speak, the longest pause of the last
    hour must be over too, because options are quoted in bursts; then it is a suspect, about whom the venue is asked
    (`convict` and `excuse` take what it says). Where that cannot be, it is silent after three such pauses, if it was
    heard for `HABIT_S`. While there is a reason for a channel to rest, it is not expected to speak.
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
        if arrivals and recv_ns - arrivals[-1] > _LIQUID_NS and channel not in silent:
            habit.note_pause(self._still_since_ns(habit), recv_ns)
        arrivals.append(recv_ns)
        self._newest_ns = recv_ns
        return self._end((None, channel), recv_ns) if silent else None

    def check(self, now_ns: int, resting_ns: RestingSince, askable: Askable) -> Judged:
        """What has become of the channels by now."""
        quiet, ended = self._still(now_ns, resting_ns)
        if None in self._silent:
            return Judged([], [], ended + (self._end((None,), now_ns) if not quiet else []))
        if quiet and now_ns - self._newest_ns > _SILENCE_MIN_NS:
            # Nobody speaks: that is one silence, of the connection, and not one per channel.
            since_ns = max(self._newest_ns, min(since_ns for _, since_ns in quiet))
            ended += self._end(tuple(self._silent), since_ns)
            self._silent[None] = since_ns
            return Judged([Quiet(None, since_ns)], [], ended)
        begun, suspect = [], []
        for channel, since_ns in quiet:
            habit = self._habits[channel]
            if channel in self._silent:
                continue
            if askable(channel):
                if now_ns - max(since_ns, habit.doubted_ns) > habit.longest_ns(now_ns):
                    suspect.append(Still(channel, since_ns))
            elif habit.is_broken_by(since_ns, now_ns):
                begun.append(Quiet(channel, since_ns))
                self._silent[channel] = since_ns
        return Judged(begun, suspect, ended)

    def _still(self, now_ns: int, resting_ns: RestingSince) -> tuple[list[Still], list[Silent]]:
        """Lively channels that are still, and silences that end because there is a reason to rest."""
        quiet: list[Still] = []
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
                quiet.append(Still(channel, since_ns))
        return quiet, ended

    def convict(self, suspect: Still) -> list[Quiet]:
        """The venue had something to say that a suspect has not brought: the silence that has begun, none where it
        has spoken since."""
        habit = self._habits.get(suspect.channel)
        if habit is None or None in self._silent or not habit.arrivals:
            return []
        if habit.arrivals[-1] > suspect.since_ns:
            return []
        self._silent[suspect.channel] = suspect.since_ns
        return [Quiet(*suspect)]

    def excuse(self, channel: str, asked_ns: int, *, lacks_nothing: bool) -> None:
        """When the venue was asked about a suspect it had nothing to say: that was one of its pauses.

        `lacks_nothing`: nor had it before, so that no later silence reaches back beyond the question.
        """
        habit = self._habits.get(channel)
        if habit is None or not habit.arrivals:
            return
        habit.note_pause(self._still_since_ns(habit), asked_ns)
        habit.doubted_ns = asked_ns
        if lacks_nothing:
            habit.rested_ns = max(habit.rested_ns, asked_ns)

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
    doubted_ns: int = 0
    """When it was excused last: its patience counts from there."""
    _longest_ns: int = 0
    """The longest pause beyond `LIQUID_S`, …"""
    _longest_at_ns: int = 0
    """… and when it ended."""
    _patience_ns: float = inf
    _judged_ns: int = 0
    """After which arrival `_patience_ns` was found: most channels are still for many checks."""

    def note_pause(self, since_ns: int, until_ns: int) -> None:
        """The channel spoke again."""
        if until_ns - since_ns > self.longest_ns(until_ns):
            self._longest_ns, self._longest_at_ns = until_ns - since_ns, until_ns

    def longest_ns(self, now_ns: int) -> int:
        """The longest pause that ended within the last hour."""
        return self._longest_ns if now_ns - self._longest_at_ns <= PAUSE_KEPT_S * S_IN_NS else 0

    def patience_ns(self) -> float:
        """How long a pause is usual by the last arrivals; infinite for what is not lively, or hardly known."""
        if self._judged_ns != self.arrivals[-1]:
            self._judged_ns, self._patience_ns = self.arrivals[-1], _patience_ns(self.arrivals)
        return self._patience_ns

    def is_broken_by(self, since_ns: int, now_ns: int) -> bool:
        """Whether a stillness that others do not share is certainly more than one of the channel's own pauses."""
        is_old = since_ns - self.first_ns >= HABIT_S * S_IN_NS
        return is_old and now_ns - since_ns > _PAUSES_OF_SILENCE * self.longest_ns(now_ns)


def _patience_ns(arrivals: deque[int]) -> float:
    stamps = list(arrivals)
    pauses = [later - earlier for earlier, later in pairwise(stamps)]
    if len(pauses) < ARRIVALS_KEPT // 2:
        return inf
    usual = median(pauses)
    if usual >= _LIQUID_NS:
        return inf
    return max(_MEDIANS_OF_SILENCE * usual, _PAUSES_OF_SILENCE * max(pauses))
