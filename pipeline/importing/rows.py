"""A batch of a file's cells as columns of a table; pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import family, index_family
from lake.conform import conform
from lake.errors import InputError
from lake.schema import TABLES, TableSpec
from pipeline.importing.formats import FileFormat, Source

Array: TypeAlias = "pa.Array[Any]"
US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
US_MAX: Final = 1 << 62
NS_IN_US: Final = 1_000
EARLIEST: Final = datetime.datetime(2009, 1, 1, tzinfo=datetime.UTC)
"""Before there were any coins. Times of another unit than was said are decades before this, or millennia after now."""
AHEAD_MAX: Final = datetime.timedelta(days=1)
OF_INDICES: Final = frozenset({"index_prices", "volatility_index"})
VENUE: Final = "deribit"
"""The venue whose names, units and words these are."""
SIDES: Final = {"trades": ("buy", "sell"), "book": ("bid", "ask")}
_DECIMAL_POINT: Final = re.compile(r"(?<=\d)D(?=\d)")
"""Some archives write names in upper case, also the `d` that is the decimal point of a strike."""


@dataclass(slots=True)
class Made:
    """What became of a batch: rows of the table with their partitions, and why others were refused, by position.

    `first_us` and `last_us` (since the epoch) are the earliest and latest `ts` of the rows; 0 where there are none.
    """

    rows: pa.Table
    refused: dict[int, str]
    first_us: int
    last_us: int


@dataclass(slots=True)
class RowMaker:
    """Turns batches of one file, in order, into rows; it remembers the book message that a batch may cut in two."""

    format: FileFormat
    families: dict[str, str | InputError] = field(default_factory=dict)
    last_message: tuple[str, int, bool] | None = None
    last_level: int = -1

    def cell_types(self) -> dict[str, pa.DataType]:
        """How each column of the file is to be read."""
        spec = TABLES[self.format.table]
        types = {
            source.column: _cell_type(spec, name, source) for name, source in self.format.columns.items()
        }
        return {**types, "is_snapshot": pa.bool_()} if self.format.grouped else types

    def make(self, batch: pa.RecordBatch) -> Made:
        """Hold a batch against the contract."""
        spec = TABLES[self.format.table]
        count = batch.num_rows
        columns: dict[str, Array] = {
            name: _cells(spec, name, batch.column(source.column), source)
            for name, source in self.format.columns.items()
        }
        columns |= {name: pa.array([value] * count) for name, value in self.format.constants.items()}
        columns["instrument"] = _spelled(columns["instrument"])
        if "side" in columns:
            columns["side"] = pc.utf8_lower(columns["side"])
        columns.setdefault("recv_ts", columns["ts"])
        if self.format.grouped:
            columns |= self._messages(batch, columns)
        families, refused = self._sorted(columns["instrument"])
        refused |= _odd_words("venue", (VENUE,), columns["venue"])
        if "side" in columns:
            refused |= _odd_words("side", SIDES[spec.name], columns["side"])
        refused |= _odd_times(spec, columns)
        conformed = conform(spec, pa.table(columns))
        refused |= dict(zip(np.flatnonzero(conformed.rejected).tolist(), conformed.row_reasons, strict=True))
        fits = ~conformed.rejected
        kept = fits.copy()
        kept[list(refused)] = False
        rows = conformed.rows.filter(pa.array(kept[fits]))
        rows = rows.append_column("date", spec.dates(rows["ts"]))
        rows = rows.append_column("family", families.filter(pa.array(kept)))
        times = pc.min_max(rows["ts"].cast(pa.int64()))
        return Made(rows, refused, times["min"].as_py() or 0, times["max"].as_py() or 0)

    def _sorted(self, names: Array) -> tuple[Array, dict[int, str]]:
        """The family of each row, null where the name cannot be read; and the reasons."""
        coded = names.dictionary_encode()
        found: list[str | None] = []
        wrong: dict[int, str] = {}
        for code, name in enumerate(coded.dictionary.to_pylist()):
            known = self.families.get(name)
            if known is None:
                known = self.families[name] = _family(name, self.format.table)
            found.append(known if isinstance(known, str) else None)
            if not isinstance(known, str):
                positions = np.flatnonzero(np.asarray(pc.equal(coded.indices, code).fill_null(False)))
                wrong |= dict.fromkeys(positions.tolist(), str(known))
        return pa.array(found, pa.string()).take(coded.indices), wrong

    def _messages(self, batch: pa.RecordBatch, columns: Mapping[str, Array]) -> dict[str, Array]:
        """The columns of `book` that tell messages apart: the rows of one instrument received at once are one."""
        names, received = columns["instrument"], columns["recv_ts"]
        snapshot = batch.column("is_snapshot")
        codes = names.dictionary_encode().indices.to_numpy()
        at, whole = received.cast(pa.int64()).to_numpy(), snapshot.to_numpy(zero_copy_only=False)
        begins = np.ones(len(at), np.bool_)
        begins[1:] = (codes[1:] != codes[:-1]) | (at[1:] != at[:-1]) | (whole[1:] != whole[:-1])
        starts = np.maximum.accumulate(np.where(begins, np.arange(len(at)), 0))
        level = np.arange(len(at)) - starts
        if len(at):
            if (names[0].as_py(), int(at[0]), bool(whole[0])) == self.last_message:
                level[starts == 0] += self.last_level + 1
            self.last_message = (names[-1].as_py(), int(at[-1]), bool(whole[-1]))
            self.last_level = int(level[-1])
        amount = np.asarray(pc.fill_null(columns["size"], 0.0))
        return {
            "type": pa.array(np.where(whole, "snapshot", "change")),
            "change_id": pa.array(at),
            "level": pa.array(level),
            "action": pa.array(np.where(whole, "new", np.where(amount == 0, "delete", "change"))),
        }


def _odd_words(name: str, words: Sequence[str], cells: Array) -> dict[int, str]:
    """Rows in which column `name` is none of `words`."""
    odd = pc.invert(pc.is_in(cells, value_set=pa.array(words)))
    found = np.flatnonzero(np.asarray(odd)).tolist()
    return {at: f"{name}: {cells[at].as_py()!r} is none of {', '.join(words)}" for at in found}


def _odd_times(spec: TableSpec, columns: Mapping[str, Array]) -> dict[int, str]:
    """Rows with a time at which nothing was traded: of the wrong unit, most likely."""
    latest = datetime.datetime.now(datetime.UTC) + AHEAD_MAX
    wrong: dict[int, str] = {}
    for name, times in columns.items():
        if pa.types.is_timestamp(spec.column(name).type):
            early, late = (pa.scalar(bound, times.type) for bound in (EARLIEST, latest))
            odd = pc.or_(pc.less(times, early), pc.greater(times, late)).fill_null(False)
            for at in np.flatnonzero(np.asarray(odd)).tolist():
                why = f"{name}: {times[at].value} microseconds since 1970 cannot be; is the unit right?"
                wrong.setdefault(at, why)
    return wrong


def _family(name: str, table: str) -> str | InputError:
    try:
        return index_family(name) if table in OF_INDICES else family(name)
    except InputError as error:
        return error


def _spelled(names: Array) -> Array:
    coded = names.dictionary_encode()
    spelled = [_DECIMAL_POINT.sub("d", name) for name in coded.dictionary.to_pylist()]
    return pa.array(spelled, pa.string()).take(coded.indices)


def _cell_type(spec: TableSpec, name: str, source: Source) -> pa.DataType:
    kind = spec.column(name).type
    if pa.types.is_timestamp(kind):
        if source.unit == "iso":
            return pa.timestamp("us", tz="UTC")
        return pa.float64() if source.unit == "s" else pa.int64()
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return pa.float64()
    return kind


def _cells(spec: TableSpec, name: str, cells: Array, source: Source) -> Array:
    if source.zero_is_null:
        return pc.if_else(pc.equal(cells, 0.0), None, cells)
    if not pa.types.is_timestamp(spec.column(name).type) or source.unit == "iso":
        return cells
    if source.unit == "ns":
        us = pc.divide(cells, NS_IN_US)
    else:
        # What would overflow stays as far out, to be refused.
        farthest = pa.scalar(US_MAX // US[source.unit], cells.type)
        cells = pc.min_element_wise(cells, farthest, skip_nulls=False)
        cells = pc.max_element_wise(cells, pc.negate(farthest), skip_nulls=False)
        us = pc.multiply(cells, pa.scalar(US[source.unit], cells.type))
        us = pc.cast(pc.round(us), pa.int64()) if source.unit == "s" else us
    return pc.cast(us, pa.timestamp("us", tz="UTC"))
