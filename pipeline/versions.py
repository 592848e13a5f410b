"""Versions of instruments: a row only when something about an instrument has changed."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.delta import Table

KEY: Final = ("venue", "instrument")
NOT_COMPARED: Final = frozenset({"valid_from", "offset"})
_POSITION: Final = "position"
_Column: TypeAlias = "pa.ChunkedArray[Any]"


def changed_versions(table: Table, candidates: pa.Table) -> pa.Table:
    """Of `candidates` (what listings and announcements say, in any order), the rows that say something new.

    A row is compared with the one before it by `valid_from`, of the same (venue, instrument), in `table` or
    among the candidates; at the same moment, the later candidate is the later one. `valid_from` is when we first
    saw the version.
    """
    if not len(candidates):
        return candidates
    names = [name for name in candidates.column_names if name not in NOT_COMPARED]
    stored = table.read(columns=[*names, "valid_from"])
    return candidates.filter(pa.array(_is_new(stored, candidates, names)))


def _is_new(stored: pa.Table, candidates: pa.Table, names: list[str]) -> npt.NDArray[np.bool_]:
    """Which candidates differ from the row before them. All columns at once: a year of listings is a million rows."""
    columns = [*names, "valid_from"]
    both = pa.concat_tables(
        [stored.select(columns).cast(candidates.select(columns).schema), candidates.select(columns)]
    )
    both = both.append_column(_POSITION, pa.array(np.arange(len(both))))
    both = both.sort_by([(name, "ascending") for name in (*KEY, "valid_from", _POSITION)])
    differs = np.zeros(len(both), dtype=bool)
    differs[0] = True
    for name in names:
        differs[1:] |= _differs(both[name][1:], both[name][:-1])
    position = both[_POSITION].to_numpy()
    of_candidate = position >= len(stored)
    is_new = np.zeros(len(candidates), dtype=bool)
    is_new[position[of_candidate] - len(stored)] = differs[of_candidate]
    return is_new


def _differs(left: _Column, right: _Column) -> npt.NDArray[np.bool_]:
    """Row by row; two nulls are alike."""
    unlike = pc.fill_null(pc.not_equal(left, right), False)
    rows: npt.NDArray[np.bool_] = pc.or_(unlike, pc.xor(left.is_null(), right.is_null())).to_numpy()
    return rows
