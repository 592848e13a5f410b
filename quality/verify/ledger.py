"""The rows of `coverage` by stream and offset."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(slots=True)
class Ledger:
    """Of each stream the runs of records that went into the tables, in order."""

    rows: pa.Table
    _runs: dict[str, list[tuple[int, int, int, int]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        told = self.rows.select(["stream", "first_offset", "end_offset", "start_ts", "end_ts"])
        for name in ("start_ts", "end_ts"):
            told = told.set_column(told.column_names.index(name), name, told[name].cast(pa.int64()))
        blurred = zip(*(self.rows[name].to_pylist() for name in ("records_lost", "rebuilt")), strict=True)
        for (stream, *run), (lost, rebuilt) in zip(
            zip(*(column.to_pylist() for column in told.columns), strict=True), blurred, strict=True
        ):
            if not lost and not rebuilt and run[0] < run[1]:  # the times of others are not those of records
                self._runs[stream].append(tuple(run))
        for runs in self._runs.values():
            runs.sort()

    def times(self, stream: str, first: int, end: int) -> tuple[int, int] | None:
        """Between which receive times, µs since the epoch, the records `first` to before `end` were; None where no
        one run holds them all, or its times are not those of records."""
        runs = self._runs.get(stream, [])
        at = bisect_right(runs, first, key=lambda run: run[0]) - 1
        if at < 0 or runs[at][1] < end:
            return None
        return runs[at][2], runs[at][3]
