"""One commit to a Delta table: under a lock, durable when it returns, its outcome never guessed.

The commit lock is held for the few ms of a commit. It makes true that

- a stream's transaction version is looked at and advanced in one step;
- a file is replaced once (two writers removing the same file would double its rows);
- commit n is durable before commit n+1 exists, so a power cut can only ever cost the newest.

How the files and the commit get into their places is told in `lake.swap`, what a commit says in `lake.commit_file`.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from lake import commit_file, delta_log
from lake.commit_file import Action, Commit, now_ms
from lake.crashpoints import reach
from lake.datafile import DataFile, Partition, parse_path
from lake.delta_errors import delta_errors
from lake.delta_view import DeltaView, first_actions
from lake.durable import disk_full_told, make_dirs
from lake.errors import BusyError, CommitFailedError, CommitUnknownError, CorruptionError, LakeError
from lake.heads import previous_hash, renew_head
from lake.leases import InUseError, no_readers
from lake.locks import exclusive
from lake.parquet import FileStats
from lake.root import Root
from lake.schema import TableSpec
from lake.swap import PENDING, UPKEEP, Swap
from lake.tidying import retire_unnamed

COMMITS_PER_CHECKPOINT: Final = 50
LOCK_WAIT_SECONDS: Final = 60.0
LOCK_POLL_SECONDS: Final = 0.002
READERS_WAIT_SECONDS: Final = 60.0
READERS_POLL_SECONDS: Final = 0.02
CONFLICT_RETRIES: Final = 20
GRACE: Final = dt.timedelta(hours=24)
"""So long a replaced file stays on disk, and checkpoints speak of it: every commit and every opening reads them."""
_CONFIGURATION: Final = {
    "delta.enableExpiredLogCleanup": "false",  # `Table.tidy` does it
    "delta.deletedFileRetentionDuration": f"interval {GRACE // dt.timedelta(hours=1)} hours",
}

_logger = logging.getLogger(__name__)


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

    def action(self, *, data_change: bool) -> Action:
        """The log's entry for it."""
        return {
            "add": {
                "path": self.path,
                "partitionValues": partition_values(self.partition),
                "size": self.size,
                "modificationTime": now_ms(),
                "dataChange": data_change,
                "stats": self.stats.delta_json(),
            }
        }


@contextmanager
def commit_lock(root: Root, spec: TableSpec) -> Iterator[None]:
    """Hold the table's commit lock, waiting for it.

    Raises:
        BusyError: another process held it for a whole minute.
    """
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    path = root.locks / f"table-{spec.name}.lock"
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(path, f"committing to table {spec.name}"))
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOCK_POLL_SECONDS)
        yield


def ready_to_write(root: Root, spec: TableSpec) -> list[delta_log.Repair]:
    """Make the table where it is missing, and its log, files and head agree where a crash or a power cut left them
    apart; says what was moved to the quarantine."""
    folder = root.table(spec.name)
    with commit_lock(root, spec), disk_full_told(f"opening {folder}"):
        repairs = delta_log.repair_log(folder, root.quarantine / "delta")
        swap = Swap(root, spec.name)
        if settled := swap.settle(lambda: DeltaView(root, spec).active_paths()):
            _logger.info("table %s: what a crash had cut short is settled: %s", spec.name, settled)
        if not delta_log.exists(folder):
            _create(swap, spec)
        if repairs:  # what a torn commit had added stays behind
            retire_unnamed(root, spec.name, DeltaView(root, spec).active_paths(), math.inf)
        renew_head(root, spec.name)
    return repairs


def settle_quietly(root: Root, spec: TableSpec) -> None:
    """Complete or take back what a crash cut short, where anything is pending and nobody is writing just now.

    Whoever looks at a table first after a crash does it, so that no reader finds a commit half carried out.
    """
    if not (root.staging / spec.name / PENDING).exists():
        return
    try:
        with exclusive(root.locks / f"table-{spec.name}.lock", f"committing to table {spec.name}"):
            Swap(root, spec.name).settle(lambda: DeltaView(root, spec).active_paths())
    except BusyError:
        return  # a writer is at work
    except (OSError, CorruptionError) as error:  # a lake that is only to be read, or whose note is rotten
        _logger.info("table %s: what is pending stays so: %s", spec.name, error)


def _create(swap: Swap, spec: TableSpec) -> None:
    make_dirs(delta_log.log_folder(swap.live))
    actions = first_actions(spec, _CONFIGURATION, str(uuid.uuid4()))
    commit = commit_file.encode(0, None, actions, None, operation="CREATE TABLE")
    with delta_errors(f"creating {swap.live}"):
        swap.begin(commit.content)
        published = swap.publish(0)
    reach("delta:after_create")
    if not published:
        swap.end()
        raise CommitFailedError(f"creating {swap.live}: another program made it; try again")
    swap.finish(0, commit)


class Committer:
    """Adds commits to the table that `view` shows."""

    def __init__(self, root: Root, spec: TableSpec, view: DeltaView) -> None:
        self._root = root
        self._spec = spec
        self._view = view
        self._swap = Swap(root, spec.name)

    def commit(
        self,
        actions: Callable[[], Sequence[Action] | None],
        files: Sequence[StagedFile],
        metadata: Mapping[str, Any] | None,
        *,
        readers_wait_s: float = 0.0,
    ) -> bool:
        """Commit what `actions` gives; it is asked again after each conflict. False: it gave None.

        Where it replaces files, readers are waited for up to `readers_wait_s`. After an error that leaves the
        commit certainly out of the log, `files` are deleted.
        """
        deadline = time.monotonic() + readers_wait_s
        try:
            while True:
                try:
                    with commit_lock(self._root, self._spec):
                        return self._commit(actions, files, metadata)
                except InUseError:
                    if time.monotonic() > deadline:
                        raise
                time.sleep(READERS_POLL_SECONDS)
        except CommitUnknownError:
            raise  # the files may be in the table
        except LakeError:
            self.discard(files)
            raise

    def _commit(
        self,
        actions: Callable[[], Sequence[Action] | None],
        files: Sequence[StagedFile],
        metadata: Mapping[str, Any] | None,
    ) -> bool:
        for _ in range(CONFLICT_RETRIES):
            with _as_failure(f"committing to {self._view.folder}"):
                self._swap.settle(lambda: self._current().active_paths())
            self._view.refresh()
            todo = actions()
            if todo is None:
                return False
            self._require_on_disk(files)
            reach("delta:before_commit")
            with ExitStack() as stack:
                if any("remove" in action for action in todo):
                    stack.enter_context(no_readers(self._root, self._spec.name))
                if not self._try_commit(todo, metadata):
                    continue
            self._view.refresh()
            self._checkpoint_if_due()
            return True
        raise CommitFailedError(f"{self._view.folder}: other writers were faster {CONFLICT_RETRIES} times")

    def _current(self) -> DeltaView:
        self._view.refresh()
        return self._view

    def _try_commit(self, actions: Sequence[Action], metadata: Mapping[str, Any] | None) -> bool:
        """One attempt; False after a conflict that may not repeat itself."""
        version = self._view.version + 1
        doing = f"committing to {self._view.folder}"
        with _as_failure(doing):
            previous = previous_hash(self._root, self._spec.name, version)
            parameters = {"mode": "Append", "partitionBy": json.dumps(list(self._spec.partition_columns))}
            commit = commit_file.encode(version, previous, actions, metadata, parameters=parameters)
            self._swap.begin(commit.content)
        failure: LakeError | None = None
        published = False
        try:
            with _as_failure(doing):
                self._swap.bring_in(commit)
                reach("delta:before_publish")
                published = self._swap.publish(version)
        except LakeError as error:
            failure = error
            published = self._look_whether(version, error)
        reach("delta:after_commit")
        if published:
            self._finish(version, commit)
            return True
        with _as_failure(doing):
            self._swap.undo(commit, self._current().active_paths)
        if failure is not None:
            raise failure
        return False

    def _look_whether(self, version: int, failure: LakeError) -> bool:
        """After a commit that did not return success: did it land all the same?"""
        try:
            return self._swap.published(version)
        except OSError as error:
            what = f"{self._view.folder}: the commit may have landed ({failure})"
            raise CommitUnknownError(f"{what} and the table cannot be read ({error})") from failure

    def _finish(self, version: int, commit: Commit) -> None:
        try:
            self._swap.finish(version, commit)
        except OSError as error:  # it has landed; whoever writes next completes what is pending
            what = f"{self._view.folder}: commit {version} has landed, and could not be completed: {error}"
            raise CommitUnknownError(what) from error

    def discard(self, files: Sequence[StagedFile]) -> None:
        """Delete files of a commit that did not land."""
        try:
            with commit_lock(self._root, self._spec), _as_failure(f"discarding files of {self._view.folder}"):
                if not self._swap.pending.exists():
                    for file in files:
                        (self._swap.staging / file.path).unlink(missing_ok=True)
        except LakeError as error:  # the first error matters more; `tidy` will find these files
            _logger.warning("files of a failed commit to %s stay until tidied: %s", self._view.folder, error)

    def _require_on_disk(self, files: Sequence[StagedFile]) -> None:
        for file in files:
            path = self._swap.staging / file.path
            if not path.exists() or path.stat().st_size != file.size:
                raise CommitFailedError(f"{path} was changed before it was committed; try again")

    def _checkpoint_if_due(self) -> None:
        log = self._view.log
        if self._view.version - delta_log.last_checkpoint(log) < COMMITS_PER_CHECKPOINT:
            return
        try:
            with self.upkeep():
                version = self._view.write_checkpoint()
                reach("delta:after_checkpoint")
                delta_log.make_checkpoint_durable(log, version)
        except LakeError as error:  # the commit has landed; a missing checkpoint only makes opening slower
            _logger.warning("%s", error)

    @contextmanager
    def upkeep(self) -> Iterator[None]:
        """Change files of the log other than commits inside the block; then the head is written anew."""
        with delta_errors(f"tending the log of {self._view.folder}"):
            self._swap.settle(lambda: self._current().active_paths())
            self._swap.begin(UPKEEP)
            try:
                yield
            finally:
                self._swap.settle(lambda: self._current().active_paths())


@contextmanager
def _as_failure(doing: str) -> Iterator[None]:
    """What goes wrong before a commit is published leaves it out of the log: it may be tried again."""
    try:
        with disk_full_told(doing):
            yield
    except OSError as error:
        raise CommitFailedError(f"{doing}: {error}") from error


def partition_values(partition: Partition | None) -> dict[str, str | None]:
    """The partition's values as the log has them."""
    return {"date": partition.date.isoformat(), "family": partition.family} if partition else {}


def transaction(app: str, version: int) -> Action:
    """The log's entry for how far an application has got."""
    return {"txn": {"appId": app, "version": version}}


def remove_action(file: DataFile, *, data_change: bool) -> Action:
    """The log's entry for a file that leaves the table."""
    return {
        "remove": {
            "path": file.path,
            "dataChange": data_change,
            "deletionTimestamp": now_ms(),
            "extendedFileMetadata": True,
            "partitionValues": partition_values(file.partition),
            "size": file.size,
        }
    }
