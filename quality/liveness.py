"""How the daemon's processes are doing, from their last beats: while they run, and after the fact."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lake.beats import COLLECT, INGEST, Beat, CollectorFigures, IngestFigures, read_beat
from lake.root import Root

NS_PER_S: Final = 1e9
LATE_S: Final = {COLLECT: 10.0, INGEST: 120.0}
"""A process without a beat for so long does not run as it should. A large commit delays an ingester's."""

Row = dict[str, Any]


def collectors(root: Root, now_ns: int | None = None) -> list[Row]:
    """One row per stream that a collector has recorded."""
    now_ns = now_ns or time.time_ns()
    beats = [(beat, beat.collector) for beat in _beats(root, COLLECT)]
    return [_collector(beat, figures, now_ns) for beat, figures in beats if figures is not None]


def open_gaps(root: Root, now_ns: int | None = None) -> list[Row]:
    """One row per gap that was open at the last beat of a collector, longest first."""
    now_ns = now_ns or time.time_ns()
    return [
        {
            "stream": beat.stream,
            "cause": gap.cause,
            "connection": gap.connection,
            "instrument": gap.instrument,
            "channel": gap.channel,
            "since": datetime.fromtimestamp(gap.start_ns / NS_PER_S, UTC),
            "seconds": round((now_ns - gap.start_ns) / NS_PER_S, 1),
            "trades to fetch": None if gap.last_seq is None else gap.last_seq - (gap.first_seq or 0) + 1,
        }
        for beat in _beats(root, COLLECT)
        if beat.collector is not None
        for gap in beat.collector.open_gaps
    ]


def ingesters(root: Root, now_ns: int | None = None) -> list[Row]:
    """One row per stream that an ingester has followed."""
    now_ns = now_ns or time.time_ns()
    beats = [(beat, beat.ingest) for beat in _beats(root, INGEST)]
    return [_ingester(beat, figures, now_ns) for beat, figures in beats if figures is not None]


def state_of(
    beat: Beat, role: str, now_ns: int, *, alive: Callable[[Beat], bool | None] | None = None
) -> str:
    """A beat in words: running, stopped cleanly, failed, crashed, or there without a sign of life.

    `alive` says whether the process is there, None where that cannot be known.
    """
    age_s = max(0.0, (now_ns - beat.at_ns) / NS_PER_S)
    at = datetime.fromtimestamp(beat.at_ns / NS_PER_S, UTC).strftime("%Y-%m-%d %H:%M:%S")
    match beat.state:
        case "stopped":
            return f"stopped cleanly at {at}"
        case "failed":
            return f"failed at {at}: {beat.reason}"
    there = (alive or _alive)(beat)
    if there is False or (there is None and age_s > LATE_S[role]):
        return f"crashed: last beat {at}"
    if age_s > LATE_S[role]:
        return f"stuck: process {beat.pid} is there, last beat {age_s:.0f} s ago"
    return f"{beat.state}, last beat {age_s:.0f} s ago"


def trouble_of(beat: Beat, role: str, now_ns: int) -> str | None:
    """What is wrong with a process, as far as is known: that it ended or is not heard of, and what it said last."""
    said = [_ailment(state_of(beat, role, now_ns))]
    if beat.collector is not None:
        said.append("disk full" if beat.collector.spool.disk_full else beat.collector.spool.last_error)
    if beat.ingest is not None:
        said.append(beat.ingest.last_error)
    return "; ".join(one for one in said if one) or None


def faults(root: Root, now_ns: int | None = None) -> list[str]:
    """A line for each collector and ingester that crashed, failed, is stuck, has a full disk, or could not do its last
    round; none of those that run or were stopped in order."""
    now_ns = now_ns or time.time_ns()
    found = []
    for role, name in ((COLLECT, "collector"), (INGEST, "ingester")):
        for beat in _beats(root, role):
            full = beat.collector is not None and beat.collector.spool.disk_full
            failing = (
                beat.state == "running" and beat.ingest is not None and beat.ingest.last_error is not None
            )
            if full or failing or _ailment(state_of(beat, role, now_ns)):
                found.append(f"{name} of {beat.stream}: {trouble_of(beat, role, now_ns)}")
    return found


def _ailment(state: str) -> str | None:
    return state if state.startswith(("crashed", "failed", "stuck")) else None


def _alive(beat: Beat) -> bool | None:
    if beat.host != socket.gethostname():
        return None
    try:
        os.kill(beat.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _beats(root: Root, role: str) -> list[Beat]:
    files: list[Path] = sorted(root.run.glob(f"{role}-*.json")) if root.run.is_dir() else []
    return [beat for file in files if (beat := read_beat(file)) is not None]


def _collector(beat: Beat, figures: CollectorFigures, now_ns: int) -> Row:
    connections, spool = figures.connections, figures.spool
    return {
        "stream": beat.stream,
        "collector": state_of(beat, COLLECT, now_ns),
        "frames": sum(c.frames for c in connections),
        "frames/s": round(figures.frames_per_s),
        "durable lag ms": round(spool.durable_lag_s * 1e3),
        "commit p95 ms": round(spool.commit_p95_s * 1e3, 1),
        "pending bytes": spool.pending_bytes,
        "connections": f"{sum(c.up for c in connections)} of {len(connections)}",
        "reconnects": sum(c.reconnects for c in connections),
        "instruments": f"{figures.instruments_subscribed} of {figures.instruments_expected}",
        "channels": f"{sum(c.channels_subscribed for c in connections)}"
        f" of {sum(c.channels_expected for c in connections)}",
        "gaps open": figures.open_gaps_count,
        "gaps told": sum(figures.gaps.values()),
        "gaps healed": sum(figures.gaps_healed.values()),
        "records dropped": spool.dropped_records,
        "disk days left": None if figures.disk.days_left is None else round(figures.disk.days_left, 1),
        "trouble": trouble_of(beat, COLLECT, now_ns),
    }


def _ingester(beat: Beat, figures: IngestFigures, now_ns: int) -> Row:
    newest_ns = figures.committed_ns
    return {
        "stream": beat.stream,
        "ingester": state_of(beat, INGEST, now_ns),
        "tables reach": None if newest_ns is None else datetime.fromtimestamp(newest_ns / NS_PER_S, UTC),
        "seconds behind": None if newest_ns is None else round((now_ns - newest_ns) / NS_PER_S),
        "commit lag s": None if figures.commit_lag_s is None else round(figures.commit_lag_s, 1),
        "rows": sum(figures.rows.values()),
        "quarantined": figures.quarantined_records,
        "failed rounds": figures.failed_rounds,
        "trouble": trouble_of(beat, INGEST, now_ns),
    }
