"""An answer on its way out for programs: CSV and JSON to the terminal or a file, Parquet to a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lake.display import plain
from lake.errors import InputError


def write_answer(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str, out: Path | None) -> None:
    """Write `batches` as `form` (csv, json or parquet) to `out`, or to standard output where that is None.

    CSV has a header, leaves nulls empty and writes lists as JSON; JSON is a list of objects, one to a line, with times
    in ISO 8601 and null for what JSON cannot say (NaN, infinities). Where `batches` end in an error, no file is left.

    Raises:
        InputError: `out` cannot be written.
    """
    if out is None:
        _write(schema, batches, form, sys.stdout.buffer)
        sys.stdout.flush()
        return
    try:
        file = out.open("wb")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}") from error
    try:
        with file:
            _write(schema, batches, form, file)
    except BaseException:
        if out.is_file() and not out.is_symlink():
            out.unlink()
        raise


def _write(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str, file: BinaryIO) -> None:
    if form == "csv":
        with pyarrow.csv.CSVWriter(file, _flat(schema.empty_table()).schema) as csv:
            for batch in batches:
                csv.write_table(_flat(pa.table(batch)))
    elif form == "parquet":
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as parquet:
            for batch in batches:
                parquet.write_batch(batch)
    else:
        for piece in _json_pieces(batches):
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


def _json_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    yield "["
    separator = "\n"
    for batch in batches:
        for row in batch.to_pylist():
            yield separator + json.dumps(plain(row), default=str)
            separator = ",\n"
    yield "\n]\n"
