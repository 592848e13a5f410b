"""Killed at any moment, the spool holds everything it had called durable: once, in order, byte for byte."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lake import crashpoints
from lake.spool import SpoolWriter, sealed_segments
from tests.conftest import REPOSITORY
from tests.spool.crash_writer import RECORDS_PER_LIFE, payload_of
from tests.spool.helpers import PATIENT, stream_rows

RANDOM_FOLDERS = 8
LIVES_PER_FOLDER = 15
WRITER_STEPS = (
    "before_write",
    "after_write",
    "after_fsync",
    "after_create",
    "seal_before_write",
    "seal_after_write",
    "seal_after_fsync",
    "before_rename",
    "after_rename",
    "after_seal",
    "before_mark",
)
RECOVERY_STEPS = ("after_quarantine", "after_truncate", "before_rename", "after_rename")


class Recorder:
    """The process of crash_writer, and what its children reported."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def live(
        self, folder: Path, life: int, *, crash_at: str | None = None, alarm_s: float | None = None
    ) -> tuple[int, int]:
        """Let a child record; return the last durable offset that it reported and how it ended."""
        request = {
            "folder": str(folder),
            "life": life,
            "seed": life,
            "crash_at": crash_at,
            "alarm_s": alarm_s,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        durable = 0
        for line in self._process.stdout:
            word, number = line.split()
            if word == "ended":
                return durable, int(number)
            assert int(number) >= durable
            durable = int(number)
        raise AssertionError("the recording process itself ended")


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    command = [sys.executable, "-m", "tests.spool.crash_writer"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Recorder(process)
        assert process.stdin is not None
        process.stdin.close()


def check(folder: Path, durable: int) -> int:
    """Recover as the next writer does and check every record of every life; return how many there are."""
    with SpoolWriter(folder, PATIENT) as writer:
        assert not writer.recovery.damaged
        end = writer.durable_offset
    assert end >= durable, "records that were reported durable are lost"
    rows = stream_rows(folder)
    assert [row.offset for row in rows] == list(range(end))
    times = [row.recv_ns for row in rows]
    assert all(a < b for a, b in itertools.pairwise(times))
    lives = [(int(row.payload.split(b" ", 1)[0]), row.payload) for row in rows]
    assert [life for life, _ in lives] == sorted(life for life, _ in lives)
    for life, records in itertools.groupby(lives, key=lambda pair: pair[0]):
        for index, (_, payload) in enumerate(records):
            assert payload == payload_of(life, index)
    streams = {info.stream for info in sealed_segments(folder)}
    assert len(streams) <= 1
    return end


@pytest.mark.parametrize("seed", range(RANDOM_FOLDERS))
def test_killed_at_random_instants(recorder: Recorder, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    durable, killed = 0, 0
    for life in range(LIVES_PER_FOLDER):
        reported, status = recorder.live(tmp_path / "s", life, alarm_s=rng.uniform(0.0005, 0.02))
        assert status in (0, signal.SIGALRM)
        killed += status == signal.SIGALRM
        durable = check(tmp_path / "s", max(durable, reported))
    assert killed >= LIVES_PER_FOLDER // 3, "most lives ended by themselves: nothing was tested"


@pytest.mark.parametrize("step", WRITER_STEPS)
def test_killed_at_every_step_of_the_writer(recorder: Recorder, tmp_path: Path, step: str) -> None:
    durable = 0
    for life, nth in enumerate((1, 2) if step != "before_mark" else (1,)):
        reported, status = recorder.live(tmp_path / "s", life, crash_at=f"spool:{step}:{nth}")
        assert status == signal.SIGKILL
        durable = check(tmp_path / "s", max(durable, reported))
    reported, status = recorder.live(tmp_path / "s", 9)
    assert status == 0
    assert check(tmp_path / "s", reported) == durable + RECORDS_PER_LIFE


@pytest.mark.parametrize("step", RECOVERY_STEPS)
def test_killed_at_every_step_of_recovery(recorder: Recorder, tmp_path: Path, step: str) -> None:
    folder = tmp_path / "s"
    reported, status = recorder.live(folder, 0, crash_at="spool:after_fsync:2")
    assert status == signal.SIGKILL
    (unsealed,) = folder.glob("*.open")
    with unsealed.open("ab") as file:
        file.write(b"half a block")
    again, status = recorder.live(folder, 1, crash_at=f"recovery:{step}")
    assert status == signal.SIGKILL
    assert again == 0
    assert check(folder, reported) > 0
    (kept,) = (folder / "quarantine").glob("*.bin")
    assert kept.read_bytes() == b"half a block"


def test_the_steps_tested_are_the_steps_there_are() -> None:
    sources = "".join(path.read_text() for path in (REPOSITORY / "lake" / "spool").glob("*.py"))
    named = set(re.findall(r'reach\("([a-z_:]+)"\)', sources))
    prefixes = re.findall(r'_write_durably\(.+"(spool:[a-z_]*)"\)', sources)
    moments = re.findall(r'reach\(f"\{step\}([a-z_]+)"\)', sources)
    named |= {prefix + moment for prefix in prefixes for moment in moments}
    named = {step for step in named if not step.startswith("restamp:")}  # tests/pipeline/test_epochs.py
    assert named == {f"spool:{s}" for s in WRITER_STEPS} | {f"recovery:{s}" for s in RECOVERY_STEPS}


def test_a_crash_point_is_armed_by_the_environment_alone() -> None:
    program = "from lake.crashpoints import reach\nfor _ in range(3): reach('a:b'); print('x', flush=True)"
    for setting, printed in (("a:b", 0), ("a:b:3", 2), ("a:c", 3), ("", 3)):
        environment = {**os.environ, crashpoints.ENVIRONMENT_NAME: setting}
        command = [sys.executable, "-c", program]
        result = subprocess.run(
            command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert result.stdout.count("x") == printed
        assert result.returncode == (0 if printed == 3 else -signal.SIGKILL)
