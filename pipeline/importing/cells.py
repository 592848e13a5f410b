"""Cells of a file as values of a column: what is right however it is spelled, and a reason for what is not."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array, valid_mask
from lake.schema import ColumnSpec
from pipeline.importing.formats import Source
from pipeline.importing.refusals import Verdicts
from pipeline.importing.times import NUMBER, read_times

NOTHING: Final = (
    "", "nan", "NaN", "NAN", "-nan", "null", "NULL", "Null", "none", "None", "NONE", "nil", "-", "--", "N/A", "n/a",
    "NA", "#N/A", "NaT", "nat", "<NA>", "<null>", "undefined",
)  # fmt: skip
"""Texts that stand for no value, in the dumps of every tool."""
TEXT_MAX: Final = 2_000
"""Characters of a text; the longest that the venue sends are lists of price steps, some hundred."""
LONG_MAX: Final = 1 << 63
TRUE: Final = ("true", "t", "yes", "1", "1.0")
FALSE: Final = ("false", "f", "no", "0", "0.0")
_WHOLE: Final = r"^[+-]?[0-9]+(?:\.0*)?$"
_NUMBER: Final = f"^{NUMBER}$"
_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
_THOUSANDS: Final = re.compile(r"[+-]?[0-9]{1,3}(?:[,. '_\u00a0\u202f][0-9]{3})+(?:[.,][0-9]+)?")
_ROUNDED_ID: Final = r"^[0-9]+(?:\.[0-9]+)?[eE]\+?[0-9]+$|^[0-9]+\.[0-9]*[1-9][0-9]*$"
_WHOLE_ID: Final = r"^([0-9]+)\.0+$"
IDENTIFIERS: Final = frozenset({"trade_id", "block_trade_id", "combo_trade_id"})


def read_cells(spec: ColumnSpec, source: Source, cells: Array, verdicts: Verdicts) -> Array:
    """`cells` (text, or Arrow's own times) as values of the column `spec`: times, numbers as doubles, the rest as it is
    stored. Rows whose cells cannot be read are refused; the null of a column that may have none is not judged here."""
    if not pa.types.is_timestamp(cells.type):
        cells = _without_nothing(cells, source)
    kind = spec.type
    if pa.types.is_timestamp(kind):
        return read_times(spec.name, cells, source.unit, source.zone, verdicts)
    if pa.types.is_timestamp(cells.type):
        verdicts.refuse(spec.name, valid_mask(cells), "is a time, which this column has not", general=True)
        return pa.nulls(len(cells), kind)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(spec.name, source, cells, verdicts)
    if pa.types.is_integer(kind):
        return _integers(spec, cells, verdicts)
    if pa.types.is_boolean(kind):
        return read_flags(spec.name, cells, verdicts)
    return _texts(spec.name, cells, verdicts)


def read_flags(column: str, cells: Array, verdicts: Verdicts) -> Array:
    """Truth values of text."""
    lower = pc.utf8_lower(cells)
    yes, no = (pc.is_in(lower, value_set=pa.array(words)) for words in (TRUE, FALSE))
    odd = valid_mask(cells) & ~np.asarray(pc.or_(yes, no))
    verdicts.refuse(column, odd, "is neither true nor false", general=True)
    return pc.if_else(pc.or_(yes, no), yes, None)


def _without_nothing(cells: Array, source: Source) -> Array:
    """Trimmed, with what `source` says of its texts applied, and null where nothing is said."""
    cells = pc.utf8_trim_whitespace(cells)
    if source.values:
        at = pc.index_in(cells, value_set=pa.array(list(source.values), pa.string()))
        cells = pc.coalesce(pa.array(list(source.values.values()), pa.string()).take(at), cells)
    nothing = pa.array([*NOTHING, *source.null], pa.string())
    return pc.if_else(pc.is_in(cells, value_set=nothing), None, cells)


def _numbers(column: str, source: Source, cells: Array, verdicts: Verdicts) -> Array:
    try:
        values = cells.cast(pa.float64())
    except pa.ArrowInvalid:
        fine = pc.match_substring_regex(cells, _NUMBER)
        _refuse_spellings(column, cells, ~np.asarray(pc.fill_null(fine, True)), "is no number", verdicts)
        values = pc.if_else(fine, cells, None).cast(pa.float64())
    if source.scale is not None:
        values = _scaled(values, Decimal(source.scale))
    wild = ~np.isfinite(np.asarray(pc.fill_null(values, 0.0)))
    if wild.any():
        verdicts.refuse(column, wild, "is not finite")
        values = pc.if_else(pa.array(wild), None, values)
    if source.zero_is_null:
        values = pc.if_else(pc.equal(values, 0.0), None, values)
    return values


def _scaled(values: Array, scale: Decimal) -> Array:
    """`values` times `scale`, as if the product had been written down: 0.416 is 41.6 percent to the last digit."""
    coded = values.dictionary_encode()
    finite = (
        value if value is not None and np.isfinite(value) else None for value in coded.dictionary.to_pylist()
    )
    scaled = [None if value is None else float(Decimal(repr(value)) * scale) for value in finite]
    return pa.array(scaled, pa.float64()).take(coded.indices)


def _integers(spec: ColumnSpec, cells: Array, verdicts: Verdicts) -> Array:
    plain = pc.match_substring_regex(cells, _WHOLE)
    trimmed = pc.replace_substring_regex(cells, r"^\+|\.0*$", "")
    try:
        values = pc.if_else(plain, trimmed, None).cast(pa.int64())
    except pa.ArrowInvalid:  # beyond 64 bits
        plain = pc.and_(plain, pc.less(pc.utf8_length(trimmed), len(str(LONG_MAX))))
        values = pc.if_else(plain, trimmed, None).cast(pa.int64())
    odd = valid_mask(cells) & ~np.asarray(pc.fill_null(plain, True))
    if odd.any():
        read = values.to_pylist()
        for at in np.flatnonzero(odd).tolist():
            text = cells[at].as_py()
            number = _whole(text)
            if number is not None:
                read[at], odd[at] = number, False
        values = pa.array(read, pa.int64())
        _refuse_spellings(spec.name, cells, odd, "is no whole number of 64 bits", verdicts)
    narrow = np.iinfo(spec.type.to_pandas_dtype())
    filled = np.asarray(pc.fill_null(values, 0))
    verdicts.refuse(
        spec.name, (filled < narrow.min) | (filled > narrow.max), f"does not fit {spec.type}", general=True
    )
    return values


def _whole(text: str) -> int | None:
    """The integer of 64 bits that a number with a point or an exponent stands for exactly."""
    if re.fullmatch(NUMBER, text) is None:
        return None
    number = Decimal(text)
    if number.adjusted() > len(str(LONG_MAX)) or number != number.to_integral_value():
        return None
    return int(number) if -LONG_MAX <= number < LONG_MAX else None


def _refuse_spellings(column: str, cells: Array, odd: np.ndarray, why: str, verdicts: Verdicts) -> None:
    """Refuse cells that are no numbers, with the cure that their spelling suggests."""
    for at in np.flatnonzero(odd).tolist():
        text = cells[at].as_py()
        cure = ""
        if _THOUSANDS.fullmatch(text):
            cure = "write numbers without separators of thousands"
        elif _COMMA.fullmatch(text):
            cure = "write a decimal point instead of the comma"
        elif text.endswith("%"):
            cure = "write it without the percent sign"
        verdicts.refuse_at(column, at, why, cure, general=True)


def _texts(column: str, cells: Array, verdicts: Verdicts) -> Array:
    long = np.asarray(pc.fill_null(pc.greater(pc.utf8_length(cells), TEXT_MAX), False))
    verdicts.refuse(column, long, f"is longer than {TEXT_MAX} characters")
    if column not in IDENTIFIERS:
        return cells
    rounded = np.asarray(pc.fill_null(pc.match_substring_regex(cells, _ROUNDED_ID), False))
    verdicts.refuse(
        column, rounded, "was a number once and lost its digits", "export ids as text", general=True
    )
    return pc.replace_substring_regex(cells, _WHOLE_ID, r"\1")
