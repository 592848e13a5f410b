"""Moves of files that no library of ours knows: into a place that must be free, and two folders swapped at once."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Final

_AT_FDCWD: Final = -100
_NOREPLACE: Final = 1
_EXCHANGE: Final = 2
_NOT_OFFERED: Final = frozenset(
    {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOTTY}
)


def put_new(source: Path, target: Path) -> None:
    """Make the durable file `source` appear as `target`, whole, and only where nothing is there yet.

    By a link; on a file system without links (exFAT, some network shares) by a rename that replaces nothing,
    of a copy; where there is not even that, by writing into a file that nobody else has made.

    Raises:
        FileExistsError: there is a `target` already.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    else:
        return
    copy = source.with_name(f"{source.name}.copy")
    _write_durably(copy, source.read_bytes(), os.O_TRUNC)
    try:
        _rename(copy, target, _NOREPLACE)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        _write_new(target, source.read_bytes())
    finally:
        copy.unlink(missing_ok=True)


def exchange(one: Path, other: Path) -> None:
    """Swap two folders in one step: whoever lists one of them sees all of its files or all of the other's."""
    _rename(one, other, _EXCHANGE)


@lru_cache(maxsize=8)
def can_exchange(folder: Path) -> bool:
    """Whether the file system of `folder` swaps folders and has links, found out by doing it there."""
    place = folder / f".exchange.{os.getpid()}"
    try:
        for name in ("one", "other"):
            (place / name).mkdir(parents=True)
        (place / "one" / "file").touch()
        os.link(place / "one" / "file", place / "other" / "file")
        exchange(place / "one", place / "other")
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
        return False
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return True


def _rename(source: Path, target: Path, flags: int) -> None:
    function = getattr(_libc(), "renameat2", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(source))
    names = os.fsencode(source), os.fsencode(target)
    if function(_AT_FDCWD, names[0], _AT_FDCWD, names[1], ctypes.c_uint(flags)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(source), None, str(target))


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _write_new(target: Path, content: bytes) -> None:
    try:
        _write_durably(target, content, os.O_EXCL)
    except FileExistsError:
        raise
    except OSError:
        target.unlink(missing_ok=True)  # a torn one would pass for a commit
        raise


def _write_durably(path: Path, content: bytes, how: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o644)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
