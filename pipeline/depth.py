"""The best levels of every book at regular instants: rows of `depth`, rebuilt from the messages in `book`.

A sample is taken some time after its instant, when what came later says whether the book was certain; an instant at
which it was not gives no row. The first sample of every hour holds all levels, so that whoever rebuilds a book has to
read an hour of messages at most. From one run to the next the books are kept in memory; a new process takes
them up from those complete rows, and makes the same rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from lake.books.arrays import (
    ASK,
    BID,
    NO_BOOK,
    NO_MESSAGE,
    PROVEN,
    QUIET,
    Books,
    Flags,
    Levels,
    joined,
)
from lake.books.instant import LATE_US, timeline_of
from lake.books.reading import BookReader, Register, complete_books, heard, holes
from lake.books.silence import Holes, still_true
from lake.books.timeline import Timeline
from lake.datafile import DataFile
from lake.instants import DAY_US, HOUR_US, to_us
from lake.root import Root
from lake.schema import TABLES, TIMESTAMP
from lake.views import Connection, connect
from pipeline.periodic import PeriodicJob

SPEC: Final = TABLES["depth"]
S_IN_US: Final = 1_000_000
REACH: Final = dt.timedelta(minutes=1)
SETTLE_MIN_S: Final = 5.0
STEP_MIN_US: Final = 1_000_000
ROWS_AT_ONCE: Final = 1_000_000
"""Rows of `book` to read at a time, about 300 bytes each in memory; more only where two or three minutes have more."""


@dataclass(frozen=True, slots=True)
class DepthSettings:
    """Samples of the order books."""

    enabled: bool = True
    """Whether the ingester that follows the spool also makes the table `depth`; `lake depth` does so in any case."""

    every_seconds: int = 300
    """A sample is taken at every whole multiple of this since midnight UTC; a day must be a multiple of it."""

    levels: int = 20
    """Levels a side in a row; the first sample of an hour has all."""

    settle_seconds: float = 30.0
    """How long after its instant a sample is taken: what proves that a quiet book was silent must come by then."""

    def __post_init__(self) -> None:
        if self.every_seconds < 1 or 86_400 % self.every_seconds:
            raise ValueError(f"every_seconds {self.every_seconds}: use a divisor of 86400, such as 60 or 300")
        if self.levels < 1:
            raise ValueError(f"levels {self.levels}: use 1 or more")
        if self.settle_seconds < SETTLE_MIN_S:
            raise ValueError(f"settle_seconds {self.settle_seconds}: use {SETTLE_MIN_S} or more")


def depth_job(settings: DepthSettings | None = None) -> PeriodicJob:
    """The job that fills `depth`."""
    settings = settings or DepthSettings()
    return PeriodicJob(
        table=SPEC.name,
        period=dt.timedelta(seconds=settings.every_seconds),
        reach=REACH,
        settle=dt.timedelta(seconds=settings.settle_seconds),
        rows=DepthRows(settings),
        sources=("quotes", "book"),
    )


class DepthRows:
    """Makes the rows of given instants of a lake; remembers the books from one call to the next."""

    def __init__(self, settings: DepthSettings) -> None:
        self._settings = settings
        self._settle_us = int(settings.settle_seconds * S_IN_US)
        self._kept: _Kept | None = None

    def __call__(self, root: Root, instants: Sequence[dt.datetime]) -> pa.Table:
        """Rows of `depth` with their partition columns, at `instants`, which are in order and of one day.

        Raises:
            CorruptionError: a file of the lake cannot be read.
        """
        times = [to_us(instant) for instant in instants]
        parts = [SPEC.delta_schema.empty_table()]
        with connect(root) as sql:
            gaps, files = holes(root), BookReader(root, Register()).files()
            while times:
                waypoint = self._waypoint(files, times[0])
                if waypoint is not None:
                    for _ in self._run(root, sql, [waypoint], gaps):
                        pass  # nobody asked for these rows: it is for the books, which are kept
                    continue
                count = self._fit(files, times)
                parts += self._run(root, sql, times[:count], gaps)
                times = times[count:]
        return pa.concat_tables(parts)

    def _waypoint(self, files: Sequence[DataFile], at_us: int) -> int | None:
        """An instant before `at_us` to go to first, where the messages up to there are too many to be read at once: so
        it is after a start late in a busy hour. None where they are not."""
        since_us = self._since(at_us)
        span = since_us - LATE_US, at_us + self._settle_us
        rows = sum(_share(file, *span) for file in files)
        step_us = max(STEP_MIN_US, int((at_us - since_us) * ROWS_AT_ONCE / max(rows, 1)))
        return since_us + step_us if rows > ROWS_AT_ONCE and since_us + step_us < at_us else None

    def _since(self, at_us: int) -> int:
        """From when on messages must be read for the books at `at_us`."""
        return self._kept.at_us if self._kept and _leads_to(self._kept.at_us, at_us) else _hour_before(at_us)

    def _fit(self, files: Sequence[DataFile], times: list[int]) -> int:
        """How many of the instants, at least one, can be made from messages that are read at once."""
        since_us = self._since(times[0])
        whole = since_us - LATE_US, since_us + HOUR_US + self._settle_us
        near = [file for file in files if _share(file, *whole)]
        for count, at_us in enumerate(times):
            span = since_us - LATE_US, at_us + self._settle_us
            too_many = sum(_share(file, *span) for file in near) > ROWS_AT_ONCE
            if count and (too_many or at_us - since_us > HOUR_US):
                return count
        return len(times)

    def _run(self, root: Root, sql: Connection, times: list[int], gaps: Holes) -> Iterator[pa.Table]:
        """The rows of instants that lie within an hour: the messages are read once."""
        kept = self._kept
        self._kept = None  # whatever goes wrong from here on: the next run begins with the tables
        if kept is None or not _leads_to(kept.at_us, times[0]):
            kept = _taken_up(sql, times[0])
        timeline = kept.continued(root, sql, times[-1] + self._settle_us)
        for at_us in times:
            books = timeline.at(at_us, at_us + self._settle_us)
            certain = _certain(sql, kept.register, books, at_us, self._settle_us, gaps)
            key = at_us // HOUR_US != (at_us - self._settings.every_seconds * S_IN_US) // HOUR_US
            yield _rows(kept.register, books, certain, at_us, None if key else self._settings.levels)
        kept.books, kept.at_us = books, times[-1]
        self._kept = kept


def _share(file: DataFile, start_us: int, stop_us: int) -> float:
    """About how many rows of a file fall into a time."""
    if "ts" not in file.minimum or "ts" not in file.maximum:
        return file.rows
    low, high = to_us(file.minimum["ts"]), to_us(file.maximum["ts"]) + 1
    return file.rows * max(0, min(high, stop_us) - max(low, start_us)) / (high - low)


@dataclass(slots=True)
class _Kept:
    """The books as they were at the instant `at_us`."""

    register: Register
    books: Books
    at_us: int
    sought: set[int]
    """Books that no snapshot was found for, however far back."""

    def continued(self, root: Root, sql: Connection, stop_us: int) -> Timeline:
        """The messages from then to `stop_us`, on top of the books."""
        reader = BookReader(root, self.register)
        rows = reader.rows(reader.files(), self.at_us - LATE_US, stop_us)
        base = self.books.widened(len(self.register))
        timeline = Timeline(rows, base)
        lost = [n for n in timeline.orphans().tolist() if base.ts[n] == NO_MESSAGE and n not in self.sought]
        for number in lost:
            base = self._found(root, sql, base, number)
        self.sought.update(n for n in lost if base.ts[n] == NO_MESSAGE)
        return Timeline(rows, base) if lost else timeline

    def _found(self, root: Root, sql: Connection, base: Books, number: int) -> Books:
        """`base` with the book of `number` as older messages tell it."""
        reader = BookReader(root, Register())
        instrument = self.register.keys[number][1]
        found = timeline_of(reader, sql, instrument, self.at_us, self.at_us).at(self.at_us, self.at_us)
        its = reader.register.known(self.register.keys[number])
        if its is None or found.status[its] == NO_BOOK:
            return base
        base.change_id[number], base.ts[number] = found.change_id[its], found.ts[its]
        base.recv[number], base.status[number] = found.recv[its], found.status[its]
        mine = found.levels.take(found.levels.book == its)
        levels = joined(
            [base.levels, Levels(np.full_like(mine.book, number), mine.side, mine.price, mine.size)]
        )
        order = np.argsort(levels.book, kind="stable")
        return Books(base.change_id, base.ts, base.recv, base.status, levels.take(order))


def _taken_up(sql: Connection, at_us: int) -> _Kept:
    """The books at the beginning of the hour before `at_us`, as far as `depth` has them; those that spoke since
    and were not, are looked for when their messages are read."""
    register = Register()
    hour_us = _hour_before(at_us)
    books = complete_books(sql, register, hour_us, at_us - 1)
    return _Kept(register, books, hour_us, set())


def _hour_before(at_us: int) -> int:
    return (at_us - 1) // HOUR_US * HOUR_US


def _leads_to(kept_us: int, at_us: int) -> bool:
    """Whether books of the one instant are kept for the other: within an hour, on the same day."""
    return 0 < at_us - kept_us <= HOUR_US and (kept_us - 1) // DAY_US == (at_us - 1) // DAY_US


def _certain(
    sql: Connection, register: Register, books: Books, at_us: int, settle_us: int, gaps: Holes
) -> Flags:
    """Which books are known for certain at `at_us`."""
    certain: Flags = books.status == PROVEN
    quiet = np.flatnonzero(books.status == QUIET)
    if len(quiet):
        since = heard(sql, at_us, settle_us, register)[quiet]
        certain[quiet] = still_true(
            [register.keys[n] for n in quiet.tolist()], books.recv[quiet], since, gaps
        )
    return certain


def _rows(register: Register, books: Books, certain: Flags, at_us: int, levels: int | None) -> pa.Table:
    """One row per certain book: its best `levels` a side, None: all."""
    numbers = np.flatnonzero(certain)
    held = books.levels.of(certain)
    shown = held if levels is None else held.best(levels)
    whole = _counts(held, numbers) == _counts(shown, numbers)
    keys = [register.keys[n] for n in numbers.tolist()]
    count = len(numbers)
    at = pa.array(np.full(count, at_us), pa.int64()).cast(TIMESTAMP)
    columns = {
        "venue": pa.array([venue for venue, _ in keys], pa.string()),
        "instrument": pa.array([instrument for _, instrument in keys], pa.string()),
        "ts": at,
        "book_ts": pa.array(books.ts[numbers], pa.int64()).cast(TIMESTAMP),
        "book_recv_ts": pa.array(books.recv[numbers], pa.int64()).cast(TIMESTAMP),
        "change_id": pa.array(books.change_id[numbers], pa.int64()),
        "complete": pa.array(whole),
        **_lists(shown, numbers),
        "date": SPEC.dates(at),
        "family": pa.array([register.families[n] for n in numbers.tolist()], pa.string()),
    }
    return pa.table(columns).select(SPEC.delta_schema.names).cast(SPEC.delta_schema)


def _counts(levels: Levels, numbers: np.ndarray) -> np.ndarray:
    return np.searchsorted(levels.book, numbers, "right") - np.searchsorted(levels.book, numbers, "left")


def _lists(levels: Levels, numbers: np.ndarray) -> dict[str, pa.Array]:
    found: dict[str, pa.Array] = {}
    for side, word in ((BID, "bid"), (ASK, "ask")):
        mine = levels.take(levels.side == side)
        offsets = pa.array(np.append(0, np.cumsum(_counts(mine, numbers))), pa.int32())
        for name, values in (("prices", mine.price), ("sizes", mine.size)):
            found[f"{word}_{name}"] = pa.ListArray.from_arrays(offsets, pa.array(values, pa.float64()))
    return found
