"""How a process of the daemon is doing, in a small file that it replaces every few seconds: ROOT/run/<name>.json.

The file is what other processes see of it: `lake status`, and the metrics of the collector for its ingester.
It stays when the process is gone, so that the last beat tells of a crash after the fact. Beats are not
fsynced: they replace one another whole, and after a power cut an old or unreadable one is no loss.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final, Literal

import msgspec

from lake.durable import make_dirs
from lake.events import GapOpened

State = Literal["starting", "running", "stopped", "failed"]
DiskSample = tuple[int, int]
"""Time in ns since the epoch, and free bytes then."""

OPEN_GAPS_MAX: Final = 100
COLLECT: Final = "collect"
INGEST: Final = "ingest"


class ConnectionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to the venue. Frames and bytes as received, since the process began."""

    number: int
    up: bool
    frames: int
    frame_bytes: int
    reconnects: int
    channels_expected: int
    channels_subscribed: int
    gap_open: bool
    """Data is missing right now: the connection is lost, or has not brought anything since it came back."""
    unknown_frames: int


class SpoolFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The spool's writer, since the process began."""

    durable_records: int
    bytes_written: int
    pending_records: int
    pending_bytes: int
    durable_lag_s: float
    """Age of the oldest record that is not on disk yet; 0 when there is none."""
    commit_p50_s: float
    commit_p95_s: float
    commit_p99_s: float
    dropped_records: int
    disk_full: bool
    last_error: str | None
    stream_id: str = ""
    """With its epoch; empty in the beats of an early version."""
    durable_offset: int = 0
    """All records of `stream_id` with a lower offset are on disk: `lake verify` holds the spool against it."""


class DiskFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The file system of the lake."""

    total_bytes: int
    free_bytes: int
    days_left: float | None
    """At the pace of the last day at most; None when it does not fill up or has not been watched long enough."""
    samples: list[DiskSample] = []


class CollectorFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a collector says of itself."""

    frames_per_s: float
    instruments_expected: int
    instruments_subscribed: int
    gaps: dict[str, int]
    """Gaps written down since the process began, by cause; without those that tell of an earlier one healed."""
    gaps_healed: dict[str, int]
    """Gaps told to be healed since the process began, by cause."""
    connections: list[ConnectionFigures]
    spool: SpoolFigures
    disk: DiskFigures
    open_gaps: list[GapOpened] = []
    """What is missing right now, or still to be fetched, longest first; at most `OPEN_GAPS_MAX`."""
    open_gaps_count: int = 0
    resyncs: int = 0
    """Books subscribed anew since the process began."""
    still_asked: int = 0
    """Times that the venue was asked about a channel that was still while others spoke."""


class IngestFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an ingester says of itself. Sums are since the process began."""

    rounds: int = 0
    failed_rounds: int = 0
    last_error: str | None = None
    committed_offset: int = 0
    committed_ns: int | None = None
    """Receive time of the newest record in the tables, ns since the epoch."""
    decode_lag_s: float | None = None
    """Age of the newest record of the last commit when it had been decoded."""
    commit_lag_s: float | None = None
    """Age of the same record when it was in all tables."""
    quarantined_records: int = 0
    rows: dict[str, int] = {}
    """By table."""
    frames: dict[str, int] = {}
    """By channel class, as told by what became of them."""
    frame_bytes: dict[str, int] = {}


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """One beat of one process. `reason` says in one line why a failed process failed."""

    stream: str
    state: State
    began_ns: int
    at_ns: int
    reason: str = ""
    pid: int = msgspec.field(default_factory=os.getpid)
    host: str = msgspec.field(default_factory=socket.gethostname)
    collector: CollectorFigures | None = None
    ingest: IngestFigures | None = None


def beat_path(run: Path, role: str, stream: str) -> Path:
    """The file of the process that does `role` (collect, ingest) for `stream`, in the lake's `run` folder."""
    return run / f"{role}-{stream}.json"


def write_beat(path: Path, beat: Beat) -> None:
    """Replace the beat at `path`; only the process that owns the stream may."""
    make_dirs(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(msgspec.json.encode(beat))
    temporary.replace(path)


def read_beat(path: Path) -> Beat | None:
    """The beat at `path`; None where there is none, or none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Beat)
    except (OSError, msgspec.MsgspecError):
        return None
