"""The command's standard streams as they may be: closed, full, unread, of another locale; and Ctrl-C."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lake.root import open_root
from lake.streams import as_texts
from tests.conftest import REPOSITORY

LAKE = [sys.executable, "-P", "-m", "cli"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return open_root(tmp_path_factory.mktemp("streams") / "lake", create=True).path


def shell(root: Path, line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which LAKE is the command, for the lake at `root`."""
    command = f"{shlex.join(LAKE)} --root {shlex.quote(str(root))}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line.replace('LAKE', command)}"],
        env=os.environ | environment, capture_output=True, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert b"Exception ignored" not in done.stderr, done.stderr.decode()
    return done


@pytest.mark.parametrize("verb", ["sql 'SELECT 1' --format csv", "sql 'SELECT 1'", "status", "status --json"])
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_an_output_that_takes_nothing_is_told_in_one_line(root: Path, verb: str, where: str) -> None:
    done = shell(root, f"LAKE {verb} {where}")
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("lake: ")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_reader_that_goes_away_is_told_nothing(root: Path, form: str) -> None:
    done = shell(root, f"LAKE sql 'SELECT * FROM range(300000)' --format {form} | head -c 5")
    assert (done.returncode, done.stderr, len(done.stdout)) == (1, b"", 5)


def test_streams_closed_at_the_start_spoil_no_file(root: Path) -> None:
    assert shell(root, "LAKE sql 'SELECT 7 AS x' --format csv <&- 2>&-").stdout == b'"x"\n7\n'


def test_letters_that_the_output_lacks_are_replaced(root: Path) -> None:
    done = shell(root, "LAKE sql \"SELECT 'ü·' AS x, NULL AS y\"", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"??" in done.stdout
    assert shell(root, "LAKE status", PYTHONIOENCODING="ascii").returncode == 0


def test_a_locale_without_letters_still_takes_them(root: Path) -> None:
    poor = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    assert shell(root, "LAKE sql \"SELECT 'ü' AS x\" --format csv", **poor).stdout == '"x"\n"ü"\n'.encode()
    done = shell(root, "LAKE sql \"SELECT 'ü' AS x\"", **poor)
    assert (done.returncode, done.stderr) == (0, b"")
    done = shell(root, "LAKE book Bü --at 2026-01-01", **poor)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize("verb", ["sql $'SELECT \\'\\xff\\''", "book $'\\xff' --at 2026-01-01", "$'\\xc3'"])
def test_bytes_that_are_no_text_are_refused(root: Path, verb: str) -> None:
    done = shell(root, f"LAKE {verb}")
    assert done.returncode == 2
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("lake: argument ")
    assert line.endswith("is not UTF-8; write it so")


def test_text_is_left_as_it_is() -> None:
    assert as_texts(["a", "ü", "日本", ""]) == ["a", "ü", "日本", ""]


def test_an_interrupt_is_one_line(root: Path) -> None:
    """The signal is sent by the very statement that runs: nothing here waits."""
    script = (
        "import os, signal, cli, quality.commands\n"
        "def interrupted(*_, **__): os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(60)\n"
        "import lake.root; lake.root.open_root = interrupted\n"
        "cli.app()\n"
    )
    command = [sys.executable, "-c", script, "--root", str(root), "verify"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, "lake: interrupted\n")


def test_a_traceback_of_ours_has_no_secrets(root: Path) -> None:
    script = (
        "import cli, lake.root\n"
        "def broken(*_, **__): raise ValueError('https://me:hunter2@host/?token=abcdef')\n"
        "lake.root.open_root = broken\n"
        "cli.app()\n"
    )
    command = [sys.executable, "-c", script, "--root", str(root), "verify"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 1
    assert "ValueError: https://…@host/?token=…" in done.stderr
    assert "hunter2" not in done.stderr.replace(script, "")
