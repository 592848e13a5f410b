"""What a SQL statement may take of the machine: memory, threads, time, and disk where memory does not do."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lake.errors import LimitExceededError, SettingsError
from lake.root import Root

if TYPE_CHECKING:
    import duckdb  # 20 MB, which whoever asks nothing does not pay

GB: Final = 10**9
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]i?B)", re.IGNORECASE)
_UNITS: Final = {
    "KB": 1e3,
    "MB": 1e6,
    "GB": GB,
    "TB": 1e12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
MEMORY_SHARE: Final = 0.25
MEMORY_DEFAULT_MAX: Final = 4 * GB
TEMP_SHARE: Final = 0.5
"""Of the free space; the rest is left to whoever records."""
_MEMORY_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_NUMBERS: Final = itertools.count()


@dataclass(frozen=True, slots=True)
class SqlSettings:
    """What one statement of `lake sql` may take."""

    memory: str = ""
    """Memory, such as 2GB; what needs more is put on disk, in `temp`. By default a quarter of the machine's or the
    container's, and at most 4GB."""
    threads: int = 0
    """Cores at once; 0: all but one, which is left to a collector."""
    seconds: float = 600.0
    """Time until a statement is stopped; 0: none."""
    temp: Path | None = None
    """Folder for what memory cannot hold, at most half of its free space; emptied afterwards. By default in the
    lake's `run`, or in the system's temporary folder where the lake cannot be written."""

    def __post_init__(self) -> None:
        if self.memory and not _MEMORY.fullmatch(self.memory.strip()):
            raise ValueError(f"memory = {self.memory!r}: write it like 2GB or 500MB")
        if self.threads < 0:
            raise ValueError("threads must be 0 (all cores but one) or more")
        if not 0 <= self.seconds < float("inf"):
            raise ValueError("seconds must be 0 (no limit) or more")

    @property
    def memory_bytes(self) -> int:
        """The memory that is meant, in bytes."""
        found = _MEMORY.fullmatch(self.memory.strip())
        if found is None:
            return int(min(MEMORY_SHARE * machine_memory(), MEMORY_DEFAULT_MAX))
        return int(float(found[1]) * _UNITS[found[2].upper()])

    @property
    def cores(self) -> int:
        """The number of threads that is meant, at least 1."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) - 1)

    def without_time(self) -> SqlSettings:
        """The same for a job, which takes as long as it takes."""
        return replace(self, seconds=0.0)


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container where that has less."""
    sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max": no limit
            sizes.append(int(file.read_text()))
    return min(sizes)


def apply_limits(connection: duckdb.DuckDBPyConnection, settings: SqlSettings, spill: Path) -> None:
    """Hold a connection to `settings`; what its memory cannot hold goes to the folder `spill`."""
    free = shutil.disk_usage(spill.parent).free
    connection.execute(f"SET memory_limit = '{settings.memory_bytes}B'")
    connection.execute(f"SET threads = {settings.cores}")
    connection.execute("SET temp_directory = $1", [str(spill)])
    connection.execute(f"SET max_temp_directory_size = '{int(free * TEMP_SHARE)}B'")


def exceeded(message: str, settings: SqlSettings, spill: Path) -> LimitExceededError:
    """The error for DuckDB's `message` that memory, or disk in its place, was not enough."""
    if "max_temp_directory_size" in message or "No space left" in message:
        return LimitExceededError(
            f"the statement needs more than half of the free space in {spill.parent}; make room there, "
            "set [sql] temp to a folder with more, or raise [sql] memory"
        )
    limit = settings.memory or f"{settings.memory_bytes / GB:.1f}GB"
    return LimitExceededError(f"the statement needs more memory than {limit}; raise [sql] memory")


@contextmanager
def spill_folder(root: Root, settings: SqlSettings) -> Iterator[Path]:
    """A folder of our own for what does not fit into memory, gone after the block; DuckDB makes it when it needs it.

    What processes left behind that were killed is removed.

    Raises:
        SettingsError: the folder that was set cannot be written.
    """
    place = settings.temp or root.run
    if settings.temp and not _writable(place):
        raise SettingsError(f"[sql] temp: {place} is no folder that can be written")
    if not _writable(place):
        with tempfile.TemporaryDirectory(prefix="lake-sql-") as private:
            yield Path(private) / "spill"
        return
    host = re.sub(r"[^\w.]", "_", socket.gethostname())
    for left in place.glob(f"sql-{host}-*"):
        if not _alive(left.name.split("-")[-2]):
            shutil.rmtree(left, ignore_errors=True)
    own = place / f"sql-{host}-{os.getpid()}-{next(_NUMBERS)}"
    try:
        yield own
    finally:
        if own.exists():
            shutil.rmtree(own, ignore_errors=True)


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
