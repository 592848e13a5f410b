"""Delta tables survive what kills their writers: kill -9 anywhere, power cuts, lost answers, rivals."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from deltalake import exceptions as delta_exceptions

from lake import commit_file, delta_log
from lake.delta import Table
from lake.delta_errors import translate
from lake.errors import (
    CommitFailedError,
    CommitUnknownError,
    CorruptionError,
    DiskFullError,
    LakeError,
    RootError,
)
from lake.heads import read_head
from lake.root import Root
from lake.swap import Swap
from tests.store.ticks import TRADES, append, compact, ids, new_root, start
from tests.waiting import PATIENCE_S

APPEND = "append(Table.open(root, TRADES), 5, 9)"
COMPACT = "compact(Table.open(root, TRADES))"
BEFORE = ["before_write", "after_write", "before_commit", "after_pending", "after_move_in", "before_publish"]
AFTER = ["after_commit", "after_fsync", "after_head"]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return new_root(tmp_path)


def _log(root: Root) -> Path:
    return root.table("trades") / "_delta_log"


def _killed(root: Root, code: str, crash_at: str) -> None:
    process = start(root, code, crash_at)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL, errors


@pytest.mark.parametrize("step", [*BEFORE, *AFTER, "after_file"])
def test_an_append_killed_anywhere_and_tried_again_lands_once(root: Root, step: str) -> None:
    append(Table.open(root, TRADES), 0, 5)
    _killed(root, APPEND, f"delta:{step}")
    table = Table.open(root, TRADES)
    assert append(table, 5, 9) == (step in AFTER)
    assert ids(table) == list(range(9))
    data = {str(p.relative_to(table.folder)) for p in table.folder.rglob("*.parquet")}
    assert data == {file.path for file in table.files()}, "garbage left"


@pytest.mark.parametrize("step", [*BEFORE[2:], "after_exchange", "after_move_out", *AFTER])
def test_a_replacement_killed_anywhere_loses_and_repeats_nothing(root: Root, step: str) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    _killed(root, COMPACT, f"delta:{step}")
    assert ids(Table.open(root, TRADES)) == list(range(9))
    compact(Table.open(root, TRADES))
    table = Table.open(root, TRADES)
    assert ids(table) == list(range(9))
    assert len(table.files()) == 1


@pytest.mark.parametrize("step", ["after_create", "after_checkpoint"])
def test_a_table_killed_while_made_or_checkpointed_goes_on(root: Root, step: str) -> None:
    _killed(root, "t = Table.open(root, TRADES)\nfor n in range(1, 60): append(t, n, n + 1)", f"delta:{step}")
    table = Table.open(root, TRADES)
    for number in range(1, 60):
        append(table, number, number + 1)
    assert ids(table) == list(range(1, 60))


def test_two_ingesters_and_a_compactor_at_once_lose_and_repeat_nothing(root: Root) -> None:
    append(Table.open(root, TRADES), 0, 1)
    ingest = "t = Table.open(root, TRADES)\nfor n in range({0}, {0} + 30): append(t, n, n + 1, app='s@{0}')"
    rewrite = "t = Table.open(root, TRADES)\nfor _ in range(15): compact(t)"
    processes = [start(root, ingest.format(1000)), start(root, ingest.format(2000)), start(root, rewrite)]
    for process in processes:
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
    assert ids(Table.open(root, TRADES)) == [0, *range(1000, 1030), *range(2000, 2030)]


def test_two_rewriters_of_the_same_files_never_double_them(root: Root) -> None:
    table = Table.open(root, TRADES)
    for number in range(6):
        append(table, number, number + 1, app=f"s@{number}")
    files = table.files()
    others = [Table.open(root, TRADES) for _ in range(2)]
    staged = [o.stage(files[0].partition, o.read(), origin=f"c{i}") for i, o in enumerate(others)]
    outcomes = []
    for other, file in zip(others, staged, strict=True):
        try:
            other.replace(files, [file])
            outcomes.append("replaced")
        except CommitFailedError:
            outcomes.append("refused")
    assert outcomes == ["replaced", "refused"]
    assert ids(table) == list(range(6))


def _failing(error: Exception, *, landing: bool) -> Callable[..., bool]:
    publish = Swap.publish

    def replacement(self: Swap, version: int) -> bool:
        if landing:
            publish(self, version)
        raise error

    return replacement


def test_a_lost_answer_counts_as_success_when_the_commit_landed(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table.open(root, TRADES)
    monkeypatch.setattr(Swap, "publish", _failing(OSError("connection lost"), landing=True))
    assert append(table, 0, 5) is False
    append(table, 5, 9)
    compact(table)
    assert ids(table) == list(range(9))
    assert len(table.files()) == 1


def test_a_commit_that_did_not_land_fails_and_leaves_no_file(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table.open(root, TRADES)
    with monkeypatch.context() as patch:
        patch.setattr(Swap, "publish", _failing(OSError("no"), landing=False))
        with pytest.raises(CommitFailedError):
            append(table, 0, 5)
    assert list(root.path.rglob("*.parquet")) == []
    append(table, 0, 5)
    assert ids(table) == list(range(5))


def test_an_outcome_that_cannot_be_known_keeps_the_files(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.open(root, TRADES)

    def unreadable(self: Any, version: int) -> bool:
        raise OSError("unreadable")

    with monkeypatch.context() as patch:
        patch.setattr(Swap, "publish", _failing(OSError("lost"), landing=True))
        patch.setattr(Swap, "published", unreadable)
        with pytest.raises(CommitUnknownError):
            append(table, 0, 5)
    assert append(Table.open(root, TRADES), 0, 5) is True
    assert ids(Table.open(root, TRADES)) == list(range(5))


def test_what_fails_after_a_commit_is_completed_by_the_next_one(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, other = Table.open(root, TRADES), Table.open(root, TRADES)

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lake.swap.write_head", full)
        with pytest.raises(CommitUnknownError, match="could not be completed"):
            append(table, 0, 5)
    append(other, 5, 9)
    assert append(table, 0, 5) is True
    assert ids(table) == list(range(9))
    head = read_head(root, "trades")
    assert head is not None
    assert head.version == 2


def test_a_rival_that_commits_first_is_waited_out(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.open(root, TRADES)
    publish = Swap.publish
    calls: list[int] = []

    def racing(self: Swap, version: int) -> bool:
        if not calls:
            calls.append(1)
            rival = DeltaTable(str(table.folder))
            rival.create_write_transaction([], "append", rival.schema(), ["date", "family"])
        return publish(self, version)

    monkeypatch.setattr(Swap, "publish", racing)
    append(table, 0, 5)
    assert ids(table) == list(range(5))
    assert table.version == 2


@pytest.mark.parametrize("damage", ["empty", "half a line", "zeros", "last line lost"])
def test_a_newest_commit_torn_by_a_power_cut_is_set_aside_and_written_again(root: Root, damage: str) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    newest = delta_log.commit_path(_log(root), 2)
    whole = newest.read_bytes()
    torn = {
        "empty": b"",
        "half a line": whole[: len(whole) // 2],
        "zeros": bytes(len(whole)),
        "last line lost": b"\n".join(whole.splitlines()[:-1]),
    }[damage]
    newest.write_bytes(torn)
    again = Table.open(root, TRADES)
    (repair,) = again.repairs
    assert repair.moved_to.read_bytes() == torn
    assert repair.moved_to.parent == root.quarantine / "delta"
    assert ids(again) == list(range(5))
    assert append(again, 5, 9) is False
    assert ids(again) == list(range(9))


def test_a_torn_first_commit_is_written_again(root: Root) -> None:
    Table.open(root, TRADES)
    delta_log.commit_path(_log(root), 0).write_bytes(b"")
    table = Table.open(root, TRADES)
    assert len(table.repairs) == 1
    append(table, 0, 5)
    assert ids(table) == list(range(5))


@pytest.mark.parametrize("hint", ["good", "torn"])
@pytest.mark.parametrize("checkpoint", ["empty", "half", "missing"])
def test_a_broken_checkpoint_is_set_aside_and_the_commits_are_read(
    root: Root, hint: str, checkpoint: str
) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    table._delta._delta.create_checkpoint()
    (path,) = _log(root).glob("*.checkpoint.parquet")
    whole = path.read_bytes()
    if checkpoint == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if checkpoint == "empty" else whole[: len(whole) // 2])
    if hint == "torn":
        (_log(root) / "_last_checkpoint").write_bytes(b'{"ver')
    again = Table.open(root, TRADES)
    assert again.repairs
    assert ids(again) == list(range(9))
    append(again, 9, 12)
    assert ids(Table.open(root, TRADES)) == list(range(12))


def test_damage_behind_the_newest_commit_is_corruption_and_untouched(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    append(table, 5, 9)
    middle = delta_log.commit_path(_log(root), 1)
    middle.write_bytes(b"{")
    with pytest.raises(CorruptionError):
        Table.open(root, TRADES)
    middle.unlink()
    with pytest.raises(CorruptionError, match="are missing"):
        Table.open(root, TRADES)


def test_every_commit_says_what_it_holds_and_which_one_it_follows(root: Root) -> None:
    table = Table.open(root, TRADES)
    append(table, 0, 5)
    first, second = (commit_file.decode(delta_log.commit_path(_log(root), n).read_bytes()) for n in (0, 1))
    assert second.entry == {
        "version": 1,
        "actions": 2,
        "checksum": commit_file.checksum(second.actions),
        "previous": first.sha256,
    }


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (OSError(28, "No space left on device"), DiskFullError),
        (delta_exceptions.DeltaProtocolError("x"), RootError),
        (delta_exceptions.TableNotFoundError("x"), RootError),
        (delta_exceptions.DeltaError("x\n 0: <unknown>"), CorruptionError),
        (delta_exceptions.CommitFailedError("x"), CommitFailedError),
    ],
)
def test_errors_become_ours_by_type_in_one_line(error: Exception, ours: type[LakeError]) -> None:
    translated = translate(error, "opening t")
    assert isinstance(translated, ours)
    assert "\n" not in str(translated)


def test_a_full_disk_is_told_and_leaves_no_file(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.open(root, TRADES)

    def full(*arguments: Any, **named: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lake.delta.write_file", full)
        with pytest.raises(DiskFullError):
            append(table, 0, 5)
    append(table, 0, 5)
    assert ids(table) == list(range(5))
