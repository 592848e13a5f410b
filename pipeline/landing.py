"""Where the rows of a stream land: each table appended once per run of records, `coverage` last.

Whatever brings rows into the streamed tables lands them here, so that `coverage` counts every row there is.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.delta import Table
from lake.ledger import claim, complete_to, left_out, left_out_claim
from lake.locks import exclusive_in_turn
from lake.parquet import sort_by
from lake.schema import COUNTED, TABLES
from lake.tables import Tables
from pipeline.decoding import OFFSET, Chunk, as_utc
from pipeline.dedupe import Fresh, HeldRows
from pipeline.versions import changed_versions

COMMIT_ORDER: Final = COUNTED
"""Order of the commits; coverage comes after them all, so that it never claims what a table lacks."""


class Landing:
    """The tables as seen by one stream: how far each has got, and how far it must have got.

    A table without rows in a group is not touched. So the commit of `coverage`, which closes a group, also says
    up to where each table had rows by then: one that is further behind has lost a commit, and the stream is
    read again from there.
    """

    def __init__(self, tables: Tables, stream: str, held: HeldRows | None = None) -> None:
        self.stream = stream
        self.venue = stream.partition("@")[0].partition("-")[0]
        self.coverage = tables.writable("coverage")
        self._tables = tables
        self._held = held or HeldRows(tables)
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
        """Commit what table `name` does not hold yet of `rows`, if there are any, and that it now has all of the stream
        below `end_offset`. How many were left out stands in the same commit, for `cover`, whatever happens between."""
        if not len(rows) or self._reached(name) >= end_offset:
            return
        table = self.table(name)
        # Partitions first: the table then takes slices of this one copy, and each file is in the order it needs.
        rows = sort_by(rows, table.spec.partition_columns + table.spec.sort_key)
        with exclusive_in_turn(table.root.locks / f"append-{name}.lock", f"appending to table {name}"):
            fresh = self._fresh(table, rows)
            before = table.committed(left_out(self.stream)) or 0
            also = {left_out(self.stream): before + fresh.left_out} if fresh.left_out else {}
            done = table.append(
                fresh.rows,
                app=self.stream,
                version=end_offset,
                origin=self._origin(end_offset),
                also=also,
                instead=fresh.instead,
            )
            self._held.appended(name, done, fresh)
        self._committed[name] = end_offset

    def _fresh(self, table: Table, rows: pa.Table) -> Fresh:
        if table.spec.name != "instruments":
            return self._held.fresh(table.spec.name, rows)
        changed = changed_versions(table, rows)
        return Fresh(changed, len(rows) - len(changed))

    def cover(self, total: Chunk) -> None:
        """Commit the row of `coverage` that says what the run `total` held: all of it has been appended."""
        end = total.end_offset
        if self.covered < end:
            concerned = [name for name in COMMIT_ORDER if total.counts[f"rows_{name}"]]
            also = {claim(self.stream, name): end for name in concerned if self._reached(name) >= end}
            also |= self._without_left_out(concerned, total)
            row = _coverage_row(total, self.venue, self.stream)
            self.coverage.append(row, app=self.stream, version=end, origin=self._origin(end), also=also)
            self.covered = end
        self.committed = end

    def _without_left_out(self, concerned: list[str], total: Chunk) -> dict[str, int]:
        """Count the rows of `total` that were left out as repeated, and no longer as rows; what is accounted for then.

        Both sums are kept, not the difference: so it comes out even after a crash between the two commits, too.
        """
        accounted: dict[str, int] = {}
        for name in concerned:
            told = left_out_claim(self.stream, name)
            before = self.coverage.committed(told) or 0
            open_count = (self.table(name).committed(left_out(self.stream)) or 0) - before
            count = min(max(open_count, 0), total.counts[f"rows_{name}"])
            if count:
                accounted[told] = before + count
                total.counts[f"rows_{name}"] -= count
                total.counts["repeated"] += 0 if name == "instruments" else count
        return accounted

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
