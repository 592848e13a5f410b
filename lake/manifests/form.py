"""What stands in a manifest: JSON in one form only (keys sorted, no spaces), so that equal content is equal bytes."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from lake.errors import CorruptionError, InputError

FORMAT: Final = 1
FILE_NAME: Final = re.compile(r"(\d{4}-\d\d-\d\d)(?:\.r(\d+))?\.json")
SIGNATURE_SUFFIX: Final = ".sig"


class FileEntry(msgspec.Struct, frozen=True):
    """A data file: `path` from the table's folder, `size` in bytes, hashes in hex, `bounds` by column as text."""

    path: str
    size: int
    sha256: str
    rows: int
    dropped: int
    content_hash: str
    bounds: dict[str, tuple[str | None, str | None]]


class PartitionEntry(msgspec.Struct, frozen=True):
    """A partition: its rows, the duplicates dropped from it, and the sum of its files' content hashes."""

    table: str
    partition: str
    rows: int
    dropped: int
    content_hash: str
    files: list[FileEntry]


class StreamEntry(msgspec.Struct, frozen=True):
    """What `coverage` says of one stream on the day: sums over its rows; times are of receipt, UTC."""

    stream: str
    first_offset: int
    end_offset: int
    start_ts: str
    end_ts: str
    records_lost: int
    rejected: int
    repeated: int
    rows: dict[str, int]


class RowSet(msgspec.Struct, frozen=True):
    """Rows of a table without partitions that concern the day, each by its content hash."""

    rows: int
    content_hash: str
    row_hashes: list[str]


class Link(msgspec.Struct, frozen=True):
    """The manifest of another day, as it was when this one was made."""

    day: str
    sha256: str


class Superseded(msgspec.Struct, frozen=True):
    """The revision of the same day that was valid before, and why it is not any more."""

    sha256: str
    reasons: list[str]


class Manifest(msgspec.Struct, frozen=True):
    """One closed UTC day. `tables` are the versions of the tables' logs at its making; `gap_rows` go with `gaps`."""

    format: int
    lake: str
    day: str
    revision: int
    made_at: str
    tables: dict[str, int]
    partitions: list[PartitionEntry]
    streams: list[StreamEntry]
    coverage: RowSet
    gaps: RowSet
    gap_rows: list[dict[str, Any]]
    instruments: RowSet
    previous: Link | None
    supersedes: Superseded | None

    def encode(self) -> bytes:
        """The bytes of its file."""
        return msgspec.json.encode(self, order="sorted") + b"\n"

    @property
    def date(self) -> dt.date:
        """The UTC day."""
        return dt.date.fromisoformat(self.day)

    def says_the_same(self, other: Manifest) -> bool:
        """Whether both hold the same of the day and name the same manifest before it, whenever they were made."""
        fields = ("lake", "partitions", "streams", "coverage", "gaps", "gap_rows", "instruments", "previous")
        return all(getattr(self, name) == getattr(other, name) for name in fields)


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest as it lies on the disk."""

    path: Path
    raw: bytes
    manifest: Manifest

    @property
    def sha256(self) -> str:
        """Of the file's bytes, by which other manifests name it."""
        return sha256(self.raw)


def sha256(raw: bytes) -> str:
    """In hex."""
    return hashlib.sha256(raw).hexdigest()


def read_manifest(path: Path) -> Stored:
    """The manifest in the file at `path`.

    Raises:
        InputError: there is no such file, or a newer version made it.
        CorruptionError: it is no manifest, or not as it was written.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    try:
        number = msgspec.json.decode(raw, type=dict[str, Any]).get("format")
        if isinstance(number, int) and number > FORMAT:
            raise InputError(
                f"{path} has format {number}, this version knows {FORMAT}; install a newer ticklake"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
        day = manifest.date.isoformat()
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise CorruptionError(f"{path} is no manifest or was damaged: {error}") from None
    if manifest.encode() != raw:
        raise CorruptionError(
            f"{path} was changed: its bytes are not in the form in which manifests are written"
        )
    named = FILE_NAME.fullmatch(path.name)
    if named and (named[1] != day or (named[2] and int(named[2]) != manifest.revision)):
        raise CorruptionError(f"{path} holds revision {manifest.revision} of {day}: it was renamed")
    return Stored(path, raw, manifest)
