"""What a table's contract says, and the kinds of columns that contracts are made of.

**How numbers are stored.** A number arrives as the float64 of the JSON text. Two storage types
keep it exactly:

- `DOUBLE` for whatever repeats (prices on ticks, sizes): dictionary encoding makes its width free.
- `DECIMAL(18, s)` of the natural scale for whatever hardly repeats (index, Greeks): its integers
  pack to a few bits as differences, where a double needs all of its 52.

A value with more decimals than its column's scale is not refused where the table has the column
`unrounded`: the decimal column then holds the nearest value of its scale, and `unrounded` the number as sent.
`lake.exact.as_sent` (in SQL: `as_sent_sql`) puts the two together again.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

SCHEMA_VERSION: Final = 2
PARTITION_COLUMNS: Final = ("date", "family")
UNROUNDED: Final = "unrounded"
DECIMAL_PRECISION: Final = 18  # the widest decimal that Parquet stores as a 64-bit integer

TIMESTAMP: Final = pa.timestamp("us", tz="UTC")  # naive timestamps would need a newer Delta protocol
STRING: Final = pa.string()
DOUBLE: Final = pa.float64()
Period = Literal["day", "month"]
StorageType = Any
"""An Arrow type; the stubs of pyarrow know too many of them to tell them apart here."""


class Encoding(enum.Enum):
    """How a column is laid out in Parquet; see `lake.parquet`."""

    DICTIONARY = "dictionary"  # values that repeat within an instrument's day
    DELTA = "delta"  # integers whose differences are small: times, ids, decimals of natural scale
    DELTA_TEXT = "delta_text"  # text that shares a prefix with the row before, such as trade ids
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column: `type` is the storage type, `doc` one sentence with the unit."""

    name: str
    type: StorageType
    nullable: bool
    encoding: Encoding
    doc: str


@dataclass(frozen=True)
class TableSpec:
    """One table of the lake.

    `natural_key` says which rows are the same tick: no row that differs from another in what the venue said may share
    its key. `position` is the column that only counts the rows of one message. `sort_key` is the order of rows at rest.
    `partitioned` tables live in folders `date=/family=`, the others in one folder. `stats` are the columns
    whose minimum, maximum and null count go into the Delta log. With the `period` month, `date` is the first of
    the row's month: for tables whose days would be too small for files of their own. Rows of `streamed` tables
    come out of the spool, and `coverage` counts them. `derived` tables are made from others by jobs, which write
    them as they are to stay: compaction leaves their rows alone. Of rows with the same natural key the one with a
    value in the column `prefer` is kept, where the table has such a column; else, and among equals, the first received.
    """

    name: str
    doc: str
    columns: tuple[ColumnSpec, ...]
    natural_key: tuple[str, ...]
    sort_key: tuple[str, ...]
    partitioned: bool = True
    stats: tuple[str, ...] = ("instrument", "ts")
    period: Period = "day"
    streamed: bool = False
    derived: bool = False
    prefer: str | None = None
    position: str | None = None

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """Storage types in contract order, without the partition columns."""
        return pa.schema([pa.field(c.name, c.type, c.nullable) for c in self.columns])

    @cached_property
    def delta_schema(self) -> pa.Schema:
        """What the Delta log declares: the contract and, where there are any, the partition columns."""
        extra = [pa.field("date", pa.date32(), False), pa.field("family", STRING, False)]
        return pa.schema([*self.arrow_schema, *(extra if self.partitioned else [])])

    @property
    def partition_columns(self) -> tuple[str, ...]:
        """Names of the partition columns, in directory order."""
        return PARTITION_COLUMNS if self.partitioned else ()

    def dates(self, ts: StorageType) -> StorageType:
        """The partition column `date` of rows with these times: the UTC day, or the first day of the month."""
        return pc.cast(pc.floor_temporal(ts, unit="month") if self.period == "month" else ts, pa.date32())

    def closes(self, date: dt.date) -> dt.date:
        """The first day on which no row for the partition of `date` happens any more."""
        if self.period == "day":
            return date + dt.timedelta(days=1)
        return (date.replace(day=1) + dt.timedelta(days=31)).replace(day=1)

    @cached_property
    def required(self) -> frozenset[str]:
        """Columns that every row must have."""
        return frozenset(c.name for c in self.columns if not c.nullable)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in contract order."""
        return tuple(c.name for c in self.columns)

    @property
    def keeps_unrounded(self) -> bool:
        """Whether numbers beyond a decimal's scale are kept (in `unrounded`) rather than refused."""
        return UNROUNDED in self.names

    def column(self, name: str) -> ColumnSpec:
        """The specification of column `name`; KeyError where the table has none."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, ColumnSpec]:
        return {c.name: c for c in self.columns}


def decimal(scale: int) -> pa.Decimal128Type:
    """The decimal storage type with `scale` digits after the point."""
    return pa.decimal128(DECIMAL_PRECISION, scale)


def _maker(type_: pa.DataType, encoding: Encoding) -> Callable[..., ColumnSpec]:
    def make(name: str, doc: str, *, null: bool = True) -> ColumnSpec:
        return ColumnSpec(name, type_, null, encoding, doc)

    return make


text = _maker(STRING, Encoding.DICTIONARY)
flag = _maker(pa.bool_(), Encoding.PLAIN)
time = _maker(TIMESTAMP, Encoding.DELTA)
long = _maker(pa.int64(), Encoding.DELTA)
# What all rows of one message share, in runs too short for a dictionary to pay: zstd sees them as copies.
repeated_time = _maker(TIMESTAMP, Encoding.PLAIN)
repeated_long = _maker(pa.int64(), Encoding.PLAIN)
repeated_number = _maker(DOUBLE, Encoding.PLAIN)
number32 = _maker(pa.int32(), Encoding.DICTIONARY)
identifier = _maker(STRING, Encoding.DELTA_TEXT)
small = _maker(pa.int16(), Encoding.DICTIONARY)
tiny = _maker(pa.int8(), Encoding.DICTIONARY)
number = _maker(DOUBLE, Encoding.DICTIONARY)
numbers = _maker(pa.list_(DOUBLE), Encoding.PLAIN)
money = _maker(decimal(4), Encoding.DELTA)
vol = _maker(decimal(2), Encoding.DELTA)
greek = _maker(decimal(5), Encoding.DELTA)
