"""Where the rows of a stream land: each table appended once per run of records, `coverage` last.

Whatever brings rows into the streamed tables lands them here, so that `coverage` counts every row there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.appended import RUN_KEY, Run, history
from lake.delta import Table
from lake.instants import to_us
from lake.ledger import claim, complete_to
from lake.locks import exclusive_in_turn
from lake.parquet import sort_by
from lake.schema import COUNTED, TABLES
from lake.tables import Tables
from pipeline.decoding import OFFSET, Chunk, as_utc
from pipeline.dedupe import Fresh, HeldRows
from pipeline.versions import changed_versions

US_IN_NS: Final = 1000
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
        self._spans: pa.Table | None = None
        self.covered = self.coverage.committed(stream) or 0
        self.committed = complete_to(self.coverage, stream, self.reached)
        """All tables have every record below this offset."""

    def table(self, name: str) -> Table:
        """The table, made where it is missing."""
        return self._tables.writable(name)

    def reached(self, name: str) -> int:
        """How far table `name` itself is with the stream."""
        if name not in self._committed:
            self._committed[name] = self.table(name).committed(self.stream) or 0
        return self._committed[name]

    def held(self, name: str, rows: pa.Table, end: int) -> int:
        """How many rows the commits of `name` have brought of the records from `committed` to `end`, whose decoded rows
        are `rows`: by an attempt before that was cut short, or by one that coverage has forgotten.
        """
        reached = self.reached(name)
        if reached <= self.committed:
            return 0
        past = history(self.table(name), self.stream, self.committed)
        if past.whole:
            return past.rows(self.committed, end)
        return int(pc.sum(pc.less(rows[OFFSET], reached)).as_py() or 0)

    def missing(self, name: str, rows: pa.Table) -> pa.Table:
        """The rows that table `name` has not got yet, without the helper column."""
        if len(rows) and (reached := self.reached(name)) > self.committed:
            rows = rows.filter(pc.greater_equal(rows[OFFSET], reached))
        return rows.drop_columns([OFFSET])

    def look_up(self, name: str, decoded: pa.Table, total: Chunk) -> Fresh:
        """What table `name` is to get of the rows decoded from the run `total`. Counted there are then its rows, those
        brought by an attempt before included, and those that the table has from elsewhere. Only within `in_turn`."""
        brought = self.held(name, decoded, total.end_offset)
        rows = self.missing(name, decoded)
        # Partitions first: the table then takes slices of this one copy, and each file is in the order it needs.
        rows = sort_by(rows, TABLES[name].partition_columns + TABLES[name].sort_key)
        fresh = self._fresh(name, rows) if len(rows) else Fresh(rows)
        total.counts[f"rows_{name}"] = brought + len(rows) - fresh.left_out
        if name != "instruments":  # where it is the rule that a listing says nothing new
            total.counts["repeated"] += len(decoded) - total.counts[f"rows_{name}"]
        return fresh

    def _fresh(self, name: str, rows: pa.Table) -> Fresh:
        if name != "instruments":
            return self._held.fresh(name, rows)
        changed = changed_versions(self.table(name), rows)
        return Fresh(changed, len(rows) - len(changed))

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Look up and append in such a block: meanwhile no other process appends what is looked up.

        Raises:
            BusyError: another process has been appending for a whole minute.
        """
        root = self.coverage.root
        with exclusive_in_turn(root.locks / "append.lock", "appending to the tables"):
            yield

    def append(self, name: str, fresh: Fresh, total: Chunk) -> None:
        """Commit what `look_up` gave, if anything, and that the table now has the stream up to the end of `total`."""
        end = total.end_offset
        if not (len(fresh.rows) or fresh.instead) or self.reached(name) >= end:
            return
        words = {RUN_KEY: run_of(total).as_words()}
        done = self.table(name).append(
            fresh.rows,
            app=self.stream,
            version=end,
            origin=self.origin(end),
            metadata=words,
            instead=fresh.instead,
        )
        self._held.appended(name, done, fresh)
        self._committed[name] = end

    def skip(self, name: str, offset: int) -> None:
        """Commit that table `name` will get nothing more of the stream below `offset`."""
        empty = TABLES[name].delta_schema.empty_table()
        self.table(name).append(empty, app=self.stream, version=offset, origin=self.origin(offset))
        self._committed[name] = offset
        self.committed = complete_to(self.coverage, self.stream, self.reached)

    def cover(self, total: Chunk) -> None:
        """Commit the row of `coverage` that says what the run `total` held: all of it has been appended."""
        if self.covered < total.end_offset:
            row = coverage_row(run_of(total), self.venue, self.stream)
            self.cover_runs(
                [row], total.end_offset, [name for name in TABLES if total.counts[f"rows_{name}"]]
            )
        self.committed = total.end_offset

    def cover_runs(self, rows: Sequence[Mapping[str, object]], end: int, concerned: Sequence[str]) -> None:
        """Commit rows of `coverage` that tile the stream from where it was covered up to `end`; tables `concerned` had
        rows in them.
        """
        # A listing without news leaves `instruments` as it was.
        also = {claim(self.stream, name): self.reached(name) for name in concerned if self.reached(name)}
        table = pa.Table.from_pylist(list(rows), schema=TABLES["coverage"].arrow_schema)
        self.coverage.append(table, app=self.stream, version=end, origin=self.origin(end), also=also)
        self.covered = end
        self._spans = None

    def spans(self) -> pa.Table:
        """The rows of `coverage` about the stream, in the order of its records, without corrections of earlier ones."""
        if self._spans is None:
            rows = self.coverage.read()
            own = pc.and_(
                pc.equal(rows["stream"], self.stream), pc.less(rows["first_offset"], rows["end_offset"])
            )
            self._spans = rows.filter(own).sort_by("first_offset")
        return self._spans

    def covered_until_ns(self) -> int | None:
        """Receive time of the last record that is covered; None where nothing is."""
        spans = self.spans()
        return to_us(spans["end_ts"][-1].as_py()) * US_IN_NS if len(spans) else None

    def origin(self, end_offset: int) -> str:
        """What files are called that a commit at `end_offset` of the stream brings."""
        return f"i.{self.stream.replace('@', '.')}.{end_offset}"


def run_of(total: Chunk) -> Run:
    """What ingest says of a run of records in every commit that it leads to."""
    return Run(total.first_offset, total.end_offset, total.start_ns, total.end_ns, dict(total.counts))


def coverage_row(run: Run, venue: str, stream: str, *, rebuilt: bool = False) -> dict[str, object]:
    """The row of `coverage` that says what `run` held."""
    counts = {
        name: 0 for name in TABLES["coverage"].names if TABLES["coverage"].column(name).type == pa.int64()
    }
    return {
        **counts,
        **{name: count for name, count in run.counts.items() if name in counts},
        "venue": venue,
        "stream": stream,
        "first_offset": run.first_offset,
        "end_offset": run.end_offset,
        "start_ts": as_utc(run.start_ns),
        "end_ts": as_utc(run.end_ns),
        "rebuilt": rebuilt,
    }
