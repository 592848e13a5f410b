"""Versions of instruments: a row only when something about an instrument has changed."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from lake.delta import Table

NOT_COMPARED: Final = frozenset({"valid_from", "offset"})


def changed_versions(table: Table, candidates: pa.Table) -> pa.Table:
    """Of `candidates` (whole listings, oldest first), the rows that differ from the version before them.

    The version before is the newest row of the same (venue, instrument) in `table` or earlier among the
    candidates. `valid_from` is when we first saw the version.
    """
    if not len(candidates):
        return candidates
    compared = [name for name in candidates.column_names if name not in NOT_COMPARED]
    latest = _latest(table, compared)
    keep: list[bool] = []
    for row in zip(*(candidates[name].to_pylist() for name in compared), strict=True):
        key = row[:2]
        keep.append(latest.get(key) != row)
        latest[key] = row
    return candidates.filter(pa.array(keep))


def _latest(table: Table, compared: list[str]) -> dict[tuple[object, ...], tuple[object, ...]]:
    stored = table.read(columns=[*compared, "valid_from"]).sort_by("valid_from")
    columns = (stored[name].to_pylist() for name in compared)
    return {row[:2]: row for row in zip(*columns, strict=True)}
