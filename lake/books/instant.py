"""One book at any recorded instant, or the reason why nobody can say what it was."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lake.books.arrays import (
    ASK,
    BID,
    BROKEN,
    NO_BOOK,
    NO_ROWS,
    PROVEN,
    QUIET,
    Books,
    Rows,
    joined,
    linked_by_time,
    unlinked,
)
from lake.books.reading import BookReader, Register, complete_books, heard, holes
from lake.books.silence import still_true
from lake.books.timeline import Timeline
from lake.errors import InputError
from lake.instants import DAY_US, HOUR_US, from_us, midnight_us, to_us
from lake.root import Root
from lake.views import Connection, connect

LATE_US: Final = 120_000_000
"""A message is received at most so long after the venue's time of it."""
AHEAD_US: Final = 900_000_000
"""How far beyond an instant is looked for what proves it."""
NEVER: Final = "no snapshot before it is on record"
MISSING: Final = "messages between this and the next one on record are missing"
UNHEARD: Final = "nothing was heard of the instrument afterwards"
ENDED: Final = "the imported messages of it end before then"
NOT_PROVEN: Final = "the messages were imported without the ids that link them, so that any may be missing"
GAP: Final = "a gap is on record after the book's last message"


@dataclass(frozen=True, slots=True)
class BookAt:
    """A book at `at`: the levels (price, size), best first, after the message `change_id` of `book_ts`.

    Where `reason` says why the book is not known, the rest is empty. Where `unproven` says why, nothing shows that all
    its messages are on record: it is what those make that are.
    """

    venue: str
    instrument: str
    at: dt.datetime
    change_id: int | None
    book_ts: dt.datetime | None
    bids: tuple[tuple[float, float], ...]
    asks: tuple[tuple[float, float], ...]
    reason: str | None = None
    unproven: str | None = None

    @property
    def continuity(self) -> str | None:
        """proven or not proven; None where the book is not known."""
        return None if self.reason else ("not proven" if self.unproven else "proven")


def book_at(
    root: Root, instrument: str, at: dt.datetime, *, levels: int | None = 20, venue: str | None = None
) -> BookAt:
    """The book of `instrument` at the instant `at` by the venue's clock, the best `levels` a side (None: all).

    Raises:
        InputError: nothing of this instrument's book is in the lake, or it is in there of several venues and `venue`
            does not say which is meant.
        CorruptionError: a file of the lake cannot be read.
    """
    with connect(root) as sql:
        reader = BookReader(root, Register())
        at_us = to_us(at)
        rows, base = _gathered(reader, sql, instrument, at_us, at_us + AHEAD_US)
        number = _number(reader.register, instrument, venue)
        books = Timeline(rows, base).at(at_us, at_us + AHEAD_US)
        reason, unproven = _doubt(root, sql, reader.register, books, number, at_us), None
        if reason and unlinked(rows)[rows.book == number].any():
            unproven, books = NOT_PROVEN, Timeline(linked_by_time(rows), base).at(at_us, at_us + AHEAD_US)
            reason = _end(books, number, at_us)
    key = reader.register.keys[number]
    if reason:
        return BookAt(*key, at, None, None, (), (), reason)
    last = int(books.change_id[number]), from_us(int(books.ts[number]))
    return BookAt(*key, at, *last, *sides(books, number, levels), unproven=unproven)


def _end(books: Books, number: int, at_us: int) -> str | None:
    """Why imported messages do not tell of the instant `at_us`; None where they do."""
    status = int(books.status[number])
    if status == NO_BOOK:
        return NEVER
    return ENDED if status == QUIET and at_us - int(books.ts[number]) > AHEAD_US else None


def imported_days(root: Root, days: Sequence[dt.date]) -> list[dt.date]:
    """Those of `days` with imported changes of books, which nothing proves to be all: `depth` has no rows of them."""
    with connect(root) as sql:
        found = sql.query(
            "SELECT DISTINCT date FROM book WHERE date IN (SELECT unnest($1::DATE[])) AND type = 'change' "
            "AND prev_change_id IS NULL ORDER BY date",
            [list(days)],
        )
    return list(found["date"].to_pylist())


def sides(
    books: Books, number: int, levels: int | None
) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """Bids and asks of one book, best first, as (price, size); at most `levels` a side, None: all."""
    found = []
    for side in (BID, ASK):
        mine = (books.levels.book == number) & (books.levels.side == side)
        pairs = zip(books.levels.price[mine].tolist(), books.levels.size[mine].tolist(), strict=True)
        found.append(tuple(pairs)[:levels])
    return found[0], found[1]


def timeline_of(reader: BookReader, sql: Connection, instrument: str, at_us: int, stop_us: int) -> Timeline:
    """Messages of the books called `instrument` from what they were built on at `at_us` to `stop_us` (µs UTC).

    It begins with the newest complete row of `depth`, or with a snapshot, and goes back day by day to find one.
    """
    return Timeline(*_gathered(reader, sql, instrument, at_us, stop_us))


def _gathered(
    reader: BookReader, sql: Connection, instrument: str, at_us: int, stop_us: int
) -> tuple[Rows, Books]:
    """The rows of that timeline, and what they are on top of."""
    files = reader.files()
    first_us = min((midnight_us(file.partition.date) for file in files if file.partition), default=at_us)
    start_us = at_us - at_us % HOUR_US
    rows, read_from_us = NO_ROWS, stop_us
    while True:
        base = complete_books(sql, reader.register, start_us, at_us, instrument)
        rows = joined([reader.rows(files, start_us - LATE_US, read_from_us, instrument), rows])
        read_from_us = start_us - LATE_US
        base = base.widened(len(reader.register))
        found = Timeline(rows, base).at(at_us, stop_us).status != NO_BOOK
        if start_us <= first_us or found.any():
            return rows, base
        start_us = start_us - start_us % DAY_US if start_us % DAY_US else start_us - DAY_US


def _number(register: Register, instrument: str, venue: str | None) -> int:
    keys = [key for key in register.keys if venue in (None, key[0])]
    if not keys:
        where = f" of {venue}" if venue else ""
        raise InputError(f"no book of {instrument}{where} is on record by then; `lake status` says what is")
    if len(keys) > 1:
        raise InputError(f"{instrument} is traded at {', '.join(key[0] for key in keys)}; say which venue")
    number = register.known(keys[0])
    assert number is not None
    return number


def _doubt(
    root: Root, sql: Connection, register: Register, books: Books, number: int, at_us: int
) -> str | None:
    status = int(books.status[number])
    if status == PROVEN:
        return None
    if status in (NO_BOOK, BROKEN):
        return NEVER if status == NO_BOOK else MISSING
    recv = int(books.recv[number])
    key = register.keys[number]
    until = heard(sql, at_us, AHEAD_US, register, key[1])[number]
    if until < 0:
        return UNHEARD
    true = still_true([key], np.array([recv]), np.array([until]), holes(root))
    return None if true[0] else GAP
