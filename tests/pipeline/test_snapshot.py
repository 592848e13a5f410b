"""A copy made while the lake records, ingests and compacts is a lake at once, and goes on as one of its own."""

from __future__ import annotations

import datetime
import errno
import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from cli import app
from lake import snapshot as module
from lake.errors import DiskFullError, InputError
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.snapshot import UNFINISHED, snapshot
from lake.spool import SpoolSettings, SpoolWriter, sealed_segments
from pipeline.compact import CompactSettings, compact
from pipeline.ingest import IngestSettings, ingest
from quality.verify import verify
from tests.pipeline import kit

SMALL = IngestSettings(records_per_commit=300)
STEPS = (
    "snapshot:after_segments",
    "snapshot:after_manifests",
    "snapshot:after_pin",
    "snapshot:after_table",
    "snapshot:after_table:5",
    "snapshot:after_spool",
    "snapshot:before_marker",
)
TOMORROW = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)


def inode(path: Path) -> int:
    return path.stat().st_ino


def covered(root: Root) -> int:
    """How far the only stream is in the tables."""
    end: int = pc.max(kit.read_table(root, "coverage")["end_offset"]).as_py()
    return end


def goes_on(copy: Root) -> None:
    """The copy verifies, ingests what its spool still has, each record once, and records under an epoch of its own."""
    assert verify(copy).problems == []
    ingest(copy)
    assert verify(copy).problems == []
    segments = sealed_segments(copy.stream(kit.STREAM))
    used = {segment.stream for segment in segments}
    assert covered(copy) == segments[-1].end_offset
    frame = kit.durable_frames(copy)[-1]
    with SpoolWriter(copy.stream(kit.STREAM), SpoolSettings()) as writer:
        assert writer.stream not in used
        writer.append(frame)
    ingest(copy)
    assert verify(copy).problems == []


def test_a_copy_links_what_never_changes_and_is_a_lake_at_once(recorded: Root, tmp_path: Path) -> None:
    ingest(recorded, SMALL)
    compact(recorded, now=TOMORROW)
    report = snapshot(recorded, tmp_path / "copy")
    copy = open_root(tmp_path / "copy")
    assert copy.lake_id == recorded.lake_id
    assert {path.name for path in copy.path.iterdir()} == {path.name for path in recorded.path.iterdir()}
    for name in TABLES:
        for path in recorded.table(name).rglob("date=*/*/c-*.parquet"):
            assert inode(copy.path / path.relative_to(recorded.path)) == inode(path)
    for pattern in ("spool/*/stream.json", "heads/*.json", "manifests/*.json"):
        for path in recorded.path.glob(pattern):
            assert inode(copy.path / path.relative_to(recorded.path)) != inode(path)
    assert report.notes == []
    assert report.bytes_linked > report.bytes_copied
    assert list(copy.manifests.iterdir())
    goes_on(copy)
    kit.assert_sound(recorded)


def test_without_links_everything_is_copied(
    recorded: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(recorded)

    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "link", refused)
        report = snapshot(recorded, tmp_path / "copy")
    assert report.linked == 0
    copy = open_root(tmp_path / "copy")
    path = next(recorded.table("coverage").glob("i.*.parquet"))
    assert inode(copy.path / path.relative_to(recorded.path)) != inode(path)
    goes_on(copy)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_between_its_steps_the_copy_is_whole(
    market: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    frames = kit.durable_frames(market)
    root = open_root(tmp_path / "lake", create=True)
    settings = SpoolSettings(segment_bytes=chance.choice((8_000, 40_000, 1 << 20)), commit_interval_ms=1.0)
    with SpoolWriter(root.stream(kit.STREAM), settings) as writer:

        def record() -> None:
            for frame in chance.choices(frames, k=chance.choice((1, 40, 150))):
                writer.append(frame)
            writer.flush()

        actions: list[Callable[[], object]] = [
            record,
            record,
            lambda: ingest(root, SMALL),
            lambda: compact(root, CompactSettings(roll_up_files=2)),
            lambda: compact(root, now=TOMORROW),
        ]

        def step(_: str) -> None:
            for action in chance.choices(actions, k=chance.choice((0, 0, 1, 2))):
                action()

        for _ in range(3):
            record()
        step("")
        durable = writer.durable_offset
        monkeypatch.setattr(module, "reach", step)
        snapshot(root, tmp_path / "copy")
    goes_on(open_root(tmp_path / "copy"))
    assert covered(open_root(tmp_path / "copy")) >= durable
    kit.assert_sound(root)


def test_killed_anywhere_it_is_no_lake_and_the_next_attempt_goes_on(recorded: Root, tmp_path: Path) -> None:
    ingest(recorded)
    compact(recorded, now=TOMORROW)
    target = tmp_path / "copy"
    arguments = ("--root", str(recorded.path), "snapshot", str(target))
    for step in STEPS:
        code, output = kit.finish(kit.lake_command(*arguments, crash_at=step))
        assert code == kit.KILLED, output
        assert (target / UNFINISHED).exists()
        with pytest.raises(InputError, match="is not a lake"):
            open_root(target)
        (target / "tables" / "gone.parquet").touch()
    code, output = kit.finish(kit.lake_command(*arguments))
    assert code == 0, output
    assert not (target / UNFINISHED).exists()
    assert not (target / "tables" / "gone.parquet").exists()
    goes_on(open_root(target))


def test_a_copy_that_fails_takes_back_what_it_made(
    recorded: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "link", full)
    with pytest.raises(DiskFullError, match="copying to"):
        snapshot(recorded, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_where_a_copy_may_not_be(recorded: Root, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(recorded.path)
    for target, reason in (
        (tmp_path / "full", "is not empty"),
        (tmp_path / "file", "is a file"),
        (recorded.path, "lie in each other"),
        (recorded.path / "copy", "lie in each other"),
        (tmp_path / "link" / "copy", "lie in each other"),
        (tmp_path, "lie in each other"),
    ):
        with pytest.raises(InputError, match=reason):
            snapshot(recorded, target)
    assert not (recorded.path / "copy").exists()
    (tmp_path / "full" / "mine").unlink()
    (tmp_path / "full" / UNFINISHED).write_text("/another/lake")
    with pytest.raises(InputError, match="unfinished copy of another lake"):
        snapshot(recorded, tmp_path / "full")


def test_beside_ingest_and_compaction(recorded: Root, tmp_path: Path) -> None:
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    root = ("--root", str(recorded.path))
    ingester = kit.lake_command(*root, "ingest", LAKE_INGEST_RECORDS_PER_COMMIT="1")
    copies = []
    while ingester.poll() is None:
        compactor = kit.lake_command(*root, "compact", "--date", day)
        target = tmp_path / f"copy{len(copies)}"
        snapshot(recorded, target)
        copies.append(target)
        assert kit.finish(compactor)[0] == 0
    assert kit.finish(ingester)[0] == 0
    assert copies
    for target in (copies[0], copies[-1]):
        goes_on(open_root(target))
    kit.assert_sound(recorded)


def test_a_lake_whose_ingest_was_cut_short_is_copied_as_it_is(
    recorded: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STANDSTILL_S", 0.0)
    code, _ = kit.finish(
        kit.lake_command("--root", str(recorded.path), "ingest", crash_at="ingest:after_quotes")
    )
    assert code == kit.KILLED
    report = snapshot(recorded, tmp_path / "copy")
    assert "run `lake ingest` in the copy" in report.notes[0]
    copy = open_root(tmp_path / "copy")
    ingest(copy)
    goes_on(copy)


def test_the_verb(recorded: Root, tmp_path: Path) -> None:
    ingest(recorded)
    result = CliRunner().invoke(
        app, ["--root", str(recorded.path), "snapshot", str(tmp_path / "copy"), "--json"]
    )
    assert result.exit_code == 0, result.output
    (told,) = json.loads(result.stdout)
    assert told["linked"] > 0
    result = CliRunner().invoke(app, ["--root", str(recorded.path), "snapshot", str(tmp_path / "copy")])
    assert result.exit_code == 2
    assert "is not empty" in result.output
    assert list((tmp_path / "copy" / "logs").iterdir()) == []
