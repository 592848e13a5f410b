"""What the tables hold already of rows about to be appended: each tick is there once, whoever brings it, and when.

A trade heard on the socket comes once more by REST, a second collector hears what the first one does, a backfill or
an imported file reaches over what was recorded. So every row is looked up before it is appended: by a hash of a few
columns of its key among those of the partition's files of its time, and where that hits, by reading the rows
themselves. Of the files of the last minutes these columns stay in memory; of others they are read when needed.

A row that is repeated is left out. One that tells more than the row held (`prefer`) takes its place, in the same
commit. Whoever appends holds the table's append lock from the look-up to the commit, so that no two processes bring
the same row at once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.content import content_hash, row_hashes
from lake.datafile import DataFile, Partition
from lake.delta import Appended, StagedFile, Table
from lake.delta_errors import delta_errors
from lake.duplicates import drop_duplicates, repeats
from lake.errors import CorruptionError
from lake.exact import Mask
from lake.instants import to_us
from lake.parquet import sort_rows
from lake.schema import PARTITION_COLUMNS, TABLES, TIMESTAMP, TableSpec
from lake.tables import Tables
from pipeline.compact import ROLLED_UP

Hashes = npt.NDArray[np.uint64]

NEAR_US: Final = 1_000_000
"""Two sources give one trade the same time to the second; other keys hold the time itself."""
KEPT_MAX_BYTES: Final = 48 << 20
"""Of columns kept in memory: some three million rows, at full load those of ten minutes."""
WHOLE_ROWS_MAX: Final = 500_000
"""Of a file with more rows only those of the time in question are looked at, and none are kept."""
PARTITIONS_MAX: Final = 1_000
_PROBED: Final = frozenset({"instrument", "ts", "trade_id", "change_id", "stream", "start_ts", "end_ts"})
"""Columns that tell nearly all rows apart; what they do not is told apart by the whole key."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fresh:
    """Of rows about to be appended those that are not held yet, in their order, and how many were left out.

    `instead` are files with rows that some of the given ones take the place of, as they are to be, without and with.
    """

    rows: pa.Table
    left_out: int = 0
    instead: tuple[tuple[DataFile, StagedFile], ...] = ()


@dataclass(slots=True)
class _Index:
    """Files of the partitions met so far, as of a version of the table."""

    version: int = -1
    files: dict[Partition | None, list[DataFile]] = field(default_factory=dict)


class HeldRows:
    """Tells what is new to the tables. Keep it: it remembers what was appended last."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._indices: defaultdict[str, _Index] = defaultdict(_Index)
        self._kept: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()
        self._bytes = 0

    def fresh(self, name: str, rows: pa.Table) -> Fresh:
        """What of `rows`, sorted by partition and sort key, table `name` does not hold.

        Raises:
            CorruptionError: a file that may hold some of them cannot be read.
        """
        spec = TABLES[name]
        unique, repeated = drop_duplicates(rows, spec, in_order=True)
        keep = np.ones(len(unique), np.bool_)
        instead: list[tuple[DataFile, StagedFile]] = []
        for partition, start, stop in _partitions(unique, spec):
            found = self._repeated(self._tables.writable(name), partition, unique.slice(start, stop - start))
            if found is not None:
                keep[start:stop] = ~found[0]
                instead += found[1]
                repeated += found[2]
        if not keep.all():
            unique = unique.filter(pa.array(keep))
        return Fresh(unique, repeated, tuple(instead))

    def appended(self, name: str, done: Appended, fresh: Fresh) -> None:
        """Take over what was just appended, so that it need not be read when the next rows come."""
        index = self._indices[name]
        if done.already_there or fresh.instead or done.version != index.version + 1:
            return  # others have committed too, or files were replaced: the files are listed anew
        index.version = done.version
        spec = TABLES[name]
        files = {file.partition: file for file in done.files}
        for partition, start, stop in _partitions(fresh.rows, spec):
            file = files[partition]
            if partition in index.files:
                index.files[partition].append(file)
            self._remember(name, file, fresh.rows.slice(start, stop - start).select(_looked_at(spec)))

    def _repeated(
        self, table: Table, partition: Partition | None, rows: pa.Table
    ) -> tuple[Mask, list[tuple[DataFile, StagedFile]], int] | None:
        """Which of `rows` are not to be appended, because they are held or stand in one of the files returned; how
        many of them are held. None: all are new."""
        spec = table.spec
        near = list(self._near(table, partition, rows))
        if not near:
            return None
        asked = np.unique(np.concatenate([at for _, at in near]))
        probes = np.zeros(len(rows), np.uint64)
        probes[asked] = row_hashes(rows.select(_probes(spec)).take(pa.array(asked)), _probes(spec))
        suspects = np.zeros(len(rows), np.bool_)
        sources: list[DataFile] = []
        for file, at in near:
            hits = _among(probes[at], self._hashes_of(table, file, rows))
            if hits.any():
                suspects[at[hits]] = True
                sources.append(file)
        if not sources:
            return None
        columns = _compared(spec)
        held, file_no, place = _read_held(table, sources, columns, probes[suspects])
        asked = np.flatnonzero(suspects)
        new = rows.select(columns).take(pa.array(asked)).cast(held.schema)
        found = repeats(held, new, spec)
        stays = ~found.dropped
        stays[found.by] = False
        _tell_contradictions(spec, held, new.filter(pa.array(stays)))
        out = np.zeros(len(rows), np.bool_)
        out[asked[found.dropped]] = True
        count = int(out.sum())
        instead = []
        for number in np.unique(file_no[found.superseded]).tolist():
            mine = file_no[found.superseded] == number
            taken = np.setdiff1d(asked[found.by[mine]], np.flatnonzero(out))
            if len(taken):  # else it went into the file before this one
                gone = place[found.superseded[mine]]
                instead.append((sources[number], _without(table, sources[number], gone, rows.take(taken))))
                out[taken] = True
        return out, instead, count

    def _near(
        self, table: Table, partition: Partition | None, rows: pa.Table
    ) -> Iterator[tuple[DataFile, npt.NDArray[np.int64]]]:
        """The files that may hold some of `rows`, and which of them."""
        files = self._files(table, partition)
        if not files:
            return
        everything = np.arange(len(rows))
        if "ts" not in rows.column_names:
            yield from ((file, everything) for file in files)
            return
        times = np.asarray(rows["ts"].cast(pa.int64()))
        first, last = int(times.min()), int(times.max())
        for file in files:
            low, high = _span(file)
            if low > last or high < first:
                continue
            inside = (times >= low) & (times <= high)
            if inside.any():
                yield file, np.flatnonzero(inside)

    def _files(self, table: Table, partition: Partition | None) -> list[DataFile]:
        index, version = self._indices[table.spec.name], table.version
        if index.version != version or len(index.files) > PARTITIONS_MAX:
            index.version = version
            index.files.clear()
        if partition not in index.files:
            index.files[partition] = (
                table.files(date=partition.date, family=partition.family) if partition else table.files()
            )
        return index.files[partition]

    def _hashes_of(self, table: Table, file: DataFile, rows: pa.Table) -> Hashes:
        """The hashes of the file's rows of about the time of `rows`, sorted."""
        spec = table.spec
        key = spec.name, file.path
        held, near = self._kept.get(key), _about(rows)
        if held is not None:
            self._kept.move_to_end(key)
        elif file.rows <= WHOLE_ROWS_MAX:
            held = self._remember(spec.name, file, _read(table, file, _looked_at(spec)))
        else:
            held = _read(table, file, _looked_at(spec), near)
        return np.sort(row_hashes(held if near is None else held.filter(near), _probes(spec)))

    def _remember(self, name: str, file: DataFile, columns: pa.Table) -> pa.Table:
        key = name, file.path
        if file.rows <= WHOLE_ROWS_MAX and key not in self._kept:
            self._kept[key] = columns
            self._bytes += columns.nbytes
            while self._bytes > KEPT_MAX_BYTES:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return columns


def _probes(spec: TableSpec) -> list[str]:
    return [name for name in spec.natural_key if name in _PROBED]


def _looked_at(spec: TableSpec) -> list[str]:
    """Columns that rows are looked up by: those hashed, and the time."""
    return [name for name in spec.names if name == "ts" or name in _probes(spec)]


def _about(rows: pa.Table) -> pc.Expression | None:
    """The condition that a row is of about the time of one of `rows`; None where they have none."""
    if "ts" not in rows.column_names:
        return None
    bounds = pc.min_max(rows["ts"].cast(pa.int64())).as_py()
    low, high = (_scalar(us) for us in (bounds["min"] - NEAR_US, bounds["max"] + NEAR_US))
    return (pc.field("ts") >= low) & (pc.field("ts") <= high)


def _compared(spec: TableSpec) -> list[str]:
    """Columns that decide which of two rows stays, in the table's order."""
    wanted = {*spec.natural_key, "recv_ts", spec.prefer, spec.position}
    return [name for name in spec.names if name in wanted]


def _among(hashes: Hashes, ordered: Hashes) -> Mask:
    if not len(ordered):
        return np.zeros(len(hashes), np.bool_)
    at = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    among: Mask = ordered[at] == hashes
    return among


def _span(file: DataFile) -> tuple[int, int]:
    """From when to when (µs since the epoch) a row may lie that the file holds."""
    if "ts" not in file.minimum or "ts" not in file.maximum:
        return -(1 << 62), 1 << 62
    return to_us(file.minimum["ts"]) - NEAR_US, to_us(file.maximum["ts"]) + NEAR_US


def _scalar(us: int) -> pa.Scalar[Any]:
    return pa.scalar(us, pa.int64()).cast(TIMESTAMP)


def _partitions(rows: pa.Table, spec: TableSpec) -> Iterator[tuple[Partition | None, int, int]]:
    """The spans of sorted `rows` by partition."""
    if not spec.partitioned:
        if len(rows):
            yield None, 0, len(rows)
        return
    start = 0
    grouped = rows.select(PARTITION_COLUMNS).group_by(list(PARTITION_COLUMNS), use_threads=False)
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        stop = start + row["count_all"]
        yield Partition(row["date"], row["family"]), start, stop
        start = stop


def _read(
    table: Table, file: DataFile, columns: Sequence[str], near: pc.Expression | None = None
) -> pa.Table:
    path = table.folder / file.path
    with delta_errors(f"reading {path}"), table.open_file(file) as content:
        if near is not None:
            return pq.read_table(content, columns=list(columns), filters=near, partitioning=None)
        with pq.ParquetFile(content) as parquet:
            return parquet.read(columns=list(columns), use_threads=False)


def _read_held(
    table: Table, files: Sequence[DataFile], columns: Sequence[str], probes: Hashes
) -> tuple[pa.Table, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows of `files` with one of these hashes; of each the number of its file, and its place there."""
    schema = pa.schema([table.spec.arrow_schema.field(name) for name in columns])
    pieces, numbers, places = [], [], []
    ordered = np.sort(probes)
    for number, file in enumerate(files):
        rows = _read(table, file, columns).cast(schema)
        at = np.flatnonzero(_among(row_hashes(rows, _probes(table.spec)), ordered))
        pieces.append(rows.take(pa.array(at)))
        numbers.append(np.full(len(at), number))
        places.append(at)
    return pa.concat_tables(pieces), np.concatenate(numbers), np.concatenate(places)


def _without(table: Table, file: DataFile, gone: npt.NDArray[np.int64], rows: pa.Table) -> StagedFile:
    """The file once more with `rows` in the place of those at `gone`."""
    spec = table.spec
    before = _read(table, file, spec.names).cast(spec.arrow_schema)
    if content_hash(before) != file.content_hash:
        raise CorruptionError(f"{table.folder / file.path}: differs from the log; run `lake verify`")
    keep = np.ones(len(before), np.bool_)
    keep[gone] = False
    after = pa.concat_tables([before.filter(pa.array(keep)), rows.select(spec.names).cast(spec.arrow_schema)])
    origin = file.origin if file.compacted else ROLLED_UP
    return table.stage(
        file.partition, sort_rows(after, spec), origin=origin, dropped=file.dropped + len(gone)
    )


def _tell_contradictions(spec: TableSpec, held: pa.Table, others: pa.Table) -> None:
    """Say of trades that two sources know otherwise: both rows stay."""
    if "trade_id" not in spec.natural_key:
        return
    identity = [name for name in _probes(spec) if name != "ts"]
    known = np.sort(row_hashes(held, identity))
    odd = others.filter(pa.array(_among(row_hashes(others, identity), known)))
    if len(odd):
        first: dict[str, Any] = odd.slice(0, 1).to_pylist()[0]
        log.warning(
            "%d rows of %s contradict rows that are held, first %s %s: both stay",
            len(odd), spec.name, first["instrument"], first["trade_id"],
        )  # fmt: skip
