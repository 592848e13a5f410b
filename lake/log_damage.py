"""What is wrong with a table's log, its head, and the files that the log speaks of.

This is the part of `lake verify` that opens no data file. A writer may be at work meanwhile, and the lake may be a copy
that nothing can be written to. So no lock is taken: what is there is looked at before and after, and once more
where it has moved.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, TypeAlias

import pyarrow.parquet as pq

from lake.commit_file import Commit, damage, decode, sha256
from lake.datafile import is_data_path
from lake.delta_log import (
    LAST_CHECKPOINT,
    checkpoint_damage,
    checkpoint_path,
    checkpoint_versions,
    commit_path,
    commit_versions,
    is_staging,
    log_folder,
)
from lake.errors import CorruptionError
from lake.heads import Head, at_other_version, decode_head, head_path
from lake.manifests.chain import HEAD_NAME
from lake.root import Root
from lake.swap import PENDING, SWAP, UPKEEP, whole
from lake.tidying import files_below

ATTEMPTS: Final = 20
PAUSE_SECONDS: Final = 0.05
_TEMPORARY: Final = re.compile(r"\..*\.tmp")
_IN_STAGING: Final = re.compile(rf"{re.escape(PENDING)}(\.copy)?|\.exchange\.\d+(/.*)?|{SWAP}(-\d+)?(/.*)?")
_Label: TypeAlias = tuple[int, tuple[tuple[str, Any], ...]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What there is at one moment."""

    head: bytes | None
    pending: bytes | None
    log: frozenset[str]
    hint: str | None
    files: frozenset[str]


@dataclass(slots=True)
class _State:
    """What a table holds at a version: its files with size and partition, and how far each stream is."""

    files: dict[str, _Label] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)

    def apply(self, commit: Commit) -> None:
        for add in commit.of("add"):
            self.files[add["path"]] = _label(add)
        for remove in commit.of("remove"):
            self.files.pop(remove["path"], None)
        self.reached |= {txn["appId"]: txn["version"] for txn in commit.of("txn")}


def log_damage(root: Root, table: str) -> list[str]:
    """What is wrong with the log and the head of `table`, in words; reads all of the log, changes nothing."""
    found: list[str] = []
    known: dict[int, bytes] = {}
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        try:
            before = _look(root, table)
            found = list(_problems(root, table, before, known))
            if not found or _look(root, table) == before:
                return found
        except FileNotFoundError:  # a writer cleaned up meanwhile
            found = found or [f"tables/{table}: files of its log vanish while they are read"]
    return found


def stray_files(root: Root, tables: Mapping[str, Any]) -> list[str]:
    """Files in `heads/` and `staging/` that no writer of this project leaves there, whenever it is killed."""
    found = []
    for path in files_below(root.heads):
        name = path.relative_to(root.heads)
        ours = name.stem in tables or name.name == HEAD_NAME or _TEMPORARY.fullmatch(name.name)
        if name.parent != Path() or not ours:
            found.append(f"heads/{name}: is no head of a table")
    for path in files_below(root.staging):
        table, *rest = path.relative_to(root.staging).parts
        within = "/".join(rest)
        ours = is_data_path(within) or _IN_STAGING.fullmatch(within) or _TEMPORARY.fullmatch(path.name)
        if table not in tables or not ours:
            found.append(f"staging/{path.relative_to(root.staging)}: is nothing that a writer leaves there")
    return sorted(found)


def _look(root: Root, table: str) -> _Seen:
    live = root.table(table)
    log = log_folder(live)
    hint = _bytes(log / LAST_CHECKPOINT)
    return _Seen(
        head=_bytes(head_path(root, table)),
        pending=_bytes(root.staging / table / PENDING),
        log=frozenset(path.name for path in log.iterdir()),
        hint=None if hint is None else hint.decode(errors="replace"),
        files=frozenset(
            path.relative_to(live).as_posix() for path in files_below(live) if log not in path.parents
        ),
    )


def _problems(root: Root, table: str, seen: _Seen, known: dict[int, bytes]) -> Iterator[str]:
    log = log_folder(root.table(table))
    versions, checkpoints = commit_versions(log), checkpoint_versions(log)
    for version in versions:
        if version not in known:
            known[version] = commit_path(log, version).read_bytes()
    contents = {version: known[version] for version in versions}
    pending = whole(seen.pending) if seen.pending and seen.pending != UPKEEP else None
    head: Head | None = None
    try:
        head = decode_head(seen.head, table) if seen.head is not None else None
        if head is None and seen.pending is None:
            yield f"heads/{table}.json is missing"
    except CorruptionError as error:
        yield str(error)
    yield from _commits_damage(log, contents)
    newest = max([*versions[-1:], *checkpoints[-1:]], default=-1)
    if head is not None:
        yield from _against_head(log, head, contents, newest, pending)
        if seen.pending != UPKEEP:
            yield from _checkpoints_against_head(log, head, checkpoints, seen.hint)
    for name in sorted(seen.log):
        path = log / name
        if not (_is_known(path) or is_staging(path)):
            yield f"{path}: is no file of a log"
    first = head.first if head is not None else min(versions, default=0)
    holes = list(_holes(versions, first, newest))
    if holes:
        yield f"{log}: {', '.join(holes)} missing"
        return
    try:
        state = yield from _replayed(log, contents, checkpoints)
    except (ValueError, KeyError, TypeError):
        return  # a damaged commit, told above
    moving = {*pending.added, *pending.removed} if pending else set()
    for name in sorted(seen.files - set(state.files) - moving):
        yield f"tables/{table}/{name}: is no file of the table's log: a copy, or of another state of the table"


def _commits_damage(log: Path, contents: Mapping[int, bytes]) -> Iterator[str]:
    """Commits that are not as they were written, each for itself and as a chain."""
    for version, content in contents.items():
        path = commit_path(log, version)
        if reason := damage(content, version):
            yield f"{path}: {reason}"
            continue
        before = contents.get(version - 1)
        previous = decode(content).entry.get("previous")
        if before is not None and previous != sha256(before):
            yield f"{path}: the commit before it, {version - 1}, is not the one that it was written after"


def _against_head(
    log: Path, head: Head, contents: Mapping[int, bytes], newest: int, pending: Commit | None
) -> Iterator[str]:
    explained = pending is not None and pending.version == newest == head.version + 1
    if newest != head.version and not explained:
        yield at_other_version(head.table, newest, head.version)
    if head.version in contents and sha256(contents[head.version]) != head.sha256:
        yield f"{commit_path(log, head.version)}: altered commit: its head knows other bytes"


def _checkpoints_against_head(
    log: Path, head: Head, checkpoints: list[int], hint: str | None
) -> Iterator[str]:
    for version in sorted({*checkpoints, *head.checkpoints}):
        path = checkpoint_path(log, version)
        if version not in head.checkpoints:
            if version >= head.first:
                yield f"{path}: a checkpoint that its head does not know"
        elif version not in checkpoints:
            yield f"{path}: is missing"
        elif sha256(path.read_bytes()) != head.checkpoints[version]:
            yield f"{path}: altered checkpoint: its head knows other bytes"
    if hint != head.last_checkpoint:
        yield f"{log / LAST_CHECKPOINT}: is not as its head knows it"


def _replayed(
    log: Path, contents: Mapping[int, bytes], checkpoints: list[int]
) -> Generator[str, None, _State]:
    """The table after its newest commit; on the way, each checkpoint is held against what the commits give."""
    usable = []
    for version in checkpoints:
        if reason := checkpoint_damage(checkpoint_path(log, version)):
            yield f"{checkpoint_path(log, version)}: {reason}"
        else:
            usable.append(version)
    state = _State()
    if contents and min(contents) > 0:
        start = next((version for version in usable if version >= min(contents) - 1), None)
        if start is None:
            yield f"{log}: the commits begin with {min(contents)}, and no checkpoint says what was before"
            return state
        state = _at_checkpoint(checkpoint_path(log, start))
        contents = {version: content for version, content in contents.items() if version > start}
    for version, content in contents.items():
        state.apply(decode(content))
        if version in usable and state != _at_checkpoint(checkpoint_path(log, version)):
            yield f"{checkpoint_path(log, version)}: says otherwise than the commits up to it"
    return state


def _at_checkpoint(path: Path) -> _State:
    actions = pq.read_table(path, columns=["add", "txn"], partitioning=None).to_pylist()
    adds = [action["add"] for action in actions if action["add"] and action["add"]["path"] is not None]
    txns = [action["txn"] for action in actions if action["txn"] and action["txn"]["appId"] is not None]
    return _State({add["path"]: _label(add) for add in adds}, {txn["appId"]: txn["version"] for txn in txns})


def _is_known(path: Path) -> bool:
    return (
        path.name == LAST_CHECKPOINT
        or re.fullmatch(r"\d{20}(\.checkpoint\.parquet|\.json)", path.name) is not None
    )


def _holes(versions: list[int], first: int, newest: int) -> Iterator[str]:
    """What is missing between the commits `first` and `newest`, in words; a made-up name may lie any distance ahead."""
    for before, after in pairwise([first - 1, *(v for v in versions if first <= v <= newest), newest + 1]):
        if after - before == 2:
            yield f"commit {before + 1} is"
        elif after - before > 2:
            yield f"commits {before + 1} to {after - 1} are"


def _label(add: Mapping[str, Any]) -> _Label:
    return add["size"], tuple(sorted(dict(add["partitionValues"]).items()))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
