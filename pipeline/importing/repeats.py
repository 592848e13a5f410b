"""Rows of one file that have the key of an earlier one: the same once more, or another row under the same key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lake.content import row_hashes
from lake.exact import Mask
from lake.schema import TableSpec

Words = npt.NDArray[np.uint64]

ROWS_REMEMBERED: Final = 1 << 26
"""Of the newest rows, 24 bytes each: a repeat that is further behind is left to compaction."""
NOT_COMPARED: Final = "recv_ts"
"""When a row reached somebody says nothing about what it is."""


def has_keys(spec: TableSpec) -> bool:
    """Whether rows of the table have a key that the venue gives them, not merely all that they say."""
    return spec.name != "book" and set(spec.natural_key) < set(spec.names) - {NOT_COMPARED}


def _identity(spec: TableSpec) -> tuple[str, ...]:
    """The columns that name a row. The key of trades also has what two sources might say differently of one."""
    if "trade_id" in spec.natural_key:
        return tuple(name for name in spec.natural_key if name in ("venue", "instrument", "trade_id"))
    return spec.natural_key


@dataclass(slots=True)
class Repeats:
    """What a file's rows have said so far: per key a hash of all that its first row said, and of all but the column
    that a later row may tell better (`TableSpec.prefer`). Kept in sorted runs, as in a merge sort."""

    spec: TableSpec
    runs: list[npt.NDArray[np.uint64]] = field(default_factory=list)

    def find(self, rows: pa.Table) -> tuple[Mask, Mask]:
        """Which of the next `rows` say the same as an earlier one, and which say something else under its key."""
        if not rows.num_rows:
            return np.zeros(0, np.bool_), np.zeros(0, np.bool_)
        names = [name for name in self.spec.names if name != NOT_COMPARED]
        firm = [name for name in names if name != self.spec.prefer]
        mine = np.stack([row_hashes(rows, columns) for columns in (_identity(self.spec), names, firm)])
        keys = mine[0]
        order = np.argsort(keys, kind="stable")
        begins = np.ones(len(keys), np.bool_)
        begins[1:] = keys[order][1:] != keys[order][:-1]
        starts = order[np.flatnonzero(begins)]
        leader = np.empty(len(keys), np.int64)
        leader[order] = starts[np.cumsum(begins) - 1]
        first = mine[:, leader]
        seen = np.zeros(len(keys), np.bool_)
        for run in self.runs:
            at = np.minimum(np.searchsorted(run[0], keys), run.shape[1] - 1)
            hit = run[0][at] == keys
            first[:, hit] = run[:, at[hit]]
            seen |= hit
        self._remember(mine[:, starts[~seen[starts]]])
        again = seen | (leader != np.arange(len(keys)))
        return again & (mine[1] == first[1]), again & (mine[2] != first[2])

    def _remember(self, fresh: npt.NDArray[np.uint64]) -> None:
        if not fresh.shape[1]:
            return
        self.runs.append(fresh)
        while len(self.runs) > 1 and self.runs[-1].shape[1] * 2 >= self.runs[-2].shape[1]:
            merged = np.concatenate(self.runs[-2:], axis=1)
            self.runs[-2:] = [merged[:, np.argsort(merged[0], kind="stable")]]
        while len(self.runs) > 1 and sum(run.shape[1] for run in self.runs) > ROWS_REMEMBERED:
            del self.runs[0]
