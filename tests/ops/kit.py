"""Beats with known figures."""

from __future__ import annotations

import datetime
from typing import Any

from lake.beats import (
    Beat,
    CollectorFigures,
    ConnectionFigures,
    DiskFigures,
    IngestFigures,
    SpoolFigures,
)
from lake.events import GapOpened

NOW_NS = int(datetime.datetime(2026, 11, 20, 20, tzinfo=datetime.UTC).timestamp()) * 1_000_000_000


def connection(number: int, **changes: Any) -> ConnectionFigures:
    known: dict[str, Any] = {
        "up": True,
        "frames": 100,
        "frame_bytes": 70_000,
        "reconnects": 1,
        "channels_expected": 9,
        "channels_subscribed": 8,
        "gap_open": False,
        "unknown_frames": 0,
    }
    return ConnectionFigures(number=number, **{**known, **changes})


def collector_beat(**changes: Any) -> Beat:
    figures = CollectorFigures(
        frames_per_s=50.0,
        instruments_expected=4,
        instruments_subscribed=3,
        gaps={"disconnect": 2, "crashed": 1},
        gaps_healed={"trade_seq": 1},
        connections=[connection(1), connection(2, up=False, frames=10, gap_open=True)],
        spool=SpoolFigures(
            durable_records=105,
            bytes_written=5_000,
            pending_records=5,
            pending_bytes=4_000,
            durable_lag_s=0.04,
            commit_p50_s=0.001,
            commit_p95_s=0.002,
            commit_p99_s=0.003,
            dropped_records=0,
            disk_full=False,
            last_error=None,
        ),
        open_gaps=[
            GapOpened(start_ns=NOW_NS - 9_000_000_000, cause="disconnect", connection=2),
            GapOpened(
                start_ns=NOW_NS - 2_000_000_000,
                cause="missing_trades",
                instrument="BTC-PERPETUAL",
                first_seq=5,
                last_seq=7,
            ),
        ],
        open_gaps_count=2,
        resyncs=5,
        still_asked=7,
        disk=DiskFigures(total_bytes=1_000, free_bytes=400, days_left=12.5, samples=[(NOW_NS, 400)]),
    )
    known: dict[str, Any] = {
        "stream": "deribit",
        "state": "running",
        "began_ns": NOW_NS - 5,
        "at_ns": NOW_NS,
    }
    return Beat(collector=figures, **{**known, **changes})


def ingest_beat(**changes: Any) -> Beat:
    figures = IngestFigures(
        rounds=7,
        failed_rounds=1,
        last_error="disk full",
        committed_offset=100,
        committed_ns=NOW_NS - 60_000_000_000,
        decode_lag_s=1.5,
        commit_lag_s=2.5,
        quarantined_records=4,
        rows={"quotes": 60, "book": 30},
        frames={"quotes": 60, "book": 10},
        frame_bytes={"quotes": 6_000, "book": 1_000},
    )
    known: dict[str, Any] = {
        "stream": "deribit",
        "state": "running",
        "began_ns": NOW_NS - 5,
        "at_ns": NOW_NS,
    }
    return Beat(ingest=figures, **{**known, **changes})
