"""Numbers between float64, as JSON gives them, and exact storage.

A float64 `x` is stored as a decimal of scale `s` when some integer `u` (the *units*) has `u / 10**s == x` in
float64 arithmetic. Division of two exactly represented numbers is correctly rounded, and so is the reading of
decimal text: the test holds exactly when a text of at most `s` decimals reads as `x`, and going back by the
same division gives the very same float64. Both need `|u| <= 2**53`.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.schema import UNROUNDED, TableSpec

Array = Any
"""An Arrow array, chunked where so said. The stubs of pyarrow cannot follow kernels over unknown types."""
Floats = npt.NDArray[np.float64]
Units = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

EXACT_UNITS_MAX: Final = 2**53
STORABLE_UNITS_MAX: Final = 10.0**18  # exclusive: DECIMAL(18)


def to_units(values: Floats, scale: int) -> tuple[Units, Mask, Mask]:
    """Nearest units of `values` at `scale`; which values these equal; which can be stored, rounded or not.

    Not storable are infinities, NaN and magnitudes beyond DECIMAL(18); their units are 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(values * 10.0**scale)
        storable = np.abs(scaled) < STORABLE_UNITS_MAX  # False for NaN
        if not storable.all():
            scaled = np.where(storable, scaled, 0.0)
        exact = scaled / 10.0**scale == values
        exact &= np.abs(scaled) <= EXACT_UNITS_MAX
    return scaled.astype(np.int64), exact, storable


def decimal_array(units: Units, scale_type: pa.DataType, valid: Mask | None) -> Array:
    """An Arrow decimal array of `units`; rows where `valid` is False are null."""
    words = np.empty((len(units), 2), np.int64)  # little-endian 128-bit two's complement
    words[:, 0] = units
    words[:, 1] = units >> 63
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little").data)
    return pa.Array.from_buffers(scale_type, len(units), [bitmap, pa.py_buffer(words.data)])


def units_of(column: Array) -> Units:
    """Units of a decimal array; arbitrary where null."""
    words = np.frombuffer(column.buffers()[1], np.int64).reshape(-1, 2)
    return words[column.offset : column.offset + len(column), 0]


def to_floats(column: Array) -> Floats:
    """A column of numbers as float64, exactly as stored; NaN where null.

    Arrow's own cast of decimals multiplies by a rounded power of ten and is off by the last bit at times.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_decimal(array.type):
        doubles: Array = array.cast(pa.float64())
        return np.asarray(doubles.fill_null(np.nan))
    floats: Floats = units_of(array) / 10.0**array.type.scale
    if array.null_count:
        floats[~valid_mask(array)] = np.nan
    return floats


def valid_mask(array: Array) -> Mask:
    """True where `array` is not null."""
    return np.asarray(array.is_valid())


def as_sent(rows: pa.Table, column: str) -> Floats:
    """Numbers of `column` exactly as the venue sent them, as float64; NaN where it sent none."""
    floats = to_floats(rows[column])
    if UNROUNDED not in rows.column_names:
        return floats
    texts = rows[UNROUNDED]
    if texts.null_count == len(texts):
        return floats
    for row in np.flatnonzero(np.asarray(texts.is_valid())):
        sent = json.loads(texts[int(row)].as_py())
        if column in sent:
            floats[row] = sent[column]
    return floats


def as_sent_sql(table: TableSpec, column: str) -> str:
    """DuckDB expression for `column` as sent, a DOUBLE; the column itself where it is no decimal."""
    if not pa.types.is_decimal(table.column(column).type):
        return column
    if not table.keeps_unrounded:
        return f"{column}::DOUBLE"
    return f"coalesce(({UNROUNDED}->>'$.{column}')::DOUBLE, {column}::DOUBLE)"
