"""The `_delta_log` folder of one table: durability, checkpoints, repair of its tail, clean-up.

The library that writes commits does not fsync. Every writer of ours therefore holds the table's commit lock
from before its commit until that commit is durable. So a power cut can at most tear the newest commit, and
only the newest may be repaired; damage further back is corruption and is never touched.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lake.durable import fsync_dir, fsync_file, make_dirs
from lake.errors import CorruptionError

METADATA_KEY: Final = "ticklake"  # under which a commit carries what its writer has to say
ACTIONS_KEY: Final = "actions"  # number of add, remove and txn actions, so that a torn commit shows
LAST_CHECKPOINT: Final = "_last_checkpoint"
CHECKPOINTS_KEPT: Final = 2  # the newest might prove unreadable; the one before must then do
_COMMIT: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint\.parquet")
_COUNTED: Final = ("add", "remove", "txn")


@dataclass(frozen=True, slots=True)
class Repair:
    """One file that a power cut left unusable, and where it was moved."""

    file: Path
    moved_to: Path
    reason: str


def log_folder(table: Path) -> Path:
    """The log folder of the table in folder `table`."""
    return table / "_delta_log"


def commit_path(log: Path, version: int) -> Path:
    """The commit file of `version`."""
    return log / f"{version:020d}.json"


def commit_versions(log: Path) -> list[int]:
    """Versions that have a commit file, ascending."""
    return _versions(log, _COMMIT)


def checkpoint_versions(log: Path) -> list[int]:
    """Versions that have a checkpoint file, ascending."""
    return _versions(log, _CHECKPOINT)


def exists(table: Path) -> bool:
    """Whether folder `table` holds a table with at least one commit or checkpoint.

    Raises:
        CorruptionError: it holds data files and no log. A new log would make them debris, to be tidied away.
    """
    log = log_folder(table)
    if log.is_dir() and any(
        _COMMIT.fullmatch(p.name) or _CHECKPOINT.fullmatch(p.name) for p in log.iterdir()
    ):
        return True
    if any(table.rglob("*.parquet")):
        raise CorruptionError(
            f"{table} holds data files, but its _delta_log is gone: restore that from a backup"
        )
    return False


def make_durable(log: Path, first: int, last: int) -> None:
    """Fsync the commits `first`..`last` and the folder's entries."""
    for version in range(first, last + 1):
        fsync_file(commit_path(log, version))
    fsync_dir(log)


def last_checkpoint(log: Path) -> int:
    """Version of the newest checkpoint by its hint file; -1 where there is none or it is unreadable."""
    try:
        return int(json.loads((log / LAST_CHECKPOINT).read_bytes())["version"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return -1


def make_checkpoint_durable(log: Path, version: int) -> None:
    """Fsync the checkpoint of `version`, then the hint that points to it."""
    fsync_file(checkpoint_path(log, version))
    fsync_dir(log)
    fsync_file(log / LAST_CHECKPOINT)


def repair_log(table: Path, quarantine: Path) -> list[Repair]:
    """Move away what a power cut left torn at the end of the log, and say what was moved.

    Only to be called under the table's commit lock. A newest commit that is torn was never acknowledged to
    anybody, so its writer will write it again. A checkpoint is only a shortcut: without it, commits are read.

    Raises:
        CorruptionError: commits are missing that no checkpoint covers.
    """
    log = log_folder(table)
    if not log.is_dir():
        return []
    repairs = _repair_checkpoints(log, quarantine)
    commits = commit_versions(log)
    if commits and (reason := _commit_damage(commit_path(log, commits[-1]))):
        repairs.append(_move(commit_path(log, commits.pop()), quarantine, reason))
    _check_chain(log, commits, checkpoint_versions(log))
    return repairs


def log_damage(table: Path) -> list[str]:
    """What is wrong with the log of the table in folder `table`, file by file; reads all of it, moves nothing."""
    log = log_folder(table)
    checkpoints = checkpoint_versions(log)
    paths = [(commit_path(log, version), _commit_damage) for version in commit_versions(log)]
    paths += [(checkpoint_path(log, version), _checkpoint_damage) for version in checkpoints]
    found = [f"{path}: {reason}" for path, look in paths if path.exists() and (reason := look(path))]
    try:
        _check_chain(log, commit_versions(log), checkpoints)
    except CorruptionError as error:
        found.append(str(error))
    return found


def expire_log(log: Path, older_than: float) -> list[Path]:
    """Delete commits and checkpoints that neither of the newest two checkpoints needs and that were last
    written before `older_than` (s since epoch), oldest first; says which."""
    checkpoints = [v for v in checkpoint_versions(log) if not _checkpoint_damage(checkpoint_path(log, v))]
    if len(checkpoints) < CHECKPOINTS_KEPT:
        return []
    needed_from = checkpoints[-CHECKPOINTS_KEPT]
    candidates = [commit_path(log, v) for v in commit_versions(log) if v < needed_from]
    candidates += [checkpoint_path(log, v) for v in checkpoint_versions(log) if v < needed_from]
    deleted = []
    for path in sorted(candidates):
        if path.stat().st_mtime >= older_than:
            break  # what is left must stay a chain without holes
        path.unlink()
        deleted.append(path)
    if deleted:
        fsync_dir(log)
    return deleted


def is_staging(path: Path) -> bool:
    """Whether a file in the log folder is the unfinished write of a process that died."""
    return "#" in path.name or path.name.startswith(".") or path.suffix == ".tmp"


def _versions(log: Path, pattern: re.Pattern[str]) -> list[int]:
    return sorted(int(found[1]) for p in log.iterdir() if (found := pattern.fullmatch(p.name)))


def checkpoint_path(log: Path, version: int) -> Path:
    """The checkpoint file of `version`."""
    return log / f"{version:020d}.checkpoint.parquet"


def _repair_checkpoints(log: Path, quarantine: Path) -> list[Repair]:
    repairs = []
    hint = log / LAST_CHECKPOINT
    hinted = last_checkpoint(log)
    for version in reversed(checkpoint_versions(log)):
        path = checkpoint_path(log, version)
        reason = _checkpoint_damage(path)
        if not reason:
            break
        repairs.append(_move(path, quarantine, reason))
    if hint.exists() and (hinted < 0 or not checkpoint_path(log, hinted).exists()):
        repairs.append(_move(hint, quarantine, "it points to no checkpoint"))
    return repairs


def _checkpoint_damage(path: Path) -> str | None:
    try:
        pq.read_table(path, columns=["add.path", "txn.appId"])
    except (pa.ArrowException, OSError) as error:
        return f"unreadable checkpoint ({type(error).__name__})"
    return None


def _commit_damage(path: Path) -> str | None:
    """Why the commit in `path` is torn; None if it is whole."""
    lines = path.read_bytes().splitlines()
    try:
        actions: list[dict[str, Any]] = [json.loads(line) for line in lines]
        counts = {kind: sum(kind in action for action in actions) for kind in (*_COUNTED, "metaData")}
        info: dict[str, Any] = next(
            (action["commitInfo"] for action in actions if "commitInfo" in action), {}
        )
        claimed = info.get(METADATA_KEY, {}).get(ACTIONS_KEY)
    except (ValueError, TypeError, AttributeError):
        return "torn commit: not one JSON object per line"
    if not actions:
        return "torn commit: empty"
    if claimed is not None and claimed != sum(counts[kind] for kind in _COUNTED):
        return f"torn commit: {claimed} actions announced, {sum(counts[k] for k in _COUNTED)} there"
    if path.name == commit_path(path.parent, 0).name and not counts["metaData"]:
        return "torn commit: the table's first has no metadata"
    return None


def _move(path: Path, quarantine: Path, reason: str) -> Repair:
    make_dirs(quarantine)
    target = quarantine / f"{path.parent.parent.name}-{path.name}-{time.time_ns()}"
    path.rename(target)
    fsync_dir(quarantine)
    fsync_dir(path.parent)
    return Repair(path, target, reason)


def _check_chain(log: Path, commits: list[int], checkpoints: list[int]) -> None:
    start = checkpoints[-1] + 1 if checkpoints else 0
    needed = [v for v in commits if v >= start]
    if needed and needed != list(range(start, needed[-1] + 1)):
        raise CorruptionError(
            f"{log}: commits between {start} and {needed[-1]} are missing; restore the table from backup"
        )
