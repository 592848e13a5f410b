"""Parquet and Arrow files: their columns as text, but for times, which stay what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from lake.errors import InputError
from lake.exact import Array

TYPED: Final[Mapping[bytes, str]] = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow stream",
    b"FEA1": "feather of version 1",
}
"""How such files begin, and what they are."""
ROW_BYTES: Final = 100
"""Of a row as text, about."""


@contextmanager
def _told(path: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as {kind} file: {why}") from None


def typed_names(path: Path, kind: str) -> list[str]:
    """The names of the columns. Raises InputError: the file cannot be read."""
    with _told(path, kind):
        return list(_schema(path, kind).names)


def typed_batches(
    path: Path, kind: str, wanted: Sequence[str], piece_bytes: int
) -> Iterator[tuple[dict[str, Array], int]]:
    """The columns `wanted` piece by piece, each with how many rows it has.

    Raises:
        InputError: the file cannot be read, lacks a column, or has one whose type has no form as text.
    """
    names = typed_names(path, kind)
    for name in wanted:
        if name not in names:
            raise InputError(
                f"{path}: the file has no column '{name}'; is this the right format? It has {', '.join(names)[:300]}"
            )
    rows = max(piece_bytes // ROW_BYTES, 1)
    with _told(path, kind):
        for batch in _batches(path, kind, wanted, rows):
            for at in range(0, batch.num_rows, rows):
                part = batch.slice(at, rows)
                columns = {name: _as_text(path, name, part.column(name)) for name in wanted}
                yield columns, part.num_rows


def _schema(path: Path, kind: str) -> Any:
    if kind == "parquet":
        return pq.read_schema(path)
    with pa.OSFile(str(path)) as file:
        return _reader(file, kind).schema


def _batches(path: Path, kind: str, wanted: Sequence[str], rows: int) -> Iterator[Any]:
    if kind == "parquet":
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(batch_size=rows, columns=list(wanted), use_threads=False)
        return
    with pa.OSFile(str(path)) as raw:
        reader = _reader(raw, kind)
        if kind == "arrow":
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            yield from reader


def _reader(file: Any, kind: str) -> Any:
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if kind == "arrow":
        return pa.ipc.open_file(file, options=options)
    if kind == "arrow stream":
        return pa.ipc.open_stream(file, options=options)
    raise pa.ArrowInvalid(f"{kind} is too old; write it as Parquet, or as Feather of version 2")


def _as_text(path: Path, name: str, cells: Array) -> Array:
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    kind = cells.type
    if pa.types.is_timestamp(kind):
        return cells
    if pa.types.is_date(kind):
        return cells.cast(pa.timestamp("ms"))
    if pa.types.is_boolean(kind):
        return pc.if_else(cells, "true", "false")
    textual = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if textual or numeric or pa.types.is_null(kind) or pa.types.is_binary(kind):
        return cells.cast(pa.string())
    raise InputError(f"{path}: column '{name}' is of type {kind}, which cannot be imported; write it as text")
