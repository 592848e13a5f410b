"""A recorded option chain as the list of instruments of a generated market."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors.simulator.chain import Spec, parse_name
from lake.errors import InputError

_NAME: Final = "instrument_name"
_PRICES: Final = ("index_price", "underlying", "underlying_price")


def load_chain(path: Path, count: int, now_ms: int) -> tuple[list[Spec], dict[str, float]]:
    """At most `count` instruments alive at `now_ms`, and the last price of each coin, if the file tells.

    Futures come first, then options by distance from the money.

    Raises:
        InputError: no Parquet file or JSON list with a column `instrument_name`, or nothing of it is alive.
    """
    rows = list(_rows(path))
    prices: dict[str, float] = {}
    names: dict[str, None] = {}
    for row in rows:
        name = row.get(_NAME)
        if not isinstance(name, str):
            raise InputError(f"{path}: needs a column {_NAME!r} of text")
        names[name] = None
        price = next((row[column] for column in _PRICES if isinstance(row.get(column), int | float)), None)
        if price:
            prices[name.split("-")[0].split("_")[0]] = float(price)
    specs = [parse_name(name, now_ms=now_ms) for name in names]
    alive = [spec for spec in specs if spec.expiry_ms > now_ms]
    if not alive:
        raise InputError(f"{path}: all {len(specs)} instruments are expired; set start_ms to a time before")

    def rank(spec: Spec) -> tuple[bool, float]:
        centre = prices.get(spec.base, spec.strike)
        return spec.kind == "option", abs(spec.strike / centre - 1.0) if centre else 0.0

    return sorted(alive, key=rank)[:count], prices


def _rows(path: Path) -> Iterable[dict[str, Any]]:
    try:
        if path.suffix == ".parquet":
            return _parquet_rows(path)
        return msgspec.json.decode(path.read_bytes(), type=list[dict[str, Any]])
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(f"{path}: not a chain file ({error})") from None


def _parquet_rows(path: Path) -> Iterable[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = [name for name in (_NAME, *_PRICES) if name in file.schema_arrow.names]
        table = file.read(columns=columns)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file ({error})") from None
    if _NAME not in columns:
        return [{}]
    # One row per instrument, with what the file said of it last.
    last = table.group_by(_NAME, use_threads=False).aggregate([(c, "last") for c in columns if c != _NAME])
    rows: list[dict[str, Any]] = last.rename_columns(
        [n.removesuffix("_last") for n in last.column_names]
    ).to_pylist()
    return rows
