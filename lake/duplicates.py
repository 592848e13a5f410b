"""Which rows are the same tick, and which of them stays.

Rows are the same when they agree in the table's natural key. Of such rows the one with a value in the table's column
`prefer` stays, if there is one; else, and among several such, the first by receive time. Rows are kept whole, never
mixed. What differs in anything that the venue said is never the same: a row's position in its message is no part of a
key, but one message may say the same twice, and then it does so in every copy of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.content import row_hashes
from lake.exact import Array, Mask, valid_mask
from lake.parquet import row_order, sort_codes
from lake.schema import TableSpec

Positions = npt.NDArray[np.int64]
_COPY: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class Repeats:
    """What new rows repeat: `dropped` says which of them are held already, or come twice among themselves.

    `superseded` are positions of held rows that a new one is preferred to: `by` has its position, one for each.
    """

    dropped: Mask
    superseded: Positions
    by: Positions


def drop_duplicates(rows: pa.Table, table: TableSpec, *, in_order: bool = False) -> tuple[pa.Table, int]:
    """`rows` with one of each natural key, in their order, and how many were dropped.

    `in_order` says that `rows` come from `sort_rows`, which saves looking at most of them where the natural key holds
    instrument and time.
    """
    if rows.num_rows < 2:
        return rows, 0
    if in_order and {"instrument", "ts"} <= set(table.natural_key):
        suspects = _suspects(rows, table)
        dropped = suspects[_later_of_equals(rows.take(pa.array(suspects)), table)[0]]
    else:
        dropped, _ = _later_of_equals(rows, table)
    if not len(dropped):
        return rows, 0
    keep = np.ones(rows.num_rows, np.bool_)
    keep[dropped] = False
    return rows.filter(pa.array(keep)), len(dropped)


def repeats(held: pa.Table, rows: pa.Table, table: TableSpec) -> Repeats:
    """Which of `rows` repeat one that is `held`, whenever that was received; both have the same columns.

    A held row stays, unless a new one has a value in the column `prefer` and it has none.
    """
    count = len(held)
    later, leader = _later_of_equals(pa.concat_tables([held, rows]), table, held=count)
    dropped = np.zeros(len(rows), np.bool_)
    dropped[later[later >= count] - count] = True
    beaten = (later < count) & (leader >= count)
    return Repeats(dropped, later[beaten], leader[beaten] - count)


def _later_of_equals(
    rows: pa.Table, table: TableSpec, held: int | None = None
) -> tuple[Positions, Positions]:
    """Positions of the rows that repeat the natural key of one preferred to them, and of that one.

    The first `held` rows come before all others, whenever they were received.
    """
    hashes = row_hashes(rows, table.natural_key)
    is_new = np.arange(rows.num_rows) >= (held or 0)
    copies = _copies(rows, table, hashes, is_new)
    if copies is not None:
        hashes = hashes + copies.astype(np.uint64) * _COPY
    order = row_order(rows, ("recv_ts",)) if "recv_ts" in table.names else np.arange(rows.num_rows)
    if held is not None:
        order = order[np.argsort(is_new[order], kind="stable")]
    if table.prefer is not None:
        lacking = ~valid_mask(rows[table.prefer].combine_chunks())
        order = order[np.argsort(lacking[order], kind="stable")]
    order = order[np.argsort(hashes[order], kind="stable")]
    follows = hashes[order[1:]] == hashes[order[:-1]]
    if not follows.any():
        return order[:0], order[:0]
    # The leader of a run of equal hashes is the one to keep; compare each follower with it for real, so
    # that two different rows whose hashes collide are both kept.
    run_start = np.maximum.accumulate(np.where(np.concatenate([[True], ~follows]), np.arange(len(order)), 0))
    at = np.flatnonzero(follows) + 1
    later, leader = order[at], order[run_start[at]]
    equal = _equal_rows(rows, table.natural_key, later, leader)
    if copies is not None:
        equal &= copies[later] == copies[leader]
    return later[equal], leader[equal]


def _copies(
    rows: pa.Table, table: TableSpec, hashes: npt.NDArray[np.uint64], is_new: Mask
) -> Positions | None:
    """How many rows of the same message said the same before; None where rows have no position in a message."""
    if table.position is None:
        return None
    received = sort_codes(rows["recv_ts"])
    position = sort_codes(rows[table.position])
    order = np.lexsort((position, received, is_new, hashes))
    same = np.ones(max(len(order) - 1, 0), np.bool_)
    for values in (hashes, received, is_new):
        same &= values[order[1:]] == values[order[:-1]]
    further = np.concatenate([[False], same & (position[order[1:]] != position[order[:-1]])])[: len(order)]
    count = np.cumsum(further)
    starts = np.concatenate([[True], ~same])[: len(order)]
    copies = np.empty(len(order), np.int64)
    copies[order] = count - np.maximum.accumulate(np.where(starts, count, 0))
    return copies


def _suspects(rows: pa.Table, table: TableSpec) -> Positions:
    """Positions of sorted rows whose instrument and time another row has too; of messages, another message."""
    names, times = sort_codes(rows["instrument"]), sort_codes(rows["ts"])
    same = (names[1:] == names[:-1]) & (times[1:] == times[:-1])
    if table.position is None:
        return np.flatnonzero(np.concatenate([[False], same]) | np.concatenate([same, [False]]))
    received, position = sort_codes(rows["recv_ts"]), sort_codes(rows[table.position])
    copied = same & ((received[1:] != received[:-1]) | (position[1:] == position[:-1]))
    instant = np.concatenate([[0], np.cumsum(~same)])
    doubtful = np.zeros(int(instant[-1]) + 1, np.bool_)
    doubtful[instant[1:][copied]] = True
    return np.flatnonzero(doubtful[instant])


def _equal_rows(rows: pa.Table, columns: tuple[str, ...], left: Positions, right: Positions) -> Mask:
    """Whether rows `left[i]` and `right[i]` agree in all `columns`, two nulls being equal."""
    equal = np.ones(len(left), np.bool_)
    for name in columns:
        column: Array = rows[name].combine_chunks()
        a, b = column.take(pa.array(left)), column.take(pa.array(right))
        if column.null_count:
            a_valid, b_valid = valid_mask(a), valid_mask(b)
            same = np.asarray(pc.equal(a, b).fill_null(False))
            equal &= (same & a_valid & b_valid) | (~a_valid & ~b_valid)
        else:
            equal &= np.asarray(pc.equal(a, b))
    return equal
