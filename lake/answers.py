"""An answer on its way out for programs: CSV and JSON to the terminal or a file, Parquet to a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lake.display import plain
from lake.errors import InputError

JSON_BATCH_ROWS: Final = 10_000


def write_answer(answer: pa.Table, form: str, out: Path | None) -> None:
    """Write `answer` as `form` (csv, json or parquet) to `out`, or to standard output where that is None.

    CSV has a header, leaves nulls empty and writes lists as JSON; JSON is a list of objects, one to a line, with times
    in ISO 8601 and null for what JSON cannot say (NaN, infinities).

    Raises:
        InputError: `out` cannot be written.
    """
    if out is None:
        _write(answer, form, sys.stdout.buffer)
        sys.stdout.flush()
        return
    try:
        with out.open("wb") as file:
            _write(answer, form, file)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from error


def _write(answer: pa.Table, form: str, file: BinaryIO) -> None:
    if form == "csv":
        pyarrow.csv.write_csv(_flat(answer), file)
    elif form == "parquet":
        pyarrow.parquet.write_table(answer, file, compression="zstd")
    else:
        for piece in _json_pieces(answer):
            file.write(piece.encode())


def _flat(answer: pa.Table) -> pa.Table:
    """Lists as JSON text: CSV has no lists."""
    for position, field in enumerate(answer.schema):
        if pa.types.is_nested(field.type):
            texts = [
                None if v is None else json.dumps(plain(v), default=str) for v in answer[position].to_pylist()
            ]
            answer = answer.set_column(position, field.name, pa.array(texts, pa.string()))
    return answer


def _json_pieces(answer: pa.Table) -> Iterator[str]:
    yield "["
    separator = "\n"
    for batch in answer.to_batches(max_chunksize=JSON_BATCH_ROWS):
        for row in batch.to_pylist():
            yield separator + json.dumps(plain(row), default=str)
            separator = ",\n"
    yield "\n]\n"
