"""The tables of one lake by name, for those who look at several, or again and again: opening one reads its log."""

from __future__ import annotations

from lake.delta import Table
from lake.delta_log import exists
from lake.root import Root
from lake.schema import TABLES


class Tables:
    """Opens each table when it is first asked for, and keeps it. A table kept sees later commits."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._open: dict[str, Table] = {}
        self._writable: dict[str, Table] = {}

    def writable(self, name: str) -> Table:
        """The table `name` of the contract for writing, made where it is missing, its log repaired when it is opened.

        Raises:
            SchemaDriftError: the table on disk has other columns than the contract.
            CorruptionError: the log is damaged further back than its newest commit.
        """
        if name not in self._writable:
            self._writable[name] = Table.open(self._root, TABLES[name])
        return self._writable[name]

    def find(self, name: str) -> Table | None:
        """The table `name` of the contract for reading; None where nothing has ever been ingested into it.

        Raises:
            SchemaDriftError: the table on disk has other columns than the contract.
            CorruptionError: its log cannot be read.
        """
        if name not in self._open:
            table = Table.find(self._root, TABLES[name])
            if table is None:
                return None
            self._open[name] = table
        return self._open[name]

    def existing(self, name: str) -> Table | None:
        """As `writable`, but None where nothing has ever been ingested into the table."""
        if name not in self._writable and not exists(self._root.table(name)):
            return None
        return self.writable(name)

    def reached(self, stream: str, name: str) -> int:
        """The version that table `name` has of `stream`, 0 where it has none."""
        table = self.find(name)
        return (table.committed(stream) or 0) if table else 0
