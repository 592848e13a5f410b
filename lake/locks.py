"""Advisory locks between processes on one machine: released by the kernel however a process ends."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from lake.durable import is_disk_full, make_dirs
from lake.errors import BusyError, RootError

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""How file systems say that they have no locks: NFS without lockd, some of FUSE."""

WAIT_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.002


@contextmanager
def exclusive(path: Path, purpose: str) -> Iterator[None]:
    """Hold the lock file at `path` for the duration of the block.

    `purpose` completes the sentence "another process is …" in the message.

    Raises:
        BusyError: another process holds it; the message gives that process's id where known.
        RootError: the file system has no locks, or the lake is gone.
    """
    make_dirs(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip() or "unknown"
            raise BusyError(f"another process (pid {holder}) is {purpose}: {path}") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            raise RootError(
                f"{path.parent}: its file system has no locks ({error.strerror}), and without them two processes "
                "would spoil each other's files; mount it with locks (NFS: version 4, or lockd), or give another folder"
            ) from None
        _name_holder(fd)
        yield
    finally:
        os.close(fd)


@contextmanager
def exclusive_in_turn(path: Path, purpose: str) -> Iterator[None]:
    """As `exclusive`, waiting for the lock.

    Raises:
        BusyError: another process held it for a whole minute.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(path, purpose))
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
        yield


def _name_holder(fd: int) -> None:
    """Leave our process id for the message of whoever finds the lock taken; a full disk must not cost the lock."""
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        if not is_disk_full(error):
            raise
