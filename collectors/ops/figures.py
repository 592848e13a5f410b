"""A collector's figures at one moment, gathered from its parts without holding anything up."""

from __future__ import annotations

from collections.abc import Iterable

from collectors.deribit.channels import classify
from collectors.deribit.session import Session
from collectors.recorder import Recorder
from lake.beats import OPEN_GAPS_MAX, CollectorFigures, ConnectionFigures, DiskFigures, SpoolFigures
from lake.spool import SpoolStats

NS_PER_S = 1e9


def figures(
    recorder: Recorder, spool: SpoolStats, disk: DiskFigures, *, now_ns: int, frames_per_s: float
) -> CollectorFigures:
    """What `recorder` has done up to now; to be called in its own event loop."""
    expected, subscribed = _instruments(recorder.sessions)
    tape = recorder.tape
    return CollectorFigures(
        frames_per_s=frames_per_s,
        instruments_expected=expected,
        instruments_subscribed=subscribed,
        gaps=dict(tape.gaps),
        gaps_healed=dict(tape.gaps_healed),
        connections=[_connection(session) for session in recorder.sessions],
        spool=_spool(spool, now_ns),
        disk=disk,
        open_gaps=sorted(tape.holes.current, key=lambda gap: gap.start_ns)[:OPEN_GAPS_MAX],
        open_gaps_count=len(tape.holes.current),
        resyncs=recorder.healer.resyncs,
        still_asked=recorder.healer.silences.asked,
    )


def _instruments(sessions: Iterable[Session]) -> tuple[int, int]:
    """How many instruments ought to be recorded, and of how many every channel flows."""
    expected: set[str | None] = set()
    lacking: set[str | None] = set()
    for session in sessions:
        expected.update(classify(channel).instrument for channel in session.channels)
        absent = session.missing if session.established.is_set() else session.channels
        lacking.update(classify(channel).instrument for channel in absent)
    expected.discard(None)
    return len(expected), len(expected - lacking)


def _connection(session: Session) -> ConnectionFigures:
    up = session.established.is_set()
    return ConnectionFigures(
        number=session.number,
        up=up,
        frames=session.frames,
        frame_bytes=session.frame_bytes,
        reconnects=max(0, session.connects - 1),
        channels_expected=len(session.channels),
        channels_subscribed=session.acknowledged if up else 0,
        gap_open=session.gap_open,
        unknown_frames=session.unknown_frames,
    )


def _spool(stats: SpoolStats, now_ns: int) -> SpoolFigures:
    oldest_ns = stats.oldest_pending_ns
    return SpoolFigures(
        durable_records=stats.records,
        bytes_written=stats.bytes_written,
        pending_records=stats.pending_records,
        pending_bytes=stats.pending_bytes,
        durable_lag_s=0.0 if oldest_ns is None else max(0, now_ns - oldest_ns) / NS_PER_S,
        commit_p50_s=stats.sync_p50_ms / 1e3,
        commit_p95_s=stats.sync_p95_ms / 1e3,
        commit_p99_s=stats.sync_p99_ms / 1e3,
        dropped_records=stats.dropped_records,
        disk_full=stats.disk_full,
        last_error=stats.last_error,
        stream_id=stats.stream,
        durable_offset=stats.durable_offset,
    )
