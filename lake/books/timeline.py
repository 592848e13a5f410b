"""Order books out of their messages: which message came last by an instant, what the book held then, and whether
anything can be missing. Pure arrays, thousands of books at once.

A book is a chain: a snapshot has every level, and each change names the message before it. A message can be built
when the chain from it leads back to a snapshot; several chains of one book (two collectors, a book subscribed
anew) may run beside each other. The book at an instant is that of the newest such message by then, and it is

- `PROVEN` when a later message names it as the one before: nothing can have happened between;
- `BROKEN` when there are later messages and none of them does: something is missing, nobody knows since when;
- `QUIET` when nothing came after it: still true only if somebody listened (see `lake.books.silence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from lake.books.arrays import (
    BROKEN,
    NO_BOOK,
    NO_MESSAGE,
    PROVEN,
    QUIET,
    Books,
    Codes,
    Flags,
    Ints,
    Levels,
    Rows,
    joined,
    last_written,
    spans,
)

CARRIED: Final = -2
"""In the place of `prev_change_id`: what was known before, which is no repeat of a snapshot of the same change."""
NEVER_US: Final = np.iinfo(np.int64).max


class Timeline:
    """Messages of many books in the order of their chains, on top of what is known already (`base`).

    The messages need not be sorted, and may be there twice. Asking for one instant after the other costs least.
    """

    def __init__(self, rows: Rows, base: Books) -> None:
        self._base = base
        told = _messages(_whole_messages(rows))
        touched = np.zeros(len(base.ts), np.bool_)
        touched[rows.book] = True
        both = _added(_carried(base, touched), told)
        order = np.lexsort((both.recv, both.prev, both.snapshot, both.change_id, both.book))
        keep, recv = _without_repeats(both, order)
        self.book, self.change_id = both.book[keep], both.change_id[keep]
        self._prev, self._snapshot = both.prev[keep], both.snapshot[keep]
        self._ts, self._recv = both.ts[keep], recv
        self._levels = both.levels.take(spans(both.first[keep], both.stop[keep]))
        self._stop = np.cumsum(both.stop[keep] - both.first[keep])
        self._first = self._stop - (both.stop[keep] - both.first[keep])
        self._link()
        self._given = np.full(len(base.ts), NO_MESSAGE, np.int64)
        self._given_levels = base.levels

    def _link(self) -> None:
        """Find each change's predecessor, which messages lead back to a snapshot, and which were followed."""
        count = len(self.book)
        place = np.arange(count)
        parent = np.where(self._snapshot, NO_MESSAGE, place - 1)
        changes = np.flatnonzero(~self._snapshot)
        before = changes - 1
        adjacent = (before >= 0) & (self.book[before] == self.book[changes])
        adjacent &= self.change_id[before] == self._prev[changes]
        far = changes[~adjacent]
        parent[far] = self._found(self.book[far], self._prev[far])
        parent[parent >= place] = NO_MESSAGE
        begins = self._snapshot.copy()
        begins[far] = True
        self._parent = parent
        self._head = np.maximum.accumulate(np.where(begins, place, 0))
        whole: dict[int, bool] = {}
        for head in np.flatnonzero(begins).tolist():
            back = int(parent[head])
            whole[head] = bool(self._snapshot[head]) or (back >= 0 and whole[int(self._head[back])])
        reached = np.zeros(count, np.bool_)
        reached[list(whole)] = list(whole.values())
        self.whole = reached[self._head]
        """Which messages lead back to a snapshot."""
        self._followed_us = self._followed(parent)
        self._beyond_us = self._beyond()

    def _followed(self, parent: Ints) -> Ints:
        """Per message, the time of the first that names it as the one before."""
        first = np.full(len(self.book), NEVER_US, np.int64)
        linked = np.flatnonzero(parent >= 0)
        np.minimum.at(first, parent[linked], self._ts[linked])
        # A snapshot of the very same change says as much: nothing happened until it was made.
        same = (self.book[1:] == self.book[:-1]) & (self.change_id[1:] == self.change_id[:-1])
        first[:-1] = np.where(same, np.minimum(first[:-1], self._ts[1:]), first[:-1])
        return first

    def _beyond(self) -> Ints:
        """Per message, the earliest time of a later one of the same book."""
        if not len(self.book):
            return self._ts
        high = int(self._ts.max())
        span = high - int(self._ts.min()) + 2
        offset = self.book.astype(np.int64) * span
        earliest = np.minimum.accumulate((self._ts - high + offset)[::-1])[::-1] - offset + high
        begins = np.ones(len(self.book), np.bool_)
        begins[1:] = (self.book[1:] != self.book[:-1]) | (self.change_id[1:] != self.change_id[:-1])
        last_of_id = np.append(np.flatnonzero(begins)[1:], len(self.book))[np.cumsum(begins) - 1]
        same_book = np.append(self.book, NO_MESSAGE)[last_of_id] == self.book
        beyond: Ints = np.where(same_book, np.append(earliest, NEVER_US)[last_of_id], NEVER_US)
        return beyond

    def _found(self, book: Codes, change_id: Ints) -> Ints:
        """Position of the message of `book` with `change_id`, a snapshot rather than a change; -1: there is none."""
        if not len(book):
            return np.zeros(0, np.int64)
        low = np.zeros(len(self._base.ts), np.int64)
        first = np.flatnonzero(np.concatenate([[True], self.book[1:] != self.book[:-1]]))
        low[self.book[first]] = self.change_id[first]
        within = self.change_id - low[self.book]
        span = int(within.max()) + 1
        keys = self.book.astype(np.int64) * span + within
        asked = change_id - low[book]
        wanted = book.astype(np.int64) * span + asked
        at = np.searchsorted(keys, wanted, side="right") - 1
        found = (asked >= 0) & (asked < span) & (at >= 0) & (keys[at] == wanted)
        return np.where(found, at, NO_MESSAGE)

    def orphans(self) -> Codes:
        """Books with messages that lead back to no snapshot."""
        return np.unique(self.book[~self.whole])

    def at(self, at_us: int, until_us: int) -> Books:
        """The books at the instant `at_us`, judged by what happened until `until_us` (µs UTC)."""
        newest = self._newest(at_us)
        levels = self._fold(newest, self._given, self._given_levels)
        self._given, self._given_levels = newest, levels
        return self._books(newest, levels, until_us)

    def at_change(self, book: int, change_id: int) -> tuple[Books, bool]:
        """`book` as of its newest whole message that is not beyond `change_id`, and whether the messages go as far
        as that change."""
        mine = np.flatnonzero((self.book == book) & self.whole & (self.change_id <= change_id))
        newest = np.full(len(self._base.ts), NO_MESSAGE, np.int64)
        newest[book] = mine[-1] if len(mine) else NO_MESSAGE
        nothing = np.full(len(self._base.ts), NO_MESSAGE, np.int64)
        levels = self._fold(newest, nothing, self._base.levels)
        reached = bool(((self.book == book) & (self.change_id >= change_id)).any())
        return self._books(newest, levels, NEVER_US - 1), reached

    def _newest(self, at_us: int) -> Ints:
        """Per book, the position of its last whole message by then; -1: none."""
        found = np.full(len(self._base.ts), NO_MESSAGE, np.int64)
        if not len(self.book):
            return found
        # Times of one book may step back by a little; what follows a message is never earlier than it.
        low = int(self._ts.min())
        offset = self.book.astype(np.int64) * (int(self._ts.max()) - low + 2)
        latest = np.maximum.accumulate(np.where(self.whole, self._ts - low + 1, 0) + offset) - offset
        eligible = self.whole & (latest <= at_us - low + 1)
        starts = np.flatnonzero(np.concatenate([[True], self.book[1:] != self.book[:-1]]))
        places = np.where(eligible, np.arange(len(eligible)), NO_MESSAGE)
        found[self.book[starts]] = np.maximum.reduceat(places, starts)
        return found

    def _books(self, newest: Ints, levels: Levels, until_us: int) -> Books:
        base = self._base
        known = np.flatnonzero(newest >= 0)
        at = newest[known]
        change_id, ts, recv = base.change_id.copy(), base.ts.copy(), base.recv.copy()
        change_id[known], ts[known], recv[known] = self.change_id[at], self._ts[at], self._recv[at]
        # A book that was found broken stays so until a new message of it is whole.
        status = np.where(base.status == BROKEN, BROKEN, QUIET).astype(np.int8)
        status[ts == NO_MESSAGE] = NO_BOOK
        still = (base.status[known] == BROKEN) & (change_id[known] == base.change_id[known])
        still &= ts[known] <= base.ts[known]
        broken = np.where((self._beyond_us[at] <= until_us) | still, BROKEN, QUIET)
        status[known] = np.where(self._followed_us[at] <= until_us, PROVEN, broken)
        return Books(change_id, ts, recv, status, levels)

    def _fold(self, newest: Ints, given: Ints, given_levels: Levels) -> Levels:
        """Levels of all books, best first, after the messages `newest`; those of `given_levels` hold `given`."""
        changed = newest != given
        goes_on = ~changed
        starts: list[int] = []
        stops: list[int] = []
        for book in np.flatnonzero(changed).tolist():
            path, goes_on[book] = self._path(int(newest[book]), int(given[book]))
            starts += [int(self._first[first]) for first, _ in path]
            stops += [int(self._stop[last]) for _, last in path]
        fresh = self._levels.take(spans(np.array(starts, np.int64), np.array(stops, np.int64)))
        built = last_written(joined([given_levels.of(changed & goes_on), fresh]))
        levels = joined([given_levels.of(~changed), built])
        return levels.take(np.argsort(levels.book, kind="stable"))

    def _path(self, newest: int, given: int) -> tuple[list[tuple[int, int]], bool]:
        """Runs of messages, first and last, that lead to `newest`: from `given` (then True), or from a snapshot."""
        path: list[tuple[int, int]] = []
        while True:
            head = int(self._head[newest])
            if head <= given <= newest:
                return [*([(given + 1, newest)] if given < newest else []), *path[::-1]], True
            path.append((head, newest))
            if self._snapshot[head]:
                return path[::-1], False
            newest = int(self._parent[head])


@dataclass(frozen=True, slots=True)
class _Messages:
    """One entry a message; its rows are `levels[first:stop]`."""

    book: Codes
    change_id: Ints
    prev: Ints
    snapshot: Flags
    ts: Ints
    recv: Ints
    first: Ints
    stop: Ints
    levels: Levels


def _messages(rows: Rows) -> _Messages:
    first = np.flatnonzero(_starts(rows))
    stop = np.append(first[1:], len(rows.book)) if len(first) else first
    return _Messages(
        rows.book[first],
        rows.change_id[first],
        rows.prev_change_id[first],
        rows.snapshot[first],
        rows.ts[first],
        rows.recv[first],
        first,
        stop,
        Levels(rows.book, rows.side, rows.price, rows.size),
    )


def _carried(base: Books, touched: Flags) -> _Messages:
    """What is known already of books with news: it stands for a snapshot."""
    known = np.flatnonzero(touched & (base.ts != NO_MESSAGE))
    levels = base.levels.of(touched)
    stop = np.searchsorted(levels.book, known, side="right")
    first = np.searchsorted(levels.book, known, side="left")
    whole = np.ones(len(known), np.bool_)
    marked = np.full(len(known), CARRIED, np.int64)
    ids, ts, recv = base.change_id[known], base.ts[known], base.recv[known]
    return _Messages(known.astype(np.int32), ids, marked, whole, ts, recv, first, stop, levels)


def _added(one: _Messages, other: _Messages) -> _Messages:
    shift = len(one.levels.book)
    return _Messages(
        np.concatenate([one.book, other.book]),
        np.concatenate([one.change_id, other.change_id]),
        np.concatenate([one.prev, other.prev]),
        np.concatenate([one.snapshot, other.snapshot]),
        np.concatenate([one.ts, other.ts]),
        np.concatenate([one.recv, other.recv]),
        np.concatenate([one.first, other.first + shift]),
        np.concatenate([one.stop, other.stop + shift]),
        joined([one.levels, other.levels]),
    )


def _without_repeats(found: _Messages, order: Ints) -> tuple[Ints, Ints]:
    """`order` without messages that came before, and when each that stays was received last."""
    if not len(order):
        return order, found.recv[order]
    same = np.ones(len(order) - 1, np.bool_)
    for values in (found.book, found.change_id, found.snapshot, found.prev):
        same &= values[order[1:]] == values[order[:-1]]
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    return order[starts], np.maximum.reduceat(found.recv[order], starts)


def _starts(rows: Rows) -> Flags:
    """Where a message begins."""
    differs = np.zeros(len(rows.book), np.bool_)
    differs[:1] = True
    for values in (rows.book, rows.change_id, rows.snapshot, rows.prev_change_id, rows.recv):
        differs[1:] |= values[1:] != values[:-1]
    return differs


def _whole_messages(rows: Rows) -> Rows:
    """The rows with those of one message side by side; two copies of a message may have been sorted into another."""
    if not len(rows.book) or (rows.level[_starts(rows)] == 0).all():
        return rows
    keys = (rows.level, rows.recv, rows.prev_change_id, rows.snapshot, rows.change_id, rows.book)
    order = np.lexsort(keys)
    return Rows(*(getattr(rows, name)[order] for name in Rows.__dataclass_fields__))
