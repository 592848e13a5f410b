"""Mappings that users write: TOML files that say which column of a file is which column of a table.

    table = "trades"

    [columns]                       # column of the table = column of the file
    instrument = "symbol"
    ts         = { column = "time", unit = "ms" }
    trade_id   = "id"
    price      = "price"
    size       = "qty"
    side       = { column = "side", values = { B = "buy", S = "sell" } }
    iv         = { column = "sigma", scale = "percent" }

    [constants]                     # what the file does not say
    venue = "deribit"

docs/importing.md tells what each word means.
"""

from __future__ import annotations

import tomllib
import zoneinfo
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, get_args

import pyarrow as pa

from lake.errors import InputError
from lake.schema import TABLES, ColumnSpec, TableSpec
from pipeline.importing.formats import FROM_FILES, SAME_AS, FileFormat, Source, Unit
from pipeline.importing.times import fixed_offset

SCALES: Final = {"percent": "100", "fraction": "0.01"}
"""Words for factors: a fraction as percent, and percent as a fraction."""
_OPTIONS: Final = ("column", "unit", "zone", "scale", "null", "values", "zero_is_null")


def read_mapping(path: Path) -> FileFormat:
    """The format that a mapping file describes.

    Raises:
        InputError: the file cannot be read, or says something that the contract of its table does not allow.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a mapping: {error}") from None
    return parse_mapping(text, str(path))


def parse_mapping(text: str, place: str) -> FileFormat:
    """The format that the text of a mapping describes; `place` is what a message calls it. Raises as `read_mapping`."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place}: cannot be read as a mapping: {error}") from None
    odd = content.keys() - {"table", "columns", "constants"}
    if odd:
        raise InputError(f"{place}: unknown entry {min(odd)!r}; there are table, columns and constants")
    table = content.get("table")
    if table not in FROM_FILES:
        raise InputError(
            f"{place}: table = {table!r} cannot be imported; choose one of {', '.join(FROM_FILES)}"
        )
    columns, constants = content.get("columns", {}), content.get("constants", {})
    for name, said in (("columns", columns), ("constants", constants)):
        if not isinstance(said, dict):
            raise InputError(f"{place}: {name} = {said!r}: write a section [{name}], a line for each column")
    spec = TABLES[table]
    for name in [*columns, *constants]:
        if name not in spec.names:
            raise InputError(f"{place}: {table} has no column {name!r}; it has {', '.join(spec.names)}")
    sources = {
        name: _source(f"{place}: columns.{name}", spec.column(name), said) for name, said in columns.items()
    }
    _check_names(place, spec, columns, constants)
    return FileFormat(table, sources, constants)


def _check_names(
    place: str, spec: TableSpec, columns: Mapping[str, Any], constants: Mapping[str, Any]
) -> None:
    both = columns.keys() & constants.keys()
    if both:
        raise InputError(f"{place}: {min(both)} is in columns and in constants; leave one out")
    for name, value in constants.items():
        if not isinstance(value, str):
            raise InputError(f"{place}: constants.{name}: give text in quotes")
    given = columns.keys() | constants.keys()
    implied = {name for name, others in SAME_AS.items() if given & {*others}}
    missing = spec.required - given - implied
    if "recv_ts" in missing and "ts" in missing:
        missing -= {"recv_ts"}
    if missing:
        raise InputError(
            f"{place}: {spec.name} also needs {', '.join(sorted(missing))}; add them to columns or constants"
        )


def _source(place: str, spec: ColumnSpec, said: Any) -> Source:
    if isinstance(said, str):
        return Source(said)
    if not isinstance(said, dict) or not isinstance(said.get("column"), str):
        raise InputError(f'{place}: write "name" or {{ column = "name", unit = "ms" }}')
    odd = said.keys() - set(_OPTIONS)
    if odd:
        raise InputError(f"{place}: unknown word {min(odd)!r}; there are {', '.join(_OPTIONS)}")
    unit = said.get("unit", "us")
    if unit not in get_args(Unit):
        raise InputError(f"{place}: unit {unit!r} is none of {', '.join(get_args(Unit))}")
    if not isinstance(said.get("zero_is_null", False), bool):
        raise InputError(f"{place}: zero_is_null is true or false")
    is_time = pa.types.is_timestamp(spec.type)
    is_number = pa.types.is_floating(spec.type) or pa.types.is_decimal(spec.type)
    for word, fits, of in (
        ("unit", is_time, "times"),
        ("zone", is_time, "times"),
        ("scale", is_number, "numbers"),
    ):
        if word in said and not fits:
            raise InputError(f"{place}: {word} is for {of}, which {spec.name} is not; leave it out")
    if "zone" in said and unit != "iso" and "unit" in said:
        raise InputError(f'{place}: zone is for times in text; write unit = "iso", or leave the zone out')
    return Source(
        said["column"],
        "iso" if "zone" in said else unit,
        said.get("zero_is_null", False),
        _scale(place, said["scale"]) if "scale" in said else None,
        _zone(place, said["zone"]) if "zone" in said else None,
        _nulls(place, said.get("null", [])),
        _values(place, said.get("values", {})),
    )


def _scale(place: str, said: Any) -> str:
    if isinstance(said, str) and said in SCALES:
        return SCALES[said]
    if isinstance(said, int | float) and not isinstance(said, bool) and 0 < abs(said) < float("inf"):
        return str(Decimal(repr(said)))
    raise InputError(
        f"{place}: scale {said!r} is neither a number other than 0 nor one of {', '.join(SCALES)}"
    )


def _zone(place: str, said: Any) -> str:
    if isinstance(said, str):
        try:
            if fixed_offset(said) is not None or zoneinfo.ZoneInfo(said):
                return said
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
    raise InputError(f"{place}: zone {said!r} is none that is known; write UTC, Europe/Berlin or +09:00")


def _nulls(place: str, said: Any) -> tuple[str, ...]:
    texts = [said] if isinstance(said, str) else said
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError(f'{place}: null is a list of texts: null = ["-1", "none"]')
    return tuple(texts)


def _values(place: str, said: Any) -> dict[str, str]:
    if not isinstance(said, dict) or not all(isinstance(text, str) for text in said.values()):
        raise InputError(f'{place}: values says what texts stand for: values = {{ B = "buy", S = "sell" }}')
    return dict(said)
