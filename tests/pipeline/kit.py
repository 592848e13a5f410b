"""What the tests of the pipeline share: recorded lakes, child processes that die on command, and a second opinion.

The second opinion (`expected`) decodes the spool in one go, without ingest, and sums content hashes. A lake holds
every durable record exactly once if and only if its tables' hashes and row counts come out the same.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from collectors.recorder import Recorder, RecordingSummary
from collectors.settings import CollectorSettings
from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.content import content_hash
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import Batch, SpoolSettings, SpoolWriter, read_segment, sealed_segments
from pipeline.decoding import OFFSET, chunks
from quality.verify import verify
from tests.waiting import PATIENCE_S, POLL_S

TICKS = ("quotes", "trades", "book")
STREAM = "deribit"
MODULUS = 1 << 64


@dataclass(frozen=True)
class Holding:
    """Rows and content hash per table."""

    rows: dict[str, int]
    hashes: dict[str, int]


def record_market(
    folder: Path, *, frames: int, instruments: int = 60, segment_bytes: int = 40_000, seed: int = 3
) -> Root:
    """A lake whose spool holds a simulated market, in many small segments; nothing ingested."""
    root = open_root(folder, create=True)
    settings = SimulatorSettings(
        instruments=instruments, rate=3000.0, seed=seed, hold=True, max_frames=frames
    )
    with start(settings) as venue:
        record_all(root, venue, SpoolSettings(segment_bytes=segment_bytes))
    return root


def record_all(
    root: Root, venue: SimulatorProcess, spool_settings: SpoolSettings, **changes: Any
) -> RecordingSummary:
    """Record what the venue says until it has said everything; `changes` are settings of the collector."""
    urls = CollectorSettings(ws_url=venue.ws_url, rest_url=venue.rest_url, **changes)

    async def until_said() -> RecordingSummary:
        recorder = Recorder(urls, spool, name=STREAM)
        running = asyncio.create_task(recorder.run())
        finishing = asyncio.create_task(asyncio.to_thread(venue.wait_finished, PATIENCE_S))
        await asyncio.wait({running, finishing}, return_when=asyncio.FIRST_COMPLETED)
        assert not running.done(), "the recorder ended by itself"
        sent = (await finishing)["sent"]
        while recorder.summary().frames < sent:
            await asyncio.sleep(POLL_S)
        recorder.stop()
        return await running

    with SpoolWriter(root.stream(STREAM), spool_settings, quarantine=root.quarantine / "spool") as spool:
        return asyncio.run(until_said())


def copy_of(root: Root, folder: Path) -> Root:
    """The same lake elsewhere, to be ill-treated."""
    shutil.copytree(root.path, folder)
    return open_root(folder)


def expected(root: Root) -> Holding:
    """What the tables must hold, decoded from the whole spool at once."""
    rows: Counter[str] = Counter()
    hashes: Counter[str] = Counter()
    segments = sealed_segments(root.stream(STREAM))
    items = (item for segment in segments for item in read_segment(segment.path, skip_damage=True))
    for chunk in chunks(items, "deribit", segments[0].stream):
        for name in TICKS:
            table = chunk.rows.get(name)
            if table is not None:
                rows[name] += len(table)
                hashes[name] += content_hash(table.drop_columns([OFFSET]))
    return Holding(dict(rows), {name: value % MODULUS for name, value in hashes.items()})


def held(root: Root) -> Holding:
    """What the tables hold, by the log."""
    rows: dict[str, int] = {}
    hashes: dict[str, int] = {}
    for name in TICKS:
        files = Table.open(root, TABLES[name]).files()
        rows[name] = sum(file.rows for file in files)
        hashes[name] = sum(file.content_hash for file in files) % MODULUS
    return Holding(rows, hashes)


def assert_sound(root: Root) -> None:
    """`lake verify` finds nothing to say."""
    problems = verify(root).problems
    assert problems == [], problems


def problems_of(root: Root, name: str) -> list[str]:
    """What `lake verify` says of one table, whatever a test has put into others."""
    return [one for one in verify(root).problems if name in one]


def assert_table_sound(root: Root, name: str) -> None:
    """As `assert_sound` of one table, beside rows that a test has put into others."""
    problems = problems_of(root, name)
    assert problems == [], problems


def durable_frames(root: Root) -> list[bytes]:
    """The frames of the sealed spool, in order."""
    found: list[bytes] = []
    for segment in sealed_segments(root.stream(STREAM)):
        for item in read_segment(segment.path):
            assert isinstance(item, Batch)
            found += [p for p, kind in zip(item.payloads, item.kind, strict=True) if kind == 0]
    return found


def days_after(root: Root, days: float) -> datetime.datetime:
    """So many days after the middle record of the spool was received: tests of days do not ask what today is."""
    segments = sealed_segments(root.stream(STREAM))
    middle = next(read_segment(segments[len(segments) // 2].path))
    assert isinstance(middle, Batch)
    received = datetime.datetime.fromtimestamp(int(middle.recv_ns[0]) // 1_000_000_000, datetime.UTC)
    return received + datetime.timedelta(days=days)


def day_of(root: Root) -> str:
    """The day on which the spool was recorded, as a command takes it."""
    return days_after(root, 0).date().isoformat()


def lake_command(*arguments: str, crash_at: str | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """Start a verb in a process of its own, to be killed at a named step or whenever the test likes."""
    setting = {"LAKE_CRASH_AT": crash_at} if crash_at else {}
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        env={**os.environ, **setting, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code (negative: the signal) and output."""
    output, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, output.decode()


KILLED = -signal.SIGKILL


def read_table(root: Root, name: str) -> pa.Table:
    """All rows of a table, with its partition columns, by the lake's own SQL."""
    from lake.views import query

    return query(root, f"SELECT * FROM {name}")
