"""Making the manifests of closed days, and new revisions where a day has legitimately changed.

A manifest never blesses what it should have told of: each file is read once, when it first appears in a manifest, and
held against what the log says of it; and where a day has lost rows since its last manifest, that manifest stays.

The steps of one manifest are: keep the old revision under its own name, put the new one in its place, sign it, enter
it in the head. After a crash between them the next run goes on from what it finds.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lake.crashpoints import reach
from lake.datafile import HASH_MODULUS, DataFile
from lake.delta import Table
from lake.durable import disk_full_told, make_dirs, replace_file
from lake.errors import CorruptionError, LakeError
from lake.locks import exclusive
from lake.manifests.chain import (
    HEAD_FORMAT,
    Chain,
    Head,
    HeadEntry,
    days_in,
    manifest_path,
    read_head,
    revision_path,
    revisions_in,
    write_head,
)
from lake.manifests.compare import Comparison
from lake.manifests.files import file_problems
from lake.manifests.form import (
    FORMAT,
    FileEntry,
    Link,
    Manifest,
    PartitionEntry,
    Stored,
    Superseded,
    read_manifest,
    sha256,
)
from lake.manifests.signing import load_key, sign, signature_path
from lake.manifests.state import LakeState, hex_of
from lake.root import Root, identify
from lake.schema import TABLES
from lake.spool import open_segments, sealed_segments

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

Progress = Callable[[Iterable[Any], int], Iterable[Any]]
LOCK_NAME: Final = "manifests.lock"
NS_PER_S: Final = 1_000_000_000
REASONS_MAX: Final = 20
INSERTED: Final = "another day has got a manifest before it"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ManifestSettings:
    """What each closed day held, in files chained by hash: see docs/manifests.md."""

    key_file: str = ""
    """Private key that manifests are signed with, made by `lake manifest keygen`; without one they are not signed."""


@dataclass(slots=True)
class MakeReport:
    """What one run did: days with a new manifest, each with why, and what stood against others."""

    made: dict[dt.date, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def make_manifests(
    root: Root,
    settings: ManifestSettings | None = None,
    *,
    now: dt.datetime | None = None,
    renew: Mapping[dt.date, str] | None = None,
    progress: Progress | None = None,
) -> MakeReport:
    """Write the manifest of every closed and finished day that has none or has changed since; cheap where none has.

    `renew` names days whose manifest gives way whatever was lost, each with the reason, which it keeps.

    Raises:
        InputError: the key cannot be read.
        BusyError: another process makes manifests.
        DiskFullError: no space is left; run again.
        CorruptionError: a table's log or the head is damaged.
    """
    key = load_key(Path(settings.key_file).expanduser()) if settings and settings.key_file else None
    with disk_full_told("making manifests"), exclusive(root.locks / LOCK_NAME, "making manifests"):
        today = (now or dt.datetime.now(dt.UTC)).date()
        return _Maker(root, key, dict(renew or {})).run(today, progress)


class _Maker:
    """One run over one lake; the lock is held."""

    def __init__(self, root: Root, key: Ed25519PrivateKey | None, renew: dict[dt.date, str]) -> None:
        self._root = root
        self._key = key
        self._renew = renew
        self._report = MakeReport()
        self._lost: set[dt.date] = set()
        tables = {name: table for name, spec in TABLES.items() if (table := Table.find(root, spec))}
        for table in tables.values():
            table.pin()
        self._state = LakeState(tables)
        self._comparison = Comparison(self._state)

    def run(self, today: dt.date, progress: Progress | None) -> MakeReport:
        make_dirs(self._root.manifests)
        self._head = self._head_of_disk()
        ready = [
            day for day in self._state.days if day < min(today, _received_until(self._state, self._root))
        ]
        states = self._state.fingerprints(ready)
        known = self._head.days
        due = [day for day in ready if self._is_due(day, states[day])]
        inserted = [day for day in due if day.isoformat() not in known or day in self._renew]
        followers = {_following(day, known) for day in inserted} - {None}
        todo = sorted(
            {*due, *(day for day in followers if day is not None)} - (self._lost - self._renew.keys())
        )
        for day in progress(todo, len(todo)) if progress and todo else todo:
            try:
                self._make(day, states.get(day))
            except (CorruptionError, OSError) as error:
                self._report.problems.append(f"no manifest of {day}: {error}")
        for day in self._renew.keys() - set(due):
            self._report.problems.append(
                f"no manifest of {day}: it is no closed day that compaction has finished"
            )
        return self._report

    def _is_due(self, day: dt.date, state: str) -> bool:
        entry = self._head.days.get(day.isoformat())
        if entry is not None and entry.state == state and day not in self._renew:
            return self._key is not None and not entry.signed
        return self._state.finished(day)

    def _head_of_disk(self) -> Head:
        """The head, brought up to what a run that was cut short had already written."""
        head = read_head(self._root)
        if head is None:
            head = Head(HEAD_FORMAT, "", {})
            if not days_in(self._root.manifests):
                write_head(self._root, head)  # from now on, its absence says that it was lost
        before = dict(head.days)
        for day in sorted({*before, *days_in(self._root.manifests)}):
            path, entry = manifest_path(self._root.manifests, day), before.get(day)
            try:
                found = read_manifest(path)
            except LakeError as error:
                self._lose(day, f"{path} is gone" if not path.exists() else str(error))
                continue
            link = found.manifest.supersedes
            if entry is None or (link is not None and link.sha256 == entry.sha256):
                head.days[day] = HeadEntry(found.sha256, "", signed=False)
            elif entry.sha256 != found.sha256:
                self._lose(day, f"{path} is not the one that was made last")
        if not before and head.days:
            broken = Chain.of(self._root.manifests).link_problems(whole=True)
            if broken:
                raise CorruptionError("; ".join(broken))
        return head

    def _lose(self, day: str, what: str) -> None:
        """Leave a day alone whose manifest is not what it must be, unless that was accepted."""
        self._lost.add(dt.date.fromisoformat(day))
        if dt.date.fromisoformat(day) not in self._renew:
            cure = f"restore it from a backup, or accept that with `lake manifest renew {day}`"
            self._report.problems.append(f"{what}; {cure}")

    def _make(self, day: dt.date, state: str | None) -> None:
        path = manifest_path(self._root.manifests, day)
        entry = self._head.days.get(day.isoformat())
        old = self._newest(path, entry)
        reasons: list[str] = []
        if old is not None and state is not None:
            found = self._comparison.compare(old.manifest)
            if day in self._renew:
                found.notes += [f"accepted ({self._renew[day]}): {text}" for text in found.problems] or [
                    self._renew[day]
                ]
            elif found.problems:
                self._report.problems += found.problems
                return
            reasons = [text.removeprefix(f"{day}: ") for text in found.notes]
        made = self._build(day, old, keep=state is None)
        if old is not None and made.says_the_same(old.manifest) and day not in self._renew:
            self._enter(old.path, old.raw, state or (entry.state if entry else ""))
            return
        if old is not None:
            if made.previous != old.manifest.previous:
                reasons.append(INSERTED)
            made = msgspec.structs.replace(
                made,
                revision=old.manifest.revision + 1,
                supersedes=Superseded(old.sha256, reasons[:REASONS_MAX]),
            )
            self._keep(old)
        raw = made.encode()
        reach("manifest:before_write")
        replace_file(path, raw)
        reach("manifest:after_write")
        self._enter(path, raw, state or (entry.state if entry else ""))
        self._report.made[day] = reasons

    def _newest(self, path: Path, entry: HeadEntry | None) -> Stored | None:
        """The manifest to go on from, or of a day whose manifest was lost what is left; None where there is none."""
        if entry is not None and dt.date.fromisoformat(path.stem) not in self._lost:
            return read_manifest(path)
        return next(self._left_of(path), None)

    def _left_of(self, path: Path) -> Iterator[Stored]:
        """The revisions of a day that can still be read, the newest first."""
        left = []
        for one in revisions_in(self._root.manifests, path.stem):
            try:
                left.append(read_manifest(one))
            except LakeError as error:
                log.warning("%s gives way: %s", one, error)
        yield from sorted(left, key=lambda one: -one.manifest.revision)

    def _keep(self, old: Stored) -> None:
        """The old revision, and its signature, under a name of its own."""
        target = revision_path(self._root.manifests, old.manifest.day, old.manifest.revision)
        replace_file(target, old.raw)
        if signature_path(old.path).exists():
            replace_file(signature_path(target), signature_path(old.path).read_bytes())
        reach("manifest:after_keep")

    def _enter(self, path: Path, raw: bytes, state: str) -> None:
        """Sign the manifest and name it in the head."""
        if self._key is not None:
            sign(path, raw, self._key)
        else:
            signature_path(path).unlink(missing_ok=True)  # of the revision before
        reach("manifest:after_sign")
        self._head.days[path.stem] = HeadEntry(sha256(raw), state, signed=self._key is not None)
        write_head(self._root, self._head)
        reach("manifest:after_head")

    def _build(self, day: dt.date, old: Stored | None, *, keep: bool) -> Manifest:
        """What the manifest of `day` says; with `keep` as before, but for the day that it names before it."""
        before = max((known for known in self._head.days if known < day.isoformat()), default=None)
        previous = Link(before, self._head.days[before].sha256) if before else None
        if (
            old is not None
            and (held := old.manifest.previous)
            and before == held.day
            and self._is_there(held)
        ):
            previous = held  # a revision of the day before is no reason for one of this day
        if keep and old is not None:
            return msgspec.structs.replace(old.manifest, previous=previous, made_at=_now())
        known = {
            (entry.table, file.path, file.size): file
            for entry in (old.manifest.partitions if old else ())
            for file in entry.files
        }
        state = self._state
        made = Manifest(
            format=FORMAT,
            lake=identify(self._root),
            day=day.isoformat(),
            revision=1,
            made_at=_now(),
            tables=state.versions,
            partitions=[
                self._partition(table, folder, files, known)
                for (table, folder), files in state.partitions(day).items()
            ],
            streams=state.streams(day),
            coverage=state.row_set("coverage", day),
            gaps=state.row_set("gaps", day),
            gap_rows=state.rows("gaps", day),
            instruments=state.row_set("instruments", day),
            previous=previous,
            supersedes=None,
        )
        return msgspec.json.decode(made.encode(), type=Manifest)

    def _is_there(self, link: Link) -> bool:
        """Whether the manifest that it names is still among the revisions of its day."""
        return any(
            sha256(one.read_bytes()) == link.sha256 for one in revisions_in(self._root.manifests, link.day)
        )

    def _partition(
        self,
        table: str,
        folder: str,
        files: Sequence[DataFile],
        known: Mapping[tuple[str, str, int], FileEntry],
    ) -> PartitionEntry:
        entries = [known.get((table, file.path, file.size)) or self._file(table, file) for file in files]
        return PartitionEntry(
            table=table,
            partition=folder,
            rows=sum(file.rows for file in files),
            dropped=sum(file.dropped for file in files),
            content_hash=hex_of(sum(file.content_hash for file in files) % HASH_MODULUS),
            files=entries,
        )

    def _file(self, table: str, file: DataFile) -> FileEntry:
        path = self._root.table(table) / file.path
        digest, problems = file_problems(path, table, file.size, file.rows, file.content_hash)
        if problems:
            raise CorruptionError(f"{path} {problems[0]}")
        bounds = {
            name: (_text(file.minimum.get(name)), _text(file.maximum.get(name)))
            for name in TABLES[table].stats
        }
        hashed = hex_of(file.content_hash)
        return FileEntry(file.path, file.size, digest, file.rows, file.dropped, hashed, bounds)


def _following(day: dt.date, known: Mapping[str, HeadEntry]) -> dt.date | None:
    """The next day that has a manifest."""
    after = min((other for other in known if other > day.isoformat()), default=None)
    return dt.date.fromisoformat(after) if after else None


def _received_until(state: LakeState, root: Root) -> dt.date:
    """The first day of which the spool still holds records that are not in the tables."""
    coverage = state.tables.get("coverage")
    first = dt.date.max
    for name in root.streams():
        folder = root.stream(name)
        for segment in (*sealed_segments(folder), *open_segments(folder)):
            done = (coverage.committed(segment.stream) or 0) if coverage else 0
            if segment.end_offset > done:
                first = min(first, dt.datetime.fromtimestamp(segment.start_ns // NS_PER_S, dt.UTC).date())
    return first


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def _text(bound: Any) -> str | None:
    if bound is None:
        return None
    return bound.isoformat() if isinstance(bound, dt.date | dt.datetime) else str(bound)
