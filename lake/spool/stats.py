"""What a spool writer says about its work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """What a writer has done since it was opened."""

    stream: str
    """Stream id, "<name>@<epoch>"."""
    durable_offset: int
    """All records with a lower offset are on disk."""
    records: int
    """Records made durable."""
    bytes_raw: int
    """Payload bytes made durable."""
    bytes_written: int
    """Bytes in segment files for them."""
    commits: int
    pending_bytes: int
    """Memory held by records not durable yet."""
    pending_records: int
    """Records not durable yet."""
    oldest_pending_ns: int | None
    """Receive time of the oldest record not durable yet, ns since the epoch; None when there is none."""
    sync_p50_ms: float
    """Half of the last commits took no longer than this to write and sync."""
    sync_p95_ms: float
    sync_p99_ms: float
    dropped_records: int
    """Records lost because the queue was full; each is in the interval of a gap event."""
    disk_full: bool
    last_error: str | None
