"""Making file-system changes survive a power cut.

A rename is durable only after the directory that holds it is fsynced, and a file only after its own
fsync: see ``man 2 fsync``. Everything that the lake later relies on goes through these functions.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lake.errors import DiskFullError, RootError

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
NO_FOLDER_SYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
"""How file systems say that a folder cannot be fsynced: older CIFS, some of FUSE."""

_log = logging.getLogger(__name__)
_expected: set[Path] = set()
_without_folder_sync: set[int] = set()
"""Devices whose lack has been told."""


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
    """Make the entries of directory `path` (creations, renames, removals) durable.

    Where the file system cannot, it is told once, and we go on: what is lost by that takes a power cut.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
        device = os.fstat(fd).st_dev
        if device not in _without_folder_sync:
            _without_folder_sync.add(device)
            _log.warning(
                "the file system of %s cannot fsync folders (%s): a power cut may cost the newest files",
                path, error.strerror,
            )  # fmt: skip
    finally:
        os.close(fd)


def fsync_file(path: Path) -> None:
    """Make the content of an already written file durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def expect(root: Path) -> None:
    """From now on `root` is there: should it vanish, `make_dirs` does not make it again, nor anything in it."""
    _expected.add(root)


def forget(root: Path) -> None:
    """`root` may be made again."""
    _expected.discard(root)


def make_dirs(path: Path) -> None:
    """Create `path` and its missing parents, each entry durable.

    Raises:
        RootError: it lies in a folder that was there (`expect`) and is no more.
    """
    for gone in _expected.intersection((path, *path.parents)):
        if not gone.exists():
            raise RootError(f"{gone} is gone: it was moved, removed or unmounted")
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
