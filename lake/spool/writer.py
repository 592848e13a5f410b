"""Appending to a stream: the caller's thread queues, a committer thread compresses, writes and fsyncs groups.

What the writer promises: a record below `durable_offset` survives a crash and a power cut, and is read back
once, in order, byte for byte. What it never does: block the caller on the disk, grow without limit, or lose a
record without a `Gap` event that says which.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from lake.crashpoints import reach
from lake.durable import make_dirs
from lake.errors import DiskFullError, InputError, LakeError, TerminalError
from lake.locks import exclusive
from lake.spool.files import FileSystem, RealFileSystem
from lake.spool.format import SegmentHeader
from lake.spool.identity import mark_closed
from lake.spool.pending import Chunk, PendingRecords
from lake.spool.records import RecordKind
from lake.spool.recovery import RecoveryReport, recover
from lake.spool.segment import SegmentFile
from lake.spool.settings import SpoolSettings
from lake.spool.stats import SpoolStats
from lake.spool.stream import AskTables, PreviousLife, StreamState, nothing_known, open_stream

LOCK_FILE: Final = "LOCK"
COMMIT_BYTES_MAX: Final = 16 << 20
"""Memory of the records in one commit; more waits for the next, so that durability keeps advancing."""
PAYLOAD_BYTES_MAX: Final = 256 << 20
SPACE_RETRY_FIRST_SECONDS: Final = 0.05
SPACE_RETRY_MAX_SECONDS: Final = 1.0
SYNC_TIMES_KEPT: Final = 4096
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
CAUSE_OVERFLOW: Final = "spool_overflow"
CAUSE_DISK_FULL: Final = "disk_full"

_log = logging.getLogger(__name__)


class SpoolWriter:
    """The one writer of a stream. A context manager; `append` and `extend` belong to one thread.

    Opening takes the stream's lock, puts the folder in order after a crash (`recovery` reports) and says how
    the last writer ended (`previous`).

    Raises:
        BusyError: another process records this stream.
        DiskFullError: recovery needs more space than there is.
    """

    def __init__(
        self,
        folder: Path,
        settings: SpoolSettings | None = None,
        *,
        on_durable: Callable[[int], None] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        quarantine: Path | None = None,
        fs: FileSystem | None = None,
        ask_tables: AskTables = nothing_known,
    ) -> None:
        """Open the stream in `folder`; `ask_tables` says what the lake's tables know of it, so that no offset that
        they have is given again.

        `on_durable` is called in the committer's thread with the new durable offset after every commit.
        `quarantine` is where recovery puts torn and damaged bytes: see `recover`.
        """
        self._folder = folder
        self._settings = settings or SpoolSettings()
        self._on_durable = on_durable
        self._clock_ns = clock_ns
        self._fs = fs or RealFileSystem()
        self._held = ExitStack()
        state = self._open(quarantine, ask_tables)
        self.stream: Final = state.stream
        self.previous: Final[PreviousLife | None] = state.previous

        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        last_recv_ns = state.previous.last_recv_ns if state.previous else 0
        self._pending = PendingRecords(self._settings.pending_bytes_max, state.next_offset, last_recv_ns)
        self._first_offset = self._durable_offset = state.next_offset
        self._flush_offset = self._rotate_offset = -1
        self._closing = False
        self._closed = False
        self._error: LakeError | None = None
        self._refusing = False
        self._wake_at_bytes = float("inf")  # pending memory at which append() wakes a sleeping committer

        self._segment: SegmentFile | None = None
        self._segment_opened = 0.0
        self._next_number = state.next_number
        self._last_commit_started = 0.0
        self._disk_failures = 0
        self._disk_full = self._overflowed_on_full_disk = False
        self._bytes_raw = self._bytes_written = self._commits = 0
        self._sync_seconds: deque[float] = deque(maxlen=SYNC_TIMES_KEPT)
        self._last_error: str | None = None
        self._committer = threading.Thread(target=self._run, name=f"spool-{folder.name}", daemon=True)
        self._committer.start()

    def append(
        self,
        payload: bytes,
        *,
        connection: int = 0,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        """Queue a record for the next commit, as `extend` does; returns at once."""
        self._queue((payload,), len(payload), connection, kind, recv_ns)

    def extend(
        self,
        payloads: Sequence[bytes],
        *,
        connection: int = 0,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        """Queue records that came together, at least one, for the next commit; returns at once.

        The first is received at `recv_ns` (default: now), raised to one above the last record's where that is
        not later, each of the others 1 ns after the one before. Where the queue is full because the disk is
        slow or full, records are dropped and told by a gap event.

        Raises:
            TerminalError: the writer has failed or is closed; nothing is recorded any more.
            InputError: the size of `payloads` together or `connection` is out of range.
        """
        self._queue(payloads, sum(map(len, payloads)), connection, kind, recv_ns)

    def _queue(
        self, payloads: Sequence[bytes], size: int, connection: int, kind: RecordKind, recv_ns: int | None
    ) -> None:
        if self._refusing:
            raise self._failure()
        if connection >> 16 or size > PAYLOAD_BYTES_MAX:
            raise InputError(f"connection {connection} or payload of {size} bytes is out of range")
        if recv_ns is None:
            recv_ns = self._clock_ns()
        with self._lock:
            if self._pending.extend(payloads, size, connection, kind, recv_ns) >= self._wake_at_bytes:
                self._wake_committer()

    @property
    def durable_offset(self) -> int:
        """All records with a lower offset are on disk, whatever happens."""
        return self._durable_offset

    @property
    def next_offset(self) -> int:
        """Offset that the next record will get."""
        return self._pending.next_offset

    @property
    def stats(self) -> SpoolStats:
        """A snapshot of what happened since the writer was opened."""
        with self._lock:
            times = np.fromiter(self._sync_seconds, np.float64) * 1e3
            p50, p95, p99 = np.percentile(times, (50, 95, 99)).tolist() if len(times) else (0.0, 0.0, 0.0)
            return SpoolStats(
                stream=self.stream,
                durable_offset=self._durable_offset,
                records=self._durable_offset - self._first_offset,
                bytes_raw=self._bytes_raw,
                bytes_written=self._bytes_written,
                commits=self._commits,
                pending_bytes=self._pending.memory_bytes,
                pending_records=self._pending.next_offset - self._durable_offset,
                oldest_pending_ns=self._pending.oldest_ns,
                sync_p50_ms=p50,
                sync_p95_ms=p95,
                sync_p99_ms=p99,
                dropped_records=self._pending.lost_records,
                disk_full=self._disk_full,
                last_error=self._last_error,
            )

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when every record appended so far is durable.

        Raises:
            DiskFullError: it is not within `timeout_s`, for want of space; recording still goes on by itself.
            TimeoutError: it is not within `timeout_s`, because the disk is slow.
            TerminalError: it never will be.
        """
        with self._lock:
            target = self._flush_offset = self._pending.next_offset
            self._changed.notify_all()
            done = self._changed.wait_for(
                lambda: self._durable_offset >= target or self._error is not None, timeout_s
            )
            if self._durable_offset >= target:
                return
            if not done and self._disk_full:
                raise DiskFullError(f"no space left for the spool in {self._folder}")
            if not done:
                raise TimeoutError(f"the spool in {self._folder} was not durable within {timeout_s} s")
            raise self._failure()

    def rotate(self) -> None:
        """Have the segment sealed once all records appended so far are in it; one without records is not."""
        with self._lock:
            if self._segment is None and self._pending.next_offset == self._durable_offset:
                return
            self._rotate_offset = self._pending.next_offset
            self._changed.notify_all()

    def close(self) -> None:
        """Make everything durable, seal the segment, leave the mark of a clean stop and release the lock.

        Raises:
            DiskFullError: there is no space for the last records; the message says how many are lost.
            TerminalError: the writer had failed before.
        """
        with self._lock:
            if self._closed:
                return
            self._closing = self._closed = self._refusing = True
            self._changed.notify_all()
        self._committer.join()
        try:
            if self._error is not None:
                raise self._error
            reach("spool:before_mark")
            mark_closed(self._folder, self._durable_offset)
        finally:
            if self._segment is not None:
                self._segment.close()
            self._held.close()

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, quarantine: Path | None, ask_tables: AskTables) -> StreamState:
        make_dirs(self._folder)
        with ExitStack() as held:
            held.enter_context(exclusive(self._folder / LOCK_FILE, f"recording {self._folder.name}"))
            try:
                self.recovery: RecoveryReport = recover(self._folder, quarantine, fs=self._fs)
                state = open_stream(self._folder, ask_tables)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                raise DiskFullError(f"no space left to open the spool in {self._folder}") from error
            self._held = held.pop_all()
        return state

    def _wake_committer(self) -> None:
        """Once: it sets the next level itself when it goes to sleep again. The lock is held."""
        self._wake_at_bytes = float("inf")
        self._changed.notify_all()

    # ---- the committer's thread ----

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except LakeError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a defect here must stop append() and flush(), loudly
            _log.exception("the spool's committer failed")
            failure = TerminalError(f"the spool's committer failed: {error!r}")
            failure.__cause__ = error
            self._fail(failure)

    def _turn(self) -> bool:
        """Wait for something to do and do it; False when the writer is closed and all is done."""
        with self._lock:
            self._wait_for_work()
            closing = self._closing
            chunks = self._pending.take(COMMIT_BYTES_MAX)
        if chunks:
            self._last_commit_started = time.monotonic()
            self._persist(lambda: self._commit(chunks))
            self._committed(chunks)
        if self._segment is not None and self._rotation_due():
            self._persist(self._seal)
        if not closing or chunks:
            return True
        self._persist(self._seal)
        return False

    def _wait_for_work(self) -> None:
        """Sleep, without polling, until a commit or a rotation is due. The lock is held."""
        interval = self._settings.commit_interval_ms / 1e3
        while not self._closing:
            now = time.monotonic()
            due = float("inf")
            if self._pending:
                urgent = self._pending.memory_bytes >= self._settings.commit_bytes
                if urgent or self._flush_offset > self._durable_offset:
                    return
                due = self._last_commit_started + interval
            if self._segment is not None:
                if not self._pending and self._rotation_due():
                    return
                due = min(due, self._segment_opened + self._settings.segment_seconds)
            if due <= now:
                return
            self._wake_at_bytes = self._settings.commit_bytes if self._pending else 0
            self._changed.wait(None if due == float("inf") else due - now)

    def _rotation_due(self) -> bool:
        segment = self._segment
        if segment is None:
            return False
        return (
            segment.durable_bytes >= self._settings.segment_bytes
            or segment.end_offset >= self._rotate_offset >= 0
            or time.monotonic() >= self._segment_opened + self._settings.segment_seconds
        )

    def _persist(self, step: Callable[[], None]) -> None:
        """Run a step on the disk until it has succeeded: wait for space, step around one failure to write."""
        delay = SPACE_RETRY_FIRST_SECONDS
        while True:
            try:
                step()
                break
            except OSError as error:
                if error.errno not in NO_SPACE:
                    self._abandon_segment(error)
                    continue
                self._space_is_out(error)
            with self._lock:
                self._changed.wait(delay)
            delay = min(delay * 2, SPACE_RETRY_MAX_SECONDS)
        if self._disk_full:
            _log.warning("there is space again in %s: recording goes on", self._folder)
            self._disk_full = False

    def _commit(self, chunks: list[Chunk]) -> None:
        if self._segment is None:
            header = SegmentHeader(self.stream, self._next_number, self._durable_offset, self._clock_ns())
            self._segment = SegmentFile(self._fs, self._folder, header, self._settings.zstd_level)
            self._segment_opened = time.monotonic()
            self._next_number += 1
        before = self._segment.durable_bytes
        started = time.perf_counter()
        self._segment.commit([chunk.columns() for chunk in chunks])
        self._sync_seconds.append(time.perf_counter() - started)
        self._bytes_written += self._segment.durable_bytes - before
        self._disk_failures = 0

    def _committed(self, chunks: list[Chunk]) -> None:
        """Tell everyone that the chunks are durable, and record what was lost while they were not."""
        with self._lock:
            self._durable_offset += sum(len(chunk.payloads) for chunk in chunks)
            self._bytes_raw += sum(chunk.payload_bytes for chunk in chunks)
            self._commits += 1
            self._pending.release(chunks)
            if self._pending.has_losses_to_tell():
                self._pending.tell_losses(
                    CAUSE_DISK_FULL if self._overflowed_on_full_disk else CAUSE_OVERFLOW
                )
                self._overflowed_on_full_disk = False
            self._changed.notify_all()
        if self._on_durable is not None:
            try:
                self._on_durable(self._durable_offset)
            except Exception:  # noqa: BLE001 - the records are durable whatever the listener does
                _log.exception("the listener for durable offsets failed; recording goes on")

    def _seal(self) -> None:
        if self._segment is not None:
            self._segment.seal()
            if self._segment.end_offset >= self._rotate_offset:
                self._rotate_offset = -1
            self._segment = None

    def _space_is_out(self, error: OSError) -> None:
        """Cut the half-written bytes off, say so once, and give up only if the writer is being closed."""
        if not self._disk_full:
            _log.warning("no space left in %s: waiting for it (%s)", self._folder, error)
        self._disk_full = self._overflowed_on_full_disk = True
        self._last_error = str(error)
        if self._segment is not None:
            try:
                self._segment.rollback()
            except OSError as second:
                self._abandon_segment(second)
        if self._closing:
            lost = self._pending.next_offset - self._durable_offset
            raise DiskFullError(
                f"no space left in {self._folder}: the last {lost} records are lost"
            ) from error

    def _abandon_segment(self, error: OSError) -> None:
        """After a failed write or sync nothing more in that file can be trusted: go on in a new one, once."""
        self._last_error = str(error)
        self._disk_failures += 1
        segment, self._segment = self._segment, None
        if segment is not None:
            try:
                segment.abandon()
            except OSError as second:
                _log.warning("%s stays unsealed until the next start: %s", segment.path, second)
                segment.close()
        if self._disk_failures > 1:
            raise TerminalError(f"the disk under {self._folder} fails: {error}") from error
        _log.warning("could not write the spool (%s): trying once more in a new segment", error)

    def _fail(self, error: LakeError) -> None:
        with self._lock:
            self._error = error
            self._refusing = True
            self._last_error = str(error)
            self._changed.notify_all()

    def _failure(self) -> LakeError:
        return self._error or TerminalError(f"the spool in {self._folder} is closed")
