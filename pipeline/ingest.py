"""Spool → tables: whole segments decoded in bulk, checked against the contract, appended exactly once.

Every table remembers, in the same commit that adds the rows, how far into the stream it has got
(the Delta application transaction ``(stream, end offset)``). A run that is cut short therefore leaves
some tables ahead of others; the next one starts at the table furthest behind and skips, row by row, what
a table already has. `coverage` is committed last: its rows tile the stream from offset 0 without hole or
overlap, and their sums are what `lake verify` holds the tables against.

Nothing is dropped in silence. A frame that cannot be decoded, or whose rows do not fit the contract, goes
to ``quarantine/ingest/<stream>/`` with its reason and is counted in `coverage`; records lost to damage in
the spool are counted there too and become a row in `gaps`.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lake.crashpoints import reach
from lake.durable import disk_full_told
from lake.errors import BusyError, CommitError, TransientError
from lake.instants import to_us
from lake.ledger import newest_received
from lake.locks import exclusive
from lake.memory import give_back
from lake.quarantine import keep_refused
from lake.root import Root
from lake.spool import (
    Batch,
    Damage,
    SegmentInfo,
    SpoolSettings,
    drop_segments,
    read_segment,
    recover,
    sealed_segments,
)
from lake.spool.writer import LOCK_FILE
from lake.tables import Tables
from pipeline.decoding import Chunk, chunks, empty_rows, lost_chunk
from pipeline.dedupe import HeldRows
from pipeline.epochs import end_epochs, known_epochs, mend_timeline
from pipeline.landing import COMMIT_ORDER, Landing
from pipeline.progress import Progress
from pipeline.reconcile import catch_up

log = logging.getLogger(__name__)

GROUP_BYTES_MAX: Final = 32 << 20
"""On the disk, where answers about the past have megabytes a record."""
S_PER_HOUR: Final = 3600.0
NS_PER_HOUR: Final = 3_600_000_000_000
NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """How spool segments become table rows."""

    records_per_commit: int = 400_000
    """A commit takes whole segments until it holds this many records; bounds memory (about 1 kB each)."""

    follow_seconds: float = 5.0
    """With `--follow`: how often to look for newly sealed segments, in seconds."""

    renew_hours: float = 1.0
    """Beside a collector, a fresh process takes over after so many hours, because its memory rises slowly."""

    def __post_init__(self) -> None:
        if self.records_per_commit < 1:
            raise ValueError("records_per_commit must be at least 1")
        for name in ("follow_seconds", "renew_hours"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")


@dataclass(slots=True)
class IngestReport:
    """What one run did, summed over streams."""

    segments: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)
    busy_streams: list[str] = field(default_factory=list)

    def add(self, other: IngestReport) -> None:
        """Sum up with a later run."""
        self.segments += other.segments
        self.counts.update(other.counts)
        self.unknown_fields.update(other.unknown_fields)
        self.busy_streams = other.busy_streams

    def as_rows(self) -> list[dict[str, Any]]:
        """What was counted, for display."""
        rows: list[dict[str, Any]] = [{"what": "segments", "count": self.segments}]
        rows += [{"what": name.replace("_", " "), "count": n} for name, n in self.counts.items()]
        rows += [{"what": f"unknown field {name}", "count": n} for name, n in self.unknown_fields.items()]
        rows += [{"what": f"stream {name} is busy elsewhere", "count": 1} for name in self.busy_streams]
        return rows


@dataclass(slots=True)
class Kept:
    """What one round leaves to the next: open tables, because to open one costs as much as a commit, and how far each
    stream got, so that no table is looked at where nothing is new. After an error begin anew: tables may need repair.
    """

    tables: Tables
    reached: dict[str, int] = field(default_factory=dict)
    held: HeldRows = field(init=False)
    epochs: dict[str, set[str]] | None = None
    """Epochs of every stream that the tables know and that have not been looked at yet, by the stream's name."""

    def __post_init__(self) -> None:
        self.held = HeldRows(self.tables)


def ingest(
    root: Root,
    settings: IngestSettings | None = None,
    spool_settings: SpoolSettings | None = None,
    *,
    streams: Sequence[str] | None = None,
    on_commit: Callable[[IngestReport], None] | None = None,
    progress: Progress | None = None,
    kept: Kept | None = None,
) -> IngestReport:
    """Append every sealed segment of the spool to the tables, each record once.

    A stream that another process is ingesting right now is left to it and named in the report. The torn
    tail of a stream whose writer is gone is healed first, so that its last records come along. `progress`
    tells others of it. `kept` is for who calls again and again.

    Raises:
        DiskFullError: no space is left; what was committed stays, the rest waits in the spool.
        CommitUnknownError: a commit may have landed; the next run looks and goes on from there.
        CorruptionError: a table's log is damaged further back than its tail.
    """
    settings, kept = settings or IngestSettings(), kept or Kept(Tables(root))
    report = IngestReport()
    for name in streams if streams is not None else sorted({*root.streams(), *known_epochs(kept)}):
        try:
            with (
                disk_full_told(f"ingesting stream {name}"),
                exclusive(root.locks / f"ingest-{name}.lock", f"ingesting stream {name}"),
                progress.round(name) if progress else nullcontext(),
            ):
                _ingest_stream(
                    root, name, settings, spool_settings or SpoolSettings(), report, on_commit, progress, kept
                )
        except BusyError:
            report.busy_streams.append(name)
    return report


def _ingest_stream(
    root: Root,
    name: str,
    settings: IngestSettings,
    spool_settings: SpoolSettings,
    report: IngestReport,
    on_commit: Callable[[IngestReport], None] | None,
    progress: Progress | None,
    kept: Kept,
) -> None:
    folder = root.stream(name)
    abandoned = folder.is_dir() and _heal_abandoned_tail(root, folder)
    # A folder may hold more than one epoch of its stream: each is a stream of its own, with its own offsets.
    for stream, segments in _by_epoch(sealed_segments(folder)).items():
        if segments[-1].end_offset > kept.reached.get(stream, 0):
            target = Landing(kept.tables, stream, kept.held)
            if mend_timeline(folder, target, segments):
                _ingest_stream(root, name, settings, spool_settings, report, on_commit, progress, kept)
                return
            for group in _due(segments, target, settings.records_per_commit):
                total, decoded_ns = _ingest_group(root, group, target, report)
                reach("ingest:after_group")
                report.segments += len(group)
                if progress:
                    progress.committed(name, total, decoded_ns)
                if on_commit:
                    on_commit(report)
            kept.reached[stream] = target.committed
        drop_segments(
            folder,
            before_ns=_now_ns(kept.tables) - int(spool_settings.retain_hours * NS_PER_HOUR),
            stream=stream,
            upto_offset=kept.reached[stream],
        )
    end_epochs(root, name, kept, abandoned=abandoned)


def _by_epoch(segments: Sequence[SegmentInfo]) -> dict[str, list[SegmentInfo]]:
    found: dict[str, list[SegmentInfo]] = {}
    for segment in segments:
        found.setdefault(segment.stream, []).append(segment)
    return found


def _now_ns(tables: Tables) -> int:
    """How late it is, at most as late as the newest record: a clock that is years ahead must not empty the spool."""
    coverage = tables.find("coverage")
    received_ns = to_us(newest_received(coverage)) * NS_PER_US if coverage else 0
    return min(time.time_ns(), received_ns)


def _heal_abandoned_tail(root: Root, folder: Path) -> bool:
    """Seal what a dead writer left open; a living writer holds the lock and is left alone, which gives False."""
    try:
        with exclusive(folder / LOCK_FILE, f"recording into {folder.name}"):
            recovery = recover(folder, root.quarantine / "spool")
    except BusyError:
        return False
    for torn in recovery.torn:
        log.warning("%s: %d torn bytes cut off, kept in %s", torn.path.name, torn.length, torn.saved_to)
    for path, damage in recovery.damaged:
        lost = damage.end_offset - damage.first_offset
        log.error("%s: %d records lost to damage at byte %d", path.name, lost, damage.position)
    return True


def _due(
    segments: Sequence[SegmentInfo], target: Landing, records_per_commit: int
) -> Iterator[list[SegmentInfo]]:
    """Groups of segments to ingest one after the other.

    Where segments are gone, what the tables' logs say of them comes first: only the rest can be lost.
    """
    for group in _groups(segments, target.committed, target.covered, records_per_commit):
        if group[0].first_offset > target.committed:
            catch_up(target, group[0].first_offset, ended=False)
        rest = [segment for segment in group if segment.end_offset > target.committed]
        if rest:
            yield rest


def _groups(
    segments: Sequence[SegmentInfo], committed: int, covered: int, records_per_commit: int
) -> Iterator[list[SegmentInfo]]:
    """Runs of segments that are not wholly ingested, each at least one segment and at most about the given size.

    None reaches over `covered`: what a damaged table gets once more is not covered twice. None reaches over a segment
    that is gone.
    """
    group: list[SegmentInfo] = []
    records = on_disk = 0
    for segment in segments:
        if segment.end_offset <= committed:
            continue
        size, length = segment.end_offset - segment.first_offset, segment.path.stat().st_size
        full = records + size > records_per_commit or on_disk + length > GROUP_BYTES_MAX
        if group and (full or segment.first_offset == covered or segment.first_offset > group[-1].end_offset):
            yield group
            group, records, on_disk = [], 0, 0
        group.append(segment)
        records += size
        on_disk += length
    if group:
        yield group


def _ingest_group(
    root: Root, group: Sequence[SegmentInfo], target: Landing, report: IngestReport
) -> tuple[Chunk, int]:
    """Bring one group into all tables; what it held, and when (ns since the epoch) it had been decoded."""
    total = Chunk(target.committed, group[-1].end_offset, 0, 0)
    rows: dict[str, list[pa.Table]] = {name: [] for name in COMMIT_ORDER}
    for chunk in _decoded(group, target):
        total.add(chunk)
        for name, table in chunk.rows.items():
            rows[name].append(table)
    decoded_ns = time.time_ns()
    _quarantine(root, target.stream, total)
    reach("ingest:after_decode")
    with target.in_turn():
        # Counted before the first commit, because each of them tells of the whole run.
        fresh = {name: target.look_up(name, _concat(name, rows.pop(name)), total) for name in COMMIT_ORDER}
        for name in COMMIT_ORDER:
            target.append(name, fresh.pop(name), total)
            reach(f"ingest:after_{name}")
    target.cover(total)
    report.counts += total.counts
    report.unknown_fields += total.unknown_fields
    return total, decoded_ns


def _decoded(group: Sequence[SegmentInfo], target: Landing) -> Iterator[Chunk]:
    """The chunks of `group`, with what is missing before it told as lost records."""
    if group[0].first_offset > target.committed:
        log.error("%s: records %d to %d are gone", target.stream, target.committed, group[0].first_offset - 1)
        until_ns = group[0].start_ns
        hole = (target.committed, group[0].first_offset, target.covered_until_ns() or until_ns, until_ns)
        yield lost_chunk(*hole, "spool_missing", target.venue, target.stream)
    for segment in group:
        yield from chunks(
            _told(read_segment(segment.path, skip_damage=True), segment.path), target.venue, target.stream
        )


def _told(items: Iterator[Batch | Damage], path: Path) -> Iterator[Batch | Damage]:
    """The same items, with a word in the log on each damage."""
    for item in items:
        if isinstance(item, Damage):
            lost = f"records {item.first_offset} to {item.end_offset - 1} are lost"
            log.error("%s: %s: %s at byte %d", path, lost, item.reason, item.position)
        yield item


def _concat(name: str, tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="none") if tables else empty_rows(name)


def _quarantine(root: Root, stream: str, total: Chunk) -> None:
    """Keep what gave no rows, byte for byte; the same records always go to the same file."""
    if not total.rejected:
        return
    folder = root.quarantine / "ingest" / stream
    lines = [
        json.dumps(
            {
                "offset": reject.offset,
                "recv_ns": reject.recv_ns,
                "reason": reject.reason,
                "payload": base64.b64encode(reject.payload).decode(),
            }
        )
        for reject in total.rejected
    ]
    path = keep_refused(folder, f"{total.first_offset:012d}-{total.end_offset:012d}", lines)
    reasons = Counter(reject.reason for reject in total.rejected)
    for reason, count in reasons.most_common(5):
        log.warning("%d records of %s quarantined in %s: %s", count, stream, path, reason)


def follow(
    root: Root,
    settings: IngestSettings | None = None,
    spool_settings: SpoolSettings | None = None,
    *,
    streams: Sequence[str] | None = None,
    leash: int | None = None,
    beside: Sequence[Callable[[], None]] = (),
) -> IngestReport:
    """Ingest again and again until SIGTERM or SIGINT, then once more; returns the sums.

    `leash` is a file descriptor whose end stops it too: that of a pipe which the parent process holds, so that
    even a parent that is killed leaves nobody behind. With a parent, it also returns after `renew_hours`, for the
    parent to start a fresh process. A round that fails is told in the log and tried again in
    the next: the spool keeps what is not ingested. Every round is told by a beat, which `lake status` shows.
    `beside` are quick jobs, called after every round; they must not raise.
    """
    settings = settings or IngestSettings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if leash is not None:
        threading.Thread(target=_wait_for_end, args=(leash, stop), name="leash", daemon=True).start()
        threading.Thread(
            target=_renew_after, args=(settings.renew_hours * S_PER_HOUR, stop), name="renewal", daemon=True
        ).start()
    progress = Progress(root)
    try:
        total = _rounds(root, settings, spool_settings, streams, stop, progress, beside)
    except BaseException as error:
        progress.close(error)
        raise
    progress.close()
    return total


def _rounds(
    root: Root,
    settings: IngestSettings,
    spool_settings: SpoolSettings | None,
    streams: Sequence[str] | None,
    stop: threading.Event,
    progress: Progress,
    beside: Sequence[Callable[[], None]],
) -> IngestReport:
    """Round after round until `stop`, and the last one; the sums."""
    total, kept = IngestReport(), Kept(Tables(root))
    while True:
        last = stop.wait(settings.follow_seconds)
        segments = total.segments
        try:
            total.add(ingest(root, settings, spool_settings, streams=streams, progress=progress, kept=kept))
        except (TransientError, CommitError) as error:
            if last:
                raise
            kept = Kept(Tables(root))
            log.warning("ingest will try again in %g s: %s", settings.follow_seconds, error)
        for job in beside:
            job()
        if last:
            return total
        if total.segments > segments:
            give_back()


def _renew_after(seconds: float, stop: threading.Event) -> None:
    if not stop.wait(seconds):
        stop.set()


def _wait_for_end(leash: int, stop: threading.Event) -> None:
    while os.read(leash, 4096):
        pass
    stop.set()
