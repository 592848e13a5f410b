"""Whether the rows of a file belong where the file lies: readers leave out whole days and families by that alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import INDEX_FAMILY, family, index_family, option_family, parse_name
from lake.datafile import DataFile, Partition
from lake.errors import InputError
from lake.schema import TableSpec

_CURRENCY: Final = re.compile(r"[A-Z0-9]+")


def label_damage(file: DataFile, said: dict[str, Any] | None) -> list[str]:
    """Where the log's own words on `file` differ: its partition values, its number of rows, its name."""
    if said is None:
        return []
    found = []
    place = {"date": file.partition.date, "family": file.partition.family} if file.partition else {}
    values = {
        name.removeprefix("partition."): value
        for name, value in said.items()
        if name.startswith("partition.")
    }
    if values != place:
        told = ", ".join(f"{name} {value}" for name, value in sorted(values.items()))
        found.append(f"the log files it under {told or 'no day and family'}, which is not where it lies")
    if said["num_records"] is not None and said["num_records"] != file.rows:
        found.append(f"the log counts {said['num_records']} rows, the name {file.rows}")
    return found


def misplaced(rows: pa.Table, spec: TableSpec, partition: Partition) -> Iterable[str]:
    """What rows of a table with partitions say of themselves that `partition` does not."""
    days = pc.min_max(spec.dates(rows["ts"])).as_py()
    if days["min"] is not None and {days["min"], days["max"]} != {partition.date}:
        yield f"holds rows of {days['min']} to {days['max']}, not of {partition.date}"
    for name in pc.unique(rows["instrument"]).to_pylist():
        belongs = _family(name, spec.name)
        if belongs != partition.family:
            yield f"holds {name}, which belongs to {belongs or 'no family'}, not to {partition.family}"
            return


def _family(name: str, table: str) -> str | None:
    """The family that ingest files `name` under; None where it would have refused it."""
    try:
        if table == "surface":  # of an expiry, named as a future is
            return option_family(parse_name(name).basis)
        return family(name)
    except InputError:
        pass  # no instrument: an index, or for settlements a currency
    if table == "settlements" and _CURRENCY.fullmatch(name):
        return INDEX_FAMILY
    try:
        return index_family(name)
    except InputError:
        return None
