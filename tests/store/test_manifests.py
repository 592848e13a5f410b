"""Manifests of closed days: made once, cheap to keep, and every loss since is told from ordinary work."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lake.delta import Table
from lake.errors import CorruptionError, InputError
from lake.manifests import Findings, ManifestSettings, check_delivered, check_manifests, make_manifests
from lake.manifests.chain import head_path, manifest_path, revision_path
from lake.manifests.form import read_manifest
from lake.manifests.signing import load_public, make_key, signature_path
from lake.root import Root, write_marker
from lake.schema import COUNTED, TABLES
from tests.store.ticks import DAY, MIDNIGHT, append, new_root, start, trades

NEXT = DAY + dt.timedelta(days=1)
LATER = MIDNIGHT + dt.timedelta(days=9)
STREAM = "deribit@1"
STEPS = ("before_write", "after_write", "after_sign", "after_head")


def ledger_row(end: int, first: int, seconds: int = 0) -> pa.Table:
    """A row of `coverage` for trades `first` to `end` of the day."""
    names = ("frames", "events", "responses", "imported", "control", "records_lost", "rejected", "repeated")
    row = {
        "venue": "deribit",
        "stream": STREAM,
        "first_offset": first,
        "end_offset": end,
        "start_ts": MIDNIGHT + dt.timedelta(seconds=seconds),
        "end_ts": MIDNIGHT + dt.timedelta(seconds=seconds + 30),
        **dict.fromkeys(names, 0),
        "rebuilt": False,
        **{f"rows_{name}": 0 for name in COUNTED},
        "rows_trades": end - first,
    }
    return pa.Table.from_pylist([row], schema=TABLES["coverage"].arrow_schema)


def gap(number: int) -> pa.Table:
    """A row of `gaps` on the day."""
    row = {
        "venue": "deribit",
        "stream": STREAM,
        "start_ts": MIDNIGHT + dt.timedelta(minutes=number),
        "end_ts": MIDNIGHT + dt.timedelta(minutes=number, seconds=20),
        "cause": "disconnected",
        "healed": False,
    }
    return pa.Table.from_pylist([row], schema=TABLES["gaps"].arrow_schema)


def record(root: Root, first: int, end: int) -> None:
    """What ingest does with one run of records: trades, a gap, and coverage last."""
    append(Table.open(root, TABLES["trades"]), first, end)
    for name, rows in (("gaps", gap(end)), ("coverage", ledger_row(end, first, first))):
        Table.open(root, TABLES[name]).append(rows, app=STREAM, version=end, origin=f"i.deribit.1.{end}")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A lake with one closed, compacted day."""
    root = new_root(tmp_path)
    record(root, 0, 20)
    finish(root)
    return root


def finish(root: Root, day: dt.date = DAY) -> None:
    """Put one file of the day in the place of all."""
    table = Table.open(root, TABLES["trades"])
    files = table.files(date=day)
    pieces = [pq.read_table(table.folder / file.path, partitioning=None) for file in files]
    rows = pa.concat_tables([piece.cast(TABLES["trades"].arrow_schema) for piece in pieces])
    table.replace(files, [table.stage(files[0].partition, rows, origin="c")])


def add_day(root: Root) -> None:
    """A second closed, compacted day."""
    table = Table.open(root, TABLES["trades"])
    table.append(trades(0, 7, day=NEXT), app="deribit@2", version=7, origin="i.deribit.2.7")
    finish(root, NEXT)


def make(root: Root, **settings: str) -> list[dt.date]:
    report = make_manifests(root, ManifestSettings(**settings), now=LATER)
    assert report.problems == []
    return list(report.made)


def check(root: Root, public: str | None = None) -> Findings:
    tables = {name: found for name, spec in TABLES.items() if (found := Table.find(root, spec))}
    for table in tables.values():
        table.pin()
    return check_manifests(root, tables, public=public)


def problems(root: Root) -> str:
    """What is wrong, without the notes."""
    return "\n".join(check(root).problems)


def test_a_closed_day_gets_one_manifest_that_holds(root: Root) -> None:
    assert make(root) == [DAY]
    said = read_manifest(manifest_path(root.manifests, DAY)).manifest
    (partition,) = said.partitions
    assert (partition.table, partition.rows, len(partition.files)) == ("trades", 20, 1)
    assert partition.files[0].bounds["instrument"] == ("BTC-0", "BTC-2")
    (stream,) = said.streams
    assert (stream.first_offset, stream.end_offset, stream.rows) == (0, 20, {"trades": 20})
    assert [row["cause"] for row in said.gap_rows] == ["disconnected"]
    assert said.lake == root.lake_id
    assert said.previous is None
    assert check(root) == Findings()


def test_nothing_changed_means_nothing_is_written_or_read(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(root)

    def unread(*_: object) -> None:
        raise AssertionError("a file was read again")

    monkeypatch.setattr("lake.manifests.make.file_problems", unread)
    before = head_path(root).read_bytes()
    assert make(root) == []
    assert head_path(root).read_bytes() == before


def test_a_day_that_is_open_or_not_finished_gets_none(root: Root) -> None:
    assert make_manifests(root, now=MIDNIGHT + dt.timedelta(hours=23)).made == {}
    record(root, 20, 25)
    assert make(root) == []
    finish(root)
    assert make(root) == [DAY]


def test_days_are_chained_and_one_that_comes_late_is_linked_in(root: Root) -> None:
    add_day(root)
    first, second = make(root)
    link = read_manifest(manifest_path(root.manifests, second)).manifest.previous
    assert link is not None
    assert (link.day, link.sha256) == (str(first), read_manifest(manifest_path(root.manifests, first)).sha256)
    table = Table.open(root, TABLES["trades"])
    early = DAY - dt.timedelta(days=3)
    table.append(trades(0, 5, day=early), app="deribit@3", version=5, origin="i.deribit.3.5")
    finish(root, early)
    assert make(root) == [early, DAY]
    assert check(root) == Findings()


def test_late_rows_are_a_note_and_then_a_new_revision(root: Root) -> None:
    add_day(root)
    make(root)
    old = read_manifest(manifest_path(root.manifests, DAY))
    record(root, 20, 25)
    found = check(root)
    assert found.problems == []
    assert any("5 rows more" in note for note in found.notes)
    finish(root)
    found = check(root)
    assert found.problems == []
    assert make(root) == [DAY]
    new = read_manifest(manifest_path(root.manifests, DAY)).manifest
    assert new.supersedes is not None
    assert new.supersedes.sha256 == old.sha256
    assert any("5 rows more" in reason for reason in new.supersedes.reasons)
    assert read_manifest(revision_path(root.manifests, DAY, 1)).raw == old.raw
    assert check(root) == Findings()


def test_rewriting_the_same_rows_is_no_problem(root: Root) -> None:
    make(root)
    table = Table.open(root, TABLES["trades"])
    (file,) = table.files()
    rows = table.read()
    halves = [rows.slice(0, 8), rows.slice(8)]
    table.replace([file], [table.stage(file.partition, half, origin="c") for half in halves])
    assert check(root).problems == []
    assert make(root) == [DAY]
    assert check(root) == Findings()


def rewrite_log(root: Root, name: str, change: Callable[[list[dict[str, object]]], None]) -> None:
    """Change the newest commit of a table by hand."""
    path = sorted((root.table(name) / "_delta_log").glob("*.json"))[-1]
    actions = [json.loads(line) for line in path.read_text().splitlines()]
    change(actions)
    path.write_text("".join(json.dumps(action) + "\n" for action in actions))


def drop_adds(actions: list[dict[str, object]]) -> None:
    actions[:] = [action for action in actions if "add" not in action]


@pytest.mark.parametrize("name", ["gaps", "coverage"])
def test_a_row_that_is_gone_from_the_ledger_is_found_and_never_blessed(root: Root, name: str) -> None:
    make(root)
    rewrite_log(root, name, drop_adds)
    assert f"{name}: 1 of 1 rows are gone or were changed" in problems(root)
    add_day(root)
    report = make_manifests(root, now=LATER)
    assert any(f"{name}: 1 of 1 rows" in problem for problem in report.problems)
    assert list(report.made) == [NEXT]
    assert f"{name}: 1 of 1 rows" in problems(root)
    report = make_manifests(root, now=LATER, renew={DAY: "a test took it away"})
    assert report.problems == []
    assert check(root) == Findings()
    said = read_manifest(manifest_path(root.manifests, DAY)).manifest.supersedes
    assert said is not None
    assert "a test took it away" in said.reasons[0]


def test_a_gap_that_is_there_twice_is_found(root: Root) -> None:
    make(root)
    Table.open(root, TABLES["gaps"]).append(gap(20), app="other@1", version=1, origin="i.other.1.1")
    assert "gaps: 1 rows are there more often" in problems(root)


def test_a_day_that_lost_rows_is_found(root: Root) -> None:
    make(root)
    rewrite_log(root, "trades", drop_adds)
    assert "trades/date=2026-11-20/family=btc_option: its 20 rows are gone" in problems(root)


def test_a_table_restored_from_before_is_found(root: Root, tmp_path: Path) -> None:
    shutil.copytree(root.table("gaps"), tmp_path / "old")
    record(root, 20, 25)
    finish(root)
    make(root)
    shutil.rmtree(root.table("gaps"))
    shutil.copytree(tmp_path / "old", root.table("gaps"))
    assert "table gaps is version 1, at the manifest's making it was at 2" in problems(root)


def test_other_bytes_that_give_the_same_rows_are_found(root: Root) -> None:
    make(root)
    (file,) = Table.open(root, TABLES["trades"]).files()
    path = root.table("trades") / file.path
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert "has other bytes than at the manifest's making" in problems(root)


def test_a_rotten_file_gets_no_manifest(root: Root) -> None:
    (file,) = Table.open(root, TABLES["trades"]).files()
    path = root.table("trades") / file.path
    raw = bytearray(path.read_bytes())
    raw[40] ^= 1
    path.write_bytes(raw)
    report = make_manifests(root, now=LATER)
    assert report.made == {}
    assert "checksum" in report.problems[0]


def test_manifests_that_are_gone_older_changed_or_foreign_are_found(root: Root) -> None:
    make(root)
    record(root, 20, 25)
    finish(root)
    add_day(root)
    make(root)
    first, second = (manifest_path(root.manifests, day) for day in (DAY, NEXT))
    old = revision_path(root.manifests, DAY, 1)
    keep = {path: path.read_bytes() for path in (first, second, old, head_path(root))}

    def put_back() -> None:
        for path, raw in keep.items():
            path.write_bytes(raw)
        assert check(root) == Findings()

    second.unlink()
    assert f"{second} is missing" in problems(root)
    assert "is gone; restore it" in make_manifests(root, now=LATER).problems[0]
    put_back()
    old.unlink()
    assert "the revision that it supersedes is missing" in problems(root)
    put_back()
    first.write_bytes(keep[old])
    assert "is not the one that was made last" in problems(root)
    assert make_manifests(root, now=LATER).made == {}
    put_back()
    first.write_bytes(keep[first].replace(b'"rows":25', b'"rows":24', 1))
    assert problems(root)
    put_back()
    first.write_bytes(keep[first][:-9])
    assert "is no manifest or was damaged" in problems(root)
    put_back()
    head_path(root).unlink()
    assert "is gone, which names the newest manifests" in problems(root)
    put_back()
    head_path(root).write_bytes(keep[head_path(root)].replace(b'"signed":false', b'"signed":true ', 1))
    assert problems(root)
    put_back()
    (root.manifests / "notes.txt").write_text("mine")
    assert "is no manifest; move it elsewhere" in problems(root)
    (root.manifests / "notes.txt").unlink()
    write_marker(root.path, "feedfeedfeedfeed")
    assert "is of another lake" in problems(root)


@pytest.mark.parametrize("step", [*STEPS, "after_keep"])
def test_a_making_killed_anywhere_is_no_problem_and_is_gone_on_with(
    root: Root, tmp_path: Path, step: str
) -> None:
    make_key(tmp_path / "key")
    code = (
        "from lake.manifests import *\nimport datetime as dt\n"
        f"settings = ManifestSettings(key_file={str(tmp_path / 'key')!r})\n"
        "make_manifests(root, settings, now=MIDNIGHT + dt.timedelta(days=9))"
    )
    if step != "after_keep":
        process = start(root, code, f"manifest:{step}")
        assert process.wait(60) == -9, process.stderr and process.stderr.read()
        process.communicate()
        assert check(root).problems == []
    make(root, key_file=str(tmp_path / "key"))
    record(root, 20, 25)
    finish(root)
    process = start(root, code, f"manifest:{step}")
    process.communicate(timeout=60)
    assert process.returncode == -9
    assert check(root).problems == []
    make(root, key_file=str(tmp_path / "key"))
    assert check(root, load_public(tmp_path / "key.pub")) == Findings()
    assert read_manifest(manifest_path(root.manifests, DAY)).manifest.revision == 2


def test_a_lost_manifest_is_renewed_only_when_told(root: Root) -> None:
    add_day(root)
    make(root)
    manifest_path(root.manifests, DAY).unlink()
    record(root, 20, 25)
    finish(root)
    report = make_manifests(root, now=LATER)
    assert "lake manifest renew 2026-11-20" in report.problems[0]
    report = make_manifests(root, now=LATER, renew={DAY: "lost"})
    assert report.problems == []
    assert list(report.made) == [DAY, NEXT]
    assert check(root) == Findings()


def test_signatures(root: Root, tmp_path: Path) -> None:
    public_path = make_key(tmp_path / "key")
    public = load_public(public_path)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError, match="not overwritten"):
        make_key(tmp_path / "key")
    make(root)
    assert any("is not signed" in problem for problem in check(root, public).problems)
    make(root, key_file=str(tmp_path / "key"))
    assert check(root, public) == Findings()
    path = manifest_path(root.manifests, DAY)
    other = load_public(make_key(tmp_path / "other"))
    assert any("another key" in problem for problem in check(root, other).problems)
    signature = signature_path(path)
    raw = signature.read_bytes()
    signature.unlink()
    assert "its signature is gone" in problems(root)
    said = json.loads(raw)
    signature.write_text(json.dumps({**said, "signature": "00" * 64}))
    assert "is not the signature of" in problems(root)
    with pytest.raises(InputError, match="no private key"):
        make(root, key_file=str(public_path))
    with pytest.raises(InputError, match="cannot be read"):
        make(root, key_file=str(tmp_path / "none"))


@pytest.fixture
def delivery(root: Root, tmp_path: Path) -> Path:
    """The tables and the manifests of two days in a folder that is no lake; the path of the first manifest."""
    add_day(root)
    make(root)
    folder = tmp_path / "delivered"
    shutil.copytree(root.tables, folder)
    for path in root.manifests.iterdir():
        shutil.copy(path, folder)
    for path in folder.rglob("i.*.parquet"):
        path.unlink()
    return manifest_path(folder, DAY)


def test_a_copy_is_proven_without_the_lake(delivery: Path, tmp_path: Path) -> None:
    found = check_delivered(delivery)
    assert (found.problems, found.files, found.rows) == ([], 1, 20)
    (data,) = delivery.parent.glob(f"trades/date={DAY}/*/c-*.parquet")
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(data, flat)
    assert check_delivered(delivery, flat).problems == []
    with pytest.raises(InputError, match="is no folder"):
        check_delivered(delivery, tmp_path / "nowhere")


def test_a_delivered_file_that_is_missing_extra_or_different_is_named(delivery: Path) -> None:
    (data,) = delivery.parent.glob(f"trades/date={DAY}/*/c-*.parquet")
    raw = data.read_bytes()
    data.with_name("more.parquet").write_bytes(raw)
    assert "more.parquet: lies beside" in check_delivered(delivery).problems[0]
    data.with_name("more.parquet").unlink()
    data.write_bytes(raw[:100] + bytes([raw[100] ^ 1]) + raw[101:])
    assert any("SHA-256" in problem for problem in check_delivered(delivery).problems)
    data.write_bytes(raw[:-50])
    assert any("bytes, not" in problem for problem in check_delivered(delivery).problems)
    data.write_bytes(b"")
    assert check_delivered(delivery).problems
    data.unlink()
    assert "is missing" in check_delivered(delivery).problems[0]
    with pytest.raises(InputError, match="give their folder"):
        check_delivered(delivery, subset=True)


def test_the_chain_beside_a_delivered_manifest_must_fit(delivery: Path) -> None:
    following = manifest_path(delivery.parent, NEXT)
    assert check_delivered(following).problems == []
    raw = delivery.read_bytes()
    delivery.write_bytes(raw.replace(b'"made_at":"2', b'"made_at":"3', 1))
    assert any("not the one that it names" in problem for problem in check_delivered(following).problems)
    delivery.unlink()
    assert check_delivered(following, subset=True).problems == []
    following.write_bytes(b"{}")
    with pytest.raises(CorruptionError, match="no manifest or was damaged"):
        check_delivered(following)
