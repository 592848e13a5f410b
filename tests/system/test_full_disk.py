"""A disk that is full: the recorder waits and goes on, and who writes tables stops with one line and no harm."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from collectors.simulator import SimulatorSettings
from collectors.simulator.account import frame_hash
from collectors.simulator.process import start
from lake.root import Root, open_root
from pipeline.ingest import ingest
from tests.pipeline.kit import (
    STREAM,
    assert_sound,
    copy_of,
    day_of,
    expected,
    finish,
    held,
    lake_command,
    read_table,
    record_market,
)
from tests.system import kit
from tests.system.kit import Forge
from tests.waiting import until

DISK_BYTES = 24 << 20
FREE_BYTES = (0, 16 << 10, 48 << 10, 120 << 10, 300 << 10)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own; the test is skipped, saying so, where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"no small disk to fill: {result.stderr.strip()} (mounting needs root)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, *, free: int = 0) -> Iterator[None]:
    """Take all space of the disk but `free` bytes, and give it back."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(shutil.disk_usage(disk).free - free, 1))
    try:
        yield
    finally:
        filler.unlink()


def durable(lake: Path) -> int:
    return kit.durable(lake / "spool" / STREAM)


@pytest.mark.parametrize("drops", [False, True], ids=["in_memory_meanwhile", "too_long_for_memory"])
def test_recorder_waits_says_so_and_goes_on(disk: Path, tmp_path: Path, drops: bool) -> None:
    lake, account, log = disk / "lake", tmp_path / "account.jsonl", tmp_path / "log"
    memory = {"LAKE_SPOOL_PENDING_BYTES_MAX": "200000"} if drops else {}
    open_root(lake, create=True)
    with (
        start(SimulatorSettings(instruments=40, rate=1200.0, account=account)) as venue,
        log.open("wb") as out,
    ):
        arguments = ("collect", "--no-ingest", "--ws-url", venue.ws_url, "--rest-url", venue.rest_url)
        collector = lake_command("--root", str(lake), *arguments, LAKE_SPOOL_SEGMENT_BYTES="100000", **memory)
        with collector:
            out.close()
            until(lambda: durable(lake) > 300, "the first records")
            with filled(disk):
                until(lambda: is_stuck(lake), "the disk to be full")
                before = venue.control("stats")["sent"]
                until(lambda: venue.control("stats")["sent"] > before + 1200, "frames on a full disk")
                stuck_at = durable(lake)
            until(lambda: durable(lake) > stuck_at + 300, "records after space was freed")
            collector.send_signal(signal.SIGTERM)
            code, output = finish(collector)
    assert code == 0, output
    assert output.count("no space left") == 1
    root = open_root(lake)
    found = [frame_hash(record.payload) for record in kit.records(root) if record.is_frame]
    [sent] = kit.account_by_session(account).values()
    everything = [line.hash for line in sent]
    ingest(root)
    gaps = read_table(root, "gaps").to_pylist()
    if drops:
        assert {gap["cause"] for gap in gaps} == {"disk_full"}
        lost = sum(gap["records_lost"] for gap in gaps if gap["connection"])
        assert lost == last_of(found, everything) + 1 - len(found) > 0
        remaining = iter(everything)
        assert all(frame in remaining for frame in found), "frames out of order"
    else:
        assert gaps == []
        assert found == everything[: len(found)]
    assert held(root) == expected(root)
    assert_sound(root)


def is_stuck(lake: Path) -> bool:
    """Nothing more becomes durable for a while in which many commits were due."""
    before = durable(lake)
    time.sleep(0.3)
    return durable(lake) == before


def last_of(found: list[str], everything: list[str]) -> int:
    return len(everything) - 1 - everything[::-1].index(found[-1])


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return record_market(tmp_path_factory.mktemp("market") / "lake", frames=2500, instruments=30)


def test_ingest_on_a_full_disk_stops_with_one_line_and_goes_on_later(
    disk: Path, market: Root, forge: Forge
) -> None:
    root = copy_of(market, disk / "lake")
    wanted = expected(root)
    refused = 0
    for free in FREE_BYTES:
        with filled(disk, free=free):
            refused += refused_in_one_line(root, "ingest")
    assert refused >= 3
    assert forge.lake("--root", str(root.path), "ingest")[0] == 0
    assert held(root) == wanted
    assert_sound(root)


def test_compaction_on_a_full_disk_stops_with_one_line_and_changes_nothing(
    disk: Path, market: Root, forge: Forge
) -> None:
    root = copy_of(market, disk / "lake")
    ingest(root)
    wanted = held(root)
    day = ("--date", day_of(market))
    refused = 0
    for free in FREE_BYTES:
        with filled(disk, free=free):
            refused += refused_in_one_line(root, "compact", *day)
        assert held(root) == wanted
        assert_sound(root)
    assert refused >= 3
    assert forge.lake("--root", str(root.path), "compact", *day)[0] == 0
    assert held(root) == wanted
    assert_sound(root)


def refused_in_one_line(root: Root, *verb: str) -> bool:
    """Whether the disk was too full for it; then it must have said so, briefly."""
    result = CliRunner().invoke(app, ["--root", str(root.path), *verb], catch_exceptions=False)
    if result.exit_code == 0:
        return False
    assert result.exit_code == 1, result.output
    assert result.output.startswith("lake: ")
    assert result.output.count("\n") == 1, result.output
    assert os.strerror(errno.ENOSPC).lower() in result.output.lower() or "no space" in result.output, (
        result.output
    )
    return True
