"""Beats on disk, the days left, and what a beat says of a process while it runs and after the fact."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from lake.beats import COLLECT, INGEST, Beat, State, beat_path, read_beat, write_beat
from lake.disk import NS_PER_DAY, SAMPLES_MAX, DiskWatch
from lake.root import open_root
from quality.liveness import collectors, faults, ingesters, open_gaps, state_of
from tests.ops.kit import NOW_NS, collector_beat, ingest_beat

S = 1_000_000_000


def test_a_beat_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = beat_path(tmp_path / "run", COLLECT, "deribit-b")
    write_beat(path, collector_beat())
    write_beat(path, newest := collector_beat(at_ns=NOW_NS + 1))
    assert read_beat(path) == newest
    assert [file.name for file in path.parent.iterdir()] == ["collect-deribit-b.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"stream": 5}'])
def test_a_beat_that_a_power_cut_spoilt_is_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "collect-x.json"
    assert read_beat(path) is None
    path.write_bytes(content)
    assert read_beat(path) is None


def test_a_lake_without_a_run_folder_opens_and_shows_no_process(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    root.run.rmdir()
    again = open_root(root.path)
    assert (collectors(again), ingesters(again)) == ([], [])
    assert not root.run.exists()
    write_beat(beat_path(again.run, COLLECT, "deribit"), collector_beat())
    assert [row["stream"] for row in collectors(again)] == ["deribit"]


@pytest.mark.parametrize(
    ("state", "age_s", "alive", "told"),
    [
        ("running", 2, True, "running, last beat 2 s ago"),
        ("starting", 2, True, "starting, last beat 2 s ago"),
        ("running", -5, None, "running, last beat 0 s ago"),
        ("running", 2, False, "crashed: last beat 2026-11-20 20:00:00"),
        ("running", 3000, None, "crashed: last beat 2026-11-20 20:00:00"),
        ("running", 30, True, "stuck: process 4711 is there, last beat 30 s ago"),
        ("stopped", 3000, False, "stopped cleanly at 2026-11-20 20:00:00"),
        ("failed", 3000, False, "failed at 2026-11-20 20:00:00: refused"),
    ],
)
def test_a_beat_tells_how_the_process_is_or_ended(
    state: State, age_s: int, alive: bool | None, told: str
) -> None:
    beat = collector_beat(pid=4711, state=state, reason="refused" if state == "failed" else "")
    assert state_of(beat, COLLECT, beat.at_ns + age_s * S, alive=lambda _: alive) == told


def test_a_process_that_is_gone_has_crashed_and_one_of_another_host_is_judged_by_its_age() -> None:
    gone = collector_beat(pid=2**22 + 1)
    assert state_of(gone, COLLECT, gone.at_ns).startswith("crashed")
    elsewhere = collector_beat(pid=2**22 + 1, host="another")
    assert state_of(elsewhere, COLLECT, elsewhere.at_ns).startswith("running")
    assert state_of(elsewhere, COLLECT, elsewhere.at_ns + 11 * S).startswith("crashed")
    assert state_of(elsewhere, INGEST, elsewhere.at_ns + 11 * S).startswith("running")


def test_both_kinds_of_process_become_rows_of_figures(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    for beat, role in ((collector_beat(), COLLECT), (ingest_beat(), INGEST)):
        write_beat(beat_path(root.run, role, beat.stream), beat)
    [recording] = collectors(root, NOW_NS + 2 * S)
    assert recording["connections"] == "1 of 2"
    assert recording["instruments"] == "3 of 4"
    assert (recording["frames"], recording["gaps open"], recording["gaps told"]) == (110, 2, 3)
    lost, trades = open_gaps(root, NOW_NS)
    assert (lost["cause"], lost["connection"], lost["seconds"]) == ("disconnect", 2, 9.0)
    assert (trades["instrument"], trades["trades to fetch"], trades["seconds"]) == ("BTC-PERPETUAL", 3, 2.0)
    [following] = ingesters(root, NOW_NS + 2 * S)
    assert (following["rows"], following["quarantined"], following["seconds behind"]) == (90, 4, 62)


@pytest.mark.parametrize(
    ("beat", "role", "age_s", "says"),
    [
        (collector_beat(pid=os.getpid()), COLLECT, 2, None),
        (collector_beat(pid=os.getpid(), state="stopped"), COLLECT, 99_999, None),
        (collector_beat(pid=os.getpid()), COLLECT, 30, "collector of deribit: stuck: .*last beat 30 s ago"),
        (collector_beat(pid=2**22 + 1), COLLECT, 2, "collector of deribit: crashed"),
        (
            collector_beat(state="failed", reason="no way in"),
            COLLECT,
            2,
            "collector of deribit: failed at .*: no way in",
        ),
        (ingest_beat(pid=2**22 + 1), INGEST, 2, "ingester of deribit: crashed"),
    ],
)
def test_status_exits_1_where_a_process_is_not_well_and_says_so(
    tmp_path: Path, beat: Beat, role: str, age_s: int, says: str | None
) -> None:
    root = open_root(tmp_path / "lake", create=True)
    write_beat(beat_path(root.run, role, beat.stream), beat)
    found = faults(root, beat.at_ns + age_s * S)
    assert len(found) == (says is not None)
    if says:
        assert re.match(says, found[0])
        rows = collectors(root, beat.at_ns + age_s * S) + ingesters(root, beat.at_ns + age_s * S)
        assert rows[0]["trouble"] in found[0]
        result = CliRunner().invoke(app, ["--root", str(root.path), "status"])
        assert result.exit_code == 1
        assert f"lake: {says.partition(':')[0]}: " in result.output


def test_days_left_follow_the_pace_of_the_last_day(tmp_path: Path) -> None:
    free = [1000]
    watch = DiskWatch(tmp_path, usage=lambda _: (free[0], 5000))
    assert watch.figures(NOW_NS).days_left is None
    free[0] = 990
    assert watch.figures(NOW_NS + 60 * S).days_left is None  # a minute says nothing about a pace
    assert watch.figures(NOW_NS + NS_PER_DAY // 10).days_left == pytest.approx(9.9)
    free[0] = 1200
    figures = watch.figures(NOW_NS + NS_PER_DAY // 5)
    assert (figures.days_left, figures.free_bytes, figures.total_bytes) == (None, 1200, 5000)


def test_the_pace_is_known_after_a_restart_and_old_samples_are_forgotten(tmp_path: Path) -> None:
    samples = [(NOW_NS - 2 * NS_PER_DAY, 9000), (NOW_NS - NS_PER_DAY // 2, 1100), (NOW_NS + NS_PER_DAY, 1)]
    figures = DiskWatch(tmp_path, samples, usage=lambda _: (1000, 5000)).figures(NOW_NS)
    assert figures.days_left == pytest.approx(5.0)
    assert figures.samples == [(NOW_NS - NS_PER_DAY // 2, 1100), (NOW_NS, 1000)]


def test_samples_are_bounded(tmp_path: Path) -> None:
    watch = DiskWatch(tmp_path, usage=lambda _: (1000, 5000))
    for minute in range(0, 3000, 7):
        figures = watch.figures(NOW_NS + minute * 60 * S)
    assert 2 < len(figures.samples) <= SAMPLES_MAX


def test_the_real_file_system_is_read(tmp_path: Path) -> None:
    figures = DiskWatch(tmp_path).figures(NOW_NS)
    assert 0 < figures.free_bytes <= figures.total_bytes


def test_a_beat_of_this_process_says_so() -> None:
    assert Beat(stream="x", state="running", began_ns=1, at_ns=2).pid == os.getpid()
