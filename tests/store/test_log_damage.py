"""What was changed in a table's log, its head or its folder shows, and nothing else does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from lake import commit_file, delta_commit, delta_log
from lake.delta import Table
from lake.errors import CorruptionError
from lake.heads import head_path, read_head
from lake.log_damage import log_damage, stray_files
from lake.root import Root
from lake.schema import TABLES
from tests.store.ticks import TRADES, append, compact, ids, new_root, start


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Trades in four commits, one of them a rewrite."""
    root = new_root(tmp_path)
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    compact(table)
    append(table, 9, 12)
    return root


def _commit(root: Root, version: int) -> Path:
    return delta_log.commit_path(_log(root), version)


def _log(root: Root) -> Path:
    return root.table("trades") / "_delta_log"


def _rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def _forged(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changed with all that the commit says of itself made to fit."""
    commit = commit_file.decode(change(path.read_bytes()))
    entry = {**commit.entry, "checksum": commit_file.checksum(commit.actions)}
    lines = [{"commitInfo": {"operation": "WRITE", "ticklake": entry}}, *commit.actions]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _copied_head(root: Root) -> Path:
    return Path(shutil.copy(head_path(root, "quotes"), head_path(root, "trades")))


def _relabel(content: bytes) -> bytes:
    return content.replace(b'"family":"btc_option"', b'"family":"btc_gption"')


def test_a_log_as_it_was_written_is_sound(root: Root) -> None:
    assert log_damage(root, "trades") == []
    assert stray_files(root, TABLES) == []
    table = Table.open(root, TRADES)
    for number in range(12, 12 + 2 * delta_commit.COMMITS_PER_CHECKPOINT):
        append(table, number, number + 1)
    assert log_damage(root, "trades") == []


HARMS: dict[str, tuple[Callable[[Root], object], str]] = {
    "a letter of a label": (lambda root: _rewritten(_commit(root, 4), _relabel), "altered commit"),
    "a label, checksum and all": (lambda root: _forged(_commit(root, 4), _relabel), "its head knows other bytes"),
    "an older label, checksum and all": (lambda root: _forged(_commit(root, 1), _relabel), "the commit before it, 1"),
    "the oldest gone": (lambda root: _commit(root, 0).unlink(), "commit 0 is missing"),
    "one in the middle gone": (lambda root: _commit(root, 2).unlink(), "commit 2 is missing"),
    "the newest gone": (lambda root: _commit(root, 4).unlink(), "at version 3, its head says 4: an older copy"),
    "another's name": (lambda root: shutil.copy(_commit(root, 3), _commit(root, 5)), "of version 3, under another"),
    "no head": (lambda root: head_path(root, "trades").unlink(), "heads/trades.json is missing"),
    "a head of nonsense": (lambda root: head_path(root, "trades").write_text("{}"), "not as it was written"),
    "a letter of the head": (
        lambda root: _rewritten(head_path(root, "trades"), lambda old: old.replace(b'"version":4', b'"version":3')),
        "not as it was written",
    ),
    "the head of another table": (
        lambda root: (Table.open(root, TABLES["quotes"]), _copied_head(root)),
        "not as it was written",
    ),
    "a stranger in the log": (lambda root: (_log(root) / "notes.txt").write_text("x"), "is no file of a log"),
    "a copied file": (
        lambda root: shutil.copy(next(root.table("trades").rglob("c-*")), root.table("trades") / "copy.parquet"),
        "is no file of the table's log",
    ),
    "a checkpoint nobody made": (
        lambda root: DeltaTable(str(root.table("trades"))).create_checkpoint(),
        "a checkpoint that its head does not know",
    ),
    "a commit of another program": (
        lambda root: DeltaTable(str(root.table("trades"))).create_write_transaction(
            [], "append", DeltaTable(str(root.table("trades"))).schema(), ["date", "family"]
        ),
        "commits that its head does not know",
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
def test_what_was_changed_is_told(root: Root, harm: str) -> None:
    do, told = HARMS[harm]
    do(root)
    assert any(told in problem for problem in log_damage(root, "trades")), log_damage(root, "trades")


@pytest.mark.parametrize("harm", ["altered", "gone", "hint altered", "hint gone"])
def test_checkpoints_are_held_against_the_head(root: Root, harm: str) -> None:
    table = Table.open(root, TRADES)
    for number in range(12, 12 + delta_commit.COMMITS_PER_CHECKPOINT):
        append(table, number, number + 1)
    assert log_damage(root, "trades") == []
    path = (
        next(_log(root).glob("*.checkpoint.parquet"))
        if "hint" not in harm
        else _log(root) / "_last_checkpoint"
    )
    if "gone" in harm:
        path.unlink()
    else:
        _rewritten(path, lambda old: old.replace(b"PAR1", b"PAR1 ", 1) if "hint" not in harm else old + b" ")
    assert any(path.name in problem for problem in log_damage(root, "trades"))


def test_an_older_copy_of_a_table_is_told_and_written_to_with_a_warning(
    root: Root, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = shutil.copytree(root.table("trades"), tmp_path / "old")
    append(Table.open(root, TRADES), 12, 20)
    shutil.rmtree(root.table("trades"))
    old.rename(root.table("trades"))
    assert log_damage(root, "trades") == ["tables/trades is at version 4, its head says 5: an older copy"]
    table = Table.open(root, TRADES)
    assert "an older copy" in caplog.text
    append(table, 12, 20)
    assert log_damage(root, "trades") == []
    head = read_head(root, "trades")
    assert head is not None
    assert head.version == 5


@pytest.mark.parametrize("step", ["after_pending", "after_move_in", "before_publish", "after_commit", "after_exchange",
                                  "after_move_out", "after_fsync", "after_head", "after_checkpoint"])  # fmt: skip
def test_what_a_killed_writer_leaves_is_no_damage(root: Root, step: str) -> None:
    code = "t = Table.open(root, TRADES)\ncompact(t)\nfor n in range(12, 70): append(t, n, n + 1)"
    process = start(root, code, f"delta:{step}")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -9, errors
    assert log_damage(root, "trades") == []
    assert stray_files(root, TABLES) == []
    table = Table.open(root, TRADES)
    assert log_damage(root, "trades") == []
    assert ids(table)[:12] == list(range(12))


def test_a_running_writer_is_no_damage(root: Root) -> None:
    code = """
t = Table.open(root, TRADES)
for n in range(12, 90):
    append(t, n, n + 1)
    if n % 9 == 0: compact(t)
"""
    writer = start(root, code)
    looks = 0
    while writer.poll() is None or not looks:
        assert log_damage(root, "trades") == []
        looks += 1
    _, errors = writer.communicate()
    assert writer.returncode == 0, errors


def test_a_label_that_is_not_the_paths_is_told_when_files_are_listed(root: Root) -> None:
    _forged(_commit(root, 4), _relabel)
    table = Table.find(root, TRADES)
    assert table is not None
    with pytest.raises(CorruptionError, match="the log has it under date 2026-11-20, family btc_gption"):
        table.files()


def test_a_number_of_rows_that_is_not_the_names_is_told_when_files_are_listed(root: Root) -> None:
    _forged(_commit(root, 4), lambda old: old.replace(rb"\"numRecords\":3", rb"\"numRecords\":4"))
    table = Table.find(root, TRADES)
    assert table is not None
    with pytest.raises(CorruptionError, match="the log says 4 rows, its name 3"):
        table.files()


def test_strangers_in_heads_and_staging_are_told(root: Root) -> None:
    for path in (
        root.heads / "nothing.json",
        root.staging / "trades" / "notes.txt",
        root.staging / "x" / "pending.json",
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    assert len(stray_files(root, TABLES)) == 3
