"""All tables as of one moment, although collector, ingester and compaction go on beside.

`coverage` is pinned first. Ingest commits it last, so every table pinned after it holds all that it counts, and
perhaps more: the rows of commits that `coverage` has not closed yet. Those are told by the transaction that each
commit carries, and left out of the account. So nothing has to be waited for, whatever the load.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from functools import partial

from lake import delta_log
from lake.delta import Table
from lake.errors import LakeError
from lake.heads import head_path
from lake.ledger import complete_to
from lake.log_damage import log_damage
from lake.root import Root
from lake.schema import COUNTED, TABLES
from lake.spool.writer import LOCK_FILE
from lake.tables import Tables
from lake.transactions import rows_beyond, stream_ends

FIRST = "coverage"


@dataclass(slots=True)
class Snapshot:
    """The tables that could be opened, each pinned to its version."""

    root: Root
    tables: dict[str, Table] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    ends: dict[str, dict[str, int]] = field(default_factory=dict)
    """By counted table: how far it has got with each stream."""
    unopened: set[str] = field(default_factory=set)
    """Tables that are there and cannot be opened: nothing can be said of their rows."""
    _complete: dict[str, int] = field(default_factory=dict)

    def covered(self, stream: str) -> int:
        """Up to where the pinned `coverage` says that `stream` is in the tables."""
        coverage = self.tables.get(FIRST)
        if coverage is None:
            return 0
        # A loss after a restore is put on record first, and then counted with the run that it lies in.
        return max(coverage.committed(name) or 0 for name in (stream, stream.removesuffix("/restored")))

    def reached(self, stream: str, name: str) -> int:
        """Up to where table `name` has got with `stream`; 0 where it has none of it."""
        table = self.tables.get(name)
        return (table.committed(stream) or 0) if table else 0

    def complete(self, stream: str) -> int:
        """The offset below which every record of `stream` is in its tables, as pinned."""
        coverage = self.tables.get(FIRST)
        if coverage and stream not in self._complete:
            self._complete[stream] = complete_to(coverage, stream, partial(self.reached, stream))
        return self._complete.get(stream, 0)

    def uncovered_rows(self, name: str) -> int:
        """Rows of table `name` that the pinned `coverage` does not count yet."""
        if name not in self.ends:
            return 0
        return rows_beyond(self.root.table(name), self.versions[name], self.ends[name], self.covered)


def take(root: Root, problems: list[str]) -> Snapshot:
    """Pin every table of `root`; what cannot be opened, or has a damaged log, goes to `problems`."""
    snapshot = Snapshot(root)
    for name in sorted(TABLES, key=lambda name: name != FIRST):
        try:
            problems += _log_damage(root, name)
            _pin(snapshot, name)
        except Exception as error:  # noqa: BLE001 - a log that is no log makes its reader fail in any way it can
            text = " ".join(str(error).split())
            snapshot.unopened.add(name)
            problems.append(f"table {name}: {text or type(error).__name__}")
    return snapshot


def _log_damage(root: Root, name: str) -> list[str]:
    if delta_log.exists(root.table(name)):
        return log_damage(root, name)
    if head_path(root, name).exists() and not delta_log.exists(root.table(name)):
        return [f"table {name}: is gone, {head_path(root, name)} knows it; restore it from backup"]
    return []


def _pin(snapshot: Snapshot, name: str) -> None:
    table = Table.find(snapshot.root, TABLES[name])
    if table is None:
        return
    version = table.pin()
    if name in COUNTED:
        snapshot.ends[name] = stream_ends(table.folder, version)
    snapshot.tables[name], snapshot.versions[name] = table, version


def covered_now(snapshot: Snapshot, stream: str) -> int:
    """Up to where `stream` is in the tables by the newest commits; as pinned where these cannot be read."""
    try:
        fresh = Tables(snapshot.root)
        coverage = fresh.find(FIRST)
        return complete_to(coverage, stream, partial(fresh.reached, stream)) if coverage else 0
    except LakeError:
        return snapshot.complete(stream)


def is_landing(root: Root, stream: str) -> bool:
    """Whether a process is bringing the stream into the tables right now: then they may be ahead of `coverage`."""
    name = stream.partition("@")[0]
    locks = (f"ingest-{name}.lock", f"{stream.replace('@', '-')}.lock")  # of the spool; of an imported file
    return any(_is_held(root.locks / lock) for lock in locks)


def is_recorded(root: Root, name: str) -> bool:
    """Whether a process is writing into the spool of stream `name` right now."""
    return _is_held(root.stream(name) / LOCK_FILE)


def _is_held(path: os.PathLike[str]) -> bool:
    """Asked by taking the lock for a moment, shared, and only where something else is odd already."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
