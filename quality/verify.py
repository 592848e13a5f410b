"""Proof: what the Delta logs claim is on the disk, byte for byte what was written, once, and all of it.

Six claims are re-derived from the files and never taken on trust:

0. every table's log is whole;
1. every file of the log exists, has its recorded size and the checksum it was sealed with, and can be read to the end;
2. it has the rows, and the content hash, that its name in the log was given when it was written;
3. no natural key occurs twice in what compaction has finished;
4. the rows of `coverage` tile every stream from offset 0, without hole or overlap, and every table has the
   newest commit that `coverage` relies on;
5. rows are conserved: what `coverage` counted into a table is what its files hold plus the duplicates that
   compaction dropped, to the row;
6. what still waits in the spool can be read to its end.

A hole that is on record as a row in `gaps` is no problem of the proof; it is part of what the proof says.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake import delta_log
from lake.content import content_hash
from lake.datafile import FINISHED, HASH_MODULUS, DataFile
from lake.delta import Table
from lake.duplicates import drop_duplicates
from lake.errors import LakeError
from lake.file_pruning import STATISTICS_TOLERANCE
from lake.ledger import behind, complete_to
from lake.root import Root
from lake.schema import COUNTED, TABLES, TableSpec
from lake.seal import broken_seal
from lake.spool import Damage, read_segment, sealed_segments


@dataclass(slots=True)
class TableProof:
    """What was checked of one table."""

    table: str
    files: int = 0
    rows: int = 0
    duplicates_dropped: int = 0
    bytes: int = 0


@dataclass(slots=True)
class VerifyReport:
    """Everything that was checked; `problems` is empty when the proof holds."""

    tables: list[TableProof] = field(default_factory=list)
    streams: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def as_rows(self) -> list[dict[str, Any]]:
        """One row per table and per stream, for display."""
        nothing = dict.fromkeys(("files", "rows", "duplicates dropped", "bytes"))
        tables = [
            {
                "checked": f"table {proof.table}",
                "files": proof.files,
                "rows": proof.rows,
                "duplicates dropped": proof.duplicates_dropped,
                "bytes": proof.bytes,
            }
            for proof in self.tables
        ]
        streams = [
            {"checked": f"stream {stream}", **nothing, "rows": end} for stream, end in self.streams.items()
        ]
        verdict = f"{len(self.problems)} PROBLEMS" if self.problems else "holds"
        return [*tables, *streams, {"checked": f"proof {verdict}", **nothing}]


def verify(root: Root) -> VerifyReport:
    """Re-derive every claim of the lake at `root`; reads all of it, changes nothing."""
    report = VerifyReport()
    tables: dict[str, Table] = {}
    for name, spec in TABLES.items():
        try:
            if delta_log.exists(root.table(name)):
                report.problems += delta_log.log_damage(root.table(name))
            table = Table.find(root, spec)
            if table is None:
                report.tables.append(TableProof(name))
                continue
            _verify_table(table, spec, report)
        except LakeError as error:
            report.problems.append(f"table {name}: {error}")
            continue
        tables[name] = table
    _verify_spool(root, tables, report)
    if "coverage" in tables:
        try:
            ledger = tables["coverage"].read()
        except LakeError as error:
            report.problems.append(f"table coverage: {error}")
            return report
        _verify_streams(ledger, tables, report)
        _verify_conservation(ledger, report)
    return report


def _verify_table(table: Table, spec: TableSpec, report: VerifyReport) -> None:
    proof = TableProof(spec.name)
    for file in table.files():
        proof.files += 1
        proof.rows += file.rows
        proof.duplicates_dropped += file.dropped
        proof.bytes += file.size
        try:
            report.problems += _verify_file(table, spec, file)
        except Exception as error:  # noqa: BLE001 - rotten bytes make a reader fail in any way it can: a finding each
            report.problems.append(f"{spec.name}/{file.path}: cannot be read: {error}")
    report.tables.append(proof)


def _verify_file(table: Table, spec: TableSpec, file: DataFile) -> Iterator[str]:
    path = table.folder / file.path
    if not path.is_file():
        yield f"{spec.name}/{file.path}: is in the log and not on the disk"
        return
    if path.stat().st_size != file.size:
        yield f"{spec.name}/{file.path}: has {path.stat().st_size} bytes, the log says {file.size}"
    if broken := broken_seal(path):
        yield f"{spec.name}/{file.path}: {broken}"
    rows, hashed, repeated = 0, 0, 0
    carried: pa.Table | None = None
    outside: set[str] = set()
    for piece in _pieces(path, spec):
        rows += len(piece)
        outside.update(name for name in spec.stats if not _within_bounds(piece[name], name, file))
        hashed = (hashed + content_hash(piece)) % HASH_MODULUS
        if file.origin == FINISHED:
            window = pa.concat_tables([carried, piece]) if carried is not None else piece
            repeated += drop_duplicates(window, spec)[1]
            carried = _last_instant(window)
    if rows != file.rows:
        yield f"{spec.name}/{file.path}: has {rows} rows, the log says {file.rows}"
    if hashed != file.content_hash:
        yield f"{spec.name}/{file.path}: content hash {hashed:016x}, the log says {file.content_hash:016x}"
    for name in sorted(outside):
        yield f"{spec.name}/{file.path}: holds {name} beyond the bounds in the log, which queries go by"
    if repeated:
        yield f"{spec.name}/{file.path}: {repeated} rows repeat a natural key"


def _within_bounds(values: pa.ChunkedArray, name: str, file: DataFile) -> bool:
    """Whether all `values` lie within what the log says of column `name` in `file`, as far as it says anything."""
    found = pc.min_max(values).as_py()
    low, high = file.minimum.get(name), file.maximum.get(name)
    if found["min"] is None:
        return True
    slack = STATISTICS_TOLERANCE if isinstance(found["max"], datetime.datetime) else None
    above = high is not None and found["max"] > (high if slack is None else high + slack)
    return not above and (low is None or found["min"] >= low)


def _pieces(path: Any, spec: TableSpec) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group).cast(spec.arrow_schema)


def _last_instant(rows: pa.Table) -> pa.Table:
    """The rows of the last (instrument, ts): only they can share a natural key with what follows in sort order."""
    if "ts" not in rows.column_names or not len(rows):
        return rows.slice(0, 0)
    last = len(rows) - 1
    same = pc.and_(
        pc.equal(rows["instrument"], rows["instrument"][last]), pc.equal(rows["ts"], rows["ts"][last])
    )
    return rows.filter(same)


def _verify_spool(root: Root, tables: dict[str, Table], report: VerifyReport) -> None:
    """Only what is not in every table yet: later damage to a segment that was ingested costs nothing."""
    coverage = tables.get("coverage")

    @cache
    def ingested(stream: str) -> int:
        return complete_to(coverage, stream, partial(_reached, tables, stream)) if coverage else 0

    for name in root.streams():
        ends: dict[str, int] = {}
        for segment in sealed_segments(root.stream(name)):
            stream = segment.stream
            done = ingested(stream)
            start = max(done, ends.get(stream, 0))
            ends[stream] = segment.end_offset
            if segment.end_offset <= done:
                continue
            lost = [(item.first_offset, item.end_offset, _where(item)) for item in _damages(segment.path)]
            if segment.first_offset > start:
                lost.append((start, segment.first_offset, "missing before this segment"))
            report.problems += [
                f"{segment.path}: records {first} to {end - 1} of {stream} cannot be read ({where}); "
                "run `lake ingest`, which puts the gap on record"
                for first, end, where in lost
            ]


def _damages(segment: Path) -> Iterator[Damage]:
    return (item for item in read_segment(segment, skip_damage=True) if isinstance(item, Damage))


def _where(damage: Damage) -> str:
    return f"byte {damage.position}: {damage.reason}"


def _verify_streams(ledger: pa.Table, tables: dict[str, Table], report: VerifyReport) -> None:
    spans: dict[str, list[tuple[int, int]]] = {}
    columns = (ledger[name].to_pylist() for name in ("stream", "first_offset", "end_offset"))
    for stream, first, end in zip(*columns, strict=True):
        spans.setdefault(stream, []).append((first, end))
    for stream, found in sorted(spans.items()):
        ordered = sorted(found)
        report.streams[stream] = ordered[-1][1]
        if ordered[0][0] != 0:
            report.problems.append(f"stream {stream}: coverage begins at record {ordered[0][0]}, not at 0")
        for (_, end), (first, _) in pairwise(ordered):
            if first != end:
                what = "skips" if first > end else "repeats"
                report.problems.append(
                    f"stream {stream}: coverage {what} records {min(first, end)} to {max(first, end)}"
                )
        lagging = behind(tables["coverage"], stream, partial(_reached, tables, stream))
        report.problems += [
            f"stream {stream}: {name} has records below {got} only and lost what came later; run `lake ingest`"
            for name, got in lagging.items()
        ]


def _reached(tables: dict[str, Table], stream: str, name: str) -> int:
    return (tables[name].committed(stream) or 0) if name in tables else 0


def _verify_conservation(ledger: pa.Table, report: VerifyReport) -> None:
    for proof in report.tables:
        if proof.table not in COUNTED:
            continue
        counted = pc.sum(ledger[f"rows_{proof.table}"]).as_py() or 0
        held = proof.rows + proof.duplicates_dropped
        if counted != held:
            report.problems.append(
                f"{proof.table}: {counted} rows were ingested, {proof.rows} are held and "
                f"{proof.duplicates_dropped} duplicates were dropped: {held - counted:+d}"
            )
