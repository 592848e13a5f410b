"""The `_delta_log` folder of one table: durability, checkpoints, repair of its tail, clean-up.

Every writer of ours holds the table's commit lock from before its commit until that commit is durable. So a power cut
can at most tear the newest commit, and only the newest may be repaired; damage further back is corruption and is never
touched. The library that writes checkpoints does not fsync: that is done here.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from lake.commit_file import torn
from lake.durable import fsync_dir, fsync_file, make_dirs
from lake.errors import CorruptionError

LAST_CHECKPOINT: Final = "_last_checkpoint"
CHECKPOINTS_KEPT: Final = 2  # the newest might prove unreadable; the one before must then do
_COMMIT: Final = re.compile(r"(\d{20})\.json")
_CHECKPOINT: Final = re.compile(r"(\d{20})\.checkpoint\.parquet")


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


def checkpoint_path(log: Path, version: int) -> Path:
    """The checkpoint file of `version`."""
    return log / f"{version:020d}.checkpoint.parquet"


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


def last_checkpoint(log: Path) -> int:
    """Version of the newest checkpoint by its hint file; -1 where there is none or it is unreadable."""
    try:
        return hinted_version((log / LAST_CHECKPOINT).read_bytes())
    except FileNotFoundError:
        return -1


def hinted_version(hint: bytes) -> int:
    """The version that the bytes of a hint file name; -1 where they are unreadable."""
    try:
        return int(json.loads(hint)["version"])
    except (ValueError, KeyError, TypeError):
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
    if commits and (reason := torn(commit_path(log, commits[-1]).read_bytes(), commits[-1])):
        repairs.append(_move(commit_path(log, commits.pop()), quarantine, reason))
    _check_chain(log, commits, checkpoint_versions(log))
    return repairs


def checkpoint_damage(path: Path) -> str | None:
    """Why the checkpoint at `path` cannot be used; None where it can."""
    try:
        pq.read_table(path, columns=["add.path", "txn.appId"], partitioning=None)
    except (pa.ArrowException, OSError) as error:
        return f"unreadable checkpoint ({type(error).__name__})"
    return None


def expire_log(log: Path, older_than: float) -> list[Path]:
    """Delete commits and checkpoints that neither of the newest two checkpoints needs and that were last
    written before `older_than` (s since epoch), oldest first; says which."""
    checkpoints = [v for v in checkpoint_versions(log) if not checkpoint_damage(checkpoint_path(log, v))]
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


def _repair_checkpoints(log: Path, quarantine: Path) -> list[Repair]:
    repairs = []
    hint = log / LAST_CHECKPOINT
    hinted = last_checkpoint(log)
    for version in reversed(checkpoint_versions(log)):
        path = checkpoint_path(log, version)
        reason = checkpoint_damage(path)
        if not reason:
            break
        repairs.append(_move(path, quarantine, reason))
    if hint.exists() and (hinted < 0 or not checkpoint_path(log, hinted).exists()):
        repairs.append(_move(hint, quarantine, "it points to no checkpoint"))
    return repairs


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
    if needed and (needed[0] != start or needed[-1] - start != len(needed) - 1):
        raise CorruptionError(
            f"{log}: commits between {start} and {needed[-1]} are missing; restore the table from backup"
        )
