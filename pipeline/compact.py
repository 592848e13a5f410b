"""Rewrite partitions: sorted, without duplicates, in their smallest form, and provably the same rows.

A closed day becomes one file; the day in progress is rolled up once it has collected many small files. A
rewrite is one atomic commit that removes the inputs and adds the output, so a reader sees the one or the
other, and ingest may go on appending meanwhile. Before that commit the output is read back from the disk and
held against the inputs: rows and content hash must come out even with what was dropped as duplicate.
Inputs stay on the disk for a grace period, for readers that still have them open.

Memory: a partition is rewritten in ranges of instruments, each of about `rows_in_memory` rows.
"""

from __future__ import annotations

import datetime
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.content import content_hash
from lake.crashpoints import reach
from lake.delta import DataFile, Partition, Table
from lake.errors import CorruptionError
from lake.locks import exclusive
from lake.parquet import drop_duplicates, sort_rows
from lake.root import Root
from lake.schema import TABLES, TableSpec
from pipeline.executor import executor

log = logging.getLogger(__name__)

HASH_MODULUS: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class CompactSettings:
    """When partitions are rewritten, and with how much memory."""

    roll_up_files: int = 60
    """The day in progress is rolled up once a partition has this many files that were never compacted."""

    rows_in_memory: int = 2_000_000
    """A partition is rewritten in ranges of instruments of about this many rows (about 400 bytes each)."""

    grace_hours: float = 24.0
    """Replaced files are deleted this many hours after their replacement."""

    workers: int = 1
    """Processes to rewrite partitions in; each needs the memory above."""

    def __post_init__(self) -> None:
        for name in ("roll_up_files", "rows_in_memory", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.grace_hours < 0:
            raise ValueError("grace_hours must not be negative")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One partition before and after."""

    table: str
    partition: str
    files: int
    rows: int
    duplicates: int
    bytes_before: int
    bytes_after: int


@dataclass(slots=True)
class CompactReport:
    """What one run did."""

    rewritten: list[Rewritten] = field(default_factory=list)

    def as_rows(self) -> list[dict[str, Any]]:
        """One row per rewritten partition, for display."""
        return [
            {
                "table": r.table,
                "partition": r.partition,
                "files": r.files,
                "rows": r.rows,
                "duplicates dropped": r.duplicates,
                "bytes before": r.bytes_before,
                "bytes after": r.bytes_after,
                "bytes/row": round(r.bytes_after / r.rows, 2) if r.rows else None,
            }
            for r in self.rewritten
        ]


def compact(
    root: Root,
    settings: CompactSettings | None = None,
    *,
    days: Sequence[datetime.date] | None = None,
    tables: Sequence[str] | None = None,
    now: datetime.datetime | None = None,
) -> CompactReport:
    """Rewrite what is due: every closed day that is not one compacted file, and large piles of the open day.

    `days` rewrites just these days, also where one is not closed yet. A second run finds nothing to do.

    Raises:
        BusyError: another process compacts one of the tables.
        CorruptionError: an input is not what its name in the log says; nothing was replaced.
    """
    settings = settings or CompactSettings()
    now = now or datetime.datetime.now(datetime.UTC)
    report = CompactReport()
    for name in tables or TABLES:
        if name not in TABLES:
            raise InputError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        with exclusive(root.locks / f"compact-{name}.lock", f"compacting {name}"):
            table = Table.open(root, TABLES[name])
            due = [p for p in _partitions(table) if _is_due(p, settings, days, now.date())]
            job = partial(_rewrite_partition, root, name, settings)
            rewritten = executor(settings.workers).map(job, [p.partition for p in due])
            report.rewritten += [r for r in rewritten if r]
            table.tidy(now, grace=datetime.timedelta(hours=settings.grace_hours))
    return report


@dataclass(frozen=True, slots=True)
class _Pile:
    """The files of one partition."""

    partition: Partition
    files: list[DataFile]

    @property
    def loose(self) -> int:
        """Files that were never compacted."""
        return sum(not file.compacted for file in self.files)


def _partitions(table: Table) -> list[_Pile]:
    piles: dict[Partition, list[DataFile]] = defaultdict(list)
    for file in table.files():
        piles[file.partition].append(file)
    return [_Pile(partition, files) for partition, files in sorted(piles.items())]


def _is_due(
    pile: _Pile, settings: CompactSettings, days: Sequence[datetime.date] | None, today: datetime.date
) -> bool:
    if pile.loose == 0 and len(pile.files) == 1:
        return False
    if days is not None:
        return pile.partition.date in days
    if pile.partition.date is not None and pile.partition.date < today:
        return True
    return pile.loose >= settings.roll_up_files
