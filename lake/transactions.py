"""What the commits of a table say of the streams whose rows they brought: how far each has got, and with how many rows.

The Delta library answers for one application at a time, and never which there are. So the log is read here: the
newest checkpoint up to a version, and the commits after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from lake.datafile import parse_path
from lake.delta_errors import delta_errors
from lake.delta_log import checkpoint_versions, commit_path, commit_versions, log_folder

STREAM_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]*@[0-9a-f]+")
APPLICATION: Final = re.compile(rf"{STREAM_ID.pattern}(/restored|/lost/[a-z_]+)?")
"""A stream, or what puts a loss of it on record after a restore."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: up to which offset of which streams, and the rows of the files that it added."""

    streams: dict[str, int] = field(default_factory=dict)
    rows: int = 0


def stream_ends(table: Path, version: int) -> dict[str, int]:
    """Up to which offset the table in folder `table` has got with each stream, as of `version`.

    Raises:
        CorruptionError: the log cannot be read.
    """
    log = log_folder(table)
    ends: dict[str, int] = {}
    with delta_errors(f"reading the log of {table}"):
        covered = [at for at in checkpoint_versions(log) if at <= version]
        if covered:
            ends.update(_in_checkpoint(log / f"{covered[-1]:020d}.checkpoint.parquet"))
        first = covered[-1] + 1 if covered else 0
        for at in range(first, version + 1):
            ends.update(_commit(commit_path(log, at)).streams)
    return ends


def rows_beyond(table: Path, version: int, reached: dict[str, int], end: Callable[[str], int]) -> int:
    """Rows that the commits up to `version` brought of records from offset `end(stream)` on.

    `reached` is what `stream_ends` says. Rewriting conserves rows and dropped duplicates, so this may be taken from
    their sum whatever was rewritten since. Commits that are no longer there count as nothing.

    Raises:
        CorruptionError: the log cannot be read.
    """
    ahead = {stream for stream, offset in reached.items() if offset > end(stream)}
    rows = 0
    with delta_errors(f"reading the log of {table}"):
        for commit in _backwards(log_folder(table), version):
            if not ahead:
                break
            beyond = {stream for stream, offset in commit.streams.items() if offset > end(stream)}
            rows += commit.rows if beyond else 0
            ahead -= commit.streams.keys() - beyond
    return rows


def _backwards(log: Path, version: int) -> Iterator[Commit]:
    for at in reversed(commit_versions(log)):
        if at <= version:
            yield _commit(commit_path(log, at))


def _commit(path: Path) -> Commit:
    actions: list[dict[str, Any]] = [json.loads(line) for line in path.read_bytes().splitlines()]
    streams = {action["txn"]["appId"]: int(action["txn"]["version"]) for action in actions if "txn" in action}
    rows = sum(parse_path(action["add"]["path"]).rows for action in actions if "add" in action)
    return Commit({name: end for name, end in streams.items() if APPLICATION.fullmatch(name)}, rows)


def _in_checkpoint(path: Path) -> dict[str, int]:
    found = pq.read_table(path, columns=["txn"], partitioning=None)["txn"].to_pylist()
    named = [(entry["appId"], entry["version"]) for entry in found if entry]
    return {name: int(end) for name, end in named if name is not None and APPLICATION.fullmatch(name)}
