"""A companion process is there until the end: again after a death, renewed when it asks for it, and asked to finish."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from lake.companion import Companion
from tests.waiting import until

CHILD = """
import pathlib, sys
lives = pathlib.Path(sys.argv[1])
code = sys.argv[2].split(",")
with lives.open("a") as file:
    file.write("begun\\n")
number = lives.read_text().count("begun")
if number <= len(code):
    sys.exit(int(code[number - 1]))
sys.stdin.read()
with lives.open("a") as file:
    file.write("finished\\n")
"""


def companion(lives: Path, codes: str, retry_first_s: float = 0.01) -> Companion:
    return Companion(
        [sys.executable, "-c", CHILD, str(lives), codes], "the child", retry_first_s=retry_first_s
    )


def begun(lives: Path) -> int:
    return lives.read_text().count("begun") if lives.exists() else 0


def test_one_that_dies_is_told_and_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lives = tmp_path / "lives"
    with caplog.at_level(logging.WARNING), companion(lives, "3,4") as child:
        until(lambda: begun(lives) == 3)
        assert child.finish() == 0
    assert [message.partition(";")[0] for message in caplog.messages] == [
        "the child ended with code 3",
        "the child ended with code 4",
    ]
    assert lives.read_text().endswith("finished\n")


def test_one_that_ends_well_is_renewed_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lives = tmp_path / "lives"
    with companion(lives, "0", retry_first_s=1000.0):
        until(lambda: begun(lives) == 2)
    assert caplog.messages == []
    assert lives.read_text().count("finished") == 1


def test_one_that_is_dead_at_the_end_is_started_once_more_to_finish(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    with companion(lives, "1", retry_first_s=1000.0) as child:
        until(lambda: begun(lives) == 1)
        until(lambda: child._process is not None and child._process.poll() is not None)
        assert child.finish() == 0
    assert lives.read_text() == "begun\nbegun\nfinished\n"


def test_the_code_of_the_last_one_is_told(tmp_path: Path) -> None:
    lives = tmp_path / "lives"
    with companion(lives, "1,7", retry_first_s=1000.0) as child:
        until(lambda: begun(lives) == 1)
        until(lambda: child._process is not None and child._process.poll() is not None)
        assert child.finish() == 7


def test_the_child_has_our_environment_and_what_is_added_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "1")
    out = tmp_path / "out"
    told = f"import os, sys; open({str(out)!r}, 'w').write(os.environ['OURS'] + os.environ['ADDED']); sys.stdin.read()"
    with Companion([sys.executable, "-c", told], "the child", environment={"ADDED": "2"}) as child:
        assert child.finish() == 0
    assert out.read_text() == "12"
