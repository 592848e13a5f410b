"""Records that were given offsets which the stream had used before, brought into an epoch of their own.

That happens only where newer tables were put beside a spool that had gone on recording from an older state.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lake.crashpoints import reach
from lake.durable import fsync_dir, make_dirs
from lake.errors import CorruptionError
from lake.spool.files import RealFileSystem
from lake.spool.format import Columns, SegmentHeader
from lake.spool.identity import begin_epoch
from lake.spool.reader import SegmentInfo, read_segment
from lake.spool.records import Damage
from lake.spool.segment import SegmentFile

WORK_FOLDER: Final = ".restamp"
ZSTD_LEVEL: Final = 1


def restamp(folder: Path, segments: Sequence[SegmentInfo]) -> str:
    """Write `segments`, the newest of the stream, anew under a new epoch, from offset 0; returns its stream id.

    The caller holds the stream's lock. Receive times, order and bytes stay. Cut short, it can be called again with
    the segments that are still of the old epoch: they then get an epoch of their own.

    Raises:
        CorruptionError: a segment is damaged; nothing of it has been changed.
    """
    stream = begin_epoch(folder, segments[0].stream)
    work = folder / WORK_FOLDER
    shutil.rmtree(work, ignore_errors=True)
    make_dirs(work)
    offset = 0
    for segment in segments:
        offset = _write_again(segment, stream, offset, work)
        (work / segment.path.name).replace(segment.path)
        fsync_dir(folder)
        reach("restamp:after_segment")
    work.rmdir()
    return stream


def _write_again(segment: SegmentInfo, stream: str, offset: int, work: Path) -> int:
    """The same records in `work`; returns the offset after them."""
    batches = []
    for item in read_segment(segment.path, skip_damage=True):
        if isinstance(item, Damage):
            raise CorruptionError(
                f"{segment.path}: {item.reason} at byte {item.position}; restore it from a backup"
            )
        batches.append(Columns(item.recv_ns, item.connection, item.kind, item.payloads))
    header = SegmentHeader(stream, segment.number, offset, segment.start_ns)
    file = SegmentFile(RealFileSystem(), work, header, ZSTD_LEVEL)
    file.commit(batches)
    file.seal()
    return file.end_offset
