"""The rows of one partition of a source table, range of instruments by range, within bounded memory.

Row groups are chosen by the instruments that their statistics name. Of a compacted day each is read once; where the
row groups of many small files overlap, they are read once for each range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.delta_errors import delta_errors
from lake.parquet import sort_rows
from lake.schema import TableSpec
from pipeline.derive_greeks.terms import named_codes
from pipeline.ranges import cut

_AS_CODES: Final = ("venue", "instrument")


@dataclass(frozen=True, slots=True)
class _Group:
    """One row group and the instruments it lies between; `footer` is its file's."""

    path: Path
    footer: pq.FileMetaData
    number: int
    rows: int
    first: str
    last: str


def row_groups(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Every row group of the files, in their order, the named columns only.

    Raises:
        CorruptionError: a file cannot be read.
    """
    for path in paths:
        with delta_errors(f"reading {path}"), pq.ParquetFile(path, read_dictionary=list(_AS_CODES)) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, columns=list(columns), use_threads=False)


def ranges(
    paths: Sequence[Path], spec: TableSpec, columns: Sequence[str], rows_in_memory: int
) -> Iterator[pa.Table]:
    """The rows of all files in ranges of instruments of about `rows_in_memory` rows, sorted, `columns` only.

    All rows of an instrument come in one range. `columns` must hold the table's sort key.

    Raises:
        CorruptionError: a file cannot be read.
    """
    for cluster in _clusters(_groups(paths), rows_in_memory):
        if sum(group.rows for group in cluster) <= rows_in_memory:
            yield sort_rows(_read(cluster, columns), spec)
            continue
        for first, last in cut(_count(cluster), rows_in_memory):
            reached = [group for group in cluster if group.first <= last and group.last >= first]
            yield sort_rows(_read(reached, columns, first, last), spec)


def _groups(paths: Sequence[Path]) -> list[_Group]:
    found = []
    for path in paths:
        with delta_errors(f"reading {path}"):
            footer = pq.read_metadata(path)
        column = footer.schema.names.index("instrument")
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            bounds = group.column(column).statistics
            found.append(_Group(path, footer, number, group.num_rows, bounds.min, bounds.max))
    return sorted(found, key=lambda group: (group.first, group.last, group.path, group.number))


def _clusters(groups: Sequence[_Group], rows_in_memory: int) -> Iterator[list[_Group]]:
    """Groups that share instruments stay together; those that do not are gathered up to the bound."""
    gathered: list[_Group] = []
    last = ""
    for group in groups:
        rows = sum(member.rows for member in gathered)
        if gathered and group.first > last and rows + group.rows > rows_in_memory:
            yield gathered
            gathered = []
        gathered.append(group)
        last = max(last, group.last)
    if gathered:
        yield gathered


def _count(groups: Sequence[_Group]) -> Counter[str]:
    """Rows of each instrument."""
    counts: Counter[str] = Counter()
    for group in groups:
        codes, names = named_codes(_read([group], ["instrument"])["instrument"])
        counts.update(dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True)))
    return counts


def _read(
    groups: Sequence[_Group], columns: Sequence[str], first: str | None = None, last: str | None = None
) -> pa.Table:
    pieces = []
    for group in groups:
        # To parse the footer of a day with a thousand row groups takes far longer than to read one of them.
        with (
            delta_errors(f"reading {group.path}"),
            pq.ParquetFile(group.path, read_dictionary=list(_AS_CODES), metadata=group.footer) as file,
        ):
            rows = file.read_row_group(group.number, columns=list(columns), use_threads=False)
        if first is not None and (group.first < first or group.last > (last or first)):
            names = rows["instrument"].cast(pa.string())
            rows = rows.filter(pc.and_(pc.greater_equal(names, first), pc.less_equal(names, last)))
        pieces.append(rows)
    return pa.concat_tables(pieces).unify_dictionaries()
