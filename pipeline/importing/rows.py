"""A piece of a file as rows of a table; pure but for what it remembers of the pieces before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.conform import conform
from lake.errors import InputError
from lake.exact import Array, Mask
from lake.root import Root
from lake.schema import TABLES, TableSpec
from pipeline.importing.cells import read_cells, read_flags
from pipeline.importing.formats import SAME_AS, FileFormat, Source
from pipeline.importing.messages import Messages
from pipeline.importing.plausible import (
    VOLATILITIES,
    refuse_implausible,
    refuse_other_terms,
    whole_volatilities,
)
from pipeline.importing.reading import Piece
from pipeline.importing.refusals import Refusal, Verdicts
from pipeline.importing.repeats import Repeats, has_keys
from pipeline.importing.terms import Instruments, spelled
from pipeline.importing.times import refuse_odd_times
from pipeline.importing.words import allowed, as_words, refuse_odd_words

IS_SNAPSHOT: Final = "is_snapshot"
AS_IT_IS: Final = "1"
NO_QUOTE: Final = (("bid_price", "bid_size", "bid_iv"), ("ask_price", "ask_size", "ask_iv"))
AHEAD: Final = frozenset({"expiration_ts"})


@dataclass(slots=True)
class Made:
    """What became of a piece: rows of the table with their partitions, and why others were refused, by line.

    `repeated` rows said what an earlier one of the file had said. `first_us` and `last_us` (since the epoch) are the
    earliest and latest time of the rows; 0 where there are none.
    """

    rows: pa.Table
    refused: dict[int, Refusal]
    repeated: int
    first_us: int
    last_us: int


@dataclass(slots=True)
class RowMaker:
    """Turns the pieces of one file, in order, into rows; of the lake at `root`, if any, it knows the instruments."""

    format: FileFormat
    root: Root | None = None
    spec: TableSpec = field(init=False)
    instruments: Instruments = field(init=False)
    messages: Messages = field(default_factory=Messages)
    repeats: Repeats | None = field(init=False)
    percent_seen: bool = False

    def __post_init__(self) -> None:
        self.spec = TABLES[self.format.table]
        self.instruments = Instruments(self.spec.name, self.root)
        self.repeats = Repeats(self.spec) if has_keys(self.spec) else None

    @property
    def wanted(self) -> list[str]:
        """The columns of the file that matter."""
        names = [source.column for source in self.format.columns.values()]
        return [*names, IS_SNAPSHOT] if self.format.grouped else names

    def make(self, piece: Piece) -> Made:
        """Hold a piece against the contract and against what can be.

        Raises:
            InputError: the scale of its volatilities cannot be right, of all of them together.
        """
        count = len(piece.lines)
        texts = {name: piece.columns[source.column] for name, source in self.format.columns.items()}
        texts |= {
            name: pa.array([value] * count, pa.string()) for name, value in self.format.constants.items()
        }
        verdicts = Verdicts(count, texts)
        columns = self._columns(texts, piece, verdicts)
        refuse_odd_words(self.spec, columns, verdicts)
        for name, cells in columns.items():
            if pa.types.is_timestamp(cells.type):
                refuse_odd_times(name, cells, self._unit(name), verdicts, ahead=name in AHEAD)
        terms = self.instruments.of_rows(columns["instrument"], verdicts)
        _without_no_quotes(columns, terms.combo)
        refuse_implausible(self.spec, columns, terms, verdicts)
        if self.spec.name == "instruments":
            refuse_other_terms(columns, terms, verdicts)
        self._judge_volatilities(columns, verdicts)
        conformed = conform(self.spec, pa.table(columns))
        for at, reason in zip(
            np.flatnonzero(conformed.rejected).tolist(), conformed.row_reasons, strict=True
        ):
            name, _, why = reason.partition(": ")
            if why == "null" and verdicts.value(name, at) is not None:
                why = "says nothing, where something must be said"
            verdicts.refuse_at(name, at, why, general=True)
        positions = np.flatnonzero(verdicts.kept)
        rows = conformed.rows.filter(pa.array(verdicts.kept[~conformed.rejected]))
        fresh = self._fresh(rows, positions, verdicts)
        repeated = int(verdicts.kept.sum() - fresh.sum())
        rows = rows.filter(pa.array(fresh))
        if self.spec.partitioned:
            rows = rows.append_column("date", self.spec.dates(rows["ts"]))
            rows = rows.append_column("family", terms.families.take(pa.array(positions[fresh])))
        times = pc.min_max(rows["ts" if "ts" in self.spec.names else "valid_from"].cast(pa.int64()))
        refused = {int(piece.lines[at]): refusal for at, refusal in verdicts.found.items()} | piece.odd
        return Made(rows, refused, repeated, times["min"].as_py() or 0, times["max"].as_py() or 0)

    def _columns(self, texts: Mapping[str, Array], piece: Piece, verdicts: Verdicts) -> dict[str, Array]:
        """The cells as values, with what follows from them."""
        columns: dict[str, Array] = {}
        for name, cells in texts.items():
            source = self.format.columns.get(name, Source(name, unit="iso"))
            columns[name] = read_cells(self.spec.column(name), source, cells, verdicts)
        columns["instrument"] = spelled(columns["instrument"], self.spec.name)
        for name in columns:
            words = allowed(self.spec.name, name)
            if words is not None:
                columns[name] = as_words(columns[name], words)
        for name, others in reversed(SAME_AS.items()):
            if name in self.spec.names and name not in columns:
                columns[name] = next(columns[other] for other in others if other in columns)
        if self.format.grouped:
            snapshot = read_flags(IS_SNAPSHOT, pc.utf8_trim_whitespace(piece.columns[IS_SNAPSHOT]), verdicts)
            verdicts.refuse(IS_SNAPSHOT, np.asarray(snapshot.is_null()), "is missing")
            columns |= self.messages.columns(columns, snapshot)
        return columns

    def _unit(self, name: str) -> str:
        source = self.format.columns.get(name)
        return source.unit if source else "iso"

    def _judge_volatilities(self, columns: Mapping[str, Array], verdicts: Verdicts) -> None:
        sources = self.format.columns
        if any(sources[name].scale == AS_IT_IS for name in VOLATILITIES & sources.keys()):
            return
        wrong, self.percent_seen = whole_volatilities(
            self.spec.name, columns, verdicts.kept, self.percent_seen
        )
        if wrong:
            raise InputError(wrong)

    def _fresh(self, rows: pa.Table, at: npt.NDArray[np.integer[Any]], verdicts: Verdicts) -> Mask:
        """Which of `rows`, at positions `at`, the file has not given before; others under the same key are refused."""
        if self.repeats is None:
            return np.ones(len(at), np.bool_)
        same, other = self.repeats.find(rows)
        key = "trade_id" if "trade_id" in self.spec.names else self.spec.natural_key[-1]
        for position in at[other].tolist():
            verdicts.refuse_at(
                key, position, "stands in the file before, with other values", "which row is right?"
            )
        return ~same & ~other


def _without_no_quotes(columns: dict[str, Array], combo: Mask) -> None:
    """Null where 0 says that there is none, as the venue writes it: best prices and amounts, prices of trades that
    never were, volatilities that nobody could compute. Combos may cost 0."""
    free = pa.array(combo)

    def zero(name: str) -> Array:
        return pc.equal(columns[name], 0.0).fill_null(False)

    for price, size, iv in NO_QUOTE:
        if price in columns:
            none = pc.and_(zero(price), pc.invert(free))
            if size in columns:
                none = pc.or_(none, zero(size))
            for name in {price, size, iv} & columns.keys():
                columns[name] = pc.if_else(none, None, columns[name])
    for name in VOLATILITIES & columns.keys():
        columns[name] = pc.if_else(zero(name), None, columns[name])
    if "last_price" in columns:
        columns["last_price"] = pc.if_else(
            pc.and_(zero("last_price"), pc.invert(free)), None, columns["last_price"]
        )
