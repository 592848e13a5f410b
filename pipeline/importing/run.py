"""Importing files: each file in a form is a stream of its own, known by its content, and its rows are landed once.

A file that was imported in the same form before, whole or in part, is known by its hash: only what is missing is
added. Rows that the lake has from elsewhere are left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lake.crashpoints import reach
from lake.durable import disk_full_told
from lake.errors import InputError
from lake.locks import exclusive
from lake.quarantine import keep_refused
from lake.root import Root
from lake.tables import Tables
from pipeline.decoding import OFFSET, Chunk
from pipeline.importing.formats import FileFormat, Source
from pipeline.importing.reading import Piece, first_line, pieces
from pipeline.importing.refusals import Refusal, common_fault
from pipeline.importing.rows import Made, RowMaker
from pipeline.importing.words import VENUE
from pipeline.landing import Landing

BATCH_BYTES: Final = 32 << 20
"""Text that becomes one commit, about: some 300,000 rows."""
HASH_READ_BYTES: Final = 1 << 20
US_IN_NS: Final = 1_000
STREAM_HASH_DIGITS: Final = 16
ROWS_SHOWN: Final = 10
EXAMPLES: Final = 5


@dataclass(slots=True)
class ImportReport:
    """What was done with each file. `examples` tells the first rows that were refused, `reasons` how many for what."""

    files: list[dict[str, Any]] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_rows: list[dict[str, Any]] = field(default_factory=list)
    """Of a trial: the first rows, as they would be stored."""

    @property
    def refused(self) -> int:
        """Rows of all files that did not fit."""
        return sum(int(file["refused"]) for file in self.files)

    def note(self, path: Path, line: int, refused: Mapping[int, Refusal]) -> None:
        """Take in why rows of a file were refused; `line` is what its line 0 is called."""
        for at, refusal in sorted(refused.items()):
            if len(self.examples) < EXAMPLES:
                self.examples.append(f"{path.name}:{at + line}: {refusal.told}")
            self.reasons[refusal.column, refusal.why] += 1


def import_files(
    root: Root,
    paths: Sequence[Path],
    form: FileFormat,
    *,
    on_bytes: Callable[[int], None] | None = None,
) -> ImportReport:
    """Land the rows of files (CSV, plain or compressed; Parquet; Arrow) in the table that `form` names.

    `on_bytes` is told how many bytes of the files have been read since it was told last.

    Raises:
        InputError: a file is not there, lacks a column, cannot be read, or cannot be right as a whole; the message
            names the file and the line. What was landed before stays, and is not landed again.
        BusyError: another process imports the same file.
        DiskFullError: no space is left; run again when there is.
    """
    report = ImportReport()
    _all_there(paths)
    for path in paths:
        stream = f"{VENUE}-import@{_hash(path, form)}"
        lock = root.locks / f"{stream.replace('@', '-')}.lock"
        with disk_full_told(f"importing {path}"), exclusive(lock, f"importing {path}"):
            _import(root, path, form, Landing(Tables(root), stream), report, on_bytes or (lambda _: None))
    return report


def try_files(root: Root | None, paths: Sequence[Path], form: FileFormat) -> ImportReport:
    """What `import_files` would do, with the first rows as they would be stored; nothing is written anywhere.

    `root` is the lake whose instruments the rows are held against, None where there is none yet. Raises InputError as
    `import_files` does.
    """
    report = ImportReport()
    _all_there(paths)
    for path in paths:
        total: Counter[str] = Counter()
        for piece, made in _made(root, path, form, lambda _: None):
            report.note(path, first_line(path), made.refused)
            shown = made.rows.slice(0, ROWS_SHOWN - len(report.first_rows))
            report.first_rows += shown.to_pylist()
            total += Counter(rows=len(made.rows), repeated=made.repeated, refused=len(made.refused))
            total["lines"] = piece.end
        report.files.append(_told(path, form, total, 0))
    return report


def _all_there(paths: Sequence[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")


def _hash(path: Path, form: FileFormat) -> str:
    """16 hex digits that stand for the bytes of the file and what they are said to mean."""
    said = dataclasses.asdict(form)
    said["columns"] = {name: _said(source) for name, source in form.columns.items()}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    with path.open("rb") as file:
        while piece := file.read(HASH_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()[:STREAM_HASH_DIGITS]


def _said(source: Source) -> dict[str, Any]:
    """What a source says beyond what is so without saying: words that there will be later change no hash."""
    usual = Source(source.column)
    said = {name: getattr(source, name) for name in Source.__dataclass_fields__}
    return {name: value for name, value in said.items() if name == "column" or value != getattr(usual, name)}


def _made(
    root: Root | None, path: Path, form: FileFormat, on_bytes: Callable[[int], None]
) -> Iterator[tuple[Piece, Made]]:
    """The pieces of a file and what became of each.

    Raises:
        InputError: the file cannot be read, or all rows of its first piece have the same fault.
    """
    maker = RowMaker(form, root)
    judged = False
    for piece in pieces(path, maker.wanted, BATCH_BYTES, on_bytes):
        try:
            made = maker.make(piece)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        count = len(made.rows) + made.repeated + len(made.refused)
        if not judged and (fault := common_fault(made.refused, count)) is not None:
            place = f"{path}:{min(made.refused) + first_line(path)}"
            alike = f"; all {count:,} rows read are like that" if count > 1 else ""
            raise InputError(f"{place}: {fault.told}{alike}")
        judged = judged or count > 0
        yield piece, made


def _import(
    root: Root,
    path: Path,
    form: FileFormat,
    target: Landing,
    report: ImportReport,
    on_bytes: Callable[[int], None],
) -> None:
    known = target.committed
    line = first_line(path)
    total: Counter[str] = Counter()
    for piece, made in _made(root, path, form, on_bytes):
        total["lines"] = piece.end
        if piece.end <= target.committed:
            continue
        rows, repeated = _land(root, target, form.table, piece, made, line)
        report.note(path, line, made.refused)
        total += Counter(rows=rows, repeated=repeated, refused=len(made.refused))
    report.files.append(_told(path, form, total, known))


def _told(path: Path, form: FileFormat, total: Counter[str], known: int) -> dict[str, Any]:
    what = {"file": path.name, "table": form.table, "lines": total["lines"], "imported before": known}
    return {**what, **{name: total[name] for name in ("rows", "repeated", "refused")}}


def _land(root: Root, target: Landing, table: str, piece: Piece, made: Made, line: int) -> tuple[int, int]:
    """One piece, as one run of records of the file's stream; how many rows were landed, and how many were repeats."""
    _quarantine(root, target.stream, piece.first, line, made.refused)
    reach("import:after_quarantine")
    offsets = pa.array(np.full(len(made.rows), piece.first, np.int64))
    decoded = made.rows.append_column(OFFSET, offsets)
    total = Chunk(piece.first, piece.end, made.first_us * US_IN_NS, made.last_us * US_IN_NS)
    total.counts = Counter(
        imported=piece.end - piece.first, rejected=len(made.refused), repeated=made.repeated
    )
    with target.in_turn():
        target.append(table, target.look_up(table, decoded, total), total)
    reach("import:after_rows")
    target.cover(total)
    rows = total.counts[f"rows_{table}"]
    return rows, made.repeated + len(made.rows) - rows


def _quarantine(root: Root, stream: str, first: int, line: int, refused: Mapping[int, Refusal]) -> None:
    """The lines that gave no row, with the reasons; the same piece always goes to the same file."""
    if not refused:
        return
    told = [
        {"line": at + line, "column": why.column, "value": why.value, "reason": why.reason, "cure": why.cure}
        for at, why in sorted(refused.items())
    ]
    keep_refused(root.quarantine / "import" / stream, f"{first:012d}", [json.dumps(entry) for entry in told])
