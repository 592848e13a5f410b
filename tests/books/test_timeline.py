"""Books rebuilt in bulk are those that a client keeping dictionaries has; what is uncertain is not given."""

from __future__ import annotations

import random

import pytest

from lake.books.arrays import BROKEN, NO_BOOK, PROVEN, QUIET, Books
from lake.books.instant import sides
from lake.books.timeline import Timeline
from tests.books.kit import Message, history, naive_at, rows

BOOKS = 5
FAR = 1 << 40


def market(seed: int, count: int = 120) -> tuple[random.Random, list[list[Message]]]:
    chance = random.Random(seed)
    return chance, [history(chance, book, count, start=chance.randint(0, 2000)) for book in range(BOOKS)]


def monotonic(messages: list[Message]) -> list[Message]:
    """The same with times that never step back: a message is not earlier than the one it follows."""
    high = 0
    for message in messages:
        high = message.ts = max(high, message.ts)
    return messages


@pytest.mark.parametrize("seed", range(12))
def test_every_book_is_the_one_kept_in_dictionaries_at_any_instant(seed: int) -> None:
    chance, books = market(seed)
    shuffled = [message for book in books for message in book]
    chance.shuffle(shuffled)
    timeline = Timeline(rows(shuffled), Books.none(BOOKS))
    truth = [monotonic(book) for book in books]
    seen = 0
    for at in sorted(chance.randint(0, 6000) for _ in range(40)):
        found = timeline.at(at, FAR)
        for book in range(BOOKS):
            naive = naive_at(truth[book], at)
            if naive is None:
                assert found.status[book] == NO_BOOK
                continue
            seen += 1
            assert found.change_id[book] == naive.change_id
            assert sides(found, book, None) == naive.sides()
            last = truth[book][-1].change_id == naive.change_id
            follows = not last and not truth[book][index(truth[book], naive.change_id) + 1].snapshot
            assert found.status[book] == (QUIET if last else PROVEN if follows else BROKEN)
    assert seen > 100


def index(messages: list[Message], change_id: int | None) -> int:
    return next(i for i, m in enumerate(messages) if m.change_id == change_id)


@pytest.mark.parametrize("seed", range(6))
def test_piece_by_piece_comes_to_the_same(seed: int) -> None:
    chance, books = market(seed)
    messages = [m for book in books for m in monotonic(book)]
    whole = Timeline(rows(messages), Books.none(BOOKS))
    base, since = Books.none(BOOKS), -1
    for at in sorted(chance.randint(0, 7000) for _ in range(10)):
        # Some of what is known already is read again, as a job does that looks back a little.
        piece = [m for m in messages if since - 200 < m.ts <= at + 50]
        found = Timeline(rows(piece), base).at(at, FAR)
        expected = whole.at(at, FAR)
        for book in range(BOOKS):
            assert sides(found, book, None) == sides(expected, book, None)
        assert found.change_id.tolist() == expected.change_id.tolist()
        base, since = found, at


def test_without_its_snapshot_or_a_change_a_book_is_not_given() -> None:
    messages = monotonic(history(random.Random(4), 0, 60, snapshots=0.0))
    end = messages[-1].ts
    without_snapshot = Timeline(rows(messages[1:]), Books.none(1))
    assert without_snapshot.at(end, FAR).status[0] == NO_BOOK
    assert without_snapshot.orphans().tolist() == [0]
    lost = messages[:30] + messages[31:]
    broken = Timeline(rows(lost), Books.none(1))
    assert broken.at(end, FAR).status[0] == BROKEN
    assert broken.at(end, FAR).change_id[0] == messages[29].change_id
    before = broken.at(messages[10].ts, FAR)
    assert before.status[0] == PROVEN


def test_two_copies_of_every_message_count_once_and_the_later_receipt_counts() -> None:
    messages = monotonic(history(random.Random(8), 0, 80))
    copies = [Message(m.book, m.change_id, m.prev, m.ts, m.recv + 5, m.levels) for m in messages]
    both = sorted(messages + copies, key=lambda m: (m.ts, m.change_id, m.recv))
    # Sorted by level before receipt, as the table has them: the rows of two copies lie between each other.
    table = rows(both)
    order = sorted(
        range(len(table.book)),
        key=lambda i: (table.ts[i], table.change_id[i], not table.snapshot[i], table.level[i], table.recv[i]),
    )
    mixed = type(table)(*(getattr(table, name)[order] for name in type(table).__dataclass_fields__))
    end = messages[-1].ts
    once, twice = (Timeline(r, Books.none(1)).at(end, FAR) for r in (rows(messages), mixed))
    assert sides(once, 0, None) == sides(twice, 0, None) != ((), ())
    assert twice.recv[0] == once.recv[0] + 5


@pytest.mark.parametrize("apart", [0, 1])
def test_two_collectors_whose_messages_are_cut_differently_do_not_disturb_each_other(apart: int) -> None:
    one = monotonic(history(random.Random(5), 0, 50, snapshots=0.0))
    # The other collector's channel tells two changes at a time, so that its chain names others, or other ids.
    other = [one[0]]
    for first, second in zip(one[1::2], one[2::2], strict=False):
        levels = first.levels + second.levels
        other.append(
            Message(0, second.change_id + apart, other[-1].change_id, second.ts, second.recv, levels)
        )
    end = one[-1].ts
    alone = Timeline(rows(one), Books.none(1)).at(end, FAR)
    timeline = Timeline(rows(one + other[1:]), Books.none(1))
    assert timeline.orphans().tolist() == []
    for at in range(one[0].ts, end, 50):
        naive = naive_at(one, at)
        found = timeline.at(at, FAR)
        assert naive is not None
        if found.change_id[0] == naive.change_id:
            assert sides(found, 0, None) == naive.sides()
    assert sides(alone, 0, None) == sides(timeline.at(end, FAR), 0, None)


def test_a_snapshot_of_the_very_same_change_proves_what_was_before_it() -> None:
    first = Message(0, 10, None, 100, 107, [("bid", "new", 1.0, 2.0)])
    again = Message(0, 10, None, 900, 907, [("bid", "new", 1.0, 2.0)])
    other = Message(0, 12, None, 900, 907, [("bid", "new", 1.0, 2.0)])
    change = Message(0, 10, 5, 100, 107, [("bid", "new", 1.0, 2.0)])
    before = Message(0, 5, None, 50, 57, [])
    assert Timeline(rows([before, change, again]), Books.none(1)).at(500, FAR).status[0] == PROVEN
    assert Timeline(rows([first, other]), Books.none(1)).at(500, FAR).status[0] == BROKEN


def test_only_what_came_until_a_time_counts_as_proof() -> None:
    first = Message(0, 10, None, 100, 107, [("bid", "new", 1.0, 2.0)])
    linked = Message(0, 12, 10, 900, 907, [])
    lone = Message(0, 14, 13, 900, 907, [])
    for later, status in ((linked, PROVEN), (lone, BROKEN)):
        timeline = Timeline(rows([first, later]), Books.none(1))
        assert [timeline.at(500, until).status[0] for until in (899, 900)] == [QUIET, status]


def test_a_book_found_broken_stays_so_until_it_is_whole_again() -> None:
    first = Message(0, 10, None, 100, 107, [("bid", "new", 1.0, 2.0)])
    lone = Message(0, 14, 13, 900, 907, [])
    base = Timeline(rows([first, lone]), Books.none(1)).at(1000, FAR)
    assert base.status[0] == BROKEN
    # Later runs do not read the message any more that told of the break.
    for piece in ([], [first]):
        assert Timeline(rows(piece), base).at(2000, FAR).status[0] == BROKEN
    again = Message(0, 20, None, 1500, 1507, [("bid", "new", 1.0, 3.0)])
    healed = Timeline(rows([again]), base).at(2000, FAR)
    assert healed.status[0] == QUIET
    assert sides(healed, 0, None) == (((1.0, 3.0),), ())


def test_nothing_gives_nothing() -> None:
    found = Timeline(rows([]), Books.none(3)).at(10, FAR)
    assert found.status.tolist() == [NO_BOOK] * 3
    assert not len(found.levels.book)
