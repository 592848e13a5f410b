"""The lake's folder: where things are, and the marker that says which layout it has.

ROOT/
  lake.json                 the version marker; its absence means "not a lake"
  spool/<stream>/           raw frames in segments, one folder per stream (see lake.spool)
  tables/<table>/           one Delta table each: date=…/family=…/*.parquet and _delta_log/
  staging/<table>/          data files and the commit that are about to enter a table
  retired/<table>/          files that a rewrite replaced, for a while, where no pattern over a table meets them
  heads/<table>.json        each table's newest commit, held apart from the table
  manifests/                what each closed day holds, chained by hash
  quarantine/               bytes that could not be understood, each with its reason
  locks/                    advisory locks
  logs/                     what the daemon has to say
  run/                      how the daemon's processes are doing right now (see lake.beats)
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lake.durable import expect, forget, fsync_dir, fsync_file, make_dirs, replace_file
from lake.errors import BusyError, RootError
from lake.locks import exclusive

LAYOUT_VERSION: Final = 3
MARKER: Final = "lake.json"
ID_BYTES: Final = 8
FORMAT: Final = "ticklake"
FOLDERS: Final = (
    "spool", "tables", "staging", "retired", "heads", "manifests", "quarantine", "locks", "logs", "run",
)  # fmt: skip
UNTRIED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS})
STREAM_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Root:
    """An existing lake root whose marker has been checked. Make one with `open_root`."""

    path: Path

    @property
    def tables(self) -> Path:
        return self.path / "tables"

    @property
    def spool(self) -> Path:
        return self.path / "spool"

    @property
    def staging(self) -> Path:
        return self.path / "staging"

    @property
    def retired(self) -> Path:
        return self.path / "retired"

    @property
    def heads(self) -> Path:
        return self.path / "heads"

    @property
    def manifests(self) -> Path:
        return self.path / "manifests"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def run(self) -> Path:
        """May be missing in a lake made by an earlier version; whoever writes there makes it."""
        return self.path / "run"

    @property
    def lake_id(self) -> str | None:
        """What tells this lake and its copies from all others; None in one that was made before there were such."""
        found = json.loads((self.path / MARKER).read_bytes()).get("id")
        return found if isinstance(found, str) else None

    def table(self, name: str) -> Path:
        """Folder of the Delta table `name`, which must be a name of the schema contract."""
        return self.tables / name

    def stream(self, name: str) -> Path:
        """Folder of the spool stream `name`.

        Raises:
            RootError: the name could not be a folder of the spool.
        """
        if not STREAM_NAME.fullmatch(name):
            raise RootError(f"stream name {name!r}: use 1-64 of a-z 0-9 _ - and start with a letter or digit")
        return self.spool / name

    def streams(self) -> list[str]:
        """Names of the streams that have a folder in the spool, sorted."""
        if not self.spool.is_dir():
            return []
        return sorted(p.name for p in self.spool.iterdir() if p.is_dir() and STREAM_NAME.fullmatch(p.name))


def open_root(path: Path, *, create: bool = False) -> Root:
    """Check the marker in `path` and return the root; with `create`, lay out an empty folder first.

    With `create`, which is how recording and importing begin, the file system is tried as well.

    Raises:
        RootError: not a lake, a foreign folder with files in it, a layout of another version, or a file system
            that lacks what a lake needs.
    """
    path = path.absolute()
    marker = path / MARKER
    forget(path)
    if not marker.exists():
        if not create:
            raise RootError(
                f"{path} is not a lake; start one with `lake --root {path} collect` or `lake demo`"
            )
        _lay_out(path)
    _check_marker(marker)
    expect(path)
    if create:
        _try_out(path)
    return Root(path)


def _try_out(path: Path) -> None:
    """Do once what all later work relies on, lest it fail when something has been recorded."""
    folder = path / "locks"
    trial, named = (folder / f".trial-{os.getpid()}.{ending}" for ending in ("new", "old"))
    try:
        make_dirs(folder)
        with exclusive(folder / ".trial", "trying the file system out"):
            os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
            named.touch()
            trial.rename(named)  # over a file that is there
            fsync_file(named)
            fsync_dir(folder)
    except BusyError:
        return  # somebody else is at it: it works for them
    except OSError as error:
        # A full or read-only place is told by what cannot be written: waiting, reading and planning go on without.
        if error.errno not in UNTRIED:
            raise RootError(
                f"{path}: its file system cannot do what a lake needs ({error.strerror}); give another folder"
            ) from error
    finally:
        for left in (trial, named):
            with contextlib.suppress(OSError):
                left.unlink()


def _lay_out(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise RootError(f"{path} is a file; give a folder for the lake")
    ours = {*FOLDERS, "lost+found"}  # ours without a marker: a first start that was cut short
    foreign = (
        [p.name for p in path.iterdir() if p.name not in ours and not p.name.startswith(f".{MARKER}")]
        if path.exists()
        else []
    )
    if foreign:
        raise RootError(
            f"{path} has other files in it ({foreign[0]}, …); give an empty or new folder for the lake"
        )
    for folder in FOLDERS:
        make_dirs(path / folder)
    write_marker(path, secrets.token_hex(ID_BYTES))


def write_marker(path: Path, lake_id: str | None) -> None:
    """Make folder `path`, which holds all that a lake does, a lake."""
    content = {"format": FORMAT, "layout": LAYOUT_VERSION, **({"id": lake_id} if lake_id else {})}
    replace_file(path / MARKER, json.dumps(content).encode() + b"\n")


def identify(root: Root) -> str:
    """The lake's id, given to it now where it has none."""
    if root.lake_id is None:
        write_marker(root.path, secrets.token_hex(ID_BYTES))
    found = root.lake_id
    assert found is not None
    return found


def _check_marker(marker: Path) -> None:
    try:
        content = json.loads(marker.read_bytes())
        found_format, found_layout = content["format"], content["layout"]
    except (ValueError, KeyError, TypeError) as error:
        raise RootError(
            f"{marker} is not a version marker of this project ({error}); restore it from backup"
        ) from None
    if found_format != FORMAT:
        raise RootError(f"{marker} belongs to {found_format!r}, not to {FORMAT!r}; give another folder")
    if not isinstance(found_layout, int) or found_layout > LAYOUT_VERSION:
        raise RootError(
            f"{marker.parent} has layout {found_layout}, this version knows {LAYOUT_VERSION}; "
            "install a newer ticklake"
        )
    if found_layout < LAYOUT_VERSION:
        raise RootError(
            f"{marker.parent} has layout {found_layout} of an early version, this version writes {LAYOUT_VERSION}; "
            "read it with that version and record into a new folder"
        )
