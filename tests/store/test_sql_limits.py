"""What a statement may take, how it is stopped, and the names of the columns of an answer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lake.errors import LimitExceededError, SettingsError
from lake.interruptible import Interruptible
from lake.root import Root
from lake.settings import Sources
from lake.sql_limits import GB, SqlSettings, machine_memory
from lake.views import connect, distinct, query
from tests.store.ticks import new_root

ENDLESS = "SELECT count(*) FROM range(1000000000000000)"
HUNGRY = "SELECT list(range) FROM range(100000000)"


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return new_root(tmp_path)


def test_by_default_a_collector_beside_is_left_alone(root: Root) -> None:
    settings = SqlSettings()
    assert settings.memory_bytes <= min(4 * GB, machine_memory() / 4)
    assert settings.cores == max(1, len(os.sched_getaffinity(0)) - 1)
    assert (SqlSettings(memory="1.5 gb").memory_bytes, SqlSettings(threads=3).cores) == (1_500_000_000, 3)
    row = query(
        root, "SELECT current_setting('threads') AS n, current_setting('temp_directory') AS temp"
    ).to_pylist()
    assert row[0]["n"] == settings.cores
    assert Path(row[0]["temp"]).parent == root.run


@pytest.mark.parametrize(
    "given", [{"memory": "2XB"}, {"memory": "-1GB"}, {"threads": "-1"}, {"seconds": "nan"}]
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=f"(?i){next(iter(given))}"):
        Sources({}, "", {f"LAKE_SQL_{name.upper()}": text for name, text in given.items()}).section(
            "sql", SqlSettings
        )


@pytest.mark.parametrize(
    ("settings", "statement", "says"),
    [
        (SqlSettings(seconds=0.2), ENDLESS, r"stopped after 0\.2 s; raise \[sql\] seconds"),
        (SqlSettings(memory="60MB"), HUNGRY, r"more memory than 60MB; raise \[sql\] memory"),
    ],
)
def test_what_exceeds_a_limit_says_which_setting_to_raise(
    root: Root, settings: SqlSettings, statement: str, says: str
) -> None:
    with connect(root, settings=settings) as sql:
        with pytest.raises(LimitExceededError, match=says) as caught:
            sql.query(statement)
        assert "\n" not in str(caught.value)
        with pytest.raises(LimitExceededError, match=says):
            list(sql.stream(statement)[1])
        assert sql.query("SELECT 1 AS a").to_pylist() == [{"a": 1}]


def test_what_memory_cannot_hold_goes_to_disk_and_is_gone_afterwards(root: Root) -> None:
    (root.run / f"sql-{os.uname().nodename.replace('-', '_')}-999999999-0").mkdir(parents=True)
    with connect(root, settings=SqlSettings(memory="120MB")) as sql:
        _, batches = sql.stream("SELECT DISTINCT range, range * 2 FROM range(6000000)")
        assert len(list(root.run.iterdir())) == 1
        assert sum(batch.num_rows for batch in batches) == 6_000_000
    assert list(root.run.iterdir()) == []


def test_temp_must_be_a_folder_that_can_be_written(root: Root, tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"\[sql\] temp"),
        connect(root, settings=SqlSettings(temp=tmp_path / "no")),
    ):
        pass
    place = tmp_path / "a=b [c] 'd'"
    place.mkdir()
    with connect(root, settings=SqlSettings(temp=place, memory="120MB")) as sql:
        assert (
            sql.query("SELECT count(*) AS n FROM (SELECT DISTINCT range FROM range(6000000))").num_rows == 1
        )
    assert list(place.iterdir()) == []


def test_a_lake_that_cannot_be_written_is_read(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    really = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK and really(path, mode))
    before = sorted(root.path.rglob("*"))
    with connect(root) as sql:
        ((temp,),) = sql.execute("SELECT current_setting('temp_directory')").fetchall()
        assert not Path(temp).is_relative_to(root.path)
        assert sorted(root.path.rglob("*")) == before
        assert Path(temp).parent.exists()
    assert not Path(temp).parent.exists()


def test_whatever_comes_over_the_waiting_thread_ends_the_call_first() -> None:
    stopped, begun = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        stopped.wait()
        raise ValueError("interrupted")

    aside = Interruptible(stopped.set)
    aside.allow(0.05)
    with pytest.raises(TimeoutError):
        aside.run(call)
    assert begun.is_set()
    aside.allow(0)
    assert aside.run(lambda: 5) == 5
    aside.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_running_statement_without_a_traceback(root: Root, number: int, tmp_path: Path) -> None:
    out = tmp_path / "answer.csv"
    statement = "SELECT sum(range) OVER () FROM range(100000000000)"  # which must be held
    command = [sys.executable, "-m", "cli", "--root", str(root.path), "sql", statement, "--out", str(out)]
    environment = {**os.environ, "LAKE_SQL_MEMORY": "100MB", "LAKE_SQL_TEMP": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        while not list(tmp_path.glob("sql-*/*")):  # it has begun to spill
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate()
    assert (process.returncode, told) == (130, "lake: interrupted\n")
    assert not out.exists()
    assert list(tmp_path.glob("sql-*")) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["a", "b"], ["a", "b"]),
        (["a", "a", "a"], ["a", "a_1", "a_2"]),
        (["a", "a", "a_1"], ["a", "a_2", "a_1"]),
        (["a_1", "a", "a", "a"], ["a_1", "a", "a_2", "a_3"]),
        ([], []),
    ],
)
def test_columns_of_one_name_are_told_apart(root: Root, given: list[str], told: list[str]) -> None:
    assert distinct(given) == told
    if given:
        statement = "SELECT " + ", ".join(f"{n} AS {name}" for n, name in enumerate(given))
        assert query(root, statement).to_pylist() == [dict(zip(told, range(len(told)), strict=True))]
        with connect(root) as sql:
            schema, batches = sql.stream(statement)
            assert schema.names == told
            assert [batch.schema for batch in batches] == [schema]
