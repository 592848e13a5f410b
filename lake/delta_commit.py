"""One commit to a Delta table: under a lock, durable when it returns, its outcome never guessed.

The commit lock is held for the few ms of a commit. It makes three things true which the Delta library alone
does not give:

- a stream's transaction version is looked at and advanced in one step (two commits with the same version,
  one after the other, are no error to the library);
- a file is replaced once (two writers may remove the same file, which would double its rows);
- commit n is durable before commit n+1 exists, so a power cut can only ever cost the newest.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake import Schema as DeltaSchema
from deltalake.transaction import AddAction, RemoveAction

from lake import delta_log
from lake.crashpoints import reach
from lake.datafile import DataFile, Partition, parse_path
from lake.delta_errors import CommitConflictError, delta_errors
from lake.durable import make_dirs
from lake.errors import (
    CommitFailedError,
    CommitUnknownError,
    CorruptionError,
    LakeError,
    SchemaDriftError,
)
from lake.locks import exclusive_in_turn
from lake.parquet import FileStats
from lake.root import Root
from lake.schema import TableSpec

COMMITS_PER_CHECKPOINT: Final = 50
COMMITS_PER_REOPEN: Final = 50  # a held table slows by ~0.12 ms per commit
CONFLICT_RETRIES: Final = 20
_NO_HOOKS: Final = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)
GRACE: Final = dt.timedelta(hours=24)
"""So long a replaced file stays on disk, and checkpoints speak of it: every commit and every opening reads them."""
_CONFIGURATION: Final = {
    "delta.enableExpiredLogCleanup": "false",  # `Table.tidy` does it
    "delta.deletedFileRetentionDuration": f"interval {GRACE // dt.timedelta(hours=1)} hours",
}

_logger = logging.getLogger(__name__)

Action = AddAction | RemoveAction


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A durable data file on its way into the table."""

    path: str
    partition: Partition | None
    stats: FileStats

    @property
    def size(self) -> int:
        """Bytes."""
        return self.stats.size

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return self.stats.rows

    @property
    def data_file(self) -> DataFile:
        """What the table says of it once it is committed."""
        return parse_path(self.path, self.size, self.stats.minimum, self.stats.maximum)

    def action(self, *, data_change: bool) -> AddAction:
        """The log's entry for it."""
        values = partition_values(self.partition)
        return AddAction(self.path, self.size, values, _now_ms(), data_change, self.stats.delta_json())


@contextmanager
def commit_lock(root: Root, spec: TableSpec) -> Iterator[None]:
    """Hold the table's commit lock, waiting for it.

    Raises:
        BusyError: another process held it for a whole minute.
    """
    with exclusive_in_turn(root.locks / f"table-{spec.name}.lock", f"committing to table {spec.name}"):
        yield


def create_table(path: Path, spec: TableSpec) -> None:
    """Write the first commit of a table, durably. Only under the commit lock."""
    make_dirs(delta_log.log_folder(path))
    with delta_errors(f"creating {path}"):
        DeltaTable.create(
            path,
            DeltaSchema.from_arrow(spec.delta_schema),
            partition_by=list(spec.partition_columns),
            configuration=_CONFIGURATION,
        )
    reach("delta:after_create")
    delta_log.make_durable(delta_log.log_folder(path), 0, 0)


class DeltaHandle:
    """The log of one table as this process last saw it, and the way to add to it."""

    def __init__(self, root: Root, spec: TableSpec) -> None:
        self._root = root
        self._spec = spec
        self._path = root.table(spec.name)
        self._log = delta_log.log_folder(self._path)
        self._listing: tuple[int, pa.Table] | None = None
        self.pinned = False
        """Whether later commits are passed over."""
        self.reload()

    def reload(self) -> None:
        """Read the log anew.

        Raises:
            SchemaDriftError: the table has other columns than the contract.
            CorruptionError: the log cannot be read.
        """
        with delta_errors(f"opening {self._path}"):
            delta = DeltaTable(self._path)
            found, wanted = delta.schema(), DeltaSchema.from_arrow(self._spec.delta_schema)
        if found != wanted:
            raise SchemaDriftError(f"{self._path} has other columns than the contract of {self._spec.name}")
        self._delta = delta
        self._loaded_version = delta.version()

    def refresh(self) -> None:
        """See what other processes committed."""
        if self.pinned or not self._is_behind():
            return
        if self._delta.version() - self._loaded_version >= COMMITS_PER_REOPEN:
            self.reload()
            return
        with delta_errors(f"reading the log of {self._path}"):
            self._delta.update_incremental()

    def _is_behind(self) -> bool:
        """Whether there may be commits not seen yet.

        Asked of the folder, because the library spends milliseconds on it, the more the longer the log, and
        every append asks three times. Versions have no holes; only the clean-up of old ones removes the next
        version's file, and then a checkpoint beyond it exists.
        """
        version = self._delta.version()
        return (
            delta_log.commit_path(self._log, version + 1).exists()
            or delta_log.last_checkpoint(self._log) > version
        )

    @property
    def version(self) -> int:
        """Version of the newest commit seen."""
        return int(self._delta.version())

    def transaction_version(self, app: str) -> int | None:
        """The newest version that `app` has committed; None where it never did."""
        with delta_errors(f"reading the log of {self._path}"):
            found = self._delta.transaction_version(app)
        return None if found is None else int(found)

    def listing(self) -> pa.Table:
        """Active files: `path`, `size_bytes`, `num_records`, `partition.*`, `min.*`, `max.*`."""
        if self._listing is None or self._listing[0] != self.version:
            with delta_errors(f"reading the log of {self._path}"):
                self._listing = (self.version, pa.table(self._delta.get_add_actions(flatten=True)))
        return self._listing[1]

    def active_paths(self) -> set[str]:
        """Paths of the active files, relative to the table's folder."""
        return {str(path) for path in self.listing()["path"].to_pylist()}

    def require_active(self, paths: Sequence[str]) -> None:
        """Raise CommitFailedError where one of `paths` is not in the table."""
        missing = set(paths) - self.active_paths()
        if missing:
            what = f"{self._path / min(missing)} is no longer active"
            raise CommitFailedError(f"{what}: another writer replaced it; look at the files again")

    def commit(
        self,
        actions: Callable[[], Sequence[Action] | None],
        landed: Callable[[], bool],
        files: Sequence[StagedFile],
        transactions: Sequence[Transaction],
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        """Commit what `actions` gives; it is asked again after each conflict. False: it gave None.

        `landed` says, of the log just read, whether this commit is in it. After an error that leaves the
        commit certainly out of the log, `files` are deleted.
        """
        try:
            with commit_lock(self._root, self._spec):
                for _ in range(CONFLICT_RETRIES):
                    self.refresh()
                    todo = actions()
                    if todo is None:
                        return False
                    self._require_on_disk(files)
                    reach("delta:before_commit")
                    if self._try_commit(todo, landed, transactions, metadata):
                        return True
                raise CommitFailedError(f"{self._path}: other writers were faster {CONFLICT_RETRIES} times")
        except CommitUnknownError:
            raise  # the files may be in the table
        except LakeError:
            self.discard(files)
            raise

    def discard(self, files: Sequence[StagedFile]) -> None:
        """Delete files of a commit that did not land, except what the table holds under the same name."""
        try:
            with commit_lock(self._root, self._spec):
                self.reload()
                active = self.active_paths()
                for file in files:
                    if file.path not in active:
                        (self._path / file.path).unlink(missing_ok=True)
        except LakeError as error:  # the first error matters more; `tidy` will find these files
            _logger.warning("files of a failed commit to %s stay until tidied: %s", self._path, error)

    def _try_commit(
        self,
        actions: Sequence[Action],
        landed: Callable[[], bool],
        transactions: Sequence[Transaction],
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        """One attempt; False after a conflict that may not repeat itself."""
        before = self.version
        count = len(actions) + len(transactions)
        said = {delta_log.METADATA_KEY: {**(metadata or {}), delta_log.ACTIONS_KEY: count}}
        failure: LakeError | None = None
        try:
            with delta_errors(f"committing to {self._path}"):
                self._send(list(actions), CommitProperties(said, 0, list(transactions) or None))
        except LakeError as error:
            failure = error
        reach("delta:after_commit")
        if failure is not None and not self._look_whether(landed, failure):
            if isinstance(failure, CommitConflictError):
                return False
            raise CommitFailedError(str(failure)) if isinstance(failure, CorruptionError) else failure
        self.refresh()
        delta_log.make_durable(self._log, before + 1, self.version)
        reach("delta:after_fsync")
        self._checkpoint_if_due()
        return True

    def _send(self, actions: list[Action], properties: CommitProperties) -> None:
        self._delta.create_write_transaction(
            actions,
            "append",
            self._delta.schema(),
            list(self._spec.partition_columns),
            commit_properties=properties,
            post_commithook_properties=_NO_HOOKS,
        )

    def _look_whether(self, landed: Callable[[], bool], failure: LakeError) -> bool:
        """After a commit that did not return success: did it land all the same?"""
        try:
            self.reload()
            return landed()
        except LakeError as error:
            what = f"{self._path}: the commit may have landed ({failure})"
            raise CommitUnknownError(f"{what} and the table cannot be read ({error})") from failure

    def _require_on_disk(self, files: Sequence[StagedFile]) -> None:
        for file in files:
            path = self._path / file.path
            if not path.exists() or path.stat().st_size != file.size:
                raise CommitFailedError(f"{path} was changed before it was committed; try again")

    def _checkpoint_if_due(self) -> None:
        if self.version - delta_log.last_checkpoint(self._log) < COMMITS_PER_CHECKPOINT:
            return
        try:
            with delta_errors(f"writing a checkpoint of {self._path}"):
                self._delta.create_checkpoint()
                reach("delta:after_checkpoint")
                delta_log.make_checkpoint_durable(self._log, self.version)
        except LakeError as error:  # the commit has landed; a missing checkpoint only makes opening slower
            _logger.warning("%s", error)


def partition_values(partition: Partition | None) -> dict[str, str | None]:
    """The partition's values as the log has them."""
    return {"date": partition.date.isoformat(), "family": partition.family} if partition else {}


def remove_action(file: DataFile, *, data_change: bool) -> RemoveAction:
    """The log's entry for a file that leaves the table."""
    return RemoveAction(file.path, data_change, _now_ms(), file.size, partition_values(file.partition))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
