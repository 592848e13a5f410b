"""What waits in the spool can be read to its end, and the spool ends where everybody says that it did.

Segments whose records are in the tables serve no more: they are looked at only at both ends, where they say which
records they hold and from when. Where the newest records may be gone without a trace in the spool, others have noted
how far it had got: the mark of a clean stop, the collector's last beat, `coverage`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from lake.beats import COLLECT, beat_path, read_beat
from lake.errors import LakeError
from lake.root import Root
from lake.spool import Damage, SegmentInfo, read_segment, segment_info
from lake.spool.identity import CLOSED_FILE, IDENTITY_FILE, begun_after, closed_at, read_identity
from lake.spool.recovery import QUARANTINE_FOLDER
from lake.spool.segment import OPEN_SUFFIX, SEALED_SUFFIX
from lake.spool.writer import LOCK_FILE
from quality.verify.ledger import Ledger
from quality.verify.report import at_rest
from quality.verify.snapshot import Snapshot, covered_now, is_recorded

INGEST: Final = "run `lake ingest`, which puts the gap on record"
RECORD: Final = "start `lake collect`, which begins a new epoch and puts the gap on record"
_KNOWN: Final = {IDENTITY_FILE, CLOSED_FILE, LOCK_FILE, QUARANTINE_FOLDER}
_NUMBER_DIGITS: Final = 10


def check_spool(snapshot: Snapshot, ledger: Ledger) -> list[str]:
    """What is wrong with the spool of every stream that has a folder, or a collector that wrote one."""
    names = {*snapshot.root.streams(), *_recorded(snapshot.root)}
    return [
        problem
        for name in sorted(names)
        for problem in at_rest(partial(_check_stream, snapshot, ledger, name))
    ]


def _recorded(root: Root) -> Iterator[str]:
    for path in root.run.glob(f"{COLLECT}-*.json"):
        yield path.stem.removeprefix(f"{COLLECT}-")


@dataclass(slots=True)
class _Folder:
    """One look at the folder of a stream. Floors are read before the segments, so that these can only be further."""

    name: str
    path: Path
    identity: str | None = None
    floors: list[tuple[str, str, int]] = field(default_factory=list)
    """Who says so, of which stream id, up to which offset it had been durable."""
    segments: list[SegmentInfo] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def end(self, stream: str) -> int:
        """Where the records of `stream` that are here end; 0 where there are none."""
        return max((s.end_offset for s in self.segments if s.stream == stream), default=0)


def _check_stream(snapshot: Snapshot, ledger: Ledger, name: str) -> list[str]:
    folder = _look(snapshot, name)
    problems = folder.problems
    problems += _doubled(folder)
    problems += _identity(snapshot, folder)
    problems += _unreadable(snapshot, folder)
    problems += _short(snapshot, folder)
    problems += _ill_timed(ledger, folder)
    return problems


def _look(snapshot: Snapshot, name: str) -> _Folder:
    path = snapshot.root.stream(name)
    folder = _Folder(name, path, read_identity(path))
    closed = closed_at(path)
    if closed is not None and folder.identity:
        folder.floors.append((f"{path / CLOSED_FILE}", folder.identity, closed))
    beat_file = beat_path(snapshot.root.run, COLLECT, name)
    beat = read_beat(beat_file)
    if beat and beat.collector and beat.collector.spool.stream_id:
        spool = beat.collector.spool
        folder.floors.append((f"{beat_file}", spool.stream_id, spool.durable_offset))
    entries = sorted(found.name for found in path.iterdir()) if path.is_dir() else []
    for entry in entries:
        if Path(entry).suffix in (OPEN_SUFFIX, SEALED_SUFFIX) and Path(entry).stem.isdigit():
            _add(folder, path / entry)
        elif entry not in _KNOWN and not entry.startswith("."):
            folder.problems.append(f"{path / entry}: is no file of the spool; move it elsewhere")
    if closed is None and CLOSED_FILE in entries:
        folder.problems.append(
            f"{path / CLOSED_FILE}: cannot be read; start `lake collect`, which removes it"
        )
    return folder


def _add(folder: _Folder, path: Path) -> None:
    """Take in a segment, unless it was sealed or dropped since the folder was listed."""
    try:
        info = segment_info(path)
    except FileNotFoundError:
        sealed = path.with_suffix(SEALED_SUFFIX)
        if path.suffix == OPEN_SUFFIX and sealed.exists():
            _add(folder, sealed)
        return
    except LakeError as error:
        if path.suffix == SEALED_SUFFIX or path.stat().st_size:
            folder.problems.append(f"{error}; {INGEST}")
        return
    if not info.sealed and info.end_offset == info.first_offset:
        return  # nothing durable yet
    if path.stem != f"{info.number:0{_NUMBER_DIGITS}d}":
        folder.problems.append(
            f"{path}: is segment {info.number} by its own header, a copy under another name; move it elsewhere"
        )
        return
    folder.segments.append(info)


def _doubled(folder: _Folder) -> Iterator[str]:
    """Segments that hold records which others hold as well; what is not sealed may be written anew after an error."""
    sealed = [segment for segment in folder.segments if segment.sealed]
    for before, after in pairwise(sealed):
        if before.stream == after.stream and after.first_offset < before.end_offset:
            yield (
                f"{after.path}: holds records from {after.first_offset} on of {after.stream}, and {before.path.name} "
                f"holds them up to {before.end_offset}: one of the two is of another day; restore the spool from backup"
            )
    names = {segment.path.stem for segment in sealed}
    for segment in folder.segments:
        if not segment.sealed and segment.path.stem in names:
            yield f"{segment.path}: there is a sealed segment of that number too; move one of them elsewhere"


def _identity(snapshot: Snapshot, folder: _Folder) -> Iterator[str]:
    """The folder's identity is that of its newest segment, which a writer makes it at its start."""
    if not folder.segments:
        return
    newest = folder.segments[-1].stream
    begun = (
        folder.identity is not None and begun_after(folder.path) == newest
    )  # and nothing recorded in it yet
    if folder.identity != newest and not begun and not is_recorded(snapshot.root, folder.name):
        said = f"says {folder.identity}" if folder.identity else "is gone or cannot be read"
        yield f"{folder.path / IDENTITY_FILE}: {said}, the newest segment {newest}; `lake collect` mends it"


def _unreadable(snapshot: Snapshot, folder: _Folder) -> Iterator[str]:
    """Records that are not in every table yet and cannot be read. What is in them all may rot: it costs nothing."""
    ends: dict[str, int] = {}
    before: SegmentInfo | None = None
    for segment in folder.segments:
        stream = segment.stream
        done = snapshot.complete(stream)
        start = max(done, ends.get(stream, 0))
        ends[stream] = max(segment.end_offset, ends.get(stream, 0))
        if segment.end_offset > done:
            lost = [(item.first_offset, item.end_offset, _where(item)) for item in _damages(segment.path)]
            if segment.first_offset > start:
                lost.append((start, segment.first_offset, "missing before this segment"))
            for first, end, where in lost:
                if covered_now(snapshot, stream) < end:
                    yield (
                        f"{segment.path}: records {first} to {end - 1} of {stream} cannot be read ({where}); {INGEST}"
                    )
            skipped = segment.number - before.number - 1 if before and before.stream != stream else 0
            if skipped > 0 and before:
                yield f"{segment.path}: {skipped} segments between this and {before.path.name} are gone; {INGEST}"
        before = segment


def _damages(segment: Path) -> list[Damage]:
    """Of a segment that has been sealed, or ingested and dropped, since it was listed, another look tells."""
    for path in (segment, segment.with_suffix(SEALED_SUFFIX)):
        try:
            return [item for item in read_segment(path, skip_damage=True) if isinstance(item, Damage)]
        except FileNotFoundError:
            continue
    return []


def _where(damage: Damage) -> str:
    return f"byte {damage.position}: {damage.reason}"


def _short(snapshot: Snapshot, folder: _Folder) -> Iterator[str]:
    """The newest segment always stays, so the spool of a stream ends nowhere before anything that is known of it."""
    stream = folder.segments[-1].stream if folder.segments else folder.identity
    floors = folder.floors
    if stream is not None:
        floors = [*floors, ("the table coverage", stream, snapshot.covered(stream))]
    for who, of, floor in floors:
        ended = folder.identity not in (None, of)  # what an epoch lacked when the next began is on record
        if ended or floor <= (end := folder.end(of)):
            continue
        kept = max(end, covered_now(snapshot, of))
        if kept < floor:
            yield (
                f"stream {of}: records {kept} to {floor - 1} are gone: {who} has them durable, {folder.path} ends at "
                f"{end}; restore its newest segments from backup, or {RECORD}"
            )
        elif of == stream or not folder.segments:
            yield (
                f"stream {of}: {folder.path} ends at record {end}, {who} says {floor}: its newest segments are gone or "
                f"of an older copy; what was in them is in the tables; {RECORD}"
            )


def _ill_timed(ledger: Ledger, folder: _Folder) -> Iterator[str]:
    """Segments whose records `coverage` has from another time: offsets that were given twice, after a restore."""
    for segment in folder.segments:
        span = ledger.times(segment.stream, segment.first_offset, segment.end_offset)
        if span and (segment.start_ns // 1000 < span[0] or segment.end_ns // 1000 > span[1]):
            yield (
                f"{segment.path}: records {segment.first_offset} to {segment.end_offset - 1} of {segment.stream} are "
                "of another time than those in the tables: offsets were used twice after a restore; run `lake ingest`"
            )
