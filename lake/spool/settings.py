"""The tunables of a spool stream."""

from __future__ import annotations

from dataclasses import dataclass

from lake.errors import SettingsError


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """How often the spool commits, when it starts a new segment, and how much memory it may hold."""

    commit_interval_ms: float = 40
    """Shortest time between the starts of two group commits."""
    commit_bytes: int = 1 << 20
    """Pending payload bytes that start a commit before its time."""
    segment_seconds: float = 60.0
    """Age at which a segment with data is sealed, whether or not more arrives."""
    segment_bytes: int = 64 << 20
    """Size on disk at which a segment is sealed."""
    pending_bytes_max: int = 256 << 20
    """Memory for records not yet durable; beyond it new records are dropped, counted and told as a gap."""
    zstd_level: int = 1
    """Compression level of the blocks."""
    retain_hours: float = 48.0
    """How long a segment is kept after all of it is in the tables."""

    def __post_init__(self) -> None:
        for name in (
            "commit_interval_ms",
            "commit_bytes",
            "segment_seconds",
            "segment_bytes",
            "pending_bytes_max",
        ):
            if getattr(self, name) <= 0:
                raise SettingsError(f"spool.{name} is {getattr(self, name)}; it must be above 0")
        if not 1 <= self.zstd_level <= 19:
            raise SettingsError(f"spool.zstd_level is {self.zstd_level}; use 1 (fast) to 19 (small)")
        if self.retain_hours < 0:
            raise SettingsError(f"spool.retain_hours is {self.retain_hours}; it must be 0 or more")
