"""What the name of a data file says, so that the Delta log itself records what each file must hold.

    date=2026-11-20/family=btc_option/i.deribit.5f3a9c01.4096-18233-0-9b1f5c20aa17e3d4.parquet
    └ partition (not in every table)  └ origin                │     │ └ content hash of the rows, hex
                                                              └ rows└ duplicates dropped so far

A name follows from its content, so a writer that is tried again after a crash overwrites its own orphan and
leaves no garbage, and anybody holding the log can prove a file: count its rows, hash them, compare.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lake.errors import CorruptionError, SchemaDriftError

FAMILY: Final = re.compile(r"[a-z0-9_]+")
INGEST_PREFIX: Final = "i."  # origins of appended files begin so; all others were made by a rewrite
FINISHED: Final = "c"  # origin of files that hold a whole closed day, sorted and without duplicates
HASH_MODULUS: Final = 1 << 64  # hashes of sets of rows add up modulo this
_ORIGIN: Final = re.compile(r"[a-z0-9][a-z0-9._-]*")
_PATH: Final = re.compile(
    r"(?:date=(?P<date>\d{4}-\d\d-\d\d)/family=(?P<family>[a-z0-9_]+)/)?"
    r"(?P<origin>[a-z0-9][a-z0-9._-]*)-(?P<rows>\d+)-(?P<dropped>\d+)-(?P<hash>[0-9a-f]{16})\.parquet"
)


@dataclass(frozen=True, slots=True)
class Labels:
    """What the log says of a file beside its path: `partition` are its partition values, `rows` its number of rows."""

    partition: Mapping[str, Any]
    rows: int | None


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One day of one family. Tables without partitions have None in its place."""

    date: dt.date
    family: str

    def __post_init__(self) -> None:
        if not isinstance(self.family, str) or not FAMILY.fullmatch(self.family):
            raise SchemaDriftError(f"family {self.family!r}: use a-z 0-9 _")
        if not isinstance(self.date, dt.date):
            raise SchemaDriftError(f"date {self.date!r} of family {self.family}: a row needs one")

    @property
    def folder(self) -> str:
        """The partition's folder relative to the table's."""
        return f"date={self.date.isoformat()}/family={self.family}"


@dataclass(frozen=True, slots=True)
class DataFile:
    """One data file of a table.

    `path` is relative to the table's folder, `size` in bytes; `dropped` counts the duplicates that rewriting
    has removed from its rows so far. `minimum` and `maximum` hold the log's statistics by column, `labels` what
    else the log says of the file beside its path, where it came from a log.
    """

    path: str
    partition: Partition | None
    origin: str
    rows: int
    dropped: int
    content_hash: int
    size: int = 0
    minimum: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    maximum: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    labels: Labels | None = field(default=None, hash=False, compare=False)

    @property
    def compacted(self) -> bool:
        """Whether a rewrite made this file, so that its rows are sorted and unique."""
        return not self.origin.startswith(INGEST_PREFIX)

    @property
    def mislabelled(self) -> str | None:
        """Where the log says of the file what its path does not, in words: queries go by the log."""
        if self.labels is None:
            return None
        of_path = {"date": self.partition.date, "family": self.partition.family} if self.partition else {}
        if dict(self.labels.partition) != of_path:
            said = (
                ", ".join(f"{name} {value}" for name, value in self.labels.partition.items())
                or "no partition"
            )
            return f"the log has it under {said}"
        if self.labels.rows != self.rows:
            return f"the log says {self.labels.rows} rows, its name {self.rows}"
        return None


def file_path(partition: Partition | None, origin: str, rows: int, dropped: int, content_hash: int) -> str:
    """Path, relative to the table's folder, of a file with this content.

    Raises:
        ValueError: `origin` could not be part of a file name.
    """
    if not _ORIGIN.fullmatch(origin):
        raise ValueError(f"origin {origin!r}: use a-z 0-9 . _ - and start with a letter or digit")
    name = f"{origin}-{rows}-{dropped}-{content_hash:016x}.parquet"
    return f"{partition.folder}/{name}" if partition else name


def is_data_path(path: str) -> bool:
    """Whether a data file of this project can have this path, relative to its table's folder."""
    return _PATH.fullmatch(path) is not None


def parse_path(
    path: str,
    size: int = 0,
    minimum: Mapping[str, Any] | None = None,
    maximum: Mapping[str, Any] | None = None,
    labels: Labels | None = None,
) -> DataFile:
    """The file that `path` names; the inverse of `file_path`.

    Raises:
        CorruptionError: no file of this project has such a name.
    """
    found = _PATH.fullmatch(path)
    if not found:
        raise CorruptionError(f"the table's log names a file that this project never wrote: {path}")
    date, family, origin, rows, dropped, content_hash = found.groups()
    partition = Partition(dt.date.fromisoformat(date), family) if date else None
    numbers = int(rows), int(dropped), int(content_hash, 16), size
    return DataFile(path, partition, origin, *numbers, minimum or {}, maximum or {}, labels)
