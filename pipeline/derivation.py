"""Tables derived by SQL: partition by partition, again whenever what they are made of has changed.

The files of a derived partition carry in their names a fingerprint of the rows they were made of and of the SQL.
Where it is still the same, the partition is done; else it is computed anew and put in place of the old in one
commit. So a run may be killed anywhere and repeated at will. Compaction changes nothing: fingerprints are of rows.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from lake.crashpoints import reach
from lake.datafile import HASH_MODULUS, DataFile, Partition
from lake.delta import Table
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
ORIGIN: Final = "d."


@dataclass(frozen=True, slots=True)
class Derivation:
    """How one table is made: `inputs` names, for a partition, the files of other tables that matter."""

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
    spec = derivation.spec
    doing = f"deriving {spec.name}"
    with disk_full_told(doing), exclusive(root.locks / f"derive-{spec.name}.lock", doing):
        table = Table.open(root, spec)
        due = list(_due(table, derivation, root, months))
        with connect(root) as connection:
            results = (_derive(table, derivation, connection, *part) for part in due)
            done = list(progress(results, len(due)) if progress else results)
        table.tidy(dt.datetime.now(dt.UTC))
    return done


def _derive(
    table: Table,
    derivation: Derivation,
    connection: Connection,
    partition: Partition,
    origin: str,
    stale: Sequence[DataFile],
) -> Derived:
    """Compute a partition and put its rows in the place of the stale files."""
    spec = derivation.spec
    rows = sort_rows(derivation.compute(connection, partition).cast(spec.arrow_schema), spec)
    reach("derive:before_stage")
    staged = [table.stage(partition, rows, origin=origin)] if len(rows) or not stale else []
    reach("derive:after_stage")
    table.supersede(stale, staged)
    reach("derive:after_commit")
    return Derived(partition.folder, len(rows), sum(file.size for file in staged))


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


def _due(
    table: Table, derivation: Derivation, root: Root, months: Sequence[dt.date] | None
) -> Iterator[tuple[Partition, str, list[DataFile]]]:
    """Partitions to compute, the origin their files get, and the files these take the place of."""
    present = by_partition(root, table.spec.name)
    for partition, files in sorted(
        derivation.inputs(root).items(), key=lambda item: (item[0].date, item[0].family)
    ):
        if months is not None and partition.date not in months:
            continue
        origin = ORIGIN + _fingerprint(derivation.recipe, files)
        stale = present.get(partition, [])
        if not stale or any(file.origin != origin for file in stale):
            yield partition, origin, stale


def _fingerprint(recipe: str, files: Sequence[DataFile]) -> str:
    """16 hex digits that differ where the rows could; duplicates that compaction drops change it, once."""
    held = sum(file.content_hash for file in files) % HASH_MODULUS
    return hashlib.blake2b(f"{recipe}\n{held}".encode(), digest_size=8).hexdigest()
