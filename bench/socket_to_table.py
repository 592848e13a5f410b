"""From the socket to sorted Parquet in a Delta table: CPU seconds per million frames, in total and by stage.

    python -m bench.socket_to_table [--frames 300000] [--long]

A process of its own makes and sends the frames over a loopback WebSocket, many to a write and as fast as they are
read; only the CPU of the receiving process counts, user and system, all its threads. It runs the collector's own
session, spool (with fsync) and ingest. The sender is not slowed by the spool, so its queue may grow here to the
whole load. The load goes the whole way once before the clocks start, so that what a daemon does once does not
count: loading libraries, taking memory from the system. First tickers alone, then the simulated market's own
mix of tickers, books and trades.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.harness import Figure, cpu, report
from bench.stages import Stages
from bench.venue import Load, sending
from collectors.deribit.session import Session
from collectors.pace import TokenBucket
from collectors.settings import CollectorSettings
from collectors.sink import Tape
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import SpoolSettings, SpoolStats, SpoolWriter
from pipeline.ingest import IngestReport, ingest

STREAM: Final = "deribit"
MUST, AIM = 8.0, 3.5
FRAMES, FRAMES_LONG = 300_000, 1_000_000
MIX: Final = ("ticker", "book", "trades")
PENDING_BYTES_MAX: Final = 4 << 30
POLL_S: Final = 0.01
INGEST_STAGES: Final = (
    ("pipeline.ingest", "read_segment", "read the spool"),
    ("pipeline.decoding", "decode", "decode"),
    ("pipeline.decoding", "conform", "conform"),
    ("pipeline.landing", "sort_by", "sort"),
    ("lake.delta", "_split", "split into partitions"),
    ("lake.delta", "content_hash", "hash"),
    ("lake.delta", "write_file", "write Parquet, fsync"),
    ("lake.delta_commit:DeltaHandle", "commit", "commit"),
)


@dataclass(frozen=True, slots=True)
class Received:
    """What came through the socket, and what that cost."""

    frames: int
    frame_bytes: int
    cpu_s: float
    wall_s: float
    spool: SpoolStats


def receive(root: Root, load: Load) -> Received:
    """Record `load` over a loopback WebSocket into the spool of `root`, until all of it is durable."""
    settings = SpoolSettings(pending_bytes_max=PENDING_BYTES_MAX)
    with sending(load) as url, cpu() as clock:
        spool = SpoolWriter(root.stream(STREAM), settings)
        tape = Tape(spool)
        started = time.perf_counter()
        recorded = asyncio.run(session(tape, url, load.frames))
        spool.flush()
        wall_s = time.perf_counter() - started
        stats = spool.stats
        spool.close()
    return Received(recorded.frames, recorded.frame_bytes, clock.used, wall_s, stats)


async def session(tape: Tape, url: str, frames: int) -> Session:
    """Run the collector's session at `url` until it has received `frames` notifications; it has counted them."""
    recording = Session(1, ["ticker.all"], CollectorSettings(ws_url=url), tape, pace=TokenBucket(1.0, 1))
    running = asyncio.create_task(recording.run())
    control = 2  # replies to set_heartbeat and subscribe
    while recording.frames < frames + control and not running.done():
        await asyncio.sleep(POLL_S)
    recording.stop()
    await running
    return recording


def measure(title: str, load: Load, must: float | None, aim: float | None) -> list[Figure]:
    """Receive and ingest `load` once in a new lake; raise ValueError where a frame is missing."""
    stages, total = Stages(), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        received = receive(root, load)
        started = time.perf_counter()
        with cpu() as clock, stages.watching(*INGEST_STAGES):
            done: IngestReport = ingest(root)
        ingest_wall_s = time.perf_counter() - started
        total = done.counts
        files = sum(len(Table.open(root, TABLES[name]).files()) for name in ("quotes", "trades", "book"))
    if total["frames"] != received.frames or total["rejected"] or received.spool.dropped_records:
        raise ValueError(f"{received.frames} frames sent, ingested: {dict(total)}")
    million = received.frames / 1e6
    unit = "CPU-s/M frames"
    size = received.frame_bytes / received.frames
    wall_s = received.wall_s + ingest_wall_s
    return [
        Figure(
            f"{title}, {size:.0f} B: socket to table",
            (received.cpu_s + clock.used) / million,
            unit,
            must,
            aim,
        ),
        Figure("  receive, stamp, append, spool with fsync", received.cpu_s / million, unit),
        Figure("  ingest", clock.used / million, unit),
        *(Figure(f"    {stage}", used / million, unit) for stage, used in stages.seconds.items()),
        Figure("    the rest", (clock.used - sum(stages.seconds.values())) / million, unit),
        Figure("  spool on disk", received.spool.bytes_written / received.frames, "B/frame"),
        Figure("  received until durable", received.frames / received.wall_s, "frames/s"),
        Figure(f"  sustained, receive then ingest ({files} files)", received.frames / wall_s, "frames/s"),
    ]


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--long", action="store_true", help=f"{FRAMES_LONG:,} frames instead of {FRAMES:,}")
    options = parser.parse_args()
    frames = options.frames or (FRAMES_LONG if options.long else FRAMES)
    measure("warm-up", Load(frames), None, None)
    report("From the socket to the table", measure("tickers", Load(frames), MUST, AIM))
    mix = measure("tickers, books, trades", Load(frames, MIX), MUST, None)
    report("From the socket to the table, the market's own mix", mix)


if __name__ == "__main__":
    main()
