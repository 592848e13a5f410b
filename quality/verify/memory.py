"""What was proven last time: which data files, and how the file system knew them then.

A file that has its size, inode and both times still was written by nobody since, as far as the file system can tell.
Bytes that rot beneath it change none of these: only reading finds them. So nothing here is believed unless asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from lake.root import Root

MEMORY_FILE: Final = "verified.json"
Mark = tuple[int, int, int, int]
"""Size, inode, time of the last write and of the last change, ns since the epoch."""


class Memory(msgspec.Struct):
    """Data files by `<table>/<path>`."""

    proven: dict[str, Mark] = {}

    def knows(self, name: str, path: Path) -> bool:
        """Whether the file at `path` was proven under `name` and has not been touched since."""
        return name in self.proven and self.proven[name] == mark(path.stat())


def mark(found: os.stat_result) -> Mark:
    """How the file system knows a file."""
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def recall(root: Root) -> Memory:
    """What was noted last; nothing where nothing was, or it cannot be read."""
    try:
        return msgspec.json.decode((root.run / MEMORY_FILE).read_bytes(), type=Memory)
    except (OSError, msgspec.MsgspecError):
        return Memory()


def note(root: Root, memory: Memory) -> None:
    """Keep `memory` for the next proof.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = root.run / MEMORY_FILE
    root.run.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(msgspec.json.encode(memory))
    temporary.replace(path)
