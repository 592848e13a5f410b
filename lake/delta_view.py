"""The log of one table as this process last saw it.

What an append has to know (the newest version, how far each stream got) is read from the commits themselves, as
they come: some 50 µs each. The Delta library, which takes some 10 ms for the same, is asked for what needs all
of the log: the list of files, and checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema

from lake import commit_file, delta_log
from lake.delta_errors import delta_errors
from lake.errors import CommitFailedError, CorruptionError, SchemaDriftError
from lake.root import Root
from lake.schema import TableSpec

COMMITS_PER_REOPEN: Final = 50  # a held table slows by ~0.12 ms per commit


def table_uri(folder: Path) -> str:
    """The address of the table in `folder` for the Delta library, which takes a plain path for half an address."""
    return f"file://{quote(str(folder))}/"


class DeltaView:
    """What the log says, from one version on to the newest."""

    def __init__(self, root: Root, spec: TableSpec) -> None:
        self._spec = spec
        self.folder: Final = root.table(spec.name)
        self.log: Final = delta_log.log_folder(self.folder)
        self._listing: tuple[int, pa.Table] | None = None
        self._pinned = False
        self.reload()

    def reload(self) -> None:
        """Read the log anew.

        Raises:
            SchemaDriftError: the table has other columns than the contract.
            CorruptionError: the log cannot be read.
        """
        with delta_errors(f"opening {self.folder}"):
            delta = DeltaTable(table_uri(self.folder))
            found, wanted = delta.schema(), DeltaSchema.from_arrow(self._spec.delta_schema)
        if found != wanted:
            raise SchemaDriftError(f"{self.folder} has other columns than the contract of {self._spec.name}")
        self._delta = delta
        self._loaded_version = delta.version()
        self._seen(delta.version())

    def _seen(self, version: int) -> None:
        self.version = int(version)
        """Version of the newest commit seen."""
        self._since: dict[str, int] = {}
        """How far applications got in the commits after the library's version."""

    def pin(self) -> None:
        """Pass over all later commits from now on."""
        self.refresh()
        self._library()
        self._pinned = True

    def refresh(self) -> None:
        """See what other processes committed."""
        if self._pinned:
            return
        while self._see_next():
            pass
        # Versions have no holes; only the clean-up of old ones removes the next version's file, and then there is a
        # checkpoint beyond it.
        if delta_log.last_checkpoint(self.log) > self.version:
            self.reload()

    def _see_next(self) -> bool:
        path = delta_log.commit_path(self.log, self.version + 1)
        try:
            commit = commit_file.decode(path.read_bytes())
            reached = {str(txn["appId"]): int(txn["version"]) for txn in commit.of("txn")}
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptionError(f"reading the log of {self.folder}: {path.name}: {error}") from error
        self._since |= reached
        self.version += 1
        return True

    def _library(self) -> DeltaTable:
        """The library's table, at the newest version seen."""
        behind = self.version - self._delta.version()
        if behind and (
            behind >= COMMITS_PER_REOPEN or self.version - self._loaded_version >= COMMITS_PER_REOPEN
        ):
            self.reload()
        elif behind:
            with delta_errors(f"reading the log of {self.folder}"):
                self._delta.update_incremental()
            self._seen(self._delta.version())
        return self._delta

    def transaction_version(self, app: str) -> int | None:
        """The newest version that `app` has committed; None where it never did."""
        if app in self._since:
            return self._since[app]
        with delta_errors(f"reading the log of {self.folder}"):
            found = self._delta.transaction_version(app)
        return None if found is None else int(found)

    def listing(self) -> pa.Table:
        """Active files: `path`, `size_bytes`, `num_records`, `partition.*`, `min.*`, `max.*`."""
        if self._listing is None or self._listing[0] != self.version:
            delta = self._library()
            with delta_errors(f"reading the log of {self.folder}"):
                self._listing = (self.version, pa.table(delta.get_add_actions(flatten=True)))
        return self._listing[1]

    def active_paths(self) -> set[str]:
        """Paths of the active files, relative to the table's folder."""
        return {str(path) for path in self.listing()["path"].to_pylist()}

    def require_active(self, paths: Sequence[str]) -> None:
        """Raise CommitFailedError where one of `paths` is not in the table."""
        missing = set(paths) - self.active_paths()
        if missing:
            what = f"{self.folder / min(missing)} is no longer active"
            raise CommitFailedError(f"{what}: another writer replaced it; look at the files again")

    def write_checkpoint(self) -> int:
        """Write a checkpoint of the newest version seen, not durable yet; its version."""
        delta = self._library()
        with delta_errors(f"writing a checkpoint of {self.folder}"):
            delta.create_checkpoint()
        return int(delta.version())


def first_actions(spec: TableSpec, configuration: dict[str, str], identity: str) -> list[dict[str, Any]]:
    """What the first commit of a table says: the protocol, and the columns of the contract."""
    with delta_errors(f"describing table {spec.name}"):
        columns = DeltaSchema.from_arrow(spec.delta_schema).to_json()
    return [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            "metaData": {
                "id": identity,
                "name": None,
                "description": None,
                "format": {"provider": "parquet", "options": {}},
                "schemaString": columns,
                "partitionColumns": list(spec.partition_columns),
                "createdTime": commit_file.now_ms(),
                "configuration": configuration,
            }
        },
    ]
