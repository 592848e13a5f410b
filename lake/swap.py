"""The files of one commit, brought into the table's folder and out of it, so that no moment of it is a bad one.

Others read the tables by patterns (`tables/trades/**/*.parquet`), which know no log. So a file is written outside of
the table, in `staging/<table>/`, comes in with its commit, and one that is replaced leaves in the same moment, for
`retired/<table>/`. All of it under the commit lock, in this order:

1. The bytes of the commit go into `staging/<table>/pending.json`: from here on, whoever opens the table next after a
   crash knows what was under way.
2. New files are moved in. Where files of a partition are to be replaced, a folder `swap` is prepared instead, with the
   new files in it and links to those that stay.
3. The commit is published: `pending.json` appears as the log's next file, if no other program was faster.
4. The partition's folder and the prepared one change places, in one step: a pattern sees the files from before or
   those from after, never both. (Tables without partitions, and file systems that cannot do this, have the replaced
   files moved out one by one, some 10 µs each.)
5. All of it is made durable, the head is written (`lake.heads`), and `pending.json` removed.

What a crash cut short before 3 is undone, after it completed (`settle`). Every move is on one file system, and
repeating it does no harm.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

from lake import commit_file
from lake.commit_file import Commit
from lake.crashpoints import reach
from lake.delta_log import commit_path, log_folder
from lake.durable import fsync_dir, make_dirs
from lake.errors import CorruptionError
from lake.heads import next_head, take_stock, write_head
from lake.moves import can_exchange, exchange, put_new
from lake.root import Root

PENDING: Final = "pending.json"
SWAP: Final = "swap"
LISTED_SECONDS: Final = 60.0
"""So long a folder that was exchanged keeps the names of its files: who was listing it is to see all of them."""
UPKEEP: Final = b'{"upkeep":true}\n'
"""What is pending while checkpoints are made or commits expire: the head is to be written anew."""


class Swap:
    """Carries out commits of one table; every method only under its commit lock."""

    def __init__(self, root: Root, table: str) -> None:
        self._root = root
        self._table = table
        self.live: Final = root.table(table)
        self.staging: Final = root.staging / table
        self.retired: Final = root.retired / table
        self.pending: Final = self.staging / PENDING
        self._prepared = self.staging / SWAP
        self._log = log_folder(self.live)

    def begin(self, content: bytes) -> None:
        """Note down what is about to be done."""
        make_dirs(self.staging)
        try:
            with self.pending.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            self.end()
            raise
        fsync_dir(self.staging)
        reach("delta:after_pending")

    def end(self) -> None:
        """Nothing is pending any more."""
        self.pending.unlink(missing_ok=True)

    def bring_in(self, commit: Commit) -> None:
        """The new files, to where they take effect with the commit."""
        for path in commit.removed:
            os.utime(self.live / path)  # the grace period counts from now, not from when it was written
            make_dirs((self.retired / path).parent)
        folder = self._exchanged(commit)
        if folder is not None:
            self._prepare(folder, commit)
            return
        for path in commit.added:
            make_dirs((self.live / path).parent)
        for path in commit.added:
            (self.staging / path).rename(self.live / path)
            reach("delta:after_move_in")

    def publish(self, version: int) -> bool:
        """Make the pending commit the log's `version`; False where another program has made one.

        Raises:
            OSError: it could not be; `published` says whether it was.
        """
        try:
            put_new(self.pending, commit_path(self._log, version))
        except FileExistsError:
            return self.published(version)
        return True

    def published(self, version: int) -> bool:
        """Whether the log's `version` is the pending commit."""
        try:
            return commit_path(self._log, version).read_bytes() == self.pending.read_bytes()
        except FileNotFoundError:
            return False

    def finish(self, version: int, commit: Commit) -> None:
        """After the commit: the folders swapped, replaced files moved out, all of it durable and in the head."""
        folders = self._folders(commit.added) | self._folders(commit.removed)
        if self._holds(self._prepared, commit.added):
            exchange(self.live / _folder(commit.added[0]), self._prepared)
            folders |= {folder.parent for folder in folders}
            reach("delta:after_exchange")
        for path in commit.added:
            if (
                not (self.live / path).exists() and (self.staging / path).exists()
            ):  # a power cut took back the move
                make_dirs((self.live / path).parent)
                (self.staging / path).rename(self.live / path)
        for path in commit.removed:
            self._retire(path)
        self._put_aside(version)
        self._clear()
        for folder in [*folders, *(self.retired / _folder(path) for path in _one_each(commit.removed))]:
            fsync_dir(folder)
        fsync_dir(self._log)
        reach("delta:after_fsync")
        write_head(self._root, next_head(self._root, self._table, version, commit))
        reach("delta:after_head")
        self.end()

    def undo(self, commit: Commit, files: Callable[[], Collection[str]]) -> None:
        """Take back a commit that was not published; `files` gives those of the table as it is."""
        active = files()
        if self._holds(self._prepared, commit.removed):
            exchange(self.live / _folder(commit.removed[0]), self._prepared)
        for path in commit.added:
            prepared = self._prepared / Path(path).name
            found = prepared if prepared.exists() else self.live / path
            if found.exists() and (found == prepared or path not in active):
                make_dirs((self.staging / path).parent)
                found.rename(self.staging / path)
        for path in commit.removed:
            if path in active and not (self.live / path).exists() and (self.retired / path).exists():
                (self.retired / path).rename(self.live / path)
        self._clear()
        for folder in self._folders(commit.added) | self._folders(commit.removed):
            fsync_dir(folder)
        reach("delta:after_undo")
        self.end()

    def settle(self, active: Callable[[], Collection[str]]) -> str | None:
        """Complete or take back what a crash cut short; says which, None where there was nothing."""
        try:
            content = self.pending.read_bytes()
        except FileNotFoundError:
            self._clear()
            return None
        if content == UPKEEP:
            write_head(self._root, take_stock(self._root, self._table))
            self.end()
            return "its head was written anew"
        commit = whole(content)
        if commit is None and not self._prepared.exists():
            self.end()  # it was being noted down: nothing had been done
            return "a commit had not begun"
        if commit is None or commit.version is None:
            raise CorruptionError(f"{self.pending} is not as it was written; restore the table from backup")
        version = commit.version
        if self.published(version):
            self.finish(version, commit)
            return f"commit {version} was completed"
        self.undo(commit, active)
        return f"commit {version} was taken back"

    def _exchanged(self, commit: Commit) -> Path | None:
        """The folder of the one partition whose files are replaced, where it can be swapped with another."""
        folders = {_folder(path) for path in (*commit.added, *commit.removed)}
        if not commit.removed or not commit.added or len(folders) > 1 or folders == {""}:
            return None
        return self.live / folders.pop() if can_exchange(self.staging) else None

    def _prepare(self, folder: Path, commit: Commit) -> None:
        """A folder as that of the partition is to be."""
        self._prepared.mkdir()
        gone = {Path(path).name for path in commit.removed}
        for file in folder.iterdir():
            if file.name not in gone:
                os.link(file, self._prepared / file.name)
        for path in commit.added:
            (self.staging / path).rename(self._prepared / Path(path).name)
            reach("delta:after_move_in")
        fsync_dir(self._prepared)
        fsync_dir(self.staging)

    def _retire(self, path: str) -> None:
        target = self.retired / path
        make_dirs(target.parent)
        exchanged = self._prepared / Path(path).name
        if exchanged.exists() and not target.exists():
            os.link(exchanged, target)
        elif (self.live / path).exists():
            (self.live / path).rename(target)
        reach("delta:after_move_out")

    def _put_aside(self, version: int) -> None:
        """The folder that was exchanged, with all its names: somebody may be listing it just now."""
        if self._prepared.exists():
            os.utime(self._prepared)
            self._prepared.rename(self.staging / f"{SWAP}-{version}")

    def _clear(self) -> None:
        """What is left in these folders are second names of files that are in the table or retired."""
        if self._prepared.exists():
            shutil.rmtree(self._prepared)
        if self.staging.is_dir():
            for folder in self.staging.glob(f"{SWAP}-*"):
                if folder.stat().st_mtime < time.time() - LISTED_SECONDS:
                    shutil.rmtree(folder)

    def _folders(self, paths: Iterable[str]) -> set[Path]:
        return {folder for path in paths if (folder := self.live / _folder(path)).is_dir()}

    @staticmethod
    def _holds(folder: Path, paths: Iterable[str]) -> bool:
        return any((folder / Path(path).name).exists() for path in paths)


def whole(content: bytes) -> Commit | None:
    """The commit that is pending; None where noting it down was cut short."""
    try:
        commit = commit_file.decode(content)
    except ValueError:
        return None
    return None if commit_file.damage(content, commit.version or 0) else commit


def _folder(path: str) -> str:
    """The partition's folder in a data file's path; empty where the table has none."""
    return path.rpartition("/")[0]


def _one_each(paths: Iterable[str]) -> list[str]:
    """One path of each folder."""
    return list({_folder(path): path for path in paths}.values())
