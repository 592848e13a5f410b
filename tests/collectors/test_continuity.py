"""The trackers of continuity against what was really left out, doubled and swapped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collectors.continuity import (
    S_IN_NS,
    BookChains,
    ChainNews,
    ClockSkew,
    Hole,
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
    holes = [h for at, seq in enumerate(order) if isinstance(h := tracker.note("X", seq, at), Hole)]

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
    assert isinstance(first, Hole)
    assert isinstance(second, Hole)
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
