"""One data file held against what is said of it: read once, for its SHA-256, its checksum and its rows."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from lake.content import content_hash
from lake.datafile import HASH_MODULUS
from lake.schema import TABLES
from lake.seal import broken_seal

PIECE_BYTES: Final = 1 << 24


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def file_problems(path: Path, table: str, size: int, rows: int, hashed: int) -> tuple[str, list[str]]:
    """The file's SHA-256, and how it differs from what is said of it: `size` in bytes, rows and content hash.

    Raises:
        OSError: the file cannot be read.
    """
    found = path.stat().st_size
    if found != size:
        return sha256_of(path), [f"has {found} bytes, not {size}"]
    if not found:
        return sha256_of(path), ["is empty"]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        digest = hashlib.sha256(content).hexdigest()
    if broken := broken_seal(path):
        return digest, [broken]
    try:
        count, total = _rows(path, table)
    except Exception as error:  # noqa: BLE001 - rotten bytes make a reader fail in any way it can: a finding each
        return digest, [f"cannot be read: {error}"]
    problems = [] if count == rows else [f"has {count} rows, not {rows}"]
    if total != hashed:
        problems.append(f"has the content hash {total:016x}, not {hashed:016x}")
    return digest, problems


def _rows(path: Path, table: str) -> tuple[int, int]:
    """How many rows the file has, and their content hash."""
    count = total = 0
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            piece: pa.Table = file.read_row_group(group, use_threads=False).cast(TABLES[table].arrow_schema)
            count += len(piece)
            total = (total + content_hash(piece)) % HASH_MODULUS
    return count, total
