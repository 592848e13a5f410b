"""Files of refused records, each named by its content's checksum, so that whoever counts them can tell they are whole.

<stem>-<crc32 of the bytes, hex>.jsonl      one JSON object a line, each a refused record and the reason
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from lake.durable import make_dirs, replace_file


def keep_refused(folder: Path, stem: str, lines: Sequence[str]) -> Path:
    """Write `lines` to a file of `folder`, durably; the same lines always go to the same file.

    Raises:
        OSError: the disk is full, or cannot be written to.
    """
    content = "\n".join(lines).encode() + b"\n"
    path = folder / f"{stem}-{zlib.crc32(content):08x}.jsonl"
    make_dirs(folder)
    replace_file(path, content)
    return path


def kept_refused(folder: Path, stem: str) -> int:
    """How many refused records the whole files of this `stem` hold; the most of them, where several do."""
    counts = [0]
    for path in folder.glob(f"{stem}-*.jsonl"):
        content = path.read_bytes()
        if path.name == f"{stem}-{zlib.crc32(content):08x}.jsonl":
            counts.append(content.count(b"\n"))
    return max(counts)
