"""Bytes that rot: whatever is truncated, rotten or gone is survived, told with the file's name, and costs no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli import app
from lake.delta import Table
from lake.delta_log import commit_path, commit_versions, log_folder
from lake.root import Root
from lake.schema import TABLES
from lake.spool import sealed_segments
from pipeline.ingest import IngestSettings, ingest
from quality.verify import verify
from tests.pipeline.kit import (
    STREAM,
    assert_sound,
    copy_of,
    day_of,
    expected,
    held,
    read_table,
    record_market,
)
from tests.system import kit

FLIPS = 12 * kit.ROUNDS
ROTTEN_BYTES = 64
Harm = Callable[[Path], object]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def rot(path: Path) -> None:
    """Spoil a run of bytes, of which a single one might lie where no reader looks."""
    content = bytearray(path.read_bytes())
    for position in range(len(content) // 4, len(content) // 4 + ROTTEN_BYTES):
        content[position] ^= 0x04
    path.write_bytes(content)


HARMS: dict[str, Harm] = {"truncated": cut_short, "rotten": rot, "deleted": Path.unlink}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Root:
    return record_market(tmp_path_factory.mktemp("market") / "lake", frames=2500, instruments=30)


@pytest.fixture(scope="module")
def ingested(market: Root, tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = copy_of(market, tmp_path_factory.mktemp("ingested") / "lake")
    ingest(root, IngestSettings(records_per_commit=1000))
    return root


@pytest.mark.parametrize("harm", HARMS)
def test_segment(market: Root, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    root = copy_of(market, tmp_path / "lake")
    whole = expected(root)
    segments = sealed_segments(root.stream(STREAM))
    HARMS[harm](segments[1].path)
    named = segments[2].path if harm == "deleted" else segments[1].path
    [told] = [problem for problem in verify(root).problems if str(named) in problem]
    assert "run `lake ingest`" in told
    code, output = lake(root, "ingest")
    assert code == 0, output
    assert any(named.name in told or harm == "deleted" for told in caplog.messages)
    gaps = read_table(root, "gaps").to_pylist()
    lost = sum(gap["records_lost"] for gap in gaps)
    assert 0 < lost <= segments[1].end_offset - segments[1].first_offset
    assert {gap["cause"] for gap in gaps} == {"spool_missing" if harm == "deleted" else "spool_damage"}
    assert all(segments[0].end_ns // 1000 <= kit.micros(gap["end_ts"]) for gap in gaps)
    assert 0 < sum(held(root).rows.values()) < sum(whole.rows.values())
    assert_sound(root)


@pytest.mark.parametrize("harm", HARMS)
def test_table_file(ingested: Root, tmp_path: Path, harm: str) -> None:
    root = copy_of(ingested, tmp_path / "lake")
    table = Table.open(root, TABLES["quotes"])
    victim = max(table.files(), key=lambda file: file.size)
    HARMS[harm](table.folder / victim.path)
    problems = verify(root).problems
    assert problems
    assert all(victim.path in problem for problem in problems), problems
    code, output = lake(root, "verify")
    assert code == 1
    assert victim.path in output
    assert_stopped_in_one_line(root, "compact", "--date", day_of(ingested))
    assert victim in Table.open(root, TABLES["quotes"]).files(), "what is damaged is never replaced"
    origins = {file.origin for file in Table.open(root, TABLES["book"]).files()}
    assert origins == {"c"}, "the other partitions have been compacted all the same"
    assert lake(root, "ingest")[0] == 0


def lake(root: Root, *verb: str) -> tuple[int, str]:
    """Run a verb in this process: exit code and everything it said. An exception that escapes is raised."""
    result = CliRunner().invoke(app, ["--root", str(root.path), *verb], catch_exceptions=False)
    return result.exit_code, result.output


def assert_stopped_in_one_line(root: Root, *verb: str) -> None:
    code, output = lake(root, *verb)
    assert code == 1, output
    assert output.startswith("lake: ")
    assert output.count("\n") == 1, output


def test_no_flipped_bit_of_a_table_file_goes_unnoticed(ingested: Root, tmp_path: Path) -> None:
    root = copy_of(ingested, tmp_path / "lake")
    chance = kit.rng(31)
    for _ in range(FLIPS):
        name = chance.choice(("quotes", "trades", "book"))
        table = Table.open(root, TABLES[name])
        path = table.folder / chance.choice(table.files()).path
        content = path.read_bytes()
        rotten = bytearray(content)
        rotten[chance.randrange(len(rotten))] ^= 1 << chance.randrange(8)
        path.write_bytes(rotten)
        problems = verify(root).problems
        assert problems
        assert all(path.name in problem for problem in problems), problems
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["quotes", "instruments", "coverage"])
@pytest.mark.parametrize("harm", ["emptied", "truncated"])
def test_newest_commit_of_a_log(
    ingested: Root, tmp_path: Path, name: str, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = copy_of(ingested, tmp_path / "lake")
    wanted = held(root)
    log = log_folder(root.table(name))
    newest = commit_path(log, commit_versions(log)[-1])
    newest.write_bytes(b"" if harm == "emptied" else newest.read_bytes()[:-40])
    code, output = lake(root, "verify")
    assert code == 1
    assert f"{newest}: torn commit" in output
    code, output = lake(root, "ingest")
    assert code == 0, output
    assert any("moved to" in told and str(newest) in told for told in caplog.messages)
    assert held(root) == wanted, "what the torn commit had added was added again from the spool"
    assert_sound(root)


def test_a_log_that_is_gone_is_never_begun_anew_over_the_data(ingested: Root, tmp_path: Path) -> None:
    root = copy_of(ingested, tmp_path / "lake")
    folder = root.table("quotes")
    log_folder(folder).rename(tmp_path / "log")
    held_before = sorted(folder.rglob("*.parquet"))
    for verb in (["verify"], ["ingest"], ["compact"], ["status"], ["sql", "SELECT count(*) FROM quotes"]):
        code, output = lake(root, *verb)
        assert code == 1, (verb, output)
        assert "its _delta_log is gone" in output
    assert sorted(folder.rglob("*.parquet")) == held_before
    (tmp_path / "log").rename(log_folder(folder))
    assert_sound(root)


def test_newest_checkpoint_of_a_log(market: Root, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = copy_of(market, tmp_path / "lake")
    ingest(root)
    wanted = held(root)
    table = Table.open(root, TABLES["quotes"])
    while not (checkpoints := sorted(log_folder(table.folder).glob("*.checkpoint.parquet"))):
        table.append(read_nothing(), app="nobody", version=table.version + 1, origin="i.nobody.1")
    cut_short(checkpoints[-1])
    code, output = lake(root, "verify")
    assert code == 1
    assert f"{checkpoints[-1]}: unreadable checkpoint" in output
    code, output = lake(root, "ingest")
    assert code == 0, output
    assert any("moved to" in told and str(checkpoints[-1]) in told for told in caplog.messages)
    assert held(root) == wanted
    assert_sound(root)


def read_nothing() -> pa.Table:
    return TABLES["quotes"].delta_schema.empty_table()
