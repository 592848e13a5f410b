"""Putting a stream in order after its writer died: cut torn tails, seal, report damage.

Every step can be cut short by another crash and is done again by the next recovery with the same result:
bytes are copied to the quarantine before they are cut off, and a segment is renamed only when it is complete.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lake.crashpoints import reach
from lake.durable import make_dirs, replace_file
from lake.spool.files import FileSystem, RealFileSystem
from lake.spool.format import SEGMENT_HEADER_BYTES, Block, BlockEncoder, BlockFlag
from lake.spool.reader import following_offset, read_segment
from lake.spool.records import Damage
from lake.spool.segment import (
    OPEN_SUFFIX,
    SEALED_SUFFIX,
    SegmentParts,
    segment_paths,
    take_apart,
)

QUARANTINE_FOLDER: Final = "quarantine"
TORN_REASON: Final = "torn tail: a write that was under way when the recorder stopped; never durable"
SUPERSEDED_REASON: Final = "written again in the next segment after the disk failed to sync"
DAMAGE_REASON: Final = "damage: bytes that had been durable are no longer what was written"


@dataclass(frozen=True, slots=True)
class TornTail:
    """The end of an unsealed segment that was cut off; the bytes are kept in `saved_to`."""

    path: Path
    position: int
    length: int
    saved_to: Path


@dataclass(slots=True)
class RecoveryReport:
    """What recovery found and did."""

    sealed: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    torn: list[TornTail] = field(default_factory=list)
    damaged: list[tuple[Path, Damage]] = field(default_factory=list)


def recover(folder: Path, quarantine: Path | None = None, *, fs: FileSystem | None = None) -> RecoveryReport:
    """Seal every unsealed segment of a stream folder; the caller holds the stream's lock.

    `quarantine` is the folder for the bytes cut off or damaged, each with its reason beside it in JSON; by
    default a folder "quarantine" within `folder`.
    """
    report = RecoveryReport()
    quarantine = quarantine or folder / QUARANTINE_FOLDER
    for path in segment_paths(folder, OPEN_SUFFIX):
        _recover_segment(take_apart(path), quarantine, fs or RealFileSystem(), report)
    return report


def _recover_segment(segment: SegmentParts, quarantine: Path, fs: FileSystem, report: RecoveryReport) -> None:
    cut, reason = _cut_position(segment)
    kept = [block for block in segment.blocks if block.position < cut]
    if len(segment.data) > max(cut, SEGMENT_HEADER_BYTES):
        saved_to = _save(segment, cut, len(segment.data), reason, quarantine)
        report.torn.append(TornTail(segment.path, cut, len(segment.data) - cut, saved_to))
        reach("recovery:after_quarantine")
    if not kept:
        fs.remove(segment.path)
        fs.sync_dir(segment.path.parent)
        report.removed.append(segment.path)
        return
    sealed_path = _finish(segment, cut, kept, fs)
    report.sealed.append(sealed_path)
    holes = [hole for hole in segment.holes if hole.position < cut]
    for hole in holes:
        _save(segment, hole.position, hole.position + hole.length, DAMAGE_REASON, quarantine)
    if holes:
        items = read_segment(sealed_path, skip_damage=True)
        report.damaged.extend((sealed_path, item) for item in items if isinstance(item, Damage))


def _cut_position(segment: SegmentParts) -> tuple[int, str]:
    """Where the segment is to end, and why the bytes from there on do not belong to it."""
    torn = segment.torn_position()
    limit = following_offset(segment)
    for block in segment.blocks:
        if torn is not None and block.position >= torn:
            break
        if limit is not None and block.header.record_count and block.header.first_offset >= limit:
            return block.position, SUPERSEDED_REASON
    return (len(segment.data) if torn is None else torn), TORN_REASON


def _finish(segment: SegmentParts, cut: int, kept: list[Block], fs: FileSystem) -> Path:
    """Cut the file, seal it and give it its final name."""
    sealed_path = segment.path.with_suffix(SEALED_SUFFIX)
    last = kept[-1].header
    fd = fs.reopen(segment.path)
    try:
        fs.truncate(fd, cut)
        if not last.flags & BlockFlag.SEAL:
            fs.sync(fd)
            reach("recovery:after_truncate")
            encoder = BlockEncoder(segment.stream, segment.number, zstd_level=1)
            first_ns = kept[0].header.first_recv_ns
            fs.write(fd, encoder.seal(last.end_offset, first_ns, last.last_recv_ns, recovered=True))
        fs.sync(fd)
    finally:
        fs.close(fd)
    reach("recovery:before_rename")
    fs.rename(segment.path, sealed_path)
    reach("recovery:after_rename")
    fs.sync_dir(segment.path.parent)
    return sealed_path


def _save(segment: SegmentParts, start: int, end: int, reason: str, quarantine: Path) -> Path:
    """Copy a byte range of the segment to the quarantine, durably; saving it again changes nothing."""
    make_dirs(quarantine)
    target = quarantine / f"{segment.stream or segment.path.parent.name}-{segment.number:010d}-{start}.bin"
    story = {"file": str(segment.path), "position": start, "length": end - start, "reason": reason}
    replace_file(target.with_suffix(".json"), json.dumps(story, indent=1).encode() + b"\n")
    replace_file(target, segment.data[start:end])
    return target
