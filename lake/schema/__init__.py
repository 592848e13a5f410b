"""The contract of every table: its columns, their exact storage types, keys and order.

What a table may hold is written here and nowhere else. Data that does not fit is refused row by row
with a reason (`conform`), never bent and never inferred. `spec` says what a contract is made of; the modules
beside it hold the contracts, grouped by where the rows come from.
"""

from typing import Final

from lake.schema import books, derived, ledger, market, prices, sampled, surface, ticks
from lake.schema.ledger import COUNTED
from lake.schema.spec import (
    PARTITION_COLUMNS,
    SCHEMA_VERSION,
    TIMESTAMP,
    UNROUNDED,
    ColumnSpec,
    Encoding,
    TableSpec,
    decimal,
)
from lake.schema.units import UNITS

__all__ = [
    "COUNTED",
    "PARTITION_COLUMNS",
    "SCHEMA_VERSION",
    "TABLES",
    "TIMESTAMP",
    "UNITS",
    "UNROUNDED",
    "ColumnSpec",
    "Encoding",
    "TableSpec",
    "decimal",
]

TABLES: Final[dict[str, TableSpec]] = {
    spec.name: spec
    for module in (ticks, market, sampled, books, derived, surface, prices, ledger)
    for spec in module.SPECS
}
