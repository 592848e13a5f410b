"""How far the tables have got with a stream, as the commits of `coverage` say.

A commit of `coverage` closes a run of records: everything below its end offset is in the tables. Tables that had
no rows in it are not touched, so the same commit also notes, per table, up to where the table must have got:
the newest commit of that table for the stream. A table that is further behind has lost a commit since.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pyarrow.compute as pc

from lake.delta import Table
from lake.instants import EPOCH
from lake.schema import TABLES


def claim(stream: str, table: str) -> str:
    """Name of the Delta application whose version says how far `table` has got with `stream`."""
    return f"{stream}/{table}"


def newest(table: Table, column: str) -> dt.datetime:
    """The greatest value of a column of times, as the table's log has it; `EPOCH` where it has none."""
    listing = table.listing()
    name = f"max.{column}"
    found = pc.max(listing[name]).as_py() if name in listing.column_names else None
    return found or EPOCH


def newest_received(coverage: Table) -> dt.datetime:
    """The latest receive time in the tables: how late it is by what was recorded, whatever the machine's clock says."""
    return newest(coverage, "end_ts")


def claims(coverage: Table, stream: str) -> dict[str, int]:
    """Per table with rows of `stream`: the offset that its newest commit for the stream must have."""
    said = {name: coverage.committed(claim(stream, name)) for name in TABLES}
    return {name: offset for name, offset in said.items() if offset}


def behind(coverage: Table, stream: str, reached: Callable[[str], int]) -> dict[str, int]:
    """Tables that lack a commit which `coverage` relies on, each with the offset it has got to.

    `reached` gives the version a table itself has of the stream, 0 where it has none.
    """
    found = {name: (reached(name), need) for name, need in claims(coverage, stream).items()}
    return {name: got for name, (got, need) in found.items() if got < need}


def complete_to(coverage: Table, stream: str, reached: Callable[[str], int]) -> int:
    """The offset below which every record of `stream` is in its tables; `reached` as for `behind`."""
    return min([coverage.committed(stream) or 0, *behind(coverage, stream, reached).values()])
