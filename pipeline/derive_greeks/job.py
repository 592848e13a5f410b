"""The table `greeks`: partition by partition from `quotes`, `trades` or `candles`, again whenever their rows change.

The files of a partition carry in their names what they were made of: a fingerprint of the source's rows, of the quotes
that forwards are taken from, of the options' terms and of the settings that matter. Where it is still the same, the
partition is done; else the partition is computed anew and put in place of the old in one commit. So a run may be killed
anywhere and repeated at will, and two runs find the same rows. What compaction rewrites without dropping duplicates
changes nothing: fingerprints are of rows, not of files.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.crashpoints import reach
from lake.datafile import HASH_MODULUS, DataFile, Partition
from lake.delta import Table
from lake.delta_commit import StagedFile
from lake.durable import disk_full_told
from lake.errors import InputError
from lake.locks import exclusive
from lake.parquet import sort_rows
from lake.root import Root
from lake.schema import TABLES
from pipeline.derive_greeks.forwards import SECOND_US, Forwards
from pipeline.derive_greeks.partition import ranges
from pipeline.derive_greeks.rows import SOURCE_TABLES, SPEC, Source, derive, stored
from pipeline.derive_greeks.settings import GreeksSettings
from pipeline.derive_greeks.terms import Listings, OptionTerms
from pipeline.executor import executor

log = logging.getLogger(__name__)

FORMULAS: Final = 1
"""Raise it when the same rows shall give other numbers: every partition is then computed anew."""
OPTIONS: Final = "_option"
"""How the families of options end."""
FUTURES: Final = "future"

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Shows how far a run is: given the results as they come, and how many there will be."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One day of one family: what is computed and replaced together.

    source, quotes, futures: files, relative to the lake's tables; `replaced` are the files of `greeks` in the way.
    """

    partition: Partition
    fingerprint: str
    source: tuple[str, ...]
    quotes: tuple[str, ...]
    futures: tuple[str, ...]
    listing: dict[str, OptionTerms]
    replaced: tuple[DataFile, ...]


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
    doing = "deriving Greeks"
    with disk_full_told(doing), exclusive(root.locks / "greeks.lock", doing):
        found = list(_units(root, settings, SOURCE_TABLES[of], days, now.date()))
        due = [unit for unit in found if not _done(unit, of)]
        report.unchanged = len(found) - len(due)
        results: Iterable[Written] = executor(settings.workers).map(partial(_work, root, settings, of), due)
        report.written = list(progress(results, len(due)) if progress else results)
        table = Table.find(root, SPEC)
        if table is not None:
            table.tidy(now)
    return report


def _units(
    root: Root, settings: GreeksSettings, source: Source, days: Sequence[dt.date] | None, today: dt.date
) -> Iterator[Unit]:
    """Every day and family of options that the source has rows of, and that is asked for."""
    by_source, by_quotes = (_by_partition(root, name) for name in (source.name, "quotes"))
    present = _by_partition(root, SPEC.name)
    listings = Listings.read(root)
    spec = TABLES[source.name]
    for partition, files in sorted(by_source.items(), key=lambda item: (item[0].date, item[0].family)):
        if not partition.family.endswith(OPTIONS) or (days is None and spec.closes(partition.date) > today):
            continue
        for day in _days(partition.date, spec.closes(partition.date), files):
            if days is not None and day not in days:
                continue
            own = Partition(day, partition.family)
            quotes = by_quotes.get(own, [])
            futures = by_quotes.get(Partition(day, FUTURES), [])
            listing = listings.alive(partition.family, day, day + dt.timedelta(days=1))
            yield Unit(
                partition=own,
                fingerprint=_fingerprint(settings, source, files, quotes, futures, listing),
                source=tuple(file.path for file in files),
                quotes=tuple(file.path for file in quotes),
                futures=tuple(file.path for file in futures),
                listing=listing,
                replaced=tuple(file for file in present.get(own, []) if _of(file) == source.name),
            )


def _days(first: dt.date, end: dt.date, files: Sequence[DataFile]) -> Iterator[dt.date]:
    """The days of a partition, which may be a month's, on which it can have rows."""
    begins = min((file.minimum["ts"].date() for file in files if "ts" in file.minimum), default=first)
    ends = max((file.maximum["ts"].date() for file in files if "ts" in file.maximum), default=end)
    day = max(first, begins)
    while day < end and day <= ends:
        yield day
        day += dt.timedelta(days=1)


def _by_partition(root: Root, name: str) -> dict[Partition, list[DataFile]]:
    found: dict[Partition, list[DataFile]] = defaultdict(list)
    table = Table.find(root, TABLES[name])
    for file in table.files() if table else []:
        if file.partition is not None:
            found[file.partition].append(file)
    return found


def _fingerprint(
    settings: GreeksSettings,
    source: Source,
    files: Sequence[DataFile],
    quotes: Sequence[DataFile],
    futures: Sequence[DataFile],
    listing: Mapping[str, OptionTerms],
) -> str:
    """16 hex digits that differ where the rows of `greeks` could."""
    parts = (
        FORMULAS,
        settings.forward_max_age_s,
        settings.quotes_every_s if source.name == "quotes" else 0,
        *(sum(f.content_hash for f in some) % HASH_MODULUS for some in (files, quotes, futures)),
        *sorted(listing.items(), key=lambda item: item[0]),
    )
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def _of(file: DataFile) -> str:
    """The source table that a file of `greeks` was made of."""
    return file.origin.partition(".")[0]


def _done(unit: Unit, of: str) -> bool:
    origin = f"{of}.{unit.fingerprint}"
    return bool(unit.replaced) and all(file.origin == origin for file in unit.replaced)


def _work(root: Root, settings: GreeksSettings, of: str, unit: Unit) -> Written:
    """Compute one unit and put it in place."""
    source = SOURCE_TABLES[of]
    table = Table.open(root, SPEC)
    forwards = Forwards(
        _paths(root, "quotes", unit.quotes),
        _paths(root, "quotes", unit.futures),
        unit.listing,
        int(settings.forward_max_age_s * SECOND_US),
    )
    staged: list[StagedFile] = []
    source_rows = without_forward = undetermined = 0
    interval_us = int(settings.quotes_every_s * SECOND_US)
    paths = _paths(root, of, unit.source)
    for some in ranges(paths, TABLES[of], source.columns, settings.rows_in_memory):
        of_day = _on(some, unit.partition.date)
        source_rows += len(of_day)
        rows = source.rows(of_day, interval_us)
        if not len(rows):
            continue
        derived = stored(source, rows, derive(source, rows, unit.listing, forwards))
        without_forward += derived["forward"].null_count
        undetermined += pc.sum(derived["undetermined"]).as_py()
        reach("greeks:before_stage")
        origin = f"{of}.{unit.fingerprint}"
        staged.append(table.stage(unit.partition, sort_rows(derived, SPEC), origin=origin))
        reach("greeks:after_stage")
    table.supersede(unit.replaced, staged)
    reach("greeks:after_commit")
    return Written(
        partition=unit.partition.folder,
        source_rows=source_rows,
        rows=sum(file.rows for file in staged),
        without_forward=without_forward,
        undetermined=undetermined,
        bytes=sum(file.size for file in staged),
    )


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
