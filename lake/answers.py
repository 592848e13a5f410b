"""An answer on its way out for programs: CSV and JSON to the terminal or a file, Parquet to a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lake.display import plain
from lake.errors import InputError


def write_answer(schema: pa.Schema, batches: Iterable[pa.RecordBatch], form: str, out: Path | None) -> None:
    """Write `batches` as `form` (csv, json or parquet) to `out`, or to standard output where that is None.

    CSV has a header, leaves nulls empty and writes lists as JSON; JSON is a list of objects, one to a line, with times
    in ISO 8601 and null for what JSON cannot say (NaN, infinities). Intervals, which only Arrow has, become
    durations in ISO 8601 everywhere. Where `batches` end in an error, no file is left.

    Raises:
        InputError: `out` cannot be written, or the form has no such type as that of a column.
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
    try:
        if form == "csv":
            with pyarrow.csv.CSVWriter(file, _as_text(schema.empty_table(), _is_not_of_csv).schema) as csv:
                for batch in batches:
                    csv.write_table(_as_text(pa.table(batch), _is_not_of_csv))
        elif form == "parquet":
            told = _as_text(schema.empty_table(), pa.types.is_interval).schema
            with pyarrow.parquet.ParquetWriter(file, told, compression="zstd") as parquet:
                for batch in batches:
                    parquet.write_table(_as_text(pa.table(batch), pa.types.is_interval))
        else:
            for piece in _json_pieces(batches):
                file.write(piece.encode())
    except pa.ArrowNotImplementedError as error:
        types = ", ".join(f"{field.name} is {field.type}" for field in schema)
        raise InputError(
            f"{form} cannot say this ({error}); {types}: cast it to VARCHAR in the query"
        ) from error


def _is_not_of_csv(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_interval(kind))


def _as_text(answer: pa.Table, wanted: Callable[[pa.DataType], bool]) -> pa.Table:
    """Columns of the `wanted` types as text: lists as JSON, intervals as durations in ISO 8601."""
    for position, field in enumerate(answer.schema):
        if wanted(field.type):
            texts = [None if v is None else _text(plain(v)) for v in answer[position].to_pylist()]
            answer = answer.set_column(position, field.name, pa.array(texts, pa.string()))
    return answer


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _json_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    yield "["
    separator = "\n"
    for batch in batches:
        for row in batch.to_pylist():
            yield separator + json.dumps(plain(row), default=str)
            separator = ",\n"
    yield "\n]\n"
