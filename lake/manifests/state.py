"""What the lake holds of each day now, by the tables' logs and the rows of the tables without partitions."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from lake.content import row_hashes
from lake.datafile import FINISHED, HASH_MODULUS, DataFile
from lake.delta import Table
from lake.delta_errors import delta_errors
from lake.manifests.form import RowSet, StreamEntry
from lake.schema import COUNTED, TABLES

SPANS: Final = {
    "coverage": ("start_ts", "end_ts"),
    "gaps": ("start_ts", "end_ts"),
    "instruments": ("valid_from", "valid_from"),
}
"""Tables without partitions, and the columns that say from when to when a row concerns the lake."""
ONE_DAY: Final = dt.timedelta(days=1)
EPOCH_DAY: Final = dt.date(1970, 1, 1)
US_PER_DAY: Final = 86_400_000_000
Days = npt.NDArray[np.int64]


class LedgerRows:
    """The rows of a table without partitions: a hash each, and the first and the last day that each concerns."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._kept: tuple[Path, pa.Table] | None = None
        hashes, firsts, lasts, self._files = [], [], [], []
        for file in table.files():
            rows = _read(table.folder / file.path, table.spec.name)
            first, last = (_day_numbers(rows[name]) for name in SPANS[table.spec.name])
            hashes.append(row_hashes(rows, table.spec.names))
            firsts.append(np.minimum(first, last))
            lasts.append(np.maximum(first, last))
            self._files.append((table.folder / file.path, len(rows)))
        empty = np.empty(0, np.int64)
        self.hashes = np.concatenate([np.empty(0, np.uint64), *hashes])
        self.firsts: Days = np.concatenate([empty, *firsts])
        self.lasts: Days = np.concatenate([empty, *lasts])

    def sums(self, days: Days) -> list[tuple[int, int]]:
        """For each of `days`, ascending: how many rows concern it, and the sum of their hashes."""
        begin = np.searchsorted(days, self.firsts, "left")
        end = np.searchsorted(days, self.lasts, "right")
        count = np.zeros(len(days) + 1, np.int64)
        total = np.zeros(len(days) + 1, np.uint64)
        np.add.at(count, begin, 1)
        np.subtract.at(count, end, 1)
        np.add.at(total, begin, self.hashes)
        np.subtract.at(total, end, self.hashes)
        pairs = zip(np.cumsum(count), np.cumsum(total, dtype=np.uint64), strict=True)
        return [(int(rows), int(hashed)) for rows, hashed in pairs][:-1]

    def of_day(self, day: int) -> npt.NDArray[np.uint64]:
        """The hashes of the rows that concern a day, in the order of `rows`."""
        return self.hashes[self._mask(day)]

    def rows(self, day: int) -> pa.Table:
        """The rows that concern a day."""
        mask, start, pieces = self._mask(day), 0, []
        for path, length in self._files:
            part = mask[start : start + length]
            start += length
            if part.any():
                if self._kept is None or self._kept[0] != path:
                    self._kept = (path, _read(path, self._table.spec.name))
                pieces.append(self._kept[1].filter(pa.array(part)))
        return pa.concat_tables(pieces) if pieces else self._table.spec.arrow_schema.empty_table()

    def _mask(self, day: int) -> npt.NDArray[np.bool_]:
        mask: npt.NDArray[np.bool_] = (self.firsts <= day) & (self.lasts >= day)
        return mask


class LakeState:
    """What pinned `tables` hold, by day; reads the tables without partitions, and of the others only the logs."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = tables
        self.versions = {name: table.version for name, table in tables.items()}
        self._partitions: dict[dt.date, dict[tuple[str, str], list[DataFile]]] = defaultdict(dict)
        for name, table in tables.items():
            if not table.spec.partitioned:
                continue
            for file in table.files():
                assert file.partition is not None
                day = table.spec.closes(file.partition.date) - ONE_DAY
                self._partitions[day].setdefault((name, file.partition.folder), []).append(file)
        self.ledgers = {name: LedgerRows(tables[name]) for name in SPANS if name in tables}

    @cached_property
    def days(self) -> list[dt.date]:
        """Days that hold something: on which a partition closes, or a run of records was received to its end."""
        coverage = self.ledgers.get("coverage")
        ends = np.unique(coverage.lasts).tolist() if coverage else []
        return sorted({*self._partitions, *(_date(number) for number in ends)})

    def partitions(self, day: dt.date) -> dict[tuple[str, str], list[DataFile]]:
        """By table and folder, the files of the partitions that close at the end of `day`, in order."""
        return dict(sorted(self._partitions.get(day, {}).items()))

    def finished(self, day: dt.date) -> bool:
        """Whether compaction has finished every partition of the day; derived tables are as they are to stay."""
        return all(
            TABLES[name].derived or all(file.origin == FINISHED for file in files)
            for (name, _), files in self.partitions(day).items()
        )

    def fingerprints(self, days: Sequence[dt.date]) -> dict[dt.date, str]:
        """For each of `days`: hex digits that differ where a manifest could say something else."""
        ordered = sorted(days)
        numbers = np.array([day_number(day) for day in ordered], np.int64)
        sums = {name: ledger.sums(numbers) for name, ledger in self.ledgers.items()}
        found = {}
        for at, day in enumerate(ordered):
            files = [(*key, f.path, f.size) for key, held in self.partitions(day).items() for f in held]
            said = repr((files, [(name, sums[name][at]) for name in sorted(sums)]))
            found[day] = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
        return found

    def row_set(self, name: str, day: dt.date) -> RowSet:
        """The rows of `coverage`, `gaps` or `instruments` that concern `day`, in the order of their table's files."""
        ledger = self.ledgers.get(name)
        hashes = ledger.of_day(day_number(day)) if ledger else np.empty(0, np.uint64)
        total = int(hashes.sum(dtype=np.uint64)) % HASH_MODULUS
        return RowSet(len(hashes), hex_of(total), [hex_of(one) for one in hashes.tolist()])

    def rows(self, name: str, day: dt.date) -> list[dict[str, Any]]:
        """The same rows, with all columns."""
        ledger = self.ledgers.get(name)
        return ledger.rows(day_number(day)).to_pylist() if ledger else []

    def streams(self, day: dt.date) -> list[StreamEntry]:
        """What `coverage` says of the streams on `day`."""
        by_stream: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.rows("coverage", day):
            by_stream[row["stream"]].append(row)
        return [_stream_entry(stream, rows) for stream, rows in sorted(by_stream.items())]


def day_number(day: dt.date) -> int:
    """Days since 1970."""
    return (day - EPOCH_DAY).days


def hex_of(content_hash: int) -> str:
    """A content hash as manifests write it."""
    return f"{content_hash:016x}"


def _date(number: int) -> dt.date:
    return EPOCH_DAY + dt.timedelta(days=number)


def _day_numbers(column: pa.ChunkedArray) -> Days:
    days: Days = np.asarray(column.cast(pa.int64())) // US_PER_DAY
    return days


def _read(path: Path, name: str) -> pa.Table:
    with delta_errors(f"reading {path}"):
        return pq.read_table(path, partitioning=None).cast(TABLES[name].arrow_schema)


def _stream_entry(stream: str, rows: Sequence[Mapping[str, Any]]) -> StreamEntry:
    def total(column: str) -> int:
        return sum(int(row[column]) for row in rows)

    return StreamEntry(
        stream=stream,
        first_offset=min(row["first_offset"] for row in rows),
        end_offset=max(row["end_offset"] for row in rows),
        start_ts=min(row["start_ts"] for row in rows).isoformat(),
        end_ts=max(row["end_ts"] for row in rows).isoformat(),
        records_lost=total("records_lost"),
        rejected=total("rejected"),
        repeated=total("repeated"),
        rows={name: count for name in COUNTED if (count := total(f"rows_{name}"))},
    )
