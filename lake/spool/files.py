"""The few file operations that the spool's promises rest on, behind a seam where tests let them fail."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from lake.durable import fsync_dir


class FileSystem(Protocol):
    """What the spool asks of the disk. Every method may raise OSError."""

    def create(self, path: Path) -> int:
        """Make a new file, open for appending, and return its descriptor."""

    def reopen(self, path: Path) -> int:
        """Open an existing file for appending and return its descriptor."""

    def write(self, fd: int, data: bytes) -> None:
        """Append all of `data`; after an error, part of it may be in the file."""

    def sync(self, fd: int) -> None:
        """Return when everything written to the file would survive a power cut."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""

    def close(self, fd: int) -> None:
        """Give the descriptor back."""

    def rename(self, source: Path, target: Path) -> None:
        """Give the file its new name; durable after `sync_dir`."""

    def remove(self, path: Path) -> None:
        """Remove the file's name; durable after `sync_dir`."""

    def sync_dir(self, path: Path) -> None:
        """Return when creations, renames and removals in the folder would survive a power cut."""


class RealFileSystem:
    """The operating system's own."""

    def create(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def reopen(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    def sync(self, fd: int) -> None:
        # fdatasync also makes the file's size durable, as reading back depends on it (man 2 fdatasync);
        # what it leaves out are timestamps, which would cost a second write to the journal.
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def close(self, fd: int) -> None:
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def sync_dir(self, path: Path) -> None:
        fsync_dir(path)
