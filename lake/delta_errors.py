"""The one place where errors of the Delta library and of the disk become ours, by type."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake import exceptions as delta

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
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFullError(text)
        case _:
            return CorruptionError(text)


@contextmanager
def delta_errors(doing: str) -> Iterator[None]:
    """Turn what the Delta library, Arrow or the disk raise inside the block into our errors."""
    try:
        yield
    except (delta.DeltaError, pa.ArrowException, OSError) as error:
        raise translate(error, doing) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
