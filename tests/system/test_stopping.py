"""`lake collect` told to stop, or shot: what it has is flushed and ingested, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.root import Root, open_root
from tests.pipeline.kit import STREAM, assert_sound, expected, finish, held, lake_command, read_table
from tests.waiting import until

ENOUGH_FRAMES = 600


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatorProcess]:
    with start(SimulatorSettings(instruments=40, rate=1500.0)) as process:
        yield process


@contextmanager
def collector(root: Path, venue: SimulatorProcess) -> Iterator[subprocess.Popen[bytes]]:
    """`lake collect` with its ingester, once it has received some frames."""
    before = venue.control("stats")["sent"]
    arguments = ("collect", "--ws-url", venue.ws_url, "--rest-url", venue.rest_url)
    process = lake_command("--root", str(root), *arguments, LAKE_SPOOL_SEGMENT_BYTES="40000")
    try:
        until(lambda: venue.control("stats")["sent"] > before + ENOUGH_FRAMES or process.poll() is not None)
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def children_of(process: subprocess.Popen[bytes]) -> list[int]:
    """Of all its threads."""
    files = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def child_of(process: subprocess.Popen[bytes]) -> int:
    [child] = children_of(process)
    return child


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_all_ingested(root: Root) -> None:
    assert held(root) == expected(root)
    assert sum(held(root).rows.values()) > 0
    assert not list(root.stream(STREAM).glob("*.open"))
    assert_sound(root)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_flushes_ingests_and_says_so(
    tmp_path: Path, venue: SimulatorProcess, number: int
) -> None:
    with collector(tmp_path / "lake", venue) as process:
        ingester = child_of(process)
        process.send_signal(number)
        code, output = finish(process)
    assert code == 0, output
    assert "recorded into" in output
    assert not is_running(ingester)
    root = open_root(tmp_path / "lake")
    assert_all_ingested(root)
    assert len(read_table(root, "gaps")) == 0


def test_ingester_ends_with_a_recorder_that_is_killed_after_a_last_round(
    tmp_path: Path, venue: SimulatorProcess
) -> None:
    with collector(tmp_path / "lake", venue) as process:
        ingester = child_of(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    until(lambda: not is_running(ingester))
    assert_all_ingested(open_root(tmp_path / "lake"))


def test_an_ingester_that_is_killed_is_told_and_started_again(
    tmp_path: Path, venue: SimulatorProcess
) -> None:
    with collector(tmp_path / "lake", venue) as process:
        killed = child_of(process)
        os.kill(killed, signal.SIGKILL)
        before = venue.control("stats")["sent"]
        until(lambda: venue.control("stats")["sent"] > before + ENOUGH_FRAMES)
        until(lambda: [killed] != children_of(process) != [])
        process.send_signal(signal.SIGTERM)
        code, output = finish(process)
    assert code == 0, output
    assert "the ingester ended with code -9" in output
    root = open_root(tmp_path / "lake")
    assert_all_ingested(root)
