"""Order and physical layout of the rows of a Parquet file.

Encodings follow the contract's columns. A busy instrument has row groups of its own, so that reading its day
touches nothing else. Statistics cover only the columns
that queries select files by. A file appears under its name whole and durable, or not at all.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.durable import fsync_dir
from lake.exact import Array
from lake.schema import SCHEMA_VERSION, ColumnSpec, Encoding, TableSpec
from lake.seal import FOOTER_KEY, FOOTER_VALUE, SealedFile

Purpose = Literal["ingest", "compact"]

ROW_GROUP_ROWS_MIN: Final = 12_000  # an instrument with as many rows has row groups of its own
ROW_GROUP_ROWS_MAX: Final = 131_072
DATA_PAGE_BYTES: Final = 1 << 20
DICTIONARY_BYTES_MAX: Final = 1 << 20
ZSTD_LEVEL: Final[dict[Purpose, int]] = {"ingest": 1, "compact": 3}  # 6 saves 1 % more for 40 % more CPU
ZSTD_LEVEL_COPIES: Final[dict[Purpose, int]] = {
    "ingest": 3,
    "compact": 9,
}  # plain columns live off finding copies

_PARQUET_ENCODINGS: Final = {
    Encoding.DELTA: "DELTA_BINARY_PACKED",
    Encoding.DELTA_TEXT: "DELTA_BYTE_ARRAY",
    Encoding.PLAIN: "PLAIN",
}

Scalar = str | int | dt.datetime | None


@dataclass(frozen=True, slots=True)
class FileStats:
    """What the Delta log needs to know about a written file."""

    size: int
    rows: int
    minimum: dict[str, Scalar]
    maximum: dict[str, Scalar]
    nulls: dict[str, int]

    def delta_json(self) -> str:
        """The `stats` text of a Delta add action."""
        return json.dumps(
            {
                "numRecords": self.rows,
                "minValues": {k: _json_value(v) for k, v in self.minimum.items() if v is not None},
                "maxValues": {k: _json_value(v) for k, v in self.maximum.items() if v is not None},
                "nullCount": self.nulls,
            },
            separators=(",", ":"),
        )


def sort_rows(rows: pa.Table, table: TableSpec) -> pa.Table:
    """`rows` in the order of the table's sort key; rows equal in it keep their order. Nulls come last."""
    return sort_by(rows, table.sort_key)


def sort_by(rows: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """`rows` in the order of the columns `key`; rows equal in it keep their order. Nulls come last."""
    order = row_order(rows, key)
    return rows if _is_identity(order) else rows.take(order)


def is_in_order(rows: pa.Table, key: tuple[str, ...]) -> bool:
    """Whether `rows` are sorted by `key` already."""
    return _is_identity(row_order(rows, key))


def write_file(
    path: Path,
    rows: pa.Table,
    table: TableSpec,
    *,
    purpose: Purpose,
) -> FileStats:
    """Write `rows` (of the contract's types, in its order, at least one) to `path`, durably and atomically.

    Text may come as dictionaries, which saves spelling it out only to be numbered again; the file is the same.
    The table's name, the schema version and the purpose stand in the file's footer.

    Raises:
        OSError: the file could not be written; there is none, or the one that was there before.
    """
    rows = rows.select(table.names)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    footer = {
        "lake.table": table.name,
        "lake.schema_version": str(SCHEMA_VERSION),
        "lake.purpose": purpose,
        FOOTER_KEY: FOOTER_VALUE,
    }
    try:
        with SealedFile(temporary) as file:
            with pq.ParquetWriter(file, _schema(rows, table), **_options(table, purpose)) as writer:
                for start, stop in _row_groups(rows):
                    writer.write_table(rows.slice(start, stop - start), row_group_size=stop - start)
                writer.add_key_value_metadata(footer)
                file.reserve()
            file.seal()
            os.fsync(file.fileno())
        size = temporary.stat().st_size
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(path.parent)
    return _stats(rows, table, size)


def _schema(rows: pa.Table, table: TableSpec) -> pa.Schema:
    """The contract's, with dictionaries where `rows` have them for text."""
    return pa.schema(
        [
            field.with_type(given.type)
            if pa.types.is_dictionary(given.type) and given.type.value_type == field.type
            else field
            for field, given in zip(table.arrow_schema, rows.schema, strict=True)
        ]
    )


def _options(table: TableSpec, purpose: Purpose) -> dict[str, Any]:
    return {
        "version": "2.6",
        "compression": "zstd",
        "compression_level": {
            _leaf(c): (ZSTD_LEVEL_COPIES if c.encoding is Encoding.PLAIN else ZSTD_LEVEL)[purpose]
            for c in table.columns
        },
        "use_dictionary": [c.name for c in table.columns if c.encoding is Encoding.DICTIONARY],
        "column_encoding": {
            _leaf(c): _PARQUET_ENCODINGS[c.encoding]
            for c in table.columns
            if c.encoding is not Encoding.DICTIONARY
        },
        "write_statistics": list(table.stats),
        "data_page_version": "2.0",
        "data_page_size": DATA_PAGE_BYTES,
        "dictionary_pagesize_limit": DICTIONARY_BYTES_MAX,
        "store_decimal_as_integer": True,
        "write_page_checksum": True,  # about 6 bytes a page, so that no flipped bit of data goes unnoticed
        "store_schema": False,  # other readers' view is the only one
    }


def _leaf(column: ColumnSpec) -> str:
    """What Parquet calls the column that holds the values."""
    return f"{column.name}.list.element" if pa.types.is_list(column.type) else column.name


def _row_groups(rows: pa.Table) -> Iterator[tuple[int, int]]:
    """Spans of rows: a busy instrument has row groups of its own, quiet neighbours share one."""
    start = 0  # of the quiet instruments gathered so far
    first = 0
    for end in _instrument_ends(rows):
        size = end - first
        if size >= ROW_GROUP_ROWS_MIN:
            if start < first:
                yield start, first
            bounds = np.linspace(first, end, 1 + -(-size // ROW_GROUP_ROWS_MAX)).astype(int).tolist()
            yield from itertools.pairwise(bounds)
            start = end
        elif end - start >= ROW_GROUP_ROWS_MIN:
            yield start, end
            start = end
        first = end
    if start < rows.num_rows:
        yield start, rows.num_rows


def _instrument_ends(rows: pa.Table) -> list[int]:
    """Row after the last of each run of equal instruments."""
    if "instrument" not in rows.column_names:
        return [rows.num_rows]
    codes = sort_codes(rows["instrument"])
    return [*(np.flatnonzero(np.diff(codes)) + 1).tolist(), rows.num_rows]


def row_order(rows: pa.Table, key: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """Stable order of rows by `key`: one stable sort per column, last column first.

    That beats a comparison sort of tuples: codes of text sort by radix, and times arrive nearly sorted.
    """
    order = np.arange(rows.num_rows)
    for name in reversed(key):
        codes = sort_codes(rows[name])[order]
        if len(codes) and (codes[1:] < codes[:-1]).any():
            order = order[np.argsort(codes, kind="stable")]
    return order


def sort_codes(column: Array) -> npt.NDArray[Any]:
    """Integers that order as the values of `column` do, nulls last."""
    array = column.combine_chunks()
    if pa.types.is_string(array.type) or pa.types.is_dictionary(array.type):
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        ranks = np.asarray(pc.rank(encoded.dictionary, tiebreaker="dense"), np.int64)
        ranks = np.append(ranks, len(ranks) + 1).astype(np.uint16 if len(ranks) < 2**16 - 2 else np.int64)
        codes: npt.NDArray[Any] = ranks[np.asarray(pc.fill_null(encoded.indices, len(encoded.dictionary)))]
        return codes
    if pa.types.is_timestamp(array.type):
        array = array.view(pa.int64())
    elif pa.types.is_date32(array.type):
        array = array.view(pa.int32())
    return np.asarray(pc.fill_null(array.cast(pa.int64()), np.iinfo(np.int64).max))


def _is_identity(order: npt.NDArray[np.int64]) -> bool:
    return bool((order == np.arange(len(order))).all())


def _stats(rows: pa.Table, table: TableSpec, size: int) -> FileStats:
    minimum: dict[str, Scalar] = {}
    maximum: dict[str, Scalar] = {}
    nulls: dict[str, int] = {}
    for name in table.stats:
        bounds = pc.min_max(rows[name])
        minimum[name], maximum[name] = bounds["min"].as_py(), bounds["max"].as_py()
        nulls[name] = rows[name].null_count
    return FileStats(size, rows.num_rows, minimum, maximum, nulls)


def _json_value(value: Scalar) -> str | int | None:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value
