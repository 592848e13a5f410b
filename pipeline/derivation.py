"""Derived tables: partition by partition, again whenever what they are made of has changed.

The files of a derived partition carry in their names a fingerprint of the rows they were made of and of the recipe.
Where it is still the same, the partition is done; else it is computed anew and put in place of the old in one
commit. So a run may be killed anywhere and repeated at will. What compaction rewrites without dropping duplicates
changes nothing: fingerprints are of rows, not of files.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lake.crashpoints import reach
from lake.datafile import HASH_MODULUS, DataFile, Partition
from lake.delta import Table
from lake.delta_commit import StagedFile
from lake.durable import disk_full_told
from lake.locks import exclusive
from lake.parquet import sort_rows
from lake.root import Root
from lake.schema import TABLES, TableSpec
from lake.views import Connection, connect

Compute = Callable[[Connection, Partition], pa.Table]
"""The rows of a partition, with the columns of the contract."""
Progress = Callable[[Iterable[Any], int], Iterable[Any]]
"""Shows how far a run is: given the results as they come, and how many there will be."""
ORIGIN: Final = "d"


@dataclass(frozen=True, slots=True)
class Unit:
    """A partition, or what one source gives of it: what is computed and replaced together.

    `origin`: what its files are called if they were made of what there is now; `present`: those that there are.
    """

    partition: Partition
    origin: str
    present: tuple[DataFile, ...]

    @property
    def due(self) -> bool:
        """Whether it is missing, or made of something else."""
        return not self.present or any(file.origin != self.origin for file in self.present)


@contextmanager
def deriving(root: Root, spec: TableSpec) -> Iterator[Table]:
    """The table, for one process at a time; what has been replaced long enough ago is deleted at the end.

    Raises:
        BusyError: another process derives the same table.
        DiskFullError: no space is left; partitions that were done stay.
    """
    doing = f"deriving {spec.name}"
    with disk_full_told(doing), exclusive(root.locks / f"derive-{spec.name}.lock", doing):
        table = Table.open(root, spec)
        yield table
        table.tidy(dt.datetime.now(dt.UTC))


def put_in_place(table: Table, unit: Unit, pieces: Iterable[pa.Table]) -> list[StagedFile]:
    """Write the sorted rows of `unit`, a file for each piece, and put them in the place of those there are.

    Without any piece the file is one without rows, which says that there are none.

    Raises:
        CommitFailedError, CommitUnknownError: the commit; run again.
    """
    staged: list[StagedFile] = []
    for rows in pieces:
        reach("derive:before_stage")
        staged.append(table.stage(unit.partition, rows, origin=unit.origin))
        reach("derive:after_stage")
    if not staged:
        nothing = table.spec.arrow_schema.empty_table()
        staged.append(table.stage(unit.partition, nothing, origin=unit.origin))
    table.supersede(unit.present, staged)
    reach("derive:after_commit")
    return staged


def fingerprint(recipe: object, *inputs: Sequence[DataFile]) -> str:
    """16 hex digits that differ where the rows could; duplicates that compaction drops change it, once.

    `recipe` stands by its `repr` for all that matters besides the rows of `inputs`.
    """
    held = [sum(file.content_hash for file in files) % HASH_MODULUS for files in inputs]
    return hashlib.blake2b(repr((recipe, *held)).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Derivation:
    """How one table is made by SQL: `inputs` names, for a partition, the files of other tables that matter."""

    spec: TableSpec
    recipe: str
    """Stands for the computation in the fingerprint: its SQL, say."""
    inputs: Callable[[Root], Mapping[Partition, Sequence[DataFile]]]
    compute: Compute


@dataclass(frozen=True, slots=True)
class Derived:
    """One partition as it was computed."""

    partition: str
    rows: int
    bytes: int


def bring_up_to_date(
    root: Root,
    derivation: Derivation,
    *,
    months: Sequence[dt.date] | None = None,
    progress: Progress | None = None,
) -> list[Derived]:
    """Compute every partition whose inputs have changed since, or only those of `months` (their first days).

    Raises:
        BusyError: another process derives the same table.
        DiskFullError: no space is left; partitions that were done stay.
        CorruptionError: a file of the lake cannot be read; partitions that were done stay.
        CommitFailedError, CommitUnknownError: a partition's commit; run again.
    """
    with deriving(root, derivation.spec) as table:
        due = [unit for unit in _units(derivation, root, months) if unit.due]
        with connect(root) as connection:
            results = (_derive(table, derivation, connection, unit) for unit in due)
            return list(progress(results, len(due)) if progress else results)


def _derive(table: Table, derivation: Derivation, connection: Connection, unit: Unit) -> Derived:
    rows = derivation.compute(connection, unit.partition).cast(table.spec.arrow_schema)
    (staged,) = put_in_place(table, unit, [sort_rows(rows, table.spec)])
    return Derived(unit.partition.folder, len(rows), staged.size)


def by_partition(root: Root, name: str) -> dict[Partition, list[DataFile]]:
    """The files of table `name` by partition; none where the table is not there yet."""
    table = Table.find(root, TABLES[name])
    found: dict[Partition, list[DataFile]] = defaultdict(list)
    for file in table.files() if table else []:
        if file.partition is not None:
            found[file.partition].append(file)
    return found


def by_month(root: Root, name: str) -> dict[Partition, list[DataFile]]:
    """The files of table `name` by month and family, whatever the period of the table."""
    months: dict[Partition, list[DataFile]] = defaultdict(list)
    for partition, files in by_partition(root, name).items():
        months[Partition(partition.date.replace(day=1), partition.family)] += files
    return months


def _units(derivation: Derivation, root: Root, months: Sequence[dt.date] | None) -> Iterator[Unit]:
    """Every partition that there are inputs for, or only those of `months`."""
    present = by_partition(root, derivation.spec.name)
    inputs = derivation.inputs(root)
    for partition in sorted(inputs):
        if months is None or partition.date in months:
            origin = f"{ORIGIN}.{fingerprint(derivation.recipe, inputs[partition])}"
            yield Unit(partition, origin, tuple(present.get(partition, ())))
