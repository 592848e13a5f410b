"""The collector's clock: right when it begins, even from then on, and corrected only towards the venue's time.

A machine's clock may be set at any moment: ahead for a minute, back for an hour. Receive times must neither follow such
a jump nor stand still until the clock has come back. So they are the machine's time at the start of the collector and
what has passed since then by a clock that nobody sets. A jump of the machine's clock is put on record, as an event and
as a row of `gaps` of no length (`clock_jump`), and changes nothing. Only where the venue's own times say that the
machine's clock is right now and ours is not, is it followed: ahead at once, back by running at half speed until both
agree, because receive times never go back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from collectors.continuity import ClockSkew
from collectors.sink import Tape
from lake.events import ClockJumped, Gap

CAUSE_CLOCK_JUMP: Final = "clock_jump"
LOOK_SECONDS: Final = 1.0
STEP_NS: Final = 500_000_000
"""What a clock gains or loses otherwise between two looks is far less."""
S_IN_NS: Final = 1_000_000_000

_log = logging.getLogger(__name__)


def passed_ns() -> int:
    """Time that nobody sets and that goes on while the machine sleeps, where the system has such a clock."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SteadyClock:
    """Time of day that does not jump. `not_before_ns`: the last time that was given in an earlier life."""

    def __init__(
        self,
        not_before_ns: int = 0,
        wall_ns: Callable[[], int] = time.time_ns,
        passed: Callable[[], int] = passed_ns,
    ) -> None:
        self._wall_ns, self._passed_ns = wall_ns, passed
        self._base_ns = passed()
        self._offset_ns = wall_ns() - self._base_ns
        self._held_ns = not_before_ns
        """From where on, at the moment `_base_ns`, the clock runs at half speed: it is ahead of the right time."""
        self._ahead = not_before_ns > self._offset_ns + self._base_ns

    def now_ns(self) -> int:
        """ns since the epoch, UTC; never earlier than before."""
        passed_ns = self._passed_ns()
        right_ns = passed_ns + self._offset_ns
        if not self._ahead:
            return right_ns
        shown_ns = self._held_ns + (passed_ns - self._base_ns) // 2
        self._ahead = shown_ns > right_ns
        return max(shown_ns, right_ns)

    @property
    def wall_ahead_ns(self) -> int:
        """How far the machine's clock is ahead of the time that this one holds to, or goes to."""
        return self._wall_ns() - (self._passed_ns() + self._offset_ns)

    @property
    def ahead_ns(self) -> int:
        """How far this clock is ahead of the time that it goes to."""
        return self.now_ns() - (self._passed_ns() + self._offset_ns) if self._ahead else 0

    def follow(self) -> None:
        """Hold to the machine's clock as it is now."""
        self._held_ns, self._base_ns = self.now_ns(), self._passed_ns()
        self._offset_ns = self._wall_ns() - self._base_ns
        self._ahead = self._held_ns > self._offset_ns + self._base_ns


class ClockWatch:
    """Looks whether the machine's clock was set, tells it, and lets the steady clock follow where the venue agrees."""

    def __init__(self, clock: SteadyClock, tape: Tape, skew: ClockSkew) -> None:
        self._clock, self._tape, self._skew = clock, tape, skew
        self._known_ns = 0
        """How far the machine's clock is known to be ahead of ours."""
        if clock.ahead_ns > STEP_NS:
            self._tell(-clock.ahead_ns, "since the last record: receive times go on at half speed")

    async def run(self) -> None:
        """Look every second; for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Look once."""
        ahead_ns = self._clock.wall_ahead_ns
        if abs(ahead_ns - self._known_ns) > STEP_NS:
            self._tell(ahead_ns - self._known_ns, "by itself: receive times go on evenly")
            self._known_ns = ahead_ns
        skew = self._skew.skew
        if skew is None or abs(ahead_ns) <= STEP_NS:
            return
        ours_ns = skew.offset_ns - self._clock.ahead_ns
        if abs(ours_ns + ahead_ns) + STEP_NS < abs(ours_ns):
            self._clock.follow()
            self._skew.forget()
            self._known_ns = 0
            self._tell(ahead_ns, "from ours, and the venue agrees with it: receive times follow")

    def _tell(self, by_ns: int, what: str) -> None:
        at_ns = self._tape.now_ns()
        _log.warning("this machine's clock has moved %+.3f s %s", by_ns / S_IN_NS, what)
        self._tape.event(ClockJumped(at_ns=at_ns, by_ns=by_ns))
        self._tape.event(Gap(start_ns=at_ns, end_ns=at_ns, cause=CAUSE_CLOCK_JUMP, records_lost=0))
