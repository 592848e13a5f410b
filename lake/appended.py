"""What the commits of a table say of a stream: the second witness beside `coverage`.

Whatever brings rows of a stream into a table describes, in the same commit, the whole run of records that they come
from, just as `coverage` will once all tables have their rows. So coverage that is lost, or older than the tables,
can be made again from the logs of the tables, and what a table lacks can be told from what another one knows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import delta_log
from lake.commit_file import METADATA_KEY
from lake.datafile import parse_path
from lake.delta import Table
from lake.delta_errors import delta_errors

RUN_KEY: Final = "run"
"""Under which a commit's own words hold the run of records."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of records as ingest described it. `counts` are those of `coverage`, without the zeros."""

    first_offset: int
    end_offset: int
    start_ns: int
    end_ns: int
    counts: Mapping[str, int]

    def as_words(self) -> dict[str, Any]:
        """What goes into a commit."""
        return {
            "offsets": [self.first_offset, self.end_offset],
            "received_ns": [self.start_ns, self.end_ns],
            "counts": {name: count for name, count in self.counts.items() if count},
        }

    @staticmethod
    def from_words(words: Mapping[str, Any]) -> Run:
        """The inverse of `as_words`."""
        (first, end), (start_ns, end_ns) = words["offsets"], words["received_ns"]
        return Run(first, end, start_ns, end_ns, words["counts"])


@dataclass(frozen=True, slots=True)
class Appended:
    """One commit that brought rows of a stream: `offset` is how far the table then was."""

    offset: int
    rows: int
    run: Run | None
    """None in commits of other origin."""


@dataclass(frozen=True, slots=True)
class History:
    """What a table's log still says of a stream, newest first. `whole`: no commit in question has expired."""

    commits: tuple[Appended, ...]
    whole: bool

    def rows(self, above: int, upto: int) -> int:
        """Rows of commits with offsets in (above, upto]."""
        return sum(commit.rows for commit in self.commits if above < commit.offset <= upto)


def history(table: Table, stream: str, above: int) -> History:
    """The commits by which `table` got further than offset `above` of `stream`."""
    log = delta_log.log_folder(table.folder)
    found: list[Appended] = []
    reached = table.committed(stream) or 0
    versions = delta_log.commit_versions(log)
    for version in reversed(versions):
        if reached <= above:
            return History(tuple(found), whole=True)
        commit = _commit_of(delta_log.commit_path(log, version).read_bytes(), stream)
        if commit is None:
            continue
        reached = commit.offset
        if reached > above:
            found.append(commit)
    return History(tuple(found), whole=reached <= above or (bool(versions) and versions[0] == 0))


def streams(table: Table) -> set[str]:
    """Ids of all streams that have brought rows into `table`."""
    log = delta_log.log_folder(table.folder)
    checkpoints = delta_log.checkpoint_versions(log)
    found: set[str] = set()
    if checkpoints:
        path = delta_log.checkpoint_path(log, checkpoints[-1])
        with delta_errors(f"reading {path}"):
            apps = pc.struct_field(pq.read_table(path, columns=["txn"], partitioning=None)["txn"], "appId")
        found |= {str(app) for app in pc.unique(apps.cast(pa.string())).to_pylist() if app}
    since = checkpoints[-1] if checkpoints else -1
    for version in delta_log.commit_versions(log):
        if version > since:
            found.update(_apps(delta_log.commit_path(log, version).read_bytes()))
    return {app for app in found if "@" in app and "/" not in app}


def _actions(content: bytes) -> Iterator[Mapping[str, Any]]:
    yield from (json.loads(line) for line in content.splitlines())


def _apps(content: bytes) -> Iterator[str]:
    yield from (str(action["txn"]["appId"]) for action in _actions(content) if "txn" in action)


def _commit_of(content: bytes, stream: str) -> Appended | None:
    """What a commit says of `stream`; None where it is about something else."""
    if stream.encode() not in content:
        return None
    offset: int | None = None
    rows = 0
    run: Run | None = None
    for action in _actions(content):
        if "txn" in action and action["txn"]["appId"] == stream:
            offset = int(action["txn"]["version"])
        elif "add" in action or "remove" in action:
            # A row that takes the place of another comes in a file that replaces one.
            file = parse_path((action.get("add") or action["remove"])["path"])
            rows += (file.rows + file.dropped) * (1 if "add" in action else -1)
        elif "commitInfo" in action:
            words = action["commitInfo"].get(METADATA_KEY, {})
            run = Run.from_words(words[RUN_KEY]) if RUN_KEY in words else None
    return None if offset is None else Appended(offset, rows, run)
