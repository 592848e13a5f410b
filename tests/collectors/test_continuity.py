"""The trackers of continuity against what was really left out, doubled and swapped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.continuity import (
    ARRIVALS_KEPT,
    HABIT_S,
    S_IN_NS,
    BookChains,
    ChainNews,
    ClockSkew,
    Hole,
    Quiet,
    Silence,
    Silent,
    Skew,
    TradeSequences,
    Whole,
)

BOOK = "book.BTC-PERPETUAL.100ms"


def ranges(numbers: set[int]) -> list[tuple[int, int]]:
    """A set as ascending ranges, both ends included."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


@given(st.data())
def test_missing_trades_are_exactly_those_that_never_came(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 60))
    dropped = data.draw(st.sets(st.integers(1, count - 2) if count > 2 else st.nothing()))
    kept = [seq for seq in range(count) if seq not in dropped]
    again = data.draw(st.lists(st.sampled_from(kept), max_size=10))
    order = [0, *data.draw(st.permutations(kept[1:] + again))]
    tracker = TradeSequences()
    holes = [hole for at, seq in enumerate(order) if (hole := tracker.note("X", seq, at)) is not None]

    missing = [r for hole in holes for r in tracker.missing(hole)]
    assert sorted(missing) == missing
    assert {seq for first, last in missing for seq in range(first, last + 1)} == dropped
    assert ranges(dropped) == ranges({seq for r in missing for seq in range(r[0], r[1] + 1)})
    for hole in holes:
        assert order[hole.before_ns] == hole.last + 1
        assert order[hole.after_ns] == hole.first - 1
    for seq in sorted(dropped):
        assert tracker.note("X", seq, 0) is None
    assert all(tracker.missing(hole) == [] for hole in holes)


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 30)), max_size=60))
def test_instruments_do_not_disturb_each_other(arrivals: list[tuple[str, int]]) -> None:
    together = TradeSequences()
    alone = {name: TradeSequences() for name in "AB"}
    for at, (name, seq) in enumerate(arrivals):
        assert together.note(name, seq, at) == alone[name].note(name, seq, at)


def test_a_hole_given_up_is_told_no_more() -> None:
    tracker = TradeSequences()
    tracker.note("X", 1, 10)
    first = tracker.note("X", 4, 40)
    second = tracker.note("X", 6, 60)
    assert first == Hole("X", 2, 3, 10, 40)
    assert second == Hole("X", 5, 5, 40, 60)
    tracker.give_up(first)
    assert (tracker.missing(first), tracker.missing(second)) == ([], [(5, 5)])


@given(st.integers(2, 40), st.sets(st.integers(1, 38)), st.lists(st.integers(0, 38), max_size=8))
def test_a_book_breaks_once_where_a_change_is_missing_and_never_by_duplicates(
    count: int, dropped: set[int], doubled: list[int]
) -> None:
    chains = BookChains()
    assert chains.snapshot(BOOK, 0, 0) is None
    breaks, last_good = [], 0
    for change in range(1, count):
        if change in dropped:
            continue
        broke = [chains.change(BOOK, change, change - 1, change) for _ in range(1 + doubled.count(change))]
        breaks += [(change, chains.broken_since_ns(BOOK))] * broke.count(ChainNews.BROKE)
        if not breaks:
            last_good = change
    lacking = sorted(d for d in dropped if d < count)
    after = next((c for c in range(lacking[0], count) if c not in dropped), None) if lacking else None
    assert breaks == ([(after, last_good)] if after is not None else [])
    healed = chains.snapshot(BOOK, 100, 1000)
    assert healed == (Whole(last_good, 1000) if breaks else None)
    assert chains.broken_since_ns(BOOK) is None
    assert not chains.change(BOOK, 101, 100, 1001)


@given(st.integers(2, 30), st.data())
def test_a_book_whose_changes_all_come_is_whole_in_whatever_order(count: int, data: st.DataObject) -> None:
    chains = BookChains()
    chains.snapshot(BOOK, 0, 0)
    order = data.draw(st.permutations(range(1, count)))
    news = [chains.change(BOOK, change, change - 1, at) for at, change in enumerate(order)]
    assert chains.broken_since_ns(BOOK) is None
    told = [one for one in news if one is not None]
    assert told == [ChainNews.BROKE, ChainNews.MENDED] * (len(told) // 2)
    assert bool(told) == (order != sorted(order))
    assert chains.change(BOOK, count + 1, count, 1000) is ChainNews.BROKE


def test_a_change_before_any_snapshot_is_a_broken_book() -> None:
    chains = BookChains()
    assert chains.change(BOOK, 5, 4, 50)
    assert not chains.change(BOOK, 6, 5, 60)
    assert chains.snapshot(BOOK, 7, 70) == Whole(50, 70)
    chains.forget(BOOK)
    assert chains.snapshot(BOOK, 1, 80) is None


def speak(silence: Silence, channel: str, pause_s: float, end_ns: int) -> None:
    """So many frames, and for so long, that the channel's habit is known, the last at `end_ns`."""
    for n in range(max(ARRIVALS_KEPT, int(HABIT_S / pause_s) + 1), -1, -1):
        assert silence.heard(channel, end_ns - int(n * pause_s * S_IN_NS)) is None


def awake(channel: str) -> int | None:
    """No reason to rest."""
    del channel
    return None


def test_a_liquid_channel_is_silent_after_ten_seconds_and_a_quiet_one_never() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "quiet", 5.0, start)
    speak(silence, "liquid", 0.1, start)
    silence.heard("quiet", start + 8 * S_IN_NS)
    assert silence.check(start + 10 * S_IN_NS, awake) == ([], [])
    assert silence.check(start + 11 * S_IN_NS, awake) == ([Quiet("liquid", start)], [])
    assert not silence.heard("quiet", start + 12 * S_IN_NS)
    until = start + 13 * S_IN_NS
    assert silence.heard("liquid", until) == [Silent("liquid", start, until)]
    begun, _ = silence.check(start + 3600 * S_IN_NS, awake)
    assert begun == [Quiet(None, until)], "now all are silent, which is one silence"
    assert silence.interrupted(start + 3601 * S_IN_NS) == [Silent(None, until, start + 3601 * S_IN_NS)]
    assert silence.check(start + 3700 * S_IN_NS, awake) == ([], [])


def test_patience_grows_with_the_pauses_a_channel_is_used_to() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "lively", 0.9, start)
    silence.heard("other", start + 20 * S_IN_NS)
    assert silence.check(start + 26 * S_IN_NS, awake) == ([], [])
    assert len(silence.check(start + 28 * S_IN_NS, awake)[0]) == 1


def test_a_burst_makes_no_habit_but_a_connection_that_falls_silent_after_it_is_noticed() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    for n in range(100):
        silence.heard("restless", start + n * S_IN_NS // 10)
    last = start + 99 * S_IN_NS // 10
    silence.heard("other", last + 25 * S_IN_NS)
    assert silence.check(last + 30 * S_IN_NS, awake) == ([], []), "others speak, and it is new"
    assert silence.check(last + 36 * S_IN_NS, awake) == ([Quiet(None, last + 25 * S_IN_NS)], [])


def speak_on(silence: Silence, channel: str, start_ns: int, end_ns: int) -> None:
    """A frame every tenth of a second."""
    for at_ns in range(start_ns, end_ns + 1, S_IN_NS // 10):
        silence.heard(channel, at_ns)


def test_a_channel_is_used_to_three_times_its_longest_pause_of_the_last_hour() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "restless", 0.1, start)
    last = start + 100 * S_IN_NS
    speak_on(silence, "restless", start + 20 * S_IN_NS, last)
    silence.heard("other", last + 55 * S_IN_NS)
    assert silence.check(last + 59 * S_IN_NS, awake) == ([], [])
    assert silence.check(last + 61 * S_IN_NS, awake) == ([Quiet("restless", last)], [])
    silence.heard("restless", last + 61 * S_IN_NS)
    later = last + 3700 * S_IN_NS
    speak_on(silence, "restless", last + 62 * S_IN_NS, later)
    speak_on(silence, "restless", later + 2 * S_IN_NS, later + 10 * S_IN_NS)
    silence.heard("other", later + 20 * S_IN_NS)
    assert silence.check(later + 21 * S_IN_NS, awake) == ([Quiet("restless", later + 10 * S_IN_NS)], [])


def test_a_silence_of_everybody_is_no_pause_of_one() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "lively", 0.1, start)
    assert silence.check(start + 11 * S_IN_NS, awake) == ([Quiet(None, start)], [])
    last = start + 100 * S_IN_NS
    speak_on(silence, "lively", start + 30 * S_IN_NS, last)
    silence.heard("other", last + 10 * S_IN_NS)
    assert silence.check(last + 11 * S_IN_NS, awake) == ([Quiet("lively", last)], [])


def test_a_channel_that_was_left_is_not_expected_to_speak() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "expired", 0.1, start)
    silence.heard("other", start + 11 * S_IN_NS)
    assert len(silence.check(start + 11 * S_IN_NS, awake)[0]) == 1
    left = start + 12 * S_IN_NS
    assert silence.keep_only({"other"}, left) == (["expired"], [Silent("expired", start, left)])
    assert silence.interrupted(start + 13 * S_IN_NS) == []


def test_what_has_a_reason_to_rest_is_not_silent_and_is_so_again_when_the_reason_is_gone() -> None:
    silence, start = Silence(), 1000 * S_IN_NS
    speak(silence, "locked", 0.1, start)
    silence.heard("other", start + 19 * S_IN_NS)
    lock = start + 1
    assert silence.check(start + 20 * S_IN_NS, lambda _: lock) == ([], [])
    silence.heard("other", start + 29 * S_IN_NS)
    assert silence.check(start + 29 * S_IN_NS, awake) == ([], [])
    silence.heard("other", start + 31 * S_IN_NS)
    assert silence.check(start + 31 * S_IN_NS, awake) == ([Quiet("locked", start + 20 * S_IN_NS)], [])
    halt = start + 33 * S_IN_NS
    assert silence.check(start + 34 * S_IN_NS, lambda _: halt) == (
        [], [Silent("locked", start + 20 * S_IN_NS, halt)],
    )  # fmt: skip


def test_skew_is_told_when_it_begins_and_when_it_ends() -> None:
    clock, start = ClockSkew(), 1000 * S_IN_NS
    assert clock.skew is None
    assert clock.note(start, start + 20_000_000) is None
    assert clock.note(start, start + 5 * S_IN_NS) is None, "one slow reply is no skew"
    assert clock.skew == Skew(20_000_000, 4_980_000_000, 2)
    told = [clock.note(start, start - S_IN_NS) for _ in range(20)]
    assert [skew.offset_ns for skew in told if skew] == [-S_IN_NS]
    back = [clock.note(start, start + 1_000_000) for _ in range(20)]
    assert [skew for skew in back if skew] == [Skew(1_000_000, 0, 16)]
