"""The table `greeks`: partition by partition from `quotes`, `trades` or `candles`, again whenever their rows change.

A day of a family is made of the source's rows, the quotes that forwards are taken from, the options' terms and the
settings that matter; `pipeline.derivation` says how it is known whether it is up to date, and what replaces it.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import OPTIONS
from lake.datafile import DataFile, Partition
from lake.delta import Table
from lake.errors import InputError
from lake.parquet import sort_rows
from lake.root import Root
from lake.schema import TABLES
from pipeline.derivation import Progress, Unit, by_partition, deriving, fingerprint, put_in_place
from pipeline.derive_greeks.forwards import SECOND_US, Forwards
from pipeline.derive_greeks.partition import ranges
from pipeline.derive_greeks.rows import QUOTES, SOURCE_TABLES, SPEC, Source, derive, stored
from pipeline.derive_greeks.settings import GreeksSettings
from pipeline.derive_greeks.terms import listings, listings_version
from pipeline.executor import executor

FORMULAS: Final = 1
"""Raise it when the same rows shall give other numbers: every partition is then computed anew."""
FUTURES: Final = "future"


@dataclass(frozen=True, slots=True)
class Day(Unit):
    """One day of one family, and what it is made of.

    source, quotes, futures: files, relative to their table; listings: version of `instruments`.
    """

    source: tuple[str, ...]
    quotes: tuple[str, ...]
    futures: tuple[str, ...]
    listings: int


@dataclass(frozen=True, slots=True)
class Written:
    """One partition as it was computed."""

    partition: str
    source_rows: int
    rows: int
    without_forward: int
    undetermined: int
    bytes: int


@dataclass(slots=True)
class GreeksReport:
    """What one run did; `unchanged` partitions were up to date."""

    written: list[Written] = field(default_factory=list)
    unchanged: int = 0

    def as_rows(self) -> list[dict[str, Any]]:
        """One row per partition, for display."""
        return [
            {
                "partition": w.partition,
                "source rows": w.source_rows,
                "rows": w.rows,
                "without forward": w.without_forward,
                "without volatility": w.undetermined,
                "bytes": w.bytes,
                "bytes/row": round(w.bytes / w.rows, 2) if w.rows else None,
            }
            for w in self.written
        ]


def derive_greeks(
    root: Root,
    settings: GreeksSettings | None = None,
    *,
    of: str = "quotes",
    days: Sequence[dt.date] | None = None,
    now: dt.datetime | None = None,
    progress: Progress | None = None,
) -> GreeksReport:
    """Bring `greeks` up to date with the source table `of`: every closed day, or just `days`, open ones too.

    Raises:
        InputError: `of` is no source of Greeks.
        BusyError: another process derives Greeks.
        DiskFullError: no space is left; partitions that were done stay.
        CorruptionError: a file of the lake cannot be read; partitions that were done stay.
        CommitFailedError, CommitUnknownError: a partition's commit; run again.
    """
    if of not in SOURCE_TABLES:
        raise InputError(f"there are no Greeks of {of!r}; there are of {', '.join(SOURCE_TABLES)}")
    settings = settings or GreeksSettings()
    now = now or dt.datetime.now(dt.UTC)
    report = GreeksReport()
    with deriving(root, SPEC):
        found = list(_days(root, settings, SOURCE_TABLES[of], days, now.date()))
        due = [day for day in found if day.due]
        report.unchanged = len(found) - len(due)
        results = executor(settings.workers).map(partial(_work, root, settings, of), due)
        report.written = list(progress(results, len(due)) if progress else results)
    return report


def _days(
    root: Root, settings: GreeksSettings, source: Source, days: Sequence[dt.date] | None, today: dt.date
) -> Iterator[Day]:
    """Every day and family of options that the source has rows of, and that is asked for."""
    by_source, by_quotes = (by_partition(root, name) for name in (source.name, "quotes"))
    present = by_partition(root, SPEC.name)
    every_s = settings.quotes_every_s if source.name == QUOTES.name else 0
    version = listings_version(root)
    known = listings(root, version)
    spec = TABLES[source.name]
    for partition, files in sorted(by_source.items()):
        if not partition.family.endswith(OPTIONS) or (days is None and spec.closes(partition.date) > today):
            continue
        for day in _dates(partition.date, spec.closes(partition.date), files):
            if days is not None and day not in days:
                continue
            own = Partition(day, partition.family)
            quotes = by_quotes.get(own, [])
            futures = by_quotes.get(Partition(day, FUTURES), [])
            recipe = FORMULAS, settings.forward_max_age_s, every_s, known.fingerprint(own.family, own.date)
            yield Day(
                partition=own,
                origin=f"{source.name}.{fingerprint(recipe, files, quotes, futures)}",
                present=tuple(file for file in present.get(own, []) if _of(file) == source.name),
                source=tuple(file.path for file in files),
                quotes=tuple(file.path for file in quotes),
                futures=tuple(file.path for file in futures),
                listings=version,
            )


def _dates(first: dt.date, end: dt.date, files: Sequence[DataFile]) -> Iterator[dt.date]:
    """The days of a partition, which may be a month's, on which it can have rows."""
    begins = min((file.minimum["ts"].date() for file in files if "ts" in file.minimum), default=first)
    ends = max((file.maximum["ts"].date() for file in files if "ts" in file.maximum), default=end)
    day = max(first, begins)
    while day < end and day <= ends:
        yield day
        day += dt.timedelta(days=1)


def _of(file: DataFile) -> str:
    """The source table that a file of `greeks` was made of."""
    return file.origin.partition(".")[0]


def _work(root: Root, settings: GreeksSettings, of: str, day: Day) -> Written:
    """Compute one day and put it in place."""
    counts = Counter[str]()
    pieces = _derived(root, settings, SOURCE_TABLES[of], day, counts)
    staged = put_in_place(Table.open(root, SPEC), day, _gathered(pieces, settings.rows_in_memory))
    return Written(
        partition=day.partition.folder,
        source_rows=counts["source rows"],
        rows=sum(file.rows for file in staged),
        without_forward=counts["without forward"],
        undetermined=counts["undetermined"],
        bytes=sum(file.size for file in staged),
    )


def _derived(
    root: Root, settings: GreeksSettings, source: Source, day: Day, counts: Counter[str]
) -> Iterator[pa.Table]:
    """The day's rows of `greeks`, sorted, range of instruments by range."""
    listing = listings(root, day.listings).alive(day.partition.family, day.partition.date)
    forwards = Forwards(
        _paths(root, "quotes", day.quotes),
        _paths(root, "quotes", day.futures),
        listing,
        int(settings.forward_max_age_s * SECOND_US),
    )
    interval_us = int(settings.quotes_every_s * SECOND_US)
    paths = _paths(root, source.name, day.source)
    for some in ranges(paths, TABLES[source.name], source.columns, settings.rows_in_memory):
        of_day = _on(some, day.partition.date)
        counts["source rows"] += len(of_day)
        rows = source.rows(of_day, interval_us)
        if len(rows):
            found = stored(source, rows, derive(source, rows, listing, forwards))
            counts["without forward"] += found["forward"].null_count
            counts["undetermined"] += pc.sum(found["undetermined"]).as_py()
            yield sort_rows(found, SPEC)


def _gathered(pieces: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Small pieces together until they are `rows` long: a file each."""
    gathered: list[pa.Table] = []
    for piece in pieces:
        if gathered and sum(map(len, gathered)) + len(piece) > rows:
            yield pa.concat_tables(gathered).unify_dictionaries()
            gathered = []
        gathered.append(piece)
    if gathered:
        yield pa.concat_tables(gathered).unify_dictionaries()


def _paths(root: Root, name: str, files: Sequence[str]) -> list[Path]:
    return [root.table(name) / file for file in files]


def _on(rows: pa.Table, day: dt.date) -> pa.Table:
    """The rows of one UTC day; all of them without a copy where the partition is a day's."""
    bounds = pc.min_max(rows["ts"])
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    end = start + dt.timedelta(days=1)
    if bounds["min"].as_py() >= start and bounds["max"].as_py() < end:
        return rows
    return rows.filter(pc.and_(pc.greater_equal(rows["ts"], start), pc.less(rows["ts"], end)))
