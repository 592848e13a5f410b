"""The one place where errors of the Delta library and of the disk become ours, by type."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake import exceptions as delta

from lake.durable import is_disk_full
from lake.errors import (
    CommitFailedError,
    CorruptionError,
    DiskFullError,
    LakeError,
    RootError,
    SchemaDriftError,
)


class CommitConflictError(CommitFailedError):
    """Another writer committed first; looking again and retrying is safe."""


def translate(error: Exception, doing: str) -> LakeError:
    """Our error for `error`, raised while `doing` (which begins the message)."""
    if _is_disk_full(error):
        return DiskFullError(f"{doing}: no space left on the device; free some and run it again")
    text = f"{doing}: {_first_line(error)}"
    match error:
        case delta.CommitFailedError():
            return CommitConflictError(text)
        case delta.SchemaMismatchError():
            return SchemaDriftError(text)
        case delta.DeltaProtocolError():
            return RootError(f"{text}; another program changed this table, install a newer ticklake")
        case delta.TableNotFoundError():
            return RootError(text)
        case _:
            return CorruptionError(text)


@contextmanager
def delta_errors(doing: str) -> Iterator[None]:
    """Turn what the Delta library, Arrow or the disk raise inside the block into our errors.

    A ValueError is Arrow's too: a damaged file may come up with other columns than it was written with.
    """
    try:
        yield
    except (delta.DeltaError, pa.ArrowException, OSError, ValueError) as error:
        raise translate(error, doing) from error


def _is_disk_full(error: Exception) -> bool:
    """By number; the Delta library raises without one, but its texts end with the system's "(os error 28)"."""
    if isinstance(error, OSError) and is_disk_full(error):
        return True
    return any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
