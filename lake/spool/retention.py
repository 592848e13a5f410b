"""Removing segments that have served."""

from __future__ import annotations

from pathlib import Path

from lake.durable import fsync_dir
from lake.spool.reader import sealed_segments


def drop_segments(folder: Path, *, before_ns: int, stream: str, upto_offset: int) -> list[Path]:
    """Delete the sealed segments of `stream` that are wholly ingested and old; return their paths.

    Deleted are those whose records all have offsets below `upto_offset` of the stream id `stream` and receive
    times before `before_ns`. The newest segment always stays: it says at which offset the stream goes on.
    """
    dropped = [
        info.path
        for info in sealed_segments(folder)[:-1]
        if info.stream == stream and info.end_offset <= upto_offset and info.end_ns < before_ns
    ]
    for path in dropped:
        path.unlink()
    if dropped:
        fsync_dir(folder)
    return dropped
