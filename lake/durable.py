"""Making file-system changes survive a power cut.

A rename is durable only after the directory that holds it is fsynced, and a file only after its own
fsync: see ``man 2 fsync``. Everything that the lake later relies on goes through these functions.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lake.errors import DiskFullError

REFUSED: Final = frozenset(
    {
        errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG,
        errno.ENOLCK, errno.EOPNOTSUPP,
    }
)  # fmt: skip
"""What the place of a lake or file can do to any verb: give another place, or the right to use it."""
TROUBLE: Final = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.EMFILE,
        errno.ENFILE, errno.ETIMEDOUT, errno.EFBIG,
    }
)  # fmt: skip
"""What may befall a place that is right: full, broken, gone, or too many files are open."""


def is_disk_full(error: OSError) -> bool:
    """Whether `error` says that there is no space, or no quota, left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_full_told(doing: str) -> Iterator[None]:
    """Raise DiskFullError, whose message begins with `doing`, where the disk is full inside the block."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(f"{doing}: no space left on the device; free some and run it again") from error


def fsync_dir(path: Path) -> None:
    """Make the entries of directory `path` (creations, renames, removals) durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_file(path: Path) -> None:
    """Make the content of an already written file durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_dirs(path: Path) -> None:
    """Create `path` and its missing parents, each entry durable."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        fsync_dir(directory.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that after a crash the file is the old one or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_dir(path.parent)
