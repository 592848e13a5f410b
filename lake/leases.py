"""Leases of readers: while a query of ours runs over a table, no file of it is moved out of its folder.

A query opens its files when it comes to them, so a file that is moved away after the query began would fail it. A
reader therefore holds a shared lock for as long as it reads, and a writer that replaces files needs the lock for
itself, for the milliseconds of the swap. Readers of a lake that they may not write to go without where there is no lock
yet; so does every foreign reader.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lake.errors import BusyError
from lake.root import Root


class InUseError(BusyError):
    """Files cannot be replaced as long as somebody reads the table."""


class Lease:
    """Of one reader on one table, until it is released or its process ends."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd

    def release(self) -> None:
        """Files may be replaced again; a second time does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def take_lease(root: Root, table: str) -> Lease | None:
    """A lease on `table`, after waiting for a swap of files under way; None where this lake cannot give one."""
    fd = _opened(root, table)
    if fd is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except OSError:  # a file system without locks: then there is no writer who could respect one
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return Lease(fd)


@contextmanager
def no_readers(root: Root, table: str) -> Iterator[None]:
    """Keep readers from beginning for the duration of the block.

    Raises:
        InUseError: one holds a lease.
    """
    fd = _opened(root, table)
    try:
        if fd is not None:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InUseError(f"table {table} is being read: its files cannot be replaced now") from None
        yield
    finally:
        if fd is not None:
            os.close(fd)


def _opened(root: Root, table: str) -> int | None:
    path = root.locks / f"readers-{table}.lock"
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(path, flags | os.O_CLOEXEC, 0o644)
        except OSError:  # a lake that this process may only read
            continue
    return None
