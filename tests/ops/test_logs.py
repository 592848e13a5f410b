"""Log files that rotate, say everything a machine needs, never flood and never tell a secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from lake.errors import LakeError, SettingsError
from lake.logs import FloodGuard, LogSettings, logging_to
from lake.redaction import redact

log = logging.getLogger("collectors.test")


def lines(folder: Path, name: str = "x") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.log").read_text("utf-8").splitlines()]


def test_a_file_has_json_and_stderr_one_line_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(tmp_path, "x", LogSettings()):
        log.info("recording %d instruments", 7)
        log.debug("not said")
        logging.getLogger("picows").info("not ours")
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("it broke")
    first, second = lines(tmp_path)
    assert first["message"] == "recording 7 instruments"
    assert (first["level"], first["logger"], first["at"][-6:]) == ("INFO", "collectors.test", "+00:00")
    assert "Traceback" in second["error"]
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].endswith("info    collectors.test: recording 7 instruments")
    assert "Traceback" not in told[1]


def test_what_logging_was_like_before_comes_back(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.getLogger("lake").level)
    with logging_to(tmp_path, "x", LogSettings(level="DEBUG")):
        assert logging.getLogger("lake").level == logging.DEBUG
    assert (list(root.handlers), root.level, logging.getLogger("lake").level) == before


def test_the_error_that_ends_it_is_in_the_file_and_left_to_the_caller_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LakeError), logging_to(tmp_path, "x", LogSettings()):
        raise LakeError("no more")
    assert lines(tmp_path)[0]["message"] == "ended by an error: no more"
    assert capsys.readouterr().err == ""


def test_files_are_put_aside_at_their_size_and_only_so_many_are_kept(tmp_path: Path) -> None:
    with logging_to(tmp_path, "x", LogSettings(max_bytes=10_000, backups=2, repeats_per_minute=10_000)):
        for number in range(1000):
            log.info("line %d %s", number, "x" * 50)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["x.log", "x.log.1", "x.log.2"]
    assert all(path.stat().st_size <= 10_000 for path in tmp_path.iterdir())
    assert lines(tmp_path)[-1]["message"].startswith("line 999 ")


def test_a_flood_is_summed_up_in_one_line(tmp_path: Path) -> None:
    with logging_to(tmp_path, "x", LogSettings(repeats_per_minute=3)):
        for number in range(50):
            log.warning("connection %d lost", number)
        log.warning("something else")
    assert [line["message"] for line in lines(tmp_path)] == [
        "connection 0 lost",
        "connection 1 lost",
        "connection 2 lost",
        "something else",
        "47 more within a minute of: connection %d lost",
    ]


def test_after_a_minute_the_same_message_gets_through_again() -> None:
    now = [0.0]
    guard = FloodGuard(1, lambda: now[0])
    record = logging.makeLogRecord({"name": "n", "levelno": logging.INFO, "msg": "m %s", "args": (1,)})
    assert [guard.admit(record) for _ in range(3)] == [True, False, False]
    now[0] = 59.0
    assert guard.summaries() == []
    now[0] = 60.0
    assert [summary.getMessage() for summary in guard.summaries()] == ["2 more within a minute of: m %s"]
    assert guard.admit(record)
    assert guard.summaries(closing=True) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("GET https://me:secret@host/x failed", "GET https://…@host/x failed"),
        ("postgresql://u:p@db/x", "postgresql://…@db/x"),
        ("?access_token=abc&x=1", "?access_token=…&x=1"),
        ('{"client_secret": "abc"}', '{"client_secret": "…"}'),
        ("'ws://u:p@h/?token=T&api_key=K&key=L#x': give", "'ws://…@h/?token=…&api_key=…&key=…#x': give"),
        ("https://h/?Signature=a%2Fb;x-amz-credential=c", "https://h/?Signature=…;x-amz-credential=…"),
        ("http://u:pa/ss@h:1/x", "http://…@h:1/x"),
        ("http://u:pa@ss@h:1/x", "http://…@h:1/x"),
        ("http://127.0.0.1:80/x?mail=a@b", "http://127.0.0.1:80/x?mail=a@b"),
        ("Proxy-Authorization: Basic bWU6eA== x", "Proxy-Authorization: Basic … x"),
        ("authorization: Bearer abc", "authorization: Bearer …"),
        ("no key: none, pass on", "no key: none, pass on"),
        ("password=abc host=db", "password=… host=db"),
        ("mail me@host, https://host/a@b", "mail me@host, https://host/a@b"),
    ],
)
def test_secrets_are_not_told(text: str, told: str) -> None:
    assert redact(text) == told


def test_a_traceback_is_redacted_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with logging_to(tmp_path, "x", LogSettings()):
        try:
            raise ConnectionError("https://me:hunter2@host")
        except ConnectionError:
            log.exception("cannot reach https://me:hunter2@host")
    assert "hunter2" not in (tmp_path / "x.log").read_text() + capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_told_once_and_disturbs_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("logging.handlers.RotatingFileHandler.shouldRollover", full)
    with logging_to(tmp_path, "x", LogSettings()):
        log.warning("one")
        log.warning("two")
    assert capsys.readouterr().err.count("cannot be written: [Errno 28]") == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"level": "LOUD"}, "level 'LOUD'"), ({"max_bytes": 5}, "max_bytes 5"), ({"backups": 0}, "backups 0")],
)
def test_wrong_settings_are_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        LogSettings(**changes)
