"""The collector's clock: even whatever is done to the machine's, and every jump on record."""

from __future__ import annotations

import itertools

import pytest

from collectors.clock import ClockWatch, SteadyClock
from collectors.continuity import ClockSkew
from collectors.sink import Tape
from lake.events import ClockJumped, Gap, decode_event
from lake.spool import RecordKind
from tests.collectors.kit import MemorySink

S = 1_000_000_000
NOON = 1_795_000_000 * S


class Times:
    """A true time, and a machine's clock that may be off by `off_ns`."""

    def __init__(self, off_ns: int = 0) -> None:
        self.true_ns, self.off_ns = NOON, off_ns

    def wall(self) -> int:
        return self.true_ns + self.off_ns

    def passed(self) -> int:
        return self.true_ns - NOON + 12_345


class Collector:
    """A steady clock, its watch, and what is put on record."""

    def __init__(self, times: Times, not_before_ns: int = 0) -> None:
        self.times, self.sink, self.skew = times, MemorySink(), ClockSkew()
        self.clock = SteadyClock(not_before_ns, times.wall, times.passed)
        self.tape = Tape(self.sink, self.clock.now_ns)
        self.watch = ClockWatch(self.clock, self.tape, self.skew)

    def live(self, seconds: int, *, venue: bool = True) -> list[int]:
        """How far its time is ahead of the true one, second by second; every ten the venue replies."""
        ahead = []
        for second in range(seconds):
            self.times.true_ns += S
            ahead.append(self.clock.now_ns() - self.times.true_ns)
            if venue and second % 10 == 0:
                self.skew.note(self.times.true_ns, self.tape.now_ns())
            self.watch.look()
        return ahead

    def told(self) -> list[int]:
        """The jumps on record, in whole seconds; each has its row for `gaps`."""
        events = [
            decode_event(payload) for payload, _, kind, _ in self.sink.records if kind == RecordKind.EVENT
        ]
        jumps = [event for event in events if isinstance(event, ClockJumped)]
        gaps = [event for event in events if isinstance(event, Gap)]
        assert [(gap.cause, gap.start_ns) for gap in gaps] == [("clock_jump", jump.at_ns) for jump in jumps]
        return [round(jump.by_ns / S) for jump in jumps]


@pytest.mark.parametrize("jump_s", [60, -3600, 86_400])
@pytest.mark.parametrize("venue", [True, False])
def test_a_jump_of_the_machines_clock_changes_no_receive_time_and_is_on_record(
    jump_s: int, venue: bool
) -> None:
    collector = Collector(Times())
    before = collector.live(30, venue=venue)
    collector.times.off_ns = jump_s * S
    during = collector.live(60, venue=venue)
    collector.times.off_ns = 0
    after = collector.live(30, venue=venue)
    assert {*before, *during, *after} == {0}
    assert collector.told() == [jump_s, -jump_s]


def test_a_clock_that_was_behind_at_the_start_is_followed_when_the_venue_agrees() -> None:
    collector = Collector(Times(off_ns=-3600 * S))
    assert set(collector.live(30)) == {-3600 * S}
    collector.times.off_ns = 0
    assert collector.live(30)[2:] == [0] * 28
    assert collector.told() == [3600, 3600]


def test_a_clock_that_was_ahead_at_the_start_is_followed_without_ever_going_back() -> None:
    collector = Collector(Times(off_ns=60 * S))
    collector.live(30)
    collector.times.off_ns = 0
    ahead = collector.live(150)
    assert all(later - earlier >= -S // 2 - 1 for earlier, later in itertools.pairwise(ahead))
    assert ahead[-1] == 0
    stamps = [recv_ns for *_, recv_ns in collector.sink.records]
    assert stamps == sorted(stamps)
    assert collector.told() == [-60, -60], "it is known twice: when it jumped, and when it is followed"


def test_after_a_life_with_a_clock_that_was_ahead_times_go_on_and_come_right() -> None:
    collector = Collector(Times(), not_before_ns=NOON + 100 * S)
    ahead = collector.live(201)
    assert ahead[0] == pytest.approx(99.5 * S)
    assert ahead[-1] == 0
    assert collector.told() == [-100]
