"""Jobs that are due once in a period: rows of an instant, made from ticks, appended exactly once.

An instant is due when everything received until a while after it is in the tables: that is known from the spool,
of which `coverage` says how far it has been ingested. It is passed over where nothing was recorded near it. How late it
is, what was received says: while somebody records, the machine's clock is not asked, which may be ahead for a minute
or behind for an hour; and no instant is made that the venue's own times have not come near. What
a job has done, its table says itself: the commit that brings the rows of a day's instants also sets the Delta
application ``<table>/<day>`` to the time of day of the last of them. So a run that is cut short, at whatever point,
is made good by the next, and one more run finds nothing to do, also where the period has been changed.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lake.delta import Table
from lake.delta_errors import delta_errors
from lake.durable import disk_full_told
from lake.errors import BusyError, LakeError
from lake.instants import EPOCH, MICROSECOND, from_us, to_us
from lake.ledger import newest, newest_received
from lake.locks import exclusive
from lake.parquet import sort_by
from lake.root import Root
from lake.schema import TABLES
from lake.spool import open_segments, sealed_segments
from lake.spool.writer import LOCK_FILE
from lake.tables import Tables

DAY: Final = dt.timedelta(days=1)
RETRY_AFTER: Final = dt.timedelta(minutes=5)
HELD_MAX: Final = dt.timedelta(minutes=15)
"""Who keeps records so long from the tables does not ingest them, which a person must be told."""
US_IN_NS: Final = 1000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeriodicJob:
    """Makes rows of `table`, which is partitioned, for every whole multiple of `period` since midnight UTC.

    `rows` gets instants of one day, in order, and gives their rows in the contract's storage types with `date` and
    `family`; the same lake must give the same rows. `reach` is how far before an instant anything recorded makes it
    worth a try; `settle` how long after it what belongs before it may still have been received. `sources` are the
    tables that the rows are made of: their `ts`, the venue's, say how far it has come.
    """

    table: str
    period: dt.timedelta
    reach: dt.timedelta
    settle: dt.timedelta
    rows: Callable[[Root, Sequence[dt.datetime]], pa.Table]
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.period <= dt.timedelta(0) or DAY % self.period:
            raise ValueError(f"a day is no multiple of the period {self.period}")


@dataclass(frozen=True, slots=True)
class Ran:
    """What was done of one day: how many instants, the last of them, and how many rows they gave."""

    table: str
    day: dt.date
    instants: int
    last: dt.datetime
    rows: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Records of a stream's spool that are not in the tables, received since then."""

    stream: str
    since: dt.datetime


class Periodic:
    """One job over one lake. Keep it between runs: it remembers what need not be looked at again."""

    def __init__(self, root: Root, job: PeriodicJob) -> None:
        self._root = root
        self._job = job
        self._tables = Tables(root)
        self._since = EPOCH
        """Every instant before is done, or was passed over."""
        self._held_at: int | None = None
        """Version of `coverage` at which the next instant was still held back."""
        self._recording = False
        """Whether somebody was recording then: so long as nothing new is in the tables, nothing is due."""
        self._not_before = EPOCH
        self._told: _Waiting | None = None

    def run(
        self,
        now: dt.datetime | None = None,
        *,
        days: Sequence[dt.date] | None = None,
        on_day: Callable[[Ran], None] | None = None,
    ) -> list[Ran]:
        """Make the rows of all that is due, or of all that is due of `days`; a commit for each day, told to `on_day`.

        Raises:
            BusyError: another process is running this job.
            CorruptionError: a file that the job must read is damaged.
            DiskFullError, CommitFailedError: the rows of the day were not appended; run again.
        """
        with self._alone():
            done = []
            for ran in self._days(now or dt.datetime.now(dt.UTC), days):
                done.append(ran)
                if on_day:
                    on_day(ran)
            return done

    def run_some(self, now: dt.datetime | None = None) -> None:
        """As `run`, but of one day at most, for a process with other things to do: it costs next to nothing where
        nothing is due, and what goes wrong is logged and tried again some minutes later."""
        now = now or dt.datetime.now(dt.UTC)
        try:
            # A clock that has been set back must not make the pause longer.
            if self._not_before - RETRY_AFTER <= now < self._not_before or self._is_held_back(now):
                return
            with self._alone():
                ran = next(self._days(now, None), None)
        except BusyError:
            return  # whoever holds the lock is doing it
        except LakeError as error:
            log.warning("%s will be tried again in %s: %s", self._job.table, RETRY_AFTER, error)
            self._not_before = now + RETRY_AFTER
            return
        if ran:
            log.info("%s: %d rows of %d instants until %s", ran.table, ran.rows, ran.instants, ran.last)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        doing = f"making {self._job.table}"
        with disk_full_told(doing), exclusive(self._root.locks / f"periodic-{self._job.table}.lock", doing):
            yield

    def _is_held_back(self, now: dt.datetime) -> bool:
        """Whether nothing can be due: `coverage` is as it was, and it is not the time alone that was waited for."""
        coverage = self._tables.find("coverage")
        if coverage is None:
            return True
        return coverage.version == self._held_at and (self._recording or now < self._since + self._job.settle)

    def _days(self, now: dt.datetime, days: Sequence[dt.date] | None) -> Iterator[Ran]:
        coverage = self._tables.find("coverage")
        if coverage is None:
            return
        version = coverage.version
        limit = self._limit(coverage, now)
        table = Table.open(self._root, TABLES[self._job.table])
        for day, instants in self._due(coverage, limit, days):
            app = f"{self._job.table}/{day}"
            done = table.committed(app) or 0
            fresh = [instant for instant in instants if _time_of_day(instant) > done]
            if fresh:
                yield self._append(table, app, day, fresh)
        if days is None:
            self._held_at = version
            # What was recorded ends there: an instant beyond is decided upon when more has come.
            limit = min(limit, newest_received(coverage) + self._job.reach)
            self._since = max(self._since, _floor(limit, self._job.period) + self._job.period)

    def _limit(self, coverage: Table, now: dt.datetime) -> dt.datetime:
        """The last moment that an instant may be due at: everything that belongs before it is in the tables."""
        job = self._job
        self._recording = _somebody_records(self._root)
        waiting, heard = _oldest_waiting(self._root, coverage), newest_received(coverage)
        until = heard if self._recording else now
        if waiting is not None:
            self._tell(waiting, now)
            until = min(until, waiting.since)
        limit = until - job.settle
        reached = [newest(table, "ts") for name in job.sources if (table := self._tables.find(name))]
        if reached:
            limit = min(limit, max(reached) - job.settle if self._recording else max(reached) + job.reach)
        return limit

    def _tell(self, waiting: _Waiting, now: dt.datetime) -> None:
        if now - waiting.since > HELD_MAX and waiting != self._told:
            log.warning(
                "%s waits for stream %s, whose records since %s are not in the tables; run `lake ingest`",
                self._job.table, waiting.stream, waiting.since,
            )  # fmt: skip
            self._told = waiting

    def _append(self, table: Table, app: str, day: dt.date, instants: Sequence[dt.datetime]) -> Ran:
        rows = self._job.rows(self._root, instants)
        rows = sort_by(rows, table.spec.partition_columns + table.spec.sort_key)
        number = _time_of_day(instants[-1])
        table.append(rows, app=app, version=number, origin=f"i.{self._job.table}.{day:%Y%m%d}.{number}")
        return Ran(self._job.table, day, len(instants), instants[-1], len(rows))

    def _due(
        self, coverage: Table, limit: dt.datetime, days: Sequence[dt.date] | None
    ) -> Iterator[tuple[dt.date, list[dt.datetime]]]:
        """The instants of each day, up to `limit`, that have something recorded near them."""
        since = self._since if days is None else EPOCH
        starts, ends = _recorded(coverage, since - self._job.reach)
        period, reach = self._job.period // MICROSECOND, self._job.reach // MICROSECOND
        if not len(starts):
            return
        first = max(int(starts[0]), to_us(since))
        instants = np.arange(-(-first // period) * period, to_us(limit) + 1, period)
        before = np.searchsorted(starts, instants, side="right") - 1
        near = instants[(before >= 0) & (ends[before] >= instants - reach)]
        by_day: dict[dt.date, list[dt.datetime]] = {}
        for us in near.tolist():
            instant = from_us(us)
            by_day.setdefault(instant.date(), []).append(instant)
        yield from ((day, found) for day, found in by_day.items() if days is None or day in days)


def _oldest_waiting(root: Root, coverage: Table) -> _Waiting | None:
    """The oldest records of the spool that are not in the tables; None where there are none."""
    oldest: _Waiting | None = None
    for name in root.streams():
        folder = root.stream(name)
        done: dict[str, int] = {}
        for segment in (*sealed_segments(folder), *open_segments(folder)):
            if segment.stream not in done:
                done[segment.stream] = coverage.committed(segment.stream) or 0
            since = from_us(segment.start_ns // US_IN_NS)
            if segment.end_offset > done[segment.stream] and (oldest is None or since < oldest.since):
                oldest = _Waiting(name, since)
    return oldest


def _somebody_records(root: Root) -> bool:
    """Whether a process has a stream of the spool open for writing."""
    for name in root.streams():
        try:
            with exclusive(root.stream(name) / LOCK_FILE, f"recording into {name}"):
                pass
        except BusyError:
            return True
    return False


def _recorded(coverage: Table, since: dt.datetime) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Starts and ends (µs since the epoch) of the spans that were recorded, in order, without overlap, from those
    on that end after `since`."""
    pieces = []
    for file in coverage.files():
        end = file.maximum.get("end_ts")
        if end is not None and end < since:
            continue
        path = coverage.folder / file.path
        with delta_errors(f"reading {path}"), coverage.open_file(file) as content:
            pieces.append(pq.read_table(content, columns=["start_ts", "end_ts"], partitioning=None))
    if not pieces:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = pa.concat_tables(pieces)
    starts, ends = (rows[name].cast(pa.int64()).to_numpy() for name in ("start_ts", "end_ts"))
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    begins = np.concatenate([[True], starts[1:] > ends[:-1]])
    lasts = np.concatenate([begins[1:], [True]])
    return starts[begins], ends[lasts]


def _time_of_day(instant: dt.datetime) -> int:
    """µs since midnight UTC, counted from 1."""
    return (instant - _floor(instant, DAY)) // MICROSECOND + 1


def _floor(moment: dt.datetime, period: dt.timedelta) -> dt.datetime:
    return EPOCH + (moment - EPOCH) // period * period
