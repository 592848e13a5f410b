"""Book messages, and what else is known of books, out of the tables of a lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.books.arrays import (
    ASK,
    BID,
    NEITHER,
    NO_MESSAGE,
    NO_ROWS,
    Books,
    Codes,
    Ints,
    Levels,
    Rows,
    joined,
)
from lake.books.silence import Holes
from lake.datafile import DataFile
from lake.delta import Table
from lake.delta_errors import delta_errors
from lake.file_pruning import STATISTICS_TOLERANCE
from lake.instants import from_us, to_us
from lake.root import Root
from lake.schema import TABLES, TIMESTAMP
from lake.views import Connection

Key = tuple[str, str]
"""Venue and instrument."""
HEARD_AFTER_US: Final = 2_000_000
"""Books have been up to 1.6 s behind other channels: what is heard so much after an instant came after the book's
messages of before."""
BOOK_WORD: Final = "book"
"""Part of the name of every channel of order books."""
LOSSLESS: Final = frozenset({"clock_jump"})
"""Causes of rows that tell of something else than missing records."""
_TEXTS: Final = ("venue", "instrument", "type", "side", "action")
_COLUMNS: Final = (*_TEXTS, "ts", "recv_ts", "change_id", "prev_change_id", "level", "price", "size")
_SIDES: Final = pa.array(["bid", "ask"])


@dataclass(slots=True)
class Register:
    """The books met so far, numbered in order of appearance."""

    keys: list[Key] = field(default_factory=list)
    families: list[str] = field(default_factory=list)
    _numbers: dict[Key, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    def number(self, key: Key, family: str) -> int:
        """The number of a book, a new one for a new book."""
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.keys)
            self.keys.append(key)
            self.families.append(family)
        return found

    def known(self, key: Key) -> int | None:
        """The number of a book; None: it was never met."""
        return self._numbers.get(key)


class BookReader:
    """Reads the table `book` of one lake; numbers books in `register`."""

    def __init__(self, root: Root, register: Register) -> None:
        self.register = register
        self._table = Table.find(root, TABLES["book"])

    def files(self) -> list[DataFile]:
        """The files of the table; none where there is no table yet."""
        return self._table.files() if self._table else []

    def rows(
        self, files: Sequence[DataFile], start_us: int, stop_us: int, instrument: str | None = None
    ) -> Rows:
        """Rows with `start_us <= ts < stop_us` in `files`, of one `instrument` where given, in no order.

        Raises:
            CorruptionError: a file cannot be read.
        """
        parts = [
            self._numbered(rows, family)
            for rows, family in self._pieces(files, start_us, stop_us, instrument)
        ]
        return parts[0] if len(parts) == 1 else joined([NO_ROWS, *parts])

    def _pieces(
        self, files: Sequence[DataFile], start_us: int, stop_us: int, instrument: str | None
    ) -> Iterator[tuple[pa.Table, str]]:
        if self._table is None:
            return
        for file in files:
            if not _may_hold(file.minimum, file.maximum, start_us, stop_us, instrument):
                continue
            path = self._table.folder / file.path
            with (
                delta_errors(f"reading {path}"),
                self._table.open_file(file) as content,
                pq.ParquetFile(content, read_dictionary=list(_TEXTS)) as parquet,
            ):
                metadata = parquet.metadata
                groups = [
                    group
                    for group in range(metadata.num_row_groups)
                    if _may_hold(*_bounds(metadata.row_group(group)), start_us, stop_us, instrument)
                ]
                rows = parquet.read_row_groups(groups, columns=list(_COLUMNS), use_threads=False)
            wanted = pc.and_(
                pc.greater_equal(rows["ts"], _scalar(start_us)), pc.less(rows["ts"], _scalar(stop_us))
            )
            if instrument is not None:
                wanted = pc.and_(wanted, pc.equal(rows["instrument"], instrument))
            if not pc.all(wanted).as_py():
                rows = rows.filter(wanted)
            if len(rows):
                yield rows, file.partition.family if file.partition else ""

    def _numbered(self, rows: pa.Table, family: str) -> Rows:
        texts = {name: rows[name].combine_chunks() for name in _TEXTS}
        venues, instruments = (texts[name].dictionary.to_pylist() for name in ("venue", "instrument"))
        pair = _indices(texts["venue"]).astype(np.int64) * len(instruments) + _indices(texts["instrument"])
        pairs, inverse = np.unique(pair, return_inverse=True)
        numbers = [
            self.register.number((venues[p // len(instruments)], instruments[p % len(instruments)]), family)
            for p in pairs.tolist()
        ]
        gone = _coded(texts["action"], ["delete"]) == 0
        return Rows(
            book=np.array(numbers, np.int32)[inverse],
            change_id=_longs(rows["change_id"]),
            prev_change_id=_longs(rows["prev_change_id"]),
            snapshot=_coded(texts["type"], ["snapshot"]) == 0,
            ts=_longs(rows["ts"]),
            recv=_longs(rows["recv_ts"]),
            level=np.asarray(rows["level"].combine_chunks()),
            side=_coded(texts["side"], ["bid", "ask"]),
            price=_doubles(rows["price"]),
            size=np.where(gone, 0.0, _doubles(rows["size"])),
        )


def _may_hold(low: Any, high: Any, start_us: int, stop_us: int, instrument: str | None) -> bool:
    """Whether a file or row group with these bounds can hold such rows; missing bounds hold anything."""
    if "ts" in low and to_us(low["ts"]) >= stop_us:
        return False
    if "ts" in high and to_us(high["ts"] + STATISTICS_TOLERANCE) < start_us:
        return False
    if instrument is not None and "instrument" in low and "instrument" in high:
        return bool(low["instrument"] <= instrument <= high["instrument"])
    return True


def _bounds(group: pq.RowGroupMetaData) -> tuple[dict[str, Any], dict[str, Any]]:
    """Least and greatest values of the columns that rows are selected by, where they are known."""
    low, high = {}, {}
    for position in range(group.num_columns):
        column = group.column(position)
        name, statistics = column.path_in_schema, column.statistics
        if name in ("ts", "instrument") and statistics and statistics.has_min_max:
            low[name], high[name] = statistics.min, statistics.max
    return low, high


def _scalar(us: int) -> pa.Scalar:
    return pa.scalar(us, pa.int64()).cast(TIMESTAMP)


def _indices(column: Any) -> np.ndarray:
    return np.asarray(pc.fill_null(column.indices, NO_MESSAGE))


def _coded(column: Any, words: list[str]) -> np.ndarray:
    """Per row the position of its word in `words`; -1 where it is another or null."""
    known = column.dictionary.to_pylist()
    codes = np.array([*(words.index(w) if w in words else NEITHER for w in known), NEITHER], np.int8)
    found: np.ndarray = codes[_indices(column)]
    return found


def _longs(column: Any) -> Ints:
    array = column.combine_chunks()
    if pa.types.is_timestamp(array.type):
        array = array.cast(TIMESTAMP).view(pa.int64())
    return np.asarray(pc.fill_null(array, NO_MESSAGE))


def _doubles(column: Any) -> np.ndarray:
    return np.asarray(pc.fill_null(column.combine_chunks(), np.nan))


def holes(root: Root) -> Holes:
    """The gaps on record that may concern books."""
    table = Table.find(root, TABLES["gaps"])
    if table is None:
        return Holes()
    of_all: dict[str, list[tuple[int, int]]] = {}
    of_one: dict[Key, list[tuple[int, int]]] = {}
    wanted = ["venue", "connection", "instrument", "channel", "start_ts", "end_ts", "cause"]
    for row in table.read(wanted).to_pylist():
        if row["cause"] in LOSSLESS or (row["channel"] is not None and BOOK_WORD not in row["channel"]):
            continue
        start, end = to_us(row["start_ts"]), to_us(row["end_ts"])
        # What came while a connection was out came over another one, or over the new one.
        bounds = (start, end if row["connection"] is None else start)
        if row["instrument"] is None:
            of_all.setdefault(row["venue"], []).append(bounds)
        else:
            of_one.setdefault((row["venue"], row["instrument"]), []).append(bounds)
    return Holes(
        {venue: np.array(found) for venue, found in of_all.items()},
        {key: np.array(found) for key, found in of_one.items()},
    )


def heard(
    sql: Connection, at_us: int, within_us: int, register: Register, instrument: str | None = None
) -> Ints:
    """Per book, when (µs UTC, by our clock) the first quote of its instrument came that is certain to be younger
    than the instant `at_us`, within so long after it; -1 where none did."""
    start, stop = from_us(at_us + HEARD_AFTER_US), from_us(at_us + max(within_us, HEARD_AFTER_US))
    condition = "" if instrument is None else "AND instrument = $3 "
    parameters = [start, stop, *([] if instrument is None else [instrument])]
    answer = sql.query(
        "SELECT venue, instrument, arg_min(recv_ts, ts) AS recv_ts FROM quotes "  # noqa: S608 - no text of others
        f"WHERE ts >= $1 AND ts <= $2 {condition}GROUP BY venue, instrument",
        parameters,
    )
    found = np.full(len(register), NO_MESSAGE, np.int64)
    columns = (answer[name].to_pylist() for name in ("venue", "instrument", "recv_ts"))
    for venue, name, recv in zip(*columns, strict=True):
        number = register.known((venue, name))
        if number is not None:
            found[number] = to_us(recv)
    return found


def complete_books(
    sql: Connection, register: Register, since_us: int, until_us: int, instrument: str | None = None
) -> Books:
    """The newest complete rows of `depth`, per book, of instants in this time, both ends included: `ts` and `recv`
    are those of the message."""
    condition = "" if instrument is None else "AND instrument = $3 "
    parameters = [from_us(since_us), from_us(until_us), *([] if instrument is None else [instrument])]
    answer = sql.query(
        "SELECT venue, instrument, family, book_ts, book_recv_ts, change_id, bid_prices, bid_sizes, ask_prices, "  # noqa: S608
        f"ask_sizes FROM depth WHERE ts >= $1 AND ts <= $2 AND complete {condition}"
        "QUALIFY row_number() OVER (PARTITION BY venue, instrument ORDER BY ts DESC) = 1 ORDER BY venue, instrument",
        parameters,
    )
    names = (answer[name].to_pylist() for name in ("venue", "instrument", "family"))
    numbers = np.array([register.number((v, i), f) for v, i, f in zip(*names, strict=True)], np.int32)
    found = Books.none(len(register))
    for target, name in ((found.change_id, "change_id"), (found.ts, "book_ts"), (found.recv, "book_recv_ts")):
        target[numbers] = _longs(answer[name])
    levels = joined([_levels(answer, numbers, BID, "bid"), _levels(answer, numbers, ASK, "ask")])
    order = np.lexsort((levels.side, levels.book))
    return Books(found.change_id, found.ts, found.recv, found.status, levels.take(order))


def _levels(answer: pa.Table, numbers: Codes, side: int, word: str) -> Levels:
    prices, sizes = (answer[f"{word}_{what}"].combine_chunks() for what in ("prices", "sizes"))
    counts = np.asarray(pc.list_value_length(prices), np.int64)
    book = np.repeat(numbers, counts)
    values = (np.asarray(column.flatten(), np.float64) for column in (prices, sizes))
    return Levels(book, np.full(len(book), side, np.int8), *values)
