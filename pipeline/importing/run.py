"""Importing files: each file in a form is a stream of its own, known by its content, and its rows are landed once.

A file that was imported in the same form before, whole or in part, is known by its hash: only what is missing is
added. Rows that the lake has from elsewhere are left out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lake.crashpoints import reach
from lake.durable import disk_full_told, make_dirs, replace_file
from lake.errors import InputError
from lake.locks import exclusive
from lake.root import Root
from lake.tables import Tables
from pipeline.decoding import OFFSET, Chunk
from pipeline.importing.formats import FileFormat
from pipeline.importing.rows import VENUE, Made, RowMaker
from pipeline.landing import Landing

BATCH_BYTES: Final = 32 << 20
"""Text that becomes one commit, about: some 300,000 rows."""
HASH_READ_BYTES: Final = 1 << 20
US_IN_NS: Final = 1_000
STREAM_HASH_DIGITS: Final = 16
_PARSE: Final = pyarrow.csv.ParseOptions(newlines_in_values=False)


@dataclass(slots=True)
class ImportReport:
    """What was done with each file."""

    files: list[dict[str, Any]] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Rows of all files that did not fit."""
        return sum(int(file["refused"]) for file in self.files)


def import_files(
    root: Root,
    paths: Sequence[Path],
    form: FileFormat,
    *,
    on_bytes: Callable[[int], None] | None = None,
) -> ImportReport:
    """Land the rows of CSV files (plain, .gz, .zst, .bz2) in the table that `form` names.

    `on_bytes` is told how many bytes of the files have been read since it was told last.

    Raises:
        InputError: a file is not there, lacks a column, or has a cell that cannot be read; the message names the
            file and the line. What was landed before stays, and is not landed again.
        BusyError: another process imports the same file.
        DiskFullError: no space is left; run again when there is.
    """
    report = ImportReport()
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: there is no such file")
    for path in paths:
        stream = f"{VENUE}-import@{_hash(path, form)}"
        lock = root.locks / f"{stream.replace('@', '-')}.lock"
        with disk_full_told(f"importing {path}"), exclusive(lock, f"importing {path}"):
            report.files.append(
                _import(root, path, form, Landing(Tables(root), stream), on_bytes or (lambda _: None))
            )
    return report


def _hash(path: Path, form: FileFormat) -> str:
    """16 hex digits that stand for the bytes of the file and what they are said to mean."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(form), sort_keys=True).encode())
    with path.open("rb") as file:
        while piece := file.read(HASH_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()[:STREAM_HASH_DIGITS]


def _import(
    root: Root, path: Path, form: FileFormat, target: Landing, on_bytes: Callable[[int], None]
) -> dict[str, Any]:
    maker = RowMaker(form)
    known, rows, refused, position = target.committed, 0, 0, 0
    for batch in _batches(path, maker, on_bytes):
        first, position = position, position + batch.num_rows
        made = maker.make(batch)
        if position <= target.committed or not batch.num_rows:
            continue
        rows += _land(root, target, form.table, first, position, made)
        refused += len(made.refused)
    what = {"file": path.name, "table": form.table, "lines": position, "imported before": known}
    return {**what, "rows": rows, "refused": refused}


def _land(root: Root, target: Landing, table: str, first: int, end: int, made: Made) -> int:
    """One batch, as one run of records of the file's stream; how many rows of it the lake did not hold yet."""
    total = Chunk(first, end, made.first_us * US_IN_NS, made.last_us * US_IN_NS)
    total.counts = Counter(imported=end - first, rejected=len(made.refused))
    _quarantine(root, target.stream, first, made.refused)
    reach("import:after_quarantine")
    offsets = pa.array(np.full(len(made.rows), first, np.int64))
    decoded = made.rows.append_column(OFFSET, offsets)
    with target.in_turn():
        target.append(table, target.look_up(table, decoded, total), total)
    reach("import:after_rows")
    target.cover(total)
    return total.counts[f"rows_{table}"]


def _batches(path: Path, maker: RowMaker, on_bytes: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    types = maker.cell_types()
    convert = pyarrow.csv.ConvertOptions(
        column_types=types, include_columns=list(types), strings_can_be_null=True, null_values=[""]
    )
    read = pyarrow.csv.ReadOptions(block_size=BATCH_BYTES, use_threads=False)
    told = 0
    with path.open("rb") as file:
        try:
            with pyarrow.csv.open_csv(
                pa.input_stream(file, compression=_compression(path)),
                read_options=read,
                parse_options=_PARSE,
                convert_options=convert,
            ) as reader:
                for batch in reader:
                    yield batch
                    on_bytes(file.tell() - told)
                    told = file.tell()
        except KeyError as error:
            # The column's name is in quotes in the message, and nowhere else.
            column = str(error).split("'")[1]
            raise InputError(
                f"{path}: the header has no column '{column}'; is this the right format?"
            ) from None
        except (pa.ArrowInvalid, OSError) as error:
            if "Empty CSV file" not in str(error):
                raise InputError(f"{path}: {' '.join(str(error).split())}") from None


def _compression(path: Path) -> str | None:
    return {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(path.suffix)


def _quarantine(root: Root, stream: str, first: int, refused: dict[int, str]) -> None:
    """The lines that gave no row, with the reasons; the same batch always goes to the same file."""
    if not refused:
        return
    folder = root.quarantine / "import" / stream
    make_dirs(folder)
    # Line 1 is the header, and positions count from 0; lines without anything are not counted.
    lines = [json.dumps({"line": first + at + 2, "reason": why}) for at, why in sorted(refused.items())]
    replace_file(folder / f"{first:012d}.jsonl", "\n".join(lines).encode() + b"\n")
