"""What `coverage` says of every stream, held against itself, the tables and the quarantine."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.ledger import behind
from lake.quarantine import kept_refused
from lake.root import Root
from lake.schema import COUNTED
from lake.transactions import STREAM_ID
from quality.verify.report import VerifyReport
from quality.verify.snapshot import FIRST, Snapshot, covered_now, is_landing

INGEST: Final = "run `lake ingest`"


def check_streams(ledger: pa.Table, snapshot: Snapshot, report: VerifyReport) -> None:
    """The rows of `coverage` tile every stream from 0; no table is behind it, and none ahead but by what is landing."""
    spans: dict[str, list[tuple[int, int]]] = {}
    spanning = ledger.filter(
        pc.less(ledger["first_offset"], ledger["end_offset"])
    )  # the others correct counts
    columns = (spanning[name].to_pylist() for name in ("stream", "first_offset", "end_offset"))
    for stream, first, end in zip(*columns, strict=True):
        spans.setdefault(stream, []).append((first, end))
    for stream, found in sorted(spans.items()):
        report.streams[stream] = max(end for _, end in found)
        report.problems += _untiled(stream, sorted(found))
        committed = snapshot.covered(stream)
        if committed != report.streams[stream]:
            report.problems.append(
                f"stream {stream}: coverage has rows up to record {report.streams[stream]} and commits up to "
                f"{committed}; restore the table coverage from backup"
            )
        lagging = behind(snapshot.tables[FIRST], stream, partial(snapshot.reached, stream))
        report.problems += [
            f"stream {stream}: {name} has records below {got} only and lost what came later; {INGEST}"
            for name, got in lagging.items()
            if name not in snapshot.unopened
        ]
    report.problems += _ahead(snapshot)


def _untiled(stream: str, ordered: list[tuple[int, int]]) -> list[str]:
    cure = "restore the table coverage from backup"
    found = []
    if ordered[0][0] != 0:
        found.append(f"stream {stream}: coverage begins at record {ordered[0][0]}, not at 0; {cure}")
    for (_, end), (first, _) in pairwise(ordered):
        if first != end:
            what = "skips" if first > end else "repeats"
            found.append(
                f"stream {stream}: coverage {what} records {min(first, end)} to {max(first, end)}; {cure}"
            )
    return found


def _ahead(snapshot: Snapshot) -> list[str]:
    """Tables that have records which `coverage` does not know, although nobody is bringing them in."""
    found = []
    streams = sorted({s for ends in snapshot.ends.values() for s in ends if STREAM_ID.fullmatch(s)})
    for stream in streams:
        covered = snapshot.covered(stream)
        ahead = {name: ends[stream] for name, ends in snapshot.ends.items() if ends.get(stream, 0) > covered}
        if (
            not ahead
            or is_landing(snapshot.root, stream)
            or covered_now(snapshot, stream) >= max(ahead.values())
        ):
            continue
        names = ", ".join(ahead)
        again = "import the file again" if "-import@" in stream else INGEST
        what = f"coverage only up to {covered}" if covered else "coverage nothing of that stream"
        found.append(
            f"stream {stream}: {names} have records up to {max(ahead.values())}, {what}; {again}, "
            "and if that does not help restore the table coverage from backup"
        )
    return found


def check_conservation(ledger: pa.Table, snapshot: Snapshot, report: VerifyReport) -> None:
    """Rows ingested are rows held and duplicates dropped, in every table that `coverage` counts, to the row."""
    for proof in report.tables:
        if proof.table not in COUNTED or proof.table in snapshot.unopened:
            continue
        counted = pc.sum(ledger[f"rows_{proof.table}"]).as_py() or 0
        held = proof.rows + proof.duplicates_dropped - snapshot.uncovered_rows(proof.table)
        if counted != held:
            report.problems.append(
                f"{proof.table}: {counted} rows were ingested, {proof.rows} are held and "
                f"{proof.duplicates_dropped} duplicates were dropped: {held - counted:+d}; "
                "restore the tables from one backup, and then run `lake ingest`"
            )


def check_quarantine(root: Root, ledger: pa.Table, report: VerifyReport) -> None:
    """Whatever `coverage` counts as refused is in the quarantine, whole."""
    refused = ledger.filter(pc.greater(ledger["rejected"], 0))
    for row in refused.select(["stream", "first_offset", "end_offset", "rejected", "imported"]).to_pylist():
        kept = _kept(root, row)
        if kept < row["rejected"]:
            span = f"records {row['first_offset']} to {row['end_offset'] - 1}"
            report.problems.append(
                f"stream {row['stream']}: {row['rejected']} of {span} were refused, and quarantine/ holds {kept} of "
                "them; restore quarantine/ from backup"
            )


def _kept(root: Root, row: dict[str, Any]) -> int:
    if row["imported"]:
        return kept_refused(root.quarantine / "import" / row["stream"], f"{row['first_offset']:012d}")
    stem = f"{row['first_offset']:012d}-{row['end_offset']:012d}"
    return kept_refused(root.quarantine / "ingest" / row["stream"], stem)
