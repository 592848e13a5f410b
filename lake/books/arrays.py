"""Many order books as arrays, one entry a level, a book or a row of the table `book`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Sides = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

BID, ASK, NEITHER = 0, 1, -1
NO_BOOK, PROVEN, BROKEN, QUIET = 0, 1, 2, 3
"""What is known of a book at an instant, as `lake.books.timeline` says it.
NO_BOOK: no snapshot that the messages lead back to."""
NO_MESSAGE: Final = -1


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of many books: the number of the book, the side, price and size, in a meaningful order."""

    book: Codes
    side: Sides
    price: Floats
    size: Floats

    def of(self, books: Flags) -> Levels:
        """Only those of the books that are flagged."""
        return self.take(books[self.book])

    def take(self, which: Flags | Ints) -> Levels:
        """Some of them, by flag or position."""
        return Levels(self.book[which], self.side[which], self.price[which], self.size[which])

    def best(self, count: int) -> Levels:
        """At most `count` a side of each book; the levels must be in the order of `last_written`."""
        group = self.book.astype(np.int64) * 2 + self.side
        starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]])) if len(group) else group
        rank = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
        return self.take(rank < count)


NO_LEVELS: Final = Levels(
    np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(0, np.float64), np.zeros(0, np.float64)
)


@dataclass(frozen=True, slots=True)
class Books:
    """Many books at an instant, one entry a book: `change_id`, `ts` and `recv` (µs UTC) of its last message, -1 where
    there is no book, `status` as above; `levels` best first, by book and side."""

    change_id: Ints
    ts: Ints
    recv: Ints
    status: npt.NDArray[np.int8]
    levels: Levels

    @classmethod
    def none(cls, count: int) -> Books:
        """So many books of which nothing is known."""
        nothing = np.full(count, NO_MESSAGE, np.int64)
        return cls(nothing, nothing, nothing, np.full(count, NO_BOOK, np.int8), NO_LEVELS)

    def widened(self, count: int) -> Books:
        """The same with further books, of which nothing is known, up to `count`."""
        more = np.full(count - len(self.ts), NO_MESSAGE, np.int64)
        return Books(
            np.concatenate([self.change_id, more]),
            np.concatenate([self.ts, more]),
            np.concatenate([self.recv, more]),
            np.concatenate([self.status, np.full(len(more), NO_BOOK, np.int8)]),
            self.levels,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the table `book` as arrays: times in µs UTC, -1 where `prev_change_id` is null."""

    book: Codes
    change_id: Ints
    prev_change_id: Ints
    snapshot: Flags
    ts: Ints
    recv: Ints
    level: npt.NDArray[np.int16]
    side: Sides
    price: Floats
    size: Floats


NO_ROWS: Final = Rows(
    book=np.zeros(0, np.int32),
    change_id=np.zeros(0, np.int64),
    prev_change_id=np.zeros(0, np.int64),
    snapshot=np.zeros(0, np.bool_),
    ts=np.zeros(0, np.int64),
    recv=np.zeros(0, np.int64),
    level=np.zeros(0, np.int16),
    side=np.zeros(0, np.int8),
    price=np.zeros(0, np.float64),
    size=np.zeros(0, np.float64),
)


def unlinked(rows: Rows) -> Flags:
    """Which rows are of changes that name no message before them, as imported ones do not."""
    return np.asarray(~rows.snapshot & (rows.prev_change_id == NO_MESSAGE))


def linked_by_time(rows: Rows) -> Rows:
    """`rows` with each imported change following the imported message received before it, as if none were missing.

    Of imported messages the time of receipt stands in the place of an id.
    """
    imported = np.flatnonzero(rows.change_id == rows.recv)
    order = imported[np.lexsort((rows.change_id[imported], rows.book[imported]))]
    book, change_id = rows.book[order], rows.change_id[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (book[1:] != book[:-1]) | (change_id[1:] != change_id[:-1])
    starts = np.flatnonzero(begins)
    before = np.full(len(starts), NO_MESSAGE, np.int64)
    same = book[starts[1:]] == book[starts[:-1]]
    before[1:] = np.where(same, change_id[starts[:-1]], NO_MESSAGE)
    linked = rows.prev_change_id.copy()
    linked[order] = before[np.cumsum(begins) - 1]
    return replace(rows, prev_change_id=np.where(unlinked(rows), linked, rows.prev_change_id))


Arrays = TypeVar("Arrays", Levels, Rows)


def joined(parts: Sequence[Arrays]) -> Arrays:
    """All of `parts`, at least one, in their order."""
    kind = type(parts[0])
    return kind(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in kind.__dataclass_fields__)
    )


def spans(starts: Ints, stops: Ints) -> Ints:
    """The positions of all ranges, one after the other."""
    lengths = stops - starts
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    positions: Ints = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return positions


def last_written(levels: Levels) -> Levels:
    """What stands when all `levels` have been written, the later over the earlier: by book and side, best first."""
    levels = levels.take(levels.side != NEITHER)
    group = levels.book.astype(np.int64) * 2 + levels.side
    away = np.where(levels.side == BID, -levels.price, levels.price)
    order = np.lexsort((away, group))
    group, away = group[order], away[order]
    last = np.ones(len(order), np.bool_)
    last[:-1] = (group[1:] != group[:-1]) | (away[1:] != away[:-1])
    kept = order[last]
    return levels.take(kept[levels.size[kept] > 0])
