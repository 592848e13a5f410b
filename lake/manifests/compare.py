"""Whether a day can have become what it is now from what its manifest says it was.

Closed days do change: rows are backfilled, imported or ingested late, and compaction then writes the partition anew.
None of that loses a row: what a partition holds and what was dropped from it as duplicate only grow, by what the
log says was appended, and a row of `coverage`, `gaps` or `instruments` stays. Any other change is a problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from lake import delta_log
from lake.appended import RUN_KEY
from lake.commit_file import decode
from lake.datafile import HASH_MODULUS, INGEST_PREFIX, DataFile, parse_path
from lake.delta import Table
from lake.errors import CorruptionError
from lake.manifests.form import Manifest, PartitionEntry, RowSet
from lake.manifests.state import SPANS, LakeState
from lake.schema import TABLES

NAMED_MAX: Final = 3
"""So many of the rows that are gone are named."""


@dataclass(slots=True)
class Findings:
    """`problems` must not be; `notes` are what a person may want to know."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Findings) -> None:
        """Take over what another look found."""
        self.problems += other.problems
        self.notes += other.notes


@dataclass(frozen=True, slots=True)
class _Sum:
    """Rows, duplicates dropped and content hash of some files."""

    rows: int = 0
    dropped: int = 0
    hashed: int = 0

    @classmethod
    def of(cls, files: Sequence[DataFile]) -> _Sum:
        return cls(
            sum(file.rows for file in files),
            sum(file.dropped for file in files),
            sum(file.content_hash for file in files) % HASH_MODULUS,
        )

    @property
    def taken_in(self) -> int:
        """Rows that ever came, duplicates and all."""
        return self.rows + self.dropped


class Comparison:
    """Compares manifests with the lake as it is now."""

    def __init__(self, state: LakeState) -> None:
        self._state = state
        self._appended = cache(self._read_appended)
        self.active = cache(self._read_active)
        """By table, where its files are, by their path in the log."""

    def compare(self, then: Manifest) -> Findings:
        """What became of the day of a manifest since."""
        found = Findings()
        for name, version in then.tables.items():
            now = self._state.versions.get(name, -1)
            if now < version <= self._newest(name):
                return Findings(notes=[f"{then.day}: its manifest is newer than what was compared"])
            if now < version:
                was = f"version {now}" if now >= 0 else "gone"
                found.problems.append(f"table {name} is {was}, at the manifest's making it was at {version}")
        held = self._state.partitions(then.date)
        for entry in then.partitions:
            files = held.pop((entry.table, entry.partition), [])
            self._compare_partition(entry, files, then.tables.get(entry.table, 0), found)
        for (table, folder), files in held.items():
            entry = PartitionEntry(table, folder, 0, 0, "0", [])
            self._compare_partition(entry, files, then.tables.get(table, 0), found)
        for name, rows in zip(SPANS, (then.coverage, then.gaps, then.instruments), strict=True):
            self._compare_rows(name, rows, then, found)
        return Findings(*([f"{then.day}: {text}" for text in one] for one in (found.problems, found.notes)))

    def _compare_partition(
        self, entry: PartitionEntry, files: Sequence[DataFile], since: int, found: Findings
    ) -> None:
        if {(file.path, file.size) for file in files} == {(file.path, file.size) for file in entry.files}:
            return
        where = f"{entry.table}/{entry.partition}"
        if entry.table in TABLES and TABLES[entry.table].derived:
            found.notes.append(f"{where}: derived anew")
            return
        then = _Sum(entry.rows, entry.dropped, int(entry.content_hash, 16))
        now = _Sum.of(files)
        more = now.taken_in - then.taken_in
        if more < 0:
            held = f"holds {now.rows} rows with {now.dropped} dropped, it was {then.rows} with {then.dropped}"
            found.problems.append(f"{where}: {held}" if files else f"{where}: its {then.rows} rows are gone")
            return
        known = self._knows(entry.table, since)
        appended = self._appended(entry.table, since).get(entry.partition, _Sum()) if known else None
        if appended is not None and more != appended.rows:
            found.problems.append(f"{where}: has {more} rows more, of which the log appended {appended.rows}")
            return
        if appended is None and not more:
            appended = _Sum()
        if appended is not None and now.dropped == then.dropped:
            wanted = (then.hashed + appended.hashed) % HASH_MODULUS
            if now.hashed != wanted:
                problem = f"holds other rows: content hash {now.hashed:016x}, not {wanted:016x}"
                found.problems.append(f"{where}: {problem}")
                return
        found.notes.append(f"{where}: {more} rows more" if more else f"{where}: written anew")

    def _compare_rows(self, name: str, then: RowSet, manifest: Manifest, found: Findings) -> None:
        now = self._state.row_set(name, manifest.date)
        if now.content_hash == then.content_hash and now.rows == then.rows:
            return
        before, after = Counter(then.row_hashes), Counter(now.row_hashes)
        gone = [hashed for hashed in before if hashed not in after]
        twice = [hashed for hashed, count in before.items() if after[hashed] > count]
        if (
            gone
            and name == "coverage"
            and any(row["rebuilt"] for row in self._state.rows(name, manifest.date))
        ):
            found.notes.append("coverage was rebuilt")
        elif gone:
            what = _named(manifest, gone) if name == "gaps" else ""
            found.problems.append(f"{name}: {len(gone)} of {len(before)} rows are gone or were changed{what}")
        if twice:
            found.problems.append(f"{name}: {len(twice)} rows are there more often than they were")
        fresh = sum((after - before).values()) - sum(after[one] - before[one] for one in twice)
        if fresh:
            found.notes.append(f"{name}: {fresh} rows more")

    def _read_active(self, table: str) -> dict[str, Path]:
        held = self._state.tables.get(table)
        return {file.path: held.path(file) for file in held.files()} if held else {}

    def _newest(self, table: str) -> int:
        """The newest version of the table that there is by now."""
        held = self._state.tables.get(table)
        return max(delta_log.commit_versions(delta_log.log_folder(held.folder)), default=-1) if held else -1

    def _knows(self, table: str, since: int) -> bool:
        """Whether every commit after version `since` can still be read."""
        held = self._state.tables.get(table)
        if held is None:
            return True
        versions = set(delta_log.commit_versions(delta_log.log_folder(held.folder)))
        return all(version in versions for version in range(since + 1, held.version + 1))

    def _read_appended(self, table: str, since: int) -> dict[str, _Sum]:
        """By partition folder, what the commits after version `since` appended."""
        held = self._state.tables.get(table)
        files: dict[str, list[DataFile]] = defaultdict(list)
        more: Counter[str] = Counter()
        for version in range(since + 1, held.version + 1) if held else ():
            added, removed = _ingested_by(held, version)
            for sign, of in ((1, added), (-1, removed)):
                for file in of:
                    more[_folder(file)] += sign * (file.rows + file.dropped)
            for file in added:
                if file.origin.startswith(INGEST_PREFIX):
                    files[_folder(file)].append(file)
        return {folder: replace(_Sum.of(files[folder]), rows=rows) for folder, rows in more.items()}


def _folder(file: DataFile) -> str:
    return file.partition.folder if file.partition else ""


def _ingested_by(table: Table | None, version: int) -> tuple[list[DataFile], list[DataFile]]:
    """The files that a commit of ingest added and removed (a row may take the place of one held); none of others."""
    assert table is not None
    path = delta_log.commit_path(delta_log.log_folder(table.folder), version)
    try:
        commit = decode(path.read_bytes())
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"{path} cannot be read: {error}") from None
    added, removed = ([parse_path(one) for one in of] for of in (commit.added, commit.removed))
    if RUN_KEY in commit.entry:
        return added, removed
    return [file for file in added if file.origin.startswith(INGEST_PREFIX)], []


def _named(manifest: Manifest, gone: Sequence[str]) -> str:
    by_hash: Mapping[str, dict[str, Any]] = dict(
        zip(manifest.gaps.row_hashes, manifest.gap_rows, strict=False)
    )
    rows = [by_hash[one] for one in gone[:NAMED_MAX] if one in by_hash]
    told = ["{cause} of {stream} from {start_ts} to {end_ts}".format_map(row) for row in rows]
    return f": {'; '.join(told)}" + ("; …" if len(gone) > NAMED_MAX else "") if told else ""
