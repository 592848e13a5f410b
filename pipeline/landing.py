"""Where the rows of a stream land: each table appended once per run of records, `coverage` last.

Whatever brings rows into the streamed tables lands them here, so that `coverage` counts every row there is.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.delta import Table
from lake.ledger import claim, complete_to
from lake.parquet import sort_by
from lake.schema import COUNTED, TABLES
from lake.tables import Tables
from pipeline.decoding import OFFSET, Chunk, as_utc

COMMIT_ORDER: Final = COUNTED
"""Order of the commits; coverage comes after them all, so that it never claims what a table lacks."""


class Landing:
    """The tables as seen by one stream: how far each has got, and how far it must have got.

    A table without rows in a group is not touched. So the commit of `coverage`, which closes a group, also says
    up to where each table had rows by then: one that is further behind has lost a commit, and the stream is
    read again from there.
    """

    def __init__(self, tables: Tables, stream: str) -> None:
        self.stream = stream
        self.venue = stream.partition("@")[0].partition("-")[0]
        self.coverage = tables.writable("coverage")
        self._tables = tables
        self._committed: dict[str, int] = {}
        self.covered = self.coverage.committed(stream) or 0
        self.committed = complete_to(self.coverage, stream, self._reached)
        """All tables have every record below this offset."""

    def table(self, name: str) -> Table:
        """The table, made where it is missing."""
        return self._tables.writable(name)

    def missing(self, name: str, rows: pa.Table) -> pa.Table:
        """The rows that table `name` has not got yet, without the helper column."""
        if len(rows) and (reached := self._reached(name)) > self.committed:
            rows = rows.filter(pc.greater_equal(rows[OFFSET], reached))
        return rows.drop_columns([OFFSET])

    def append(self, name: str, rows: pa.Table, end_offset: int) -> None:
        """Commit `rows`, if any, and that the table now has all of the stream below `end_offset`."""
        if not len(rows) or self._reached(name) >= end_offset:
            return
        # Partitions first: the table then takes slices of this one copy, and each file is in the order it needs.
        rows = sort_by(rows, TABLES[name].partition_columns + TABLES[name].sort_key)
        self.table(name).append(rows, app=self.stream, version=end_offset, origin=self._origin(end_offset))
        self._committed[name] = end_offset

    def landed(self, name: str, end_offset: int) -> int:
        """How many rows the commit of table `name` for the records up to `end_offset` brought, as its files say."""
        origin = self._origin(end_offset)
        return sum(file.rows for file in self.table(name).files() if file.origin == origin)

    def cover(self, total: Chunk) -> None:
        """Commit the row of `coverage` that says what the run `total` held: all of it has been appended."""
        end = total.end_offset
        if self.covered < end:
            concerned = [name for name in TABLES if total.counts[f"rows_{name}"]]
            # A listing without news leaves `instruments` as it was.
            also = {claim(self.stream, name): end for name in concerned if self._reached(name) >= end}
            row = _coverage_row(total, self.venue, self.stream)
            self.coverage.append(row, app=self.stream, version=end, origin=self._origin(end), also=also)
            self.covered = end
        self.committed = end

    def _reached(self, name: str) -> int:
        if name not in self._committed:
            self._committed[name] = self.table(name).committed(self.stream) or 0
        return self._committed[name]

    def _origin(self, end_offset: int) -> str:
        return f"i.{self.stream.replace('@', '.')}.{end_offset}"


def _coverage_row(total: Chunk, venue: str, stream: str) -> pa.Table:
    counts = total.counts
    row = {
        "venue": venue,
        "stream": stream,
        "first_offset": total.first_offset,
        "end_offset": total.end_offset,
        "start_ts": as_utc(total.start_ns),
        "end_ts": as_utc(total.end_ns),
        **{
            name: counts[name]
            for name in (
                "frames",
                "events",
                "responses",
                "imported",
                "control",
                "rejected",
                "repeated",
                "records_lost",
            )
        },
        "rebuilt": False,
        **{f"rows_{name}": counts[f"rows_{name}"] for name in COUNTED},
    }
    return pa.Table.from_pylist([row], schema=TABLES["coverage"].arrow_schema)
