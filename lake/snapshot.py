"""A copy of the lake as it is at one moment, made while it records, in the order that keeps it whole.

1. sealed segments of the spool, so that none can expire unseen before it is in the tables that are copied;
2. manifests, which may be older than the tables, never newer;
3. the tables, each at one version of its log, all of the same moment: what `coverage` counts is what they hold;
4. the rest of the spool, which is thus never older than the tables;
5. the marker `lake.json`: without it the folder is no lake.

Files that never change under their name are linked where the file system can, and copied where not: data files,
commits, sealed segments, quarantine. Heads, manifests, identities and the segment being written are always copied.
Who records in the copy begins a new epoch, because the original goes on to use the offsets
of this one.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.compute as pc

from lake import delta_log
from lake.crashpoints import reach
from lake.delta import Table
from lake.durable import disk_full_told, fsync_dir, make_dirs, replace_file
from lake.errors import CorruptionError, InputError, TransientError
from lake.heads import head_path, take_stock, write_head
from lake.manifests import chain
from lake.manifests.form import sha256
from lake.manifests.signing import signature_path
from lake.root import FOLDERS, Root, write_marker
from lake.schema import COUNTED, TABLES
from lake.spool import segment_info
from lake.spool.format import Block
from lake.spool.identity import CLOSED_FILE, IDENTITY_FILE, begin_epoch
from lake.spool.segment import OPEN_SUFFIX, SEALED_SUFFIX, segment_paths, take_apart
from lake.swap import SWAP

UNFINISHED: Final = ".unfinished-snapshot"
MOMENT_WAIT_S: Final = 120.0
MOMENT_POLL_S: Final = 0.05
STANDSTILL_S: Final = 10.0
"""Tables that do not go together and have not moved for so long are not being ingested into."""
MOMENTS_MAX: Final = 5
CANNOT_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
Tell = Callable[[str], None]


@dataclass(slots=True)
class SnapshotReport:
    """What was brought into the copy; `versions` are those of the tables' logs."""

    linked: int = 0
    copied: int = 0
    bytes_linked: int = 0
    bytes_copied: int = 0
    seconds: float = 0.0
    versions: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """For display."""
        shown = asdict(self)
        del shown["versions"], shown["notes"]
        return shown


def snapshot(root: Root, target: Path, *, tell: Tell | None = None) -> SnapshotReport:
    """Make `target`, a new or empty folder, a copy of the lake, which may record, ingest and compact meanwhile.

    An earlier attempt that was killed is gone on with; one that fails takes back what it copied. `tell` is told what
    is being copied.

    Raises:
        InputError: `target` holds something else, or lies in the lake, or the lake in it.
        TransientError: ingest did not pause for two minutes between one table and the next.
        DiskFullError: no space is left; the copy is removed.
    """
    target = target.absolute()
    _claim(root, target)
    started = time.monotonic()
    copier = _Copier(root, target, tell or (lambda _: None))
    try:
        with disk_full_told(f"copying to {target}"):
            copier.run()
    except BaseException:
        _remove(target)
        raise
    copier.report.seconds = round(time.monotonic() - started, 3)
    return copier.report


def _claim(root: Root, target: Path) -> None:
    """Make the folder ours, or refuse it."""
    real, lake = target.resolve(), root.path.resolve()
    if real == lake or lake in real.parents or real in lake.parents:
        raise InputError(f"{target} and the lake {root.path} lie in each other; give a folder elsewhere")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; give a new folder")
    if target.is_dir() and any(target.iterdir()):
        mark = target / UNFINISHED
        if not mark.exists():
            raise InputError(f"{target} is not empty; give a new folder")
        if mark.read_text(encoding="utf-8") != str(lake):
            raise InputError(
                f"{target} is an unfinished copy of another lake; remove it or give a new folder"
            )
    make_dirs(target)
    replace_file(target / UNFINISHED, str(lake).encode())


def _remove(target: Path) -> None:
    """Take back what was copied, the mark last, so that an interrupted removal can be gone on with."""
    for path in target.iterdir():
        if path.name != UNFINISHED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (target / UNFINISHED).unlink(missing_ok=True)
    with suppress(OSError):  # it may be a mount point, or somebody's working folder
        target.rmdir()


class _Copier:
    """One run."""

    def __init__(self, root: Root, target: Path, tell: Tell) -> None:
        self._root = root
        self._target = target
        self._tell = tell
        self._folders: set[Path] = set()
        self._wanted: set[Path] = set()
        self.report = SnapshotReport()

    def run(self) -> None:
        """All steps."""
        for folder in FOLDERS:
            make_dirs(self._target / folder)
        self._tell("sealed segments")
        self._sealed_segments()
        reach("snapshot:after_segments")
        self._tell("manifests")
        self._manifests()
        reach("snapshot:after_manifests")
        self._tables()
        self._tell("spool")
        self._spool()
        reach("snapshot:after_spool")
        self._quarantine()
        self._sweep()
        for place in sorted(self._folders):
            fsync_dir(place)
        reach("snapshot:before_marker")
        write_marker(self._target, self._root.lake_id)
        (self._target / UNFINISHED).unlink()
        fsync_dir(self._target)

    def _sealed_segments(self) -> None:
        for name in self._root.streams():
            for path in segment_paths(self._root.stream(name), SEALED_SUFFIX):
                with suppress(FileNotFoundError):  # it expired: its records have been in the tables for long
                    self._link(path)

    def _manifests(self) -> None:
        """The head as it is now, and the manifests that it names: under their names, or superseded since."""
        path = chain.head_path(self._root)
        for _ in range(int(MOMENT_WAIT_S / MOMENT_POLL_S)):
            raw = path.read_bytes() if path.exists() else None
            copied = self._manifests_of(chain.decode_head(raw, path).days) if raw is not None else {}
            if copied is not None and raw == (path.read_bytes() if path.exists() else None):
                break
            time.sleep(MOMENT_POLL_S)
        else:
            raise TransientError(f"{self._root.manifests} is being written all the time; try again")
        for name, content in copied.items():
            self._write(self._target / "manifests" / name, content)
        if raw is not None:
            self._write(self._target / "heads" / path.name, raw)

    def _manifests_of(self, days: Mapping[str, Any]) -> dict[str, bytes] | None:
        """Contents by name of the revisions of all `days`; None where the head does not name a newest one."""
        found: dict[str, bytes] = {}
        for day, entry in days.items():
            newest = chain.manifest_path(self._root.manifests, day)
            for path in chain.revisions_in(self._root.manifests, day):
                for one in (path, signature_path(path)):
                    if one.exists():
                        found[one.name] = one.read_bytes()
            if newest.name not in found:
                self.report.notes.append(f"{newest} is missing")
            elif sha256(found[newest.name]) != entry.sha256:
                return None
        return found

    def _tables(self) -> None:
        """All tables at one moment; at a later one where a file was deleted before it could be copied."""
        others = set(self._wanted)
        gone = None
        for _ in range(MOMENTS_MAX):
            self._wanted = set(others)
            self._tell("tables")
            try:
                for name, table in self._moment().items():
                    self._tell(f"table {name}")
                    self._table(table)
                    reach("snapshot:after_table")
            except FileNotFoundError as error:
                gone = error.filename
                continue
            return
        raise CorruptionError(f"{gone} is in the log and not on the disk; run `lake verify`")

    def _moment(self) -> dict[str, Table]:
        """Tables at versions that go together: ingest was not between two of them.

        Where it stopped between two, the tables do not move, and the copy is as unfinished as the lake.
        """
        deadline = time.monotonic() + MOMENT_WAIT_S
        before: dict[str, int] = {}
        since = time.monotonic()
        while True:
            tables = {name: table for name, spec in TABLES.items() if (table := Table.find(self._root, spec))}
            versions = {
                name: tables[name].pin() for name in sorted(tables, key=lambda name: name != "coverage")
            }
            uneven = _uneven(tables)
            if not uneven:
                break
            if versions != before:
                before, since = versions, time.monotonic()
            elif time.monotonic() > since + STANDSTILL_S:
                self.report.notes.append(
                    f"the lake itself is not whole: {uneven}; run `lake ingest` in the copy"
                )
                break
            if time.monotonic() > deadline:
                raise TransientError(
                    "ingest never paused between two tables; try again when it has caught up"
                )
            time.sleep(MOMENT_POLL_S)
        self.report.versions = versions
        reach("snapshot:after_pin")
        return tables

    def _table(self, table: Table) -> None:
        name = table.spec.name
        make_dirs(delta_log.log_folder(self._target / "tables" / name))
        for file in table.files():
            self._link(self._place(name, file.path), self._target / "tables" / name / file.path)
        self._log(table)
        copy = Root(self._target)
        write_head(copy, take_stock(copy, name))
        self._want(head_path(copy, name))

    def _place(self, name: str, path: str) -> Path:
        """Where a data file is: in the table, on its way into it, or replaced since the table was pinned."""
        staging = self._root.staging / name
        places = (
            self._root.table(name) / path,
            staging / path,
            staging / SWAP / Path(path).name,
            self._root.retired / name / path,
        )
        return next((place for place in places if place.exists()), places[0])

    def _log(self, table: Table) -> None:
        """All commits and checkpoints up to the pinned version: a second witness of what `coverage` says."""
        log, last = delta_log.log_folder(table.folder), table.version
        checkpoints = [version for version in delta_log.checkpoint_versions(log) if version <= last]
        paths = [delta_log.commit_path(log, v) for v in delta_log.commit_versions(log) if v <= last]
        for path in (*paths, *(delta_log.checkpoint_path(log, version) for version in checkpoints)):
            self._link(path)
        hint = log / delta_log.LAST_CHECKPOINT
        said = hint.read_bytes() if hint.exists() else None
        if said is not None and delta_log.hinted_version(said) in checkpoints:
            self._write(self._to(hint), said)

    def _spool(self) -> None:
        for name in self._root.streams():
            folder = self._root.stream(name)
            make_dirs(self._target / "spool" / name)
            # The mark of a clean stop comes first: it must not speak of records that the copy does not have.
            for path in (folder / CLOSED_FILE, folder / IDENTITY_FILE):
                with suppress(FileNotFoundError):
                    self._copy(path)
            self._open_segments(folder)
            self._begin_epoch(self._to(folder))

    def _begin_epoch(self, folder: Path) -> None:
        """Whoever records in the copy does so under offsets of its own: the original goes on with these."""
        segments = [*segment_paths(folder, SEALED_SUFFIX), *segment_paths(folder, OPEN_SUFFIX)]
        newest = max(segments, key=lambda path: path.stem, default=None)
        self._want(folder / IDENTITY_FILE)
        begin_epoch(folder, segment_info(newest).stream if newest else None)

    def _open_segments(self, folder: Path) -> None:
        """What is not sealed, up to the last whole block, and then what was sealed meanwhile."""
        for path in segment_paths(folder, OPEN_SUFFIX):
            try:
                parts = take_apart(path)
            except FileNotFoundError:
                continue  # it was sealed: the list below has it
            blocks = [part for part in parts.parts if isinstance(part, Block)]
            if blocks:
                self._write(self._to(path), parts.data[: blocks[-1].end_position])
        for path in segment_paths(folder, SEALED_SUFFIX):
            with suppress(FileNotFoundError):
                self._link(path)
                opened = self._to(path).with_suffix(OPEN_SUFFIX)
                opened.unlink(missing_ok=True)
                self._wanted.discard(opened)

    def _quarantine(self) -> None:
        for path in _files_below(self._root.quarantine):
            with suppress(FileNotFoundError):
                self._link(path)

    def _sweep(self) -> None:
        """Remove what an earlier attempt had copied and this one did not want."""
        for folder in ("tables", "spool", "manifests", "heads", "quarantine"):
            for path in _files_below(self._target / folder):
                if path not in self._wanted:
                    path.unlink()

    def _to(self, path: Path) -> Path:
        return self._target / path.relative_to(self._root.path)

    def _link(self, path: Path, target: Path | None = None) -> None:
        """Bring a file over that never changes under its name."""
        target = target or self._to(path)
        self._want(target)
        if target.exists():
            if target.stat().st_size == path.stat().st_size:
                return  # of an attempt before: it appears whole or not at all
            target.unlink()
        try:
            os.link(path, target)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            self._copy(path, target)
            return
        self.report.linked += 1
        self.report.bytes_linked += target.stat().st_size

    def _copy(self, path: Path, target: Path | None = None) -> None:
        target = target or self._to(path)
        self._want(target)
        temporary = target.with_name(f".{target.name}.tmp")
        with path.open("rb") as source, temporary.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())
        temporary.replace(target)
        self.report.copied += 1
        self.report.bytes_copied += target.stat().st_size

    def _write(self, target: Path, content: bytes) -> None:
        self._want(target)
        replace_file(target, content)
        self.report.copied += 1
        self.report.bytes_copied += len(content)

    def _want(self, target: Path) -> None:
        self._wanted.add(target)
        if target.parent not in self._folders:
            make_dirs(target.parent)
            self._folders.add(target.parent)


def _uneven(tables: Mapping[str, Table]) -> str | None:
    """How what `coverage` counts differs from what the tables hold; None where it does not."""
    coverage = tables.get("coverage")
    counted = coverage.read([f"rows_{name}" for name in COUNTED]) if coverage else None
    for name in COUNTED:
        files = tables[name].files() if name in tables else []
        held = sum(file.rows + file.dropped for file in files)
        said = (pc.sum(counted[f"rows_{name}"]).as_py() or 0) if counted is not None else 0
        if held != said:
            return f"{name} holds {held} rows, coverage counts {said}"
    return None


def _files_below(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in sorted(names))
