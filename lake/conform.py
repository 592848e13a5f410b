"""Bringing decoded columns into the contract: what fits is stored exactly, other rows are refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.errors import SchemaDriftError
from lake.exact import Array, Mask, decimal_array, to_units, valid_mask
from lake.schema import PARTITION_COLUMNS, UNROUNDED, ColumnSpec, TableSpec

NUMBER_MAX: Final = 1e15
"""No price, size or sum of a market is larger; what is, is a fault that would spoil every sum over it."""
TEXT_BYTES_MAX: Final = 16_384


@dataclass(frozen=True, slots=True)
class Conformed:
    """Outcome of `conform`.

    `rows`: the rows that fit, in storage types and contract order. `rejected`: one flag per row given.
    `row_reasons`: why, for each rejected row in order, its first offending column. `reasons`: how often each.
    """

    rows: pa.Table
    rejected: Mask
    row_reasons: list[str]
    reasons: dict[str, int]


@dataclass(slots=True)
class _Verdicts:
    """Which rows are refused so far, and the reason found first for each."""

    rejected: Mask
    codes: np.ndarray  # index into reasons, per row
    reasons: list[str] = field(default_factory=list)

    def refuse(self, rows: Mask, reason: str) -> None:
        fresh = rows & ~self.rejected
        if fresh.any():
            self.codes[fresh] = len(self.reasons)
            self.reasons.append(reason)
            self.rejected |= fresh

    def listed(self) -> list[str]:
        return [self.reasons[code] for code in self.codes[self.rejected]]


def conform(table: TableSpec, columns: pa.Table) -> Conformed:
    """Turn decoded `columns` into rows of `table`, refusing each row that does not fit.

    Numbers may be float64 or integers, times int64 µs or timestamps, text plain or dictionary-encoded. A
    missing nullable column is null; a missing required one, a changed type, a null where none may be or a
    number that the storage type cannot hold exactly refuses the row. Partition columns are ignored.

    Raises:
        SchemaDriftError: a column that the contract does not know.
    """
    unknown = set(columns.column_names) - set(table.names) - set(PARTITION_COLUMNS)
    if unknown:
        raise SchemaDriftError(f"{table.name}: the contract has no column {', '.join(sorted(unknown))}")
    count = columns.num_rows
    verdicts = _Verdicts(np.zeros(count, np.bool_), np.zeros(count, np.int32))
    sent: dict[str, tuple[Mask, np.ndarray]] = {}
    arrays = []
    for spec in table.columns:
        source = _one_array(columns, spec.name)
        array = _converted(spec, source, count, verdicts, sent if table.keeps_unrounded else None)
        if not spec.nullable and array.null_count:
            verdicts.refuse(~valid_mask(array), f"{spec.name}: null")
        arrays.append(array)
    if sent:
        given = arrays[table.names.index(UNROUNDED)]
        arrays[table.names.index(UNROUNDED)] = _unrounded(given, sent)
    rows = pa.Table.from_arrays(arrays, names=list(table.names))
    if verdicts.rejected.any():
        rows = rows.filter(pa.array(~verdicts.rejected))
    row_reasons = verdicts.listed()
    return Conformed(
        rows.cast(table.arrow_schema), verdicts.rejected, row_reasons, dict(Counter(row_reasons))
    )


def _one_array(columns: pa.Table, name: str) -> Array | None:
    if name not in columns.column_names:
        return None
    column = columns[name]
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # the latter copies


def _converted(
    spec: ColumnSpec,
    source: Array | None,
    count: int,
    verdicts: _Verdicts,
    sent: dict[str, tuple[Mask, np.ndarray]] | None,
) -> Array:
    """`source` in the storage type; rows that do not fit are refused and hold anything."""
    if source is None:
        if not spec.nullable:
            verdicts.refuse(np.ones(count, np.bool_), f"{spec.name}: column missing")
        return pa.nulls(count, spec.type)
    if pa.types.is_null(source.type):
        return pa.nulls(count, spec.type)
    kind = spec.type
    if pa.types.is_decimal(kind) and _is_number(source.type):
        return _decimals(spec, source, verdicts, sent)
    if pa.types.is_floating(kind) and _is_number(source.type):
        return _doubles(spec, source, verdicts)
    if pa.types.is_integer(kind) and pa.types.is_integer(source.type):
        return _integers(spec, source, verdicts)
    if pa.types.is_timestamp(kind) and (pa.types.is_int64(source.type) or pa.types.is_timestamp(source.type)):
        return source.cast(kind)
    if pa.types.is_string(kind) and _is_text(source.type):
        return _texts(spec, source, verdicts)
    if source.type == kind:
        return source
    verdicts.refuse(valid_mask(source), f"{spec.name}: type {source.type}, the contract says {kind}")
    return pa.nulls(count, kind)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _floats(spec: ColumnSpec, source: Array, verdicts: _Verdicts) -> tuple[np.ndarray, Mask | None]:
    """Values (0 where null) and the validity, None where nothing is null."""
    valid = valid_mask(source) if source.null_count else None
    if pa.types.is_integer(source.type):
        wide = np.asarray(pc.fill_null(source, 0))
        values = wide.astype(np.float64)
        verdicts.refuse(values.astype(wide.dtype) != wide, f"{spec.name}: integer beyond 2^53")
        return values, valid
    return np.asarray(pc.fill_null(source, 0.0) if valid is not None else source, np.float64), valid


def _decimals(
    spec: ColumnSpec,
    source: Array,
    verdicts: _Verdicts,
    sent: dict[str, tuple[Mask, np.ndarray]] | None,
) -> Array:
    values, valid = _floats(spec, source, verdicts)
    units, exact, storable = to_units(values, spec.type.scale)
    if not exact.all():
        if sent is None:
            storable = exact
        else:
            sent[spec.name] = (storable & ~exact, values)
        verdicts.refuse(~storable, f"{spec.name}: number does not fit {spec.type}")
    return decimal_array(units, spec.type, valid)


def _doubles(spec: ColumnSpec, source: Array, verdicts: _Verdicts) -> Array:
    values, valid = _floats(spec, source, verdicts)
    sane = np.abs(values) <= NUMBER_MAX
    if not sane.all():
        finite = np.isfinite(values)
        verdicts.refuse(~finite, f"{spec.name}: number is not finite")
        verdicts.refuse(finite & ~sane, f"{spec.name}: number beyond {NUMBER_MAX:g}")
    return pa.array(values, mask=None if valid is None else ~valid)


def _texts(spec: ColumnSpec, source: Array, verdicts: _Verdicts) -> Array:
    texts = source.cast(spec.type)
    if texts.nbytes > TEXT_BYTES_MAX:  # else none can be too long
        long = np.asarray(pc.fill_null(pc.greater(pc.binary_length(texts), TEXT_BYTES_MAX), False))
        verdicts.refuse(long, f"{spec.name}: text of more than {TEXT_BYTES_MAX} bytes")
    return texts


def _integers(spec: ColumnSpec, source: Array, verdicts: _Verdicts) -> Array:
    if source.type == spec.type:
        return source
    wide = np.asarray(pc.fill_null(source, 0))
    narrow = wide.astype(spec.type.to_pandas_dtype())
    verdicts.refuse(narrow != wide, f"{spec.name}: integer does not fit {spec.type}")
    return pa.array(narrow, mask=~valid_mask(source) if source.null_count else None)


def _unrounded(given: Array, sent: dict[str, tuple[Mask, np.ndarray]]) -> Array:
    """The `unrounded` column: what is `given` already, else the numbers of `sent` that had to be rounded."""
    texts: list[str | None] = given.to_pylist()
    rows = np.flatnonzero(np.logical_or.reduce([mask for mask, _ in sent.values()]))
    for row in rows:
        numbers = {name: float(values[row]) for name, (mask, values) in sent.items() if mask[row]}
        texts[row] = json.dumps(numbers, separators=(",", ":"))
    return pa.array(texts, given.type)
