"""The data files of one table: each is on the disk, byte for byte and row for row what the log says, in its place."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.content import content_hash
from lake.datafile import FINISHED, HASH_MODULUS, DataFile
from lake.delta import Table
from lake.duplicates import drop_duplicates
from lake.file_pruning import STATISTICS_TOLERANCE
from lake.parquet import is_in_order
from lake.root import Root
from lake.schema import Encoding, TableSpec
from lake.seal import broken_seal
from quality.verify.labels import label_damage, misplaced
from quality.verify.memory import Mark, Memory, mark
from quality.verify.report import TableProof

CURE: Final = "restore it from backup"


class FileProver:
    """Proves files of one table, each once. `known` are files proven before that need not be read again."""

    def __init__(self, root: Root, table: Table, known: Memory) -> None:
        self.problems: list[str] = []
        self.proven: dict[str, Mark] = {}
        """Files that were found in order, for the next proof."""
        self._root = root
        self._spec = table.spec
        self._table = table
        self._known = known
        self._seen: set[str] = set()
        self._read = 0

    def prove_all(self) -> TableProof:
        """Prove the files of the version that the table is pinned to; what it counts."""
        proof = TableProof(self._spec.name)
        files = self._table.files()
        for file in files:
            proof.files += 1
            proof.rows += file.rows
            proof.duplicates_dropped += file.dropped
            proof.bytes += file.size
        self._prove(files, _said(self._table))
        proof.remembered = len(self._seen) - self._read
        return proof

    def _prove(self, files: list[DataFile], said: dict[str, dict[str, Any]]) -> None:
        """Prove `files`; where one was replaced meanwhile and is gone, what took its place."""
        while files:
            gone = [file for file in files if not self._one(file, said.get(file.path))]
            if not gone:
                return
            now = Table.find(self._root, self._spec)
            active = {file.path: file for file in now.files()} if now else {}
            self.problems += [
                f"{self._name(file)}: is in the log and not on the disk; {CURE}"
                for file in gone
                if file.path in active
            ]
            places = {file.partition for file in gone if file.path not in active}
            files = [f for f in active.values() if f.partition in places and f.path not in self._seen]
            said = _said(now) if now else {}

    def _one(self, file: DataFile, said: dict[str, Any] | None) -> bool:
        """Prove one file; False where it is not on the disk."""
        self._seen.add(file.path)
        name = self._name(file)
        try:
            path = self._table.path(file)
            before = path.stat()
            found = label_damage(file, said)
            if found or not self._known.knows(name, path):
                self._read += 1
                found += _damage(path, self._spec, file)
        except FileNotFoundError:
            return False
        except Exception as error:  # noqa: BLE001 - rotten bytes make a reader fail in any way it can: a finding each
            found = [f"cannot be read: {' '.join(str(error).split())}"]
        self.problems += [f"{name}: {what}; {CURE}" for what in found]
        if not found:
            self.proven[name] = mark(before)
        return True

    def _name(self, file: DataFile) -> str:
        return f"{self._spec.name}/{file.path}"


def _said(table: Table) -> dict[str, dict[str, Any]]:
    """By path, what the log says beside it."""
    listing = table.listing()
    wanted = [name for name in listing.column_names if name.startswith("partition.") or name == "num_records"]
    return {row.pop("path"): row for row in listing.select(["path", *wanted]).to_pylist()}


def _damage(path: Path, spec: TableSpec, file: DataFile) -> list[str]:
    found = []
    size = path.stat().st_size
    if size != file.size:
        found.append(f"has {size} bytes, the log says {file.size}")
    if broken := broken_seal(path):
        found.append(broken)
    rows, hashed, repeated = 0, 0, 0
    carried: pa.Table | None = None
    outside: set[str] = set()
    elsewhere: dict[str, None] = {}
    for piece in _pieces(path, spec):
        rows += len(piece)
        outside.update(name for name in spec.stats if not _within_bounds(piece[name], name, file))
        hashed = (hashed + content_hash(piece)) % HASH_MODULUS
        if file.partition:
            elsewhere |= dict.fromkeys(misplaced(piece, spec, file.partition))
        if file.origin == FINISHED:
            window = pa.concat_tables([carried, piece]).unify_dictionaries() if carried is not None else piece
            repeated += _repeats(window, spec)
            carried = _last_instant(window)
    if rows != file.rows:
        found.append(f"has {rows} rows, the log says {file.rows}")
    if hashed != file.content_hash:
        found.append(f"content hash {hashed:016x}, the log says {file.content_hash:016x}")
    found += [f"holds {name} beyond the bounds in the log, which queries go by" for name in sorted(outside)]
    found += elsewhere
    if repeated:
        found.append(f"{repeated} rows repeat a natural key")
    return found


def _repeats(rows: pa.Table, spec: TableSpec) -> int:
    """How many of `rows` repeat a natural key; quick where they lie as compaction sorts them."""
    together = {"instrument", "ts"} <= set(spec.natural_key) and is_in_order(rows, ("instrument", "ts"))
    return drop_duplicates(rows, spec, in_order=together)[1]


def _within_bounds(values: pa.ChunkedArray, name: str, file: DataFile) -> bool:
    """Whether all `values` lie within what the log says of column `name` in `file`, as far as it says anything."""
    low, high = file.minimum.get(name), file.maximum.get(name)
    if pa.types.is_dictionary(values.type):
        values = pc.unique(values).dictionary_decode()
    found = pc.min_max(values).as_py()
    if found["min"] is None:
        return True
    slack = STATISTICS_TOLERANCE if isinstance(found["max"], datetime.datetime) else None
    above = high is not None and found["max"] > (high if slack is None else high + slack)
    return not above and (low is None or found["min"] >= low)


def _pieces(path: Path, spec: TableSpec) -> Iterator[pa.Table]:
    """The row groups, in the contract's types, but for words that repeat: those stay coded."""
    words = [c.name for c in spec.columns if pa.types.is_string(c.type) and c.encoding is Encoding.DICTIONARY]
    coded = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema([f.with_type(coded) if f.name in words else f for f in spec.arrow_schema])
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=words) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group).cast(schema)


def _last_instant(rows: pa.Table) -> pa.Table:
    """The rows of the last (instrument, ts): only they can share a natural key with what follows in sort order."""
    if "ts" not in rows.column_names or not len(rows):
        return rows.slice(0, 0)
    last = len(rows) - 1
    same = pc.and_(
        pc.equal(rows["instrument"], rows["instrument"][last]), pc.equal(rows["ts"], rows["ts"][last])
    )
    return rows.filter(same)
