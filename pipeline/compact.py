"""Rewrite partitions: sorted, without duplicates, in their smallest form, and provably the same rows.

A closed day becomes one file; the day in progress is rolled up once it has collected many small files. A
rewrite is one atomic commit that removes the inputs and adds the output, so a reader sees the one or the
other, and ingest may go on appending meanwhile. Before that commit the output is read back from the disk and
held against the inputs: rows and content hash must come out even with what was dropped as duplicate.
Inputs leave the table's folder in that moment, and stay on the disk for a grace period. A partition of a table that
is being read all the time is put off until the next run.

Memory: a partition is rewritten in ranges of instruments, each of about `rows_in_memory` rows.
"""

from __future__ import annotations

import datetime
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.content import content_hash
from lake.crashpoints import reach
from lake.datafile import FINISHED, HASH_MODULUS, DataFile, Partition
from lake.delta import Table
from lake.delta_commit import StagedFile
from lake.delta_errors import delta_errors
from lake.duplicates import drop_duplicates
from lake.durable import disk_full_told
from lake.errors import BusyError, CorruptionError, InputError
from lake.leases import InUseError
from lake.locks import exclusive
from lake.manifests import ManifestSettings, make_manifests
from lake.parquet import sort_rows
from lake.root import Root
from lake.schema import TABLES, TableSpec
from pipeline.derivation import Progress
from pipeline.executor import executor
from pipeline.ranges import cut

log = logging.getLogger(__name__)

ROLLED_UP: Final = "r"
"""Origin of files that hold many small ones of a day in progress."""


@dataclass(frozen=True, slots=True)
class CompactSettings:
    """When partitions are rewritten, and with how much memory."""

    roll_up_files: int = 60
    """The day in progress is rolled up once a partition has this many files that were never compacted."""

    rows_in_memory: int = 2_000_000
    """A partition is rewritten in ranges of instruments of about this many rows (about 400 bytes each)."""

    grace_hours: float = 24.0
    """Replaced files are deleted this many hours after their replacement."""

    wait_seconds: float = 60.0
    """So long a rewrite waits for queries over its table to end, before it is put off until the next run."""

    workers: int = 1
    """Processes to rewrite partitions in; each needs the memory above."""

    def __post_init__(self) -> None:
        for name in ("roll_up_files", "rows_in_memory", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("grace_hours", "wait_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


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
    manifests: dict[datetime.date, list[str]] = field(default_factory=dict)
    """Days that have a new manifest, each with why."""
    damaged: list[str] = field(default_factory=list)
    put_off: list[str] = field(default_factory=list)
    """Partitions whose table was being read all the time; the next run rewrites them."""

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
    progress: Progress | None = None,
    manifests: ManifestSettings | None = None,
) -> CompactReport:
    """Rewrite what is due: closed days that are not finished yet, and large piles of the day in progress; and make the
    manifests of closed days that are finished.

    `days` finishes just these days, also one that is not closed yet. A second run finds nothing to do. `progress`
    shows how far each table is.

    Raises:
        InputError: `tables` names one that does not exist.
        BusyError: another process compacts one of the tables.
        DiskFullError: no space is left; what was not replaced yet stays as it was.
        CorruptionError: an input is not what its name in the log says. Its partition stays as it was; all
            others have been rewritten.
    """
    settings = settings or CompactSettings()
    now = now or datetime.datetime.now(datetime.UTC)
    report = CompactReport()
    wanted = tables or tuple(TABLES)
    for name in wanted:
        if name not in TABLES:
            raise InputError(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    for name in wanted:
        doing = f"compacting {name}"
        with disk_full_told(doing), exclusive(root.locks / f"compact-{name}.lock", doing):
            table = Table.find(root, TABLES[name])
            if table is None:
                continue
            due = [] if table.spec.derived else _due(table, settings, days, now.date())
            job = partial(_rewrite_if_whole, root, name, settings)
            results: Iterable[Rewritten | _NotRewritten] = executor(settings.workers).map(job, due)
            for result in progress(results, len(due)) if progress and due else results:
                if isinstance(result, Rewritten):
                    report.rewritten.append(result)
                else:
                    (report.put_off if result.put_off else report.damaged).append(result.reason)
            table.tidy(now, grace=datetime.timedelta(hours=settings.grace_hours))
    _make_manifests(root, manifests, now, progress, report)
    if report.damaged:
        raise CorruptionError("; ".join(report.damaged))
    return report


def _make_manifests(
    root: Root,
    settings: ManifestSettings | None,
    now: datetime.datetime,
    progress: Progress | None,
    report: CompactReport,
) -> None:
    try:
        made = make_manifests(root, settings, now=now, progress=progress)
    except BusyError as error:
        log.info("manifests are left to another process: %s", error)
        return
    report.manifests = made.made
    report.damaged += made.problems


@dataclass(frozen=True, slots=True)
class _Pile:
    """Files of one partition that are to become one; `origin` is what the result is called."""

    partition: Partition | None
    files: tuple[DataFile, ...]
    origin: str


def _due(
    table: Table, settings: CompactSettings, days: Sequence[datetime.date] | None, today: datetime.date
) -> list[_Pile]:
    piles: dict[Partition | None, list[DataFile]] = defaultdict(list)
    for file in table.files():
        piles[file.partition].append(file)
    due: list[_Pile] = []
    for partition, files in piles.items():
        unfinished = [file for file in files if file.origin != FINISHED]
        fresh = [file for file in unfinished if file.origin != ROLLED_UP]
        closed = table.spec.closes(partition.date) <= today if partition else False
        asked = partition.date in days if partition and days is not None else days is None
        if unfinished and asked and (closed or days is not None):
            due.append(_Pile(partition, tuple(files), FINISHED))
        elif days is None and len(unfinished) - len(fresh) >= settings.roll_up_files:
            due.append(
                _Pile(partition, tuple(unfinished), ROLLED_UP)
            )  # of tables without days, which never close
        elif days is None and len(fresh) >= settings.roll_up_files:
            due.append(_Pile(partition, tuple(fresh), ROLLED_UP))
    return due


@dataclass(frozen=True, slots=True)
class _NotRewritten:
    """Why a pile stays as it is: it is damaged, or `put_off` until the next run."""

    reason: str
    put_off: bool = False


def _rewrite_if_whole(
    root: Root, name: str, settings: CompactSettings, pile: _Pile
) -> Rewritten | _NotRewritten:
    """What became of a pile: one that is damaged or in use must not keep others from their turn."""
    try:
        return _rewrite(root, name, settings, pile)
    except CorruptionError as error:
        return _NotRewritten(str(error))
    except InUseError:
        where = f"{name}/{pile.partition.folder if pile.partition else ''}"
        log.warning("%s was being read all the time; its rewriting is put off until the next run", where)
        return _NotRewritten(where, put_off=True)


def _rewrite(root: Root, name: str, settings: CompactSettings, pile: _Pile) -> Rewritten:
    """Replace the files of a pile by their sorted, duplicate-free union, range of instruments by range."""
    spec = TABLES[name]
    table = Table.open(root, spec)
    paths = [table.folder / file.path for file in pile.files]
    hash_in = 0
    staged: list[StagedFile] = []
    carried = sum(file.dropped for file in pile.files)
    whole = sum(file.rows for file in pile.files) <= settings.rows_in_memory
    for rows in [_read(paths, spec)] if whole else _ranges(paths, spec, settings.rows_in_memory):
        reach("compact:after_read")
        hash_read = content_hash(rows)
        hash_in += hash_read
        kept, dropped = drop_duplicates(sort_rows(rows, spec), spec, in_order=True)
        # The hash is of rows in any order: where none was dropped, the file must match the input's own.
        hash_kept = content_hash(kept) if dropped else hash_read
        file = table.stage(
            pile.partition, kept, origin=pile.origin, dropped=dropped + carried, hashed=hash_kept
        )
        carried = 0
        _check_written(table.staged_path(file), spec, file, hash_kept)
        staged.append(file)
    _check_inputs(pile, name, hash_in)
    reach("compact:before_replace")
    table.replace(pile.files, staged, readers_wait_s=settings.wait_seconds)
    reach("compact:after_replace")
    return Rewritten(
        table=name,
        partition=pile.partition.folder if pile.partition else "",
        files=len(pile.files),
        rows=sum(file.rows for file in staged),
        duplicates=sum(file.rows for file in pile.files) - sum(file.rows for file in staged),
        bytes_before=sum(file.size for file in pile.files),
        bytes_after=sum(file.size for file in staged),
    )


def _ranges(paths: Sequence[Path], spec: TableSpec, rows_in_memory: int) -> Iterator[pa.Table]:
    """The rows of all files, in ranges of instruments: a natural key never spans two of them."""
    if "instrument" not in spec.names:
        yield _read(paths, spec)
        return
    counts: Counter[str] = Counter()
    for path in paths:
        with delta_errors(f"reading {path}"):
            names = pq.read_table(path, columns=["instrument"], partitioning=None)["instrument"]
        counts.update({entry["values"].as_py(): entry["counts"].as_py() for entry in pc.value_counts(names)})
    for first, last in cut(counts, rows_in_memory):
        yield _read(paths, spec, pc.field("instrument") >= first, pc.field("instrument") <= last)


def _read(paths: Sequence[Path], spec: TableSpec, *conditions: pc.Expression) -> pa.Table:
    pieces = []
    for path in paths:
        with delta_errors(f"reading {path}"):
            # A file at a time and in one thread costs a third of what a dataset of one small file does.
            rows = (
                pq.read_table(path, filters=conditions[0] & conditions[1], partitioning=None)
                if conditions
                else _read_whole(path)
            )
            pieces.append(rows.cast(spec.arrow_schema))
    return pa.concat_tables(pieces)


def _read_whole(path: Path) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


def _check_inputs(pile: _Pile, name: str, hash_in: int) -> None:
    """What was read is what the log says was written, or nothing is replaced."""
    recorded = sum(file.content_hash for file in pile.files) % HASH_MODULUS
    if hash_in % HASH_MODULUS != recorded:
        where = f"{name}/{pile.partition.folder if pile.partition else ''}"
        raise CorruptionError(
            f"{where}: content hash differs from the log's; run `lake verify` to find the file"
        )


def _check_written(path: Path, spec: TableSpec, file: StagedFile, hash_kept: int) -> None:
    """Read the new file back from the disk before anything relies on it."""
    found = _read_whole(path).cast(spec.arrow_schema)
    if len(found) != file.rows or content_hash(found) != hash_kept:
        raise CorruptionError(
            f"{path}: reads back differently from what was written; check the disk's health"
        )
