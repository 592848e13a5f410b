"""What the columns of a file mean: Tardis' CSV files, and mappings that users write.

A mapping is a TOML file:

    table = "trades"

    [columns]                       # column of the table = column of the file
    instrument = "symbol"
    ts         = { column = "time", unit = "ms" }
    trade_id   = "id"
    price      = "price"
    size       = "qty"
    side       = "side"

    [constants]                     # what the file does not say
    venue = "deribit"

Units of time: s, ms, us (the default), ns, or iso for text such as 2026-11-20T08:00:00Z. An empty cell is null;
{ column = "iv", zero_is_null = true } makes a 0 null too, as the contract wants of volatilities nobody could compute.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from lake.errors import InputError
from lake.schema import COUNTED, TABLES

Unit = Literal["s", "ms", "us", "ns", "iso"]
_OPTIONS: Final = {"column", "unit", "zero_is_null"}
NOT_FROM_FILES: Final = frozenset({"book", "backfills", "book_answers", "instruments", "gaps"})
FROM_FILES: Final = tuple(name for name in COUNTED if name not in NOT_FROM_FILES)
"""Tables that a mapping can fill: not those whose rows make sense only in groups, or tell what we were answered."""


@dataclass(frozen=True, slots=True)
class Source:
    """A column of the file; `unit` matters for times only. `zero_is_null`: 0 stands for what is not known."""

    column: str
    unit: Unit = "us"
    zero_is_null: bool = False


@dataclass(frozen=True, slots=True)
class FileFormat:
    """What a file's columns become. `grouped` files have a row per level of a book message."""

    table: str
    columns: Mapping[str, Source]
    constants: Mapping[str, str] = field(default_factory=dict)
    grouped: bool = False


def _format(table: str, columns: Mapping[str, str], *, grouped: bool = False) -> FileFormat:
    common = {"venue": "exchange", "instrument": "symbol", "ts": "timestamp", "recv_ts": "local_timestamp"}
    named = {**common, **columns}
    sources = {name: Source(column, zero_is_null=name.endswith("_iv")) for name, column in named.items()}
    return FileFormat(table, sources, grouped=grouped)


_TOP: Final = {
    "bid_price": "bid_price",
    "bid_size": "bid_amount",
    "ask_price": "ask_price",
    "ask_size": "ask_amount",
}
_SAME: Final = (
    "bid_iv", "ask_iv", "mark_iv", "last_price", "mark_price", "underlying_price", "underlying_index", "delta", "gamma",
    "vega", "theta", "rho", "open_interest",
)  # fmt: skip

TARDIS: Final[Mapping[str, FileFormat]] = {
    "trades": _format("trades", {"trade_id": "id", "side": "side", "price": "price", "size": "amount"}),
    "quotes": _format("quotes", _TOP),
    "options_chain": _format("quotes", {**_TOP, **{name: name for name in _SAME}}),
    "derivative_ticker": _format(
        "quotes",
        {
            "last_price": "last_price",
            "mark_price": "mark_price",
            "index_price": "index_price",
            "open_interest": "open_interest",
            "current_funding": "funding_rate",
        },
    ),
    "incremental_book_L2": _format(
        "book", {"side": "side", "price": "price", "size": "amount"}, grouped=True
    ),
}
"""Tardis' downloadable CSV files by data type (docs.tardis.dev/downloadable-csv-files/data-types): times are µs UTC, an
empty cell is no value, `local_timestamp` is when Tardis received the message."""


def read_mapping(path: Path) -> FileFormat:
    """The format that a mapping file describes.

    Raises:
        InputError: the file cannot be read, or says something that the contract of its table does not allow.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a mapping: {error}") from None
    odd = content.keys() - {"table", "columns", "constants"}
    if odd:
        raise InputError(f"{path}: unknown entry {min(odd)!r}; there are table, columns and constants")
    table = content.get("table")
    if table not in FROM_FILES:
        raise InputError(
            f"{path}: table = {table!r} cannot be imported; choose one of {', '.join(FROM_FILES)}"
        )
    columns, constants = content.get("columns", {}), content.get("constants", {})
    for name, said in (("columns", columns), ("constants", constants)):
        if not isinstance(said, dict):
            raise InputError(f"{path}: {name} = {said!r}: write a section [{name}], a line for each column")
    columns = {name: _source(path, name, said) for name, said in columns.items()}
    _check(path, table, columns, constants)
    return FileFormat(table, columns, constants)


def _source(path: Path, name: str, said: Any) -> Source:
    if isinstance(said, str):
        return Source(said)
    if isinstance(said, dict) and isinstance(said.get("column"), str) and said.keys() <= _OPTIONS:
        unit, zero_is_null = said.get("unit", "us"), said.get("zero_is_null", False)
        if unit not in get_args(Unit):
            raise InputError(f"{path}: columns.{name}: unit {unit!r} is none of {', '.join(get_args(Unit))}")
        if not isinstance(zero_is_null, bool):
            raise InputError(f"{path}: columns.{name}: zero_is_null is true or false")
        return Source(said["column"], unit, zero_is_null)
    raise InputError(f'{path}: columns.{name}: write "name" or {{ column = "name", unit = "ms" }}')


def _check(path: Path, table: str, columns: Mapping[str, Source], constants: Mapping[str, Any]) -> None:
    spec = TABLES[table]
    for name in [*columns, *constants]:
        if name not in spec.names:
            raise InputError(f"{path}: {table} has no column {name!r}; it has {', '.join(spec.names)}")
    for name, value in constants.items():
        if not isinstance(value, str):
            raise InputError(f"{path}: constants.{name}: give text in quotes")
    missing = spec.required - columns.keys() - constants.keys() - {"recv_ts"}
    if missing:
        raise InputError(
            f"{path}: {table} also needs {', '.join(sorted(missing))}; add them to columns or constants"
        )
