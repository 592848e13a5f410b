"""A recording watched from outside: beats while it runs, the way it ended, and nothing in the way of recording."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from collectors.ops import operations
from collectors.ops.operations import Operations
from collectors.ops.settings import HeartbeatSettings, OpsSettings
from collectors.recorder import Recorder
from lake.beats import COLLECT, Beat, beat_path, read_beat, write_beat
from lake.disk import NS_PER_DAY
from lake.errors import VenueRefusedError
from lake.root import Root, open_root
from lake.spool import SpoolWriter
from tests.collectors.kit import run, settings, tick
from tests.collectors.test_recorder import ROWS, body
from tests.collectors.venue import Venue, serving
from tests.ops.kit import NOW_NS, collector_beat


class Watched:
    """A recorder on a real spool, with beats that a test awaits."""

    def __init__(self, root: Root, venue: Venue, **changes: Any) -> None:
        venue.rest = [(200, body(ROWS))]
        self.root = root
        self.changed = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.operations = Operations(root, "deribit", on_beat=self._on_beat, beat_s=0.01)
        self.spool = SpoolWriter(root.stream("deribit"))
        self.recorder = Recorder(settings(venue.ws_url, venue.rest_url, **changes), self.spool)

    def _on_beat(self, beat: Beat) -> None:
        self.loop.call_soon_threadsafe(self.changed.set)

    @property
    def beat(self) -> Beat:
        beat = read_beat(beat_path(self.root.run, COLLECT, "deribit"))
        assert beat is not None
        return beat

    async def until(self, condition: Any) -> Any:
        """The first beat's figures that fulfil `condition`."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            figures = self.beat.collector
            if self.beat.state == "running" and condition(figures):
                return figures


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def test_beats_follow_a_recording_through_a_loss_to_its_end(root: Root) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            watched = Watched(root, venue)
            with watched.operations as ops, watched.spool:
                ops.watch(watched.recorder, watched.spool)
                async with ops.beating():
                    running = asyncio.create_task(watched.recorder.run())
                    lost = await venue.peer()
                    figures = await watched.until(lambda f: f.instruments_subscribed == 4)
                    assert figures.instruments_expected == 4
                    assert all(c.channels_subscribed == c.channels_expected > 3 for c in figures.connections)
                    before = sum(c.frames for c in figures.connections)
                    await lost.push(tick(1), tick(2))
                    figures = await watched.until(
                        lambda f: sum(c.frames for c in f.connections) == before + 2
                    )
                    venue.upgrade_statuses = [503] * 1000
                    lost.reset()
                    figures = await watched.until(lambda f: sum(not c.up for c in f.connections) == 1)
                    assert [c.gap_open for c in figures.connections].count(True) == 1
                    assert figures.instruments_subscribed == 0
                    venue.upgrade_statuses.clear()
                    again = await venue.peer()
                    await watched.until(lambda f: all(c.up for c in f.connections))
                    await again.push(tick(3, again.channels[0]))
                    figures = await watched.until(lambda f: f.gaps.get("disconnect") == 1)
                    assert not any(c.gap_open for c in figures.connections)
                    watched.recorder.stop()
                    summary = await running
            assert watched.beat.state == "stopped"
            last = watched.beat.collector
            assert last is not None
            assert sum(c.frames for c in last.connections) == summary.frames
            assert (last.spool.pending_records, last.spool.durable_lag_s) == (0, 0.0)
            assert last.spool.durable_records == watched.spool.durable_offset
            assert sum(c.reconnects for c in last.connections) == summary.reconnects == 1

    run(scenario())


def test_an_error_is_in_the_last_beat_and_told_to_the_monitor(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    async def send(_: object, *, failed: bool = False) -> None:
        told.append(failed)

    monkeypatch.setattr(operations, "send", send)

    def refused() -> None:
        chosen = OpsSettings(HeartbeatSettings(url="http://127.0.0.1:9/x"))
        with Operations(root, "deribit", chosen) as ops, SpoolWriter(root.stream("deribit")) as spool:
            ops.watch(Recorder(settings(), spool), spool)
            raise VenueRefusedError("no such channel")

    with pytest.raises(VenueRefusedError):
        refused()
    beat = read_beat(beat_path(root.run, COLLECT, "deribit"))
    assert beat is not None
    assert (beat.state, beat.reason, told) == ("failed", "no such channel", [True])


def test_until_the_stream_is_ours_its_beat_belongs_to_another(root: Root) -> None:
    path = beat_path(root.run, COLLECT, "deribit")
    write_beat(path, collector_beat())
    before = path.read_bytes()
    with pytest.raises(RuntimeError), Operations(root, "deribit"):
        raise RuntimeError("the lock is held elsewhere")
    assert path.read_bytes() == before


def test_the_pace_of_the_disk_outlives_a_restart(root: Root) -> None:
    path = beat_path(root.run, COLLECT, "deribit")
    write_beat(path, collector_beat())
    now_ns = NOW_NS + NS_PER_DAY // 2
    with (
        Operations(root, "deribit", clock_ns=lambda: now_ns) as ops,
        SpoolWriter(root.stream("deribit")) as spool,
    ):
        ops.watch(Recorder(settings(), spool), spool)
    beat = json.loads(path.read_bytes())
    assert [at for at, _ in beat["collector"]["disk"]["samples"]] == [NOW_NS, now_ns]


def test_a_listener_that_hangs_or_fails_holds_nothing_up(
    root: Root, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(operations, "WRITER_PATIENCE_SECONDS", 0.01)
    release, hung = threading.Event(), threading.Event()

    def hang(_: Beat) -> None:
        hung.set()
        release.wait(10)
        raise OSError("the terminal is gone")

    with (
        Operations(root, "deribit", OpsSettings(), on_beat=hang) as ops,
        SpoolWriter(root.stream("deribit")) as spool,
    ):
        ops.watch(Recorder(settings(), spool), spool)
        assert hung.wait(10)
    thread = ops._writer._thread
    assert thread is not None
    assert thread.is_alive()
    release.set()
    thread.join(10)
    assert "a beat could not be told: the terminal is gone" in caplog.text
    beat = read_beat(beat_path(root.run, COLLECT, "deribit"))
    assert beat is not None
    assert beat.state == "stopped"
