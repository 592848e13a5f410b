"""Delta tables with exactly-once append and atomic replace, for several processes on one machine.

Data files are written and made durable first, outside of the table, under names that follow from their content
(`lake.datafile`); then one commit brings them in, and is durable when the call returns (`lake.delta_commit`).
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import delta_log
from lake.commit_file import Action
from lake.content import content_hash
from lake.crashpoints import reach
from lake.datafile import HASH_MODULUS, DataFile, Labels, Partition, file_path, parse_path
from lake.delta_commit import (
    GRACE,
    READERS_WAIT_SECONDS,
    Committer,
    StagedFile,
    commit_lock,
    ready_to_write,
    remove_action,
    settle_quietly,
    transaction,
)
from lake.delta_errors import delta_errors
from lake.delta_view import DeltaView
from lake.durable import make_dirs
from lake.errors import CorruptionError, LakeError, SchemaDriftError
from lake.parquet import FileStats, Purpose, sort_by, write_file
from lake.root import Root
from lake.schema import PARTITION_COLUMNS, TableSpec
from lake.tidying import delete_older, retire_unnamed

__all__ = ["Appended", "DataFile", "Partition", "Replaced", "StagedFile", "Table"]

LOG_RETENTION: Final = dt.timedelta(days=30)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did. `already_there`: an earlier attempt had landed, nothing was written now."""

    version: int
    files: tuple[DataFile, ...]
    already_there: bool = False


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a replace did. Not `committed`: the files to add were the files to remove."""

    version: int
    added: tuple[DataFile, ...]
    removed: tuple[DataFile, ...]
    committed: bool


class Table:
    """One Delta table of the lake: `open` it to write, `find` it to read. Not for several threads at once."""

    def __init__(self, root: Root, spec: TableSpec, repairs: Sequence[delta_log.Repair] = ()) -> None:
        self.root: Final = root
        self.spec: Final = spec
        self.folder: Final = root.table(spec.name)
        self.repairs: Final = tuple(repairs)
        self._delta: Final = DeltaView(root, spec)
        self._committer: Final = Committer(root, spec, self._delta)

    @classmethod
    def open(cls, root: Root, spec: TableSpec) -> Table:
        """The table for writing, made where it is missing, the end of its log repaired after a power cut; `repairs`
        says what was moved to the quarantine.

        Raises:
            SchemaDriftError: the table on disk has other columns than the contract.
            CorruptionError: the log is damaged further back than its newest commit.
        """
        repairs = ready_to_write(root, spec)
        for repair in repairs:
            _logger.warning("%s: %s; moved to %s", repair.file, repair.reason, repair.moved_to)
        return cls(root, spec, repairs)

    @classmethod
    def find(cls, root: Root, spec: TableSpec) -> Table | None:
        """The table for reading, or None where nothing has ever been ingested into it; a commit that a crash cut short
        is completed or taken back first, where that can be done."""
        if not delta_log.exists(root.table(spec.name)):
            return None
        settle_quietly(root, spec)
        return cls(root, spec)

    def pin(self) -> int:
        """From now on see the table as it is now, whatever is committed; returns the version. For readers only."""
        self._delta.pin()
        return self._delta.version

    @property
    def version(self) -> int:
        """Version of the newest commit."""
        self._delta.refresh()
        return self._delta.version

    def committed(self, app: str) -> int | None:
        """The newest version that `app` has committed; None where it never did."""
        self._delta.refresh()
        return self._delta.transaction_version(app)

    def listing(self) -> pa.Table:
        """Active files as Arrow: `path`, `size_bytes`, `num_records`, `partition.*`, `min.*`, `max.*`."""
        self._delta.refresh()
        return self._delta.listing()

    def files(self, *, date: dt.date | None = None, family: str | None = None) -> list[DataFile]:
        """Active files, of one `date` and one `family` where given, sorted by path.

        Raises:
            CorruptionError: the log names a file that this project never wrote, or says of one what its path does not.
        """
        listing = self.listing()
        if date is not None:
            listing = listing.filter(pc.field("partition.date") == pa.scalar(date, pa.date32()))
        if family is not None:
            listing = listing.filter(pc.field("partition.family") == family)
        bounds = [f"{side}.{name}" for side in ("min", "max") for name in self.spec.stats]
        present = [name for name in bounds if name in listing.column_names]
        labels = ["num_records", *(name for name in listing.column_names if name.startswith("partition."))]
        rows = listing.select(["path", "size_bytes", *labels, *present]).to_pylist()
        files = sorted((_data_file(row) for row in rows), key=lambda file: file.path)
        for file in files:
            if wrong := file.mislabelled:
                raise CorruptionError(f"{self.spec.name}/{file.path}: {wrong}; run `lake verify`")
        return files

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, of the named columns where given, in no particular order; meant for the small tables."""
        schema = self.spec.arrow_schema
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        pieces = []
        for file in self.files():
            with delta_errors(f"reading {self.folder / file.path}"), self.open_file(file) as content:
                piece = pq.read_table(content, columns=schema.names, partitioning=None)
                pieces.append(piece.cast(schema))
        return pa.concat_tables(pieces) if pieces else schema.empty_table()

    def path(self, file: DataFile) -> Path:
        """Where an active file is, or one that was active when the caller looked: after its replacement it is kept in
        another place for the grace period. Without such a file, where it should be."""
        active, retired = self.folder / file.path, self.root.retired / self.spec.name / file.path
        return retired if not active.exists() and retired.exists() else active

    def open_file(self, file: DataFile) -> pa.NativeFile:
        """The file at `path`, for reading.

        Raises:
            FileNotFoundError: there is none.
        """
        try:
            return pa.OSFile(str(self.folder / file.path))
        except FileNotFoundError:
            return pa.OSFile(str(self.path(file)))

    def staged_path(self, file: StagedFile) -> Path:
        """Where a staged file is until its commit."""
        staged = self.root.staging / self.spec.name / file.path
        return staged if staged.exists() else self.folder / file.path

    def append(
        self,
        rows: pa.Table,
        *,
        app: str,
        version: int,
        origin: str,
        also: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        instead: Sequence[tuple[DataFile, StagedFile]] = (),
    ) -> Appended:
        """Append `rows` exactly once: however often, and after whatever crash, this is called with the same
        `app` and `version`, the rows are in the table once. The versions of an app must grow.

        `rows` has the contract's columns in storage types, and `date` and `family` where the table is
        partitioned; each partition becomes one file, named after `origin` (`i.<stream>.<offset>`). Without
        rows the app's version still advances. The same commit sets the versions of other apps in `also`, puts each
        staged file of `instead` in the place of the one beside it, and `metadata` goes into it.

        Raises:
            SchemaDriftError: the columns are not the contract's, or a row has no partition.
            CommitFailedError: nothing was appended; call again.
            CommitUnknownError: it may have been appended; calling again finds out.
            DiskFullError: nothing was appended, there is no space.
            BusyError: the commit lock stayed taken for a minute.
        """

        def landed() -> bool:
            found = self._delta.transaction_version(app)
            return found is not None and found >= version

        self._delta.refresh()
        if landed():
            return Appended(self._delta.version, (), already_there=True)
        reach("delta:before_write")
        rewritten = [staged for _, staged in instead]
        files: list[StagedFile] = []
        try:
            for partition, part in _split(rows, self.spec):
                path = file_path(partition, origin, part.num_rows, 0, content_hash(part))
                files.append(self._write(path, partition, part, "ingest"))
                reach("delta:after_file")
        except LakeError:
            self._committer.discard([*files, *rewritten])
            raise
        reach("delta:after_write")

        def actions() -> Sequence[Action] | None:
            if landed():
                return None
            self._delta.require_active([gone.path for gone, _ in instead])
            added = [file.action(data_change=True) for file in (*files, *rewritten)]
            removed = [remove_action(gone, data_change=True) for gone, _ in instead]
            reached = {app: version, **(also or {})}
            return [*added, *removed, *(transaction(name, at) for name, at in reached.items())]

        wait_s = READERS_WAIT_SECONDS if instead else 0.0
        committed = self._committer.commit(actions, [*files, *rewritten], metadata, readers_wait_s=wait_s)
        added = tuple(file.data_file for file in files) if committed else ()
        return Appended(self._delta.version, added, already_there=not committed)

    def stage(
        self,
        partition: Partition | None,
        rows: pa.Table,
        *,
        origin: str,
        dropped: int = 0,
        hashed: int | None = None,
    ) -> StagedFile:
        """Write `rows` (contract columns only) as one durable file, not in the table yet: for `replace`.

        `dropped` counts the duplicates left out of these rows, now and by the rewrites before; `hashed` is their
        content hash where the caller has it already.
        """
        content = content_hash(rows) if hashed is None else hashed
        path = file_path(partition, origin, rows.num_rows, dropped, content)
        self._delta.refresh()
        if path in self._delta.active_paths():  # these rows are in the table already, under this name
            size = (self.folder / path).stat().st_size
            return StagedFile(path, partition, FileStats(size, rows.num_rows, {}, {}, {}))
        return self._write(path, partition, rows, "compact")

    def replace(
        self,
        removed: Sequence[DataFile],
        staged: Sequence[StagedFile],
        *,
        metadata: Mapping[str, Any] | None = None,
        readers_wait_s: float = READERS_WAIT_SECONDS,
    ) -> Replaced:
        """Put `staged` in the place of `removed`, all of one partition, in one commit.

        The replaced files leave the table's folder in the same moment, and stay in `retired/` until `tidy` finds
        their grace period over. Queries of this project that are running are waited for, up to `readers_wait_s`.
        If `staged` are the very files to be removed, there is nothing to do and nothing is committed.

        Raises:
            ValueError: rows are lost or made up, or a file is of another partition.
            CommitFailedError: nothing was replaced, for instance because another writer was faster.
            InUseError: nothing was replaced, the table was being read all the time.
            CommitUnknownError, DiskFullError, BusyError: as for `append`.
        """
        added = [file.data_file for file in staged]
        _check_conserved(removed, added)
        data_change = sum(file.rows for file in added) != sum(file.rows for file in removed)
        return self._swap(removed, staged, metadata, readers_wait_s, data_change=data_change)

    def supersede(
        self,
        removed: Sequence[DataFile],
        staged: Sequence[StagedFile],
        *,
        metadata: Mapping[str, Any] | None = None,
        readers_wait_s: float = READERS_WAIT_SECONDS,
    ) -> Replaced:
        """As `replace`, for rows that a job has derived anew: they may be others than before, or the first.

        Raises:
            ValueError: the table is not derived, or a file is of another partition.
            CommitFailedError, CommitUnknownError, DiskFullError, BusyError, InUseError: as for `replace`.
        """
        if not self.spec.derived:
            raise ValueError(f"table {self.spec.name} is not derived: its rows must be conserved")
        if len({file.partition for file in removed} | {file.partition for file in staged}) > 1:
            raise ValueError("rows of one partition take the place of rows of the same")
        return self._swap(removed, staged, metadata, readers_wait_s, data_change=True)

    def _swap(
        self,
        removed: Sequence[DataFile],
        staged: Sequence[StagedFile],
        metadata: Mapping[str, Any] | None,
        readers_wait_s: float,
        *,
        data_change: bool,
    ) -> Replaced:
        added = [file.data_file for file in staged]
        same = {file.path for file in removed} & {file.path for file in added}
        gone = [file for file in removed if file.path not in same]
        new = [file for file in staged if file.path not in same]
        if not gone and not new:
            self._delta.refresh()
            self._delta.require_active(sorted(same))
            return Replaced(self._delta.version, tuple(added), (), committed=False)

        def actions() -> Sequence[Action]:
            self._delta.require_active([file.path for file in removed])
            removes = [remove_action(file, data_change=data_change) for file in gone]
            return [*(file.action(data_change=data_change) for file in new), *removes]

        self._committer.commit(actions, new, metadata, readers_wait_s=readers_wait_s)
        return Replaced(self._delta.version, tuple(added), tuple(gone), committed=True)

    def tidy(
        self, now: dt.datetime, *, grace: dt.timedelta = GRACE, log_retention: dt.timedelta = LOG_RETENTION
    ) -> list[Path]:
        """Delete files that were replaced or left behind more than `grace` before `now`, and commits older
        than `log_retention` that the newest checkpoints make superfluous; says which.

        A staged file is left alone while young: a writer may be about to commit it. Data files in the table's
        folder that the log does not name, of an older copy of the log say, are retired first.
        """
        limit = (now - grace).timestamp()
        with commit_lock(self.root, self.spec):
            self._delta.refresh()
            deleted = delete_older(self.root.staging / self.spec.name, limit)
            deleted += delete_older(self.root.retired / self.spec.name, limit)
            retire_unnamed(self.root, self.spec.name, self._delta.active_paths(), limit)
            reach("delta:after_tidy_files")
            with self._committer.upkeep():
                return deleted + delta_log.expire_log(self._delta.log, (now - log_retention).timestamp())

    def _write(self, name: str, partition: Partition | None, rows: pa.Table, purpose: Purpose) -> StagedFile:
        path = self.root.staging / self.spec.name / name
        with delta_errors(f"writing {path}"):
            make_dirs(path.parent)
            stats = write_file(path, rows, self.spec, purpose=purpose)
        return StagedFile(name, partition, stats)


def _split(rows: pa.Table, spec: TableSpec) -> Iterator[tuple[Partition | None, pa.Table]]:
    """The rows of each partition, without the partition columns, in the order given."""
    wanted = {*spec.names, *spec.partition_columns}
    odd = set(rows.column_names) ^ wanted
    if odd:
        raise SchemaDriftError(f"table {spec.name}: columns missing or unknown: {', '.join(sorted(odd))}")
    if not rows.num_rows:
        return
    if not spec.partitioned:
        yield None, rows.select(spec.names)
        return
    # One copy for all partitions, none where the rows come in their order, instead of one search for each.
    rows = sort_by(rows, PARTITION_COLUMNS)
    for start, stop in _runs(rows):
        date, family = (rows[name][start].as_py() for name in PARTITION_COLUMNS)
        yield Partition(date, family), rows.slice(start, stop - start).select(spec.names)


def _runs(rows: pa.Table) -> Iterator[tuple[int, int]]:
    """Spans of `rows` that agree in the partition columns."""
    changes = np.zeros(len(rows) - 1, np.bool_)
    for name in PARTITION_COLUMNS:
        column = rows[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.indices
        changes |= np.asarray(pc.not_equal(column[1:], column[:-1]).fill_null(True))
    yield from itertools.pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), len(rows)])


def _check_conserved(removed: Sequence[DataFile], added: Sequence[DataFile]) -> None:
    """Refuse a replacement that does not account for every row."""
    if not removed or len({file.partition for file in (*removed, *added)}) > 1:
        raise ValueError("a replacement needs files to remove, and all its files of one partition")
    rows_before, rows_after = (sum(file.rows for file in files) for files in (removed, added))
    dropped_before, dropped_after = (sum(file.dropped for file in files) for files in (removed, added))
    if dropped_after < dropped_before or rows_before + dropped_before != rows_after + dropped_after:
        raise ValueError(
            f"{rows_before} rows and {dropped_before} dropped would become "
            f"{rows_after} and {dropped_after}: not all are accounted for"
        )
    hash_before, hash_after = (
        sum(f.content_hash for f in files) % HASH_MODULUS for files in (removed, added)
    )
    if rows_before == rows_after and hash_before != hash_after:
        raise ValueError("the rows to add differ from those to remove")


def _data_file(row: dict[str, Any]) -> DataFile:
    minimum = {
        name[4:]: value for name, value in row.items() if name.startswith("min.") and value is not None
    }
    maximum = {
        name[4:]: value for name, value in row.items() if name.startswith("max.") and value is not None
    }
    partition = {name[10:]: value for name, value in row.items() if name.startswith("partition.")}
    labels = Labels(partition, row["num_records"])
    return parse_path(row["path"], row["size_bytes"], minimum, maximum, labels)
