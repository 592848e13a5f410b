"""What the tables know of a spool stream: how far they have it, and up to when they have anything of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.appended import history
from lake.delta import Table
from lake.delta_errors import delta_errors
from lake.errors import LakeError
from lake.instants import to_us
from lake.root import Root
from lake.schema import COUNTED
from lake.spool import AskTables, StreamReach
from lake.tables import Tables

US_IN_NS: Final = 1000
UNKNOWN: Final = StreamReach(offset=1 << 62)
"""Of tables that cannot be read: whatever offset was used last, a new epoch is safe."""

_log = logging.getLogger(__name__)


def tables_of(root: Root) -> AskTables:
    """Answers what the tables of `root` know; where they cannot be read, so that a new epoch begins."""

    def ask(name: str, stream: str | None) -> StreamReach:
        try:
            return stream_reach(Tables(root), name, stream)
        except LakeError as error:
            _log.warning("stream %s begins a new epoch, because the tables cannot be asked: %s", name, error)
            return UNKNOWN

    return ask


def stream_reach(tables: Tables, name: str, stream: str | None) -> StreamReach:
    """How far any table is with the stream id `stream`, and the newest receive time of any epoch of `name`.

    Raises:
        CorruptionError: a table's log or a file of `coverage` cannot be read.
    """
    coverage = tables.find("coverage")
    covered = (coverage.committed(stream) or 0) if coverage and stream else 0
    last_ns = _last_covered_ns(coverage, lambda one: one.rpartition("@")[0] == name) if coverage else 0
    offset = covered
    for table in map(tables.find, COUNTED):
        if table is None or stream is None or (table.committed(stream) or 0) <= covered:
            continue
        newest = history(table, stream, covered).commits[:1]
        offset = max(offset, table.committed(stream) or 0)
        last_ns = max([last_ns, *(commit.run.end_ns for commit in newest if commit.run)])
    return StreamReach(offset, last_ns)


def _last_covered_ns(coverage: Table, is_wanted: Callable[[str], bool]) -> int:
    """Receive time of the newest record that `coverage` has of the streams wanted; 0 where it has none."""
    newest_us = 0
    files = [(file.maximum.get("end_ts"), file) for file in coverage.files()]
    dated = sorted(((to_us(end), file.path) for end, file in files if end is not None), reverse=True)
    paths = [*((1 << 62, file.path) for end, file in files if end is None), *dated]
    for end_us, path in paths:
        if end_us <= newest_us:
            break
        with delta_errors(f"reading {coverage.folder / path}"):
            rows = pq.read_table(coverage.folder / path, columns=["stream", "end_ts"], partitioning=None)
        streams = pc.unique(rows["stream"])
        wanted = streams.filter(pa.array([is_wanted(str(one)) for one in streams.to_pylist()], pa.bool_()))
        found = pc.max(rows.filter(pc.is_in(rows["stream"], wanted))["end_ts"]).as_py()
        if found is not None:
            newest_us = max(newest_us, to_us(found))
    return newest_us * US_IN_NS
