"""What `coverage` lacks and no segment can tell any more, told by the tables' own commits.

A lake that was copied while it recorded, or put together from backups of different ages, has tables that are ahead
of `coverage`, tables that are behind it, and a spool that no longer holds what would bring them together. Nothing is
claimed to be lost that a table has, and whatever may be lost becomes a row of `gaps` with the cause "restored".
Each step is one commit with an application of its own, so that a run that is cut short is made good by the next.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.appended import History, Run, history
from lake.events import Gap
from lake.instants import to_us
from lake.ledger import behind
from lake.schema import COUNTED
from pipeline.decoding import OFFSET, gap_rows
from pipeline.landing import Landing, coverage_row

CAUSE_RESTORED: Final = "restored"
US_IN_NS: Final = 1000

log = logging.getLogger(__name__)


def catch_up(target: Landing, upto: int, *, ended: bool) -> None:
    """Bring `coverage` and the tables of the stream to one state, for its records below `upto`, which no segment has.

    `ended` says that nothing more of the stream will come: what no table speaks of may then have been in one that
    is an older copy now, and is put on record as lost.
    """
    if target.committed < target.covered:
        _write_off(target, upto)
    _rebuild(target, upto, ended=ended)


def _write_off(target: Landing, upto: int) -> None:
    """Tables that `coverage` says had rows which they lack now: correct its counts, and put the loss on record."""
    spans = target.spans()
    for name, reached in behind(target.coverage, target.stream, target.reached).items():
        rows = spans.filter(
            pc.and_(pc.greater(spans["end_offset"], reached), pc.less_equal(spans["end_offset"], upto))
        )
        if not len(rows):
            continue
        first, last = int(rows["first_offset"][0].as_py()), int(rows["end_offset"][-1].as_py())
        own = history(target.table(name), target.stream, first)
        counted = int(pc.sum(rows[f"rows_{name}"]).as_py())
        lost = counted - own.rows(first, reached) if own.whole else -_uncounted(target, name)
        times = to_us(rows["start_ts"][0].as_py()), to_us(rows["end_ts"][-1].as_py())
        counts = Counter({f"rows_{name}": -lost})
        counts["rows_gaps"] += 1
        run = Run(last, last, times[0] * US_IN_NS, times[1] * US_IN_NS, counts)
        log.warning(
            "%s: table %s is older than coverage, and %d rows are lost that the spool no longer has",
            target.stream, name, lost,
        )  # fmt: skip
        app = f"{target.stream}/lost/{name}"
        _append_gap(target, app, run, lost)
        row = coverage_row(run, target.venue, target.stream, rebuilt=True)
        table = pa.Table.from_pylist([row], schema=target.coverage.spec.arrow_schema)
        target.coverage.append(table, app=app, version=last, origin=target.origin(last))
        target.skip(name, last)


def _uncounted(target: Landing, name: str) -> int:
    """Rows that table `name` holds, or has dropped as duplicates, beyond what `coverage` counts; negative: fewer."""
    held = sum(file.rows + file.dropped for file in target.table(name).files())
    return held - int(pc.sum(target.coverage.read([f"rows_{name}"])[f"rows_{name}"]).as_py() or 0)


@dataclass(frozen=True, slots=True)
class _Witnesses:
    """What the tables' logs say of the stream beyond what is covered."""

    histories: dict[str, History]

    @property
    def runs(self) -> list[Run]:
        return [commit.run for one in self.histories.values() for commit in one.commits if commit.run]

    @property
    def whole(self) -> bool:
        return all(one.whole for one in self.histories.values())

    def held(self, above: int, upto: int) -> dict[str, int]:
        return {f"rows_{name}": one.rows(above, upto) for name, one in self.histories.items()}


def _rebuild(target: Landing, upto: int, *, ended: bool) -> None:
    """Cover what tables have beyond `coverage`, as their commits describe it."""
    reached = {name: target.reached(name) for name in COUNTED}
    covered, end = target.covered, min(max(reached.values()), upto)
    if end <= covered:
        return
    witnesses = _Witnesses(
        {n: history(target.table(n), target.stream, covered) for n in COUNTED if reached[n] > covered}
    )
    pieces = list(_tiles(witnesses, covered, end, target.covered_until_ns()))
    span = Run(covered, pieces[-1].end_offset, pieces[0].start_ns, pieces[-1].end_ns, {})
    log.warning(
        "%s: coverage of records %d to %d is made again from the tables' logs",
        target.stream, covered, span.end_offset - 1,
    )  # fmt: skip
    rows = [_row_of(target, run, witnesses) for run in pieces]
    for name in (n for n, one in witnesses.histories.items() if not one.whole):
        _count(rows[0], name, _uncounted(target, name) - sum(int(str(row[f"rows_{name}"])) for row in rows))
    lost = sum(_lacking(run, reached, witnesses) for run in pieces)
    silent = sum(run.end_offset - run.first_offset for run in pieces if not run.counts)
    if lost or (silent and ended and covered and witnesses.whole):
        _append_gap(target, f"{target.stream}/restored", span, lost + silent)
        _count(rows[-1], "gaps", 1)
    concerned = [name for name in COUNTED if any(row[f"rows_{name}"] for row in rows)]
    target.cover_runs(rows, span.end_offset, concerned)
    target.committed = max(target.committed, target.covered)


def _tiles(witnesses: _Witnesses, start: int, end: int, start_ns: int | None) -> Iterator[Run]:
    """Runs that tile the records from `start` to `end` or beyond; without counts where no table says anything."""
    runs, at, at_ns = witnesses.runs, start, start_ns
    while at < end:
        here = [run for run in runs if run.first_offset <= at < run.end_offset]
        if here:
            found = max(here, key=lambda one: one.end_offset)
            run = Run(at, found.end_offset, found.start_ns, found.end_ns, found.counts)
        else:
            later = [run for run in runs if run.first_offset > at]
            following = min(later, key=lambda one: one.first_offset, default=None)
            until, until_ns = (following.first_offset, following.start_ns) if following else (end, at_ns or 0)
            run = Run(at, until, until_ns if at_ns is None else at_ns, until_ns, {})
        yield run
        at, at_ns = run.end_offset, run.end_ns


def _count(row: dict[str, object], name: str, more: int) -> None:
    """Add to the rows that a row of `coverage` counts for table `name`."""
    row[f"rows_{name}"] = int(str(row[f"rows_{name}"])) + more


def _lacking(run: Run, reached: Mapping[str, int], witnesses: _Witnesses) -> int:
    """Rows of `run` that tables had and, being older now, have no longer."""
    held = witnesses.held(run.first_offset, run.end_offset)
    return sum(
        max(0, run.counts.get(f"rows_{name}", 0) - held.get(f"rows_{name}", 0))
        for name in COUNTED
        if reached[name] < run.end_offset
    )


def _row_of(target: Landing, run: Run, witnesses: _Witnesses) -> dict[str, object]:
    """The row of `coverage` for `run`, with the rows that the tables do hold."""
    counts = {name: count for name, count in run.counts.items() if not name.startswith("rows_")}
    counts |= witnesses.held(run.first_offset, run.end_offset)
    run = Run(run.first_offset, run.end_offset, run.start_ns, run.end_ns, counts)
    return coverage_row(run, target.venue, target.stream, rebuilt=True)


def _append_gap(target: Landing, app: str, span: Run, lost: int) -> None:
    gap = Gap(start_ns=span.start_ns, end_ns=span.end_ns, cause=CAUSE_RESTORED, records_lost=lost)
    rows = gap_rows([gap], [span.first_offset], target.venue, target.stream).drop_columns([OFFSET])
    origin = target.origin(span.end_offset)
    target.table("gaps").append(rows, app=app, version=span.end_offset, origin=origin)
