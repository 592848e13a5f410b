"""Two collectors that record everything into one lake: each tick is there once, at any time, and both are shown."""

from __future__ import annotations

import datetime
import os
import signal
import threading
from pathlib import Path

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import start
from lake.root import Root, open_root
from lake.schema import TABLES, UNROUNDED
from lake.views import query
from pipeline.compact import compact
from pipeline.ingest import ingest
from tests.pipeline.kit import TICKS, assert_sound
from tests.system import kit
from tests.system.kit import Life
from tests.waiting import until

STREAMS = ("deribit", "deribit-b")
TOGETHER_RECORDS = 600
"""So many each records while the other does."""
START = datetime.datetime(2026, 11, 20, 12, tzinfo=datetime.UTC)
"""The venue's day does not end while it is recorded."""


def test_two_full_collectors_write_each_tick_once_and_coverage_shows_both(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    lives: dict[str, Life] = {}

    def live(stream: str, ws_url: str, rest_url: str) -> None:
        order = {
            "root": str(root.path), "ws_url": ws_url, "rest_url": rest_url, "stream": stream,
        }  # fmt: skip
        with kit.forge(tmp_path / f"{stream}.log") as forge:
            lives[stream] = forge.run({"record": order}, beside=lambda pid: stop_when_both(root, stream, pid))

    market = SimulatorSettings(
        instruments=30, rate=150.0, seed=5, hold=True, start_ms=int(START.timestamp() * 1000)
    )
    with start(market) as venue:
        both = [threading.Thread(target=live, args=(s, venue.ws_url, venue.rest_url)) for s in STREAMS]
        for one in both:
            one.start()
        for one in both:
            one.join()
    assert [lives[stream].status for stream in STREAMS] == [0, 0]
    report = ingest(root)
    before = {name: rows_and_keys(root.path, name) for name in TICKS}
    assert all(rows == keys for rows, keys in before.values())
    # Whatever one of them recorded while the other was still starting, or ending, is there once anyhow.
    assert report.counts["repeated"] > sum(rows for rows, _ in before.values()) / 4, "they recorded the same"
    assert_sound(root)
    compact(root, days=[START.date()])
    assert {name: rows_and_keys(root.path, name) for name in TICKS} == before
    assert_sound(root)
    shown = query(root, "SELECT stream, sum(frames) AS frames FROM coverage GROUP BY stream").to_pylist()
    assert {row["stream"].partition("@")[0] for row in shown} == set(STREAMS)
    assert all(row["frames"] > 0 for row in shown)


def stop_when_both(root: Root, stream: str, pid: int) -> None:
    """End a collector once both have recorded enough since both had begun to."""
    until(lambda: all(kit.durable(root.stream(one)) > TOGETHER_RECORDS // 2 for one in STREAMS))
    goals = {one: kit.durable(root.stream(one)) + TOGETHER_RECORDS for one in STREAMS}
    until(lambda: all(kit.durable(root.stream(one)) >= goal for one, goal in goals.items()))
    os.kill(pid, signal.SIGTERM)


def rows_and_keys(folder: Path, name: str) -> tuple[int, int]:
    """Rows of a table, and different natural keys among them."""
    root = open_root(folder)
    keys = ", ".join(key for key in TABLES[name].natural_key if key != UNROUNDED)  # the views have put it in
    [row] = query(
        root,
        f"SELECT (SELECT count(*) FROM {name}) AS n, count(*) AS k FROM (SELECT DISTINCT {keys} FROM {name})",
    ).to_pylist()
    return row["n"], row["k"]
