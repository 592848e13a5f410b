"""What the proof says of labels, of several records of one fact, of absurd numbers, and how it ends."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from cli import app
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import sealed_segments
from lake.views import connect
from pipeline.ingest import IngestSettings, ingest
from quality.gaps import RECORDS_MAX, gaps_by_cause
from quality.verify import verify
from tests.pipeline.kit import STREAM, copy_of, record_market

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Root:
    root = record_market(tmp_path_factory.mktemp("market") / "lake", frames=900, instruments=12)
    ingest(root, IngestSettings(records_per_commit=300))
    return root


@pytest.fixture
def root(ingested: Root, tmp_path: Path) -> Root:
    return copy_of(ingested, tmp_path / "lake")


def lake(root: Root, *verb: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["--root", str(root.path), *verb], catch_exceptions=False)
    return result.exit_code, result.output


def put(root: Root, name: str, rows: list[dict[str, Any]], family: str | None = None) -> None:
    """Append made-up rows as a writer would that files them wrongly."""
    spec = TABLES[name]
    table = pa.Table.from_pylist(
        [{**dict.fromkeys(spec.names), **row} for row in rows], schema=spec.arrow_schema
    )
    if family:
        table = table.append_column("date", pa.array([NOON.date()] * len(table), pa.date32()))
        table = table.append_column("family", pa.array([family] * len(table)))
    Table.open(root, spec).append(table, app="made-up", version=1, origin="i.made-up.1")


def quote(name: str, ts: dt.datetime = NOON) -> dict[str, Any]:
    return {"venue": "deribit", "instrument": name, "ts": ts, "recv_ts": ts}


def gap(**values: Any) -> dict[str, Any]:
    known = {
        "venue": "deribit",
        "stream": "s@0a",
        "start_ts": NOON,
        "end_ts": NOON,
        "cause": "test",
        "healed": False,
    }
    return {**known, **values}


@pytest.mark.parametrize(
    ("name", "ts", "said"),
    [
        (
            "ETH-25DEC26-3000-C",
            NOON,
            "holds ETH-25DEC26-3000-C, which belongs to eth_option, not to btc_option",
        ),
        ("BTC-25DEC26-90000-C", NOON + dt.timedelta(days=1), "holds rows of 2026-11-21 to 2026-11-21"),
        ("no instrument", NOON, "belongs to no family"),
    ],
)
def test_rows_filed_where_they_do_not_belong(tmp_path: Path, name: str, ts: dt.datetime, said: str) -> None:
    root = open_root(tmp_path / "lake", create=True)
    put(root, "quotes", [quote(name, ts)], "btc_option")
    assert any(said in told for told in verify(root).problems)


def test_a_table_without_coverage_is_a_problem_that_ingest_mends(root: Root) -> None:
    shutil.rmtree(root.table("coverage"))
    (root.heads / "coverage.json").unlink()
    assert any("coverage nothing of that stream; run `lake ingest`" in told for told in verify(root).problems)
    ingest(root)
    assert verify(root).problems == []


def test_the_newest_segment_is_gone_although_all_of_it_was_durable(tmp_path: Path) -> None:
    root = record_market(tmp_path / "lake", frames=300, instruments=12, segment_bytes=5_000)
    newest = sealed_segments(root.stream(STREAM))[-1]
    newest.path.unlink()
    said = f"records {newest.first_offset} to {newest.end_offset - 1} are gone"
    assert any(said in told and "closed.json has them durable" in told for told in verify(root).problems)


def test_a_spool_of_an_older_day_beside_newer_tables(root: Root) -> None:
    for segment in sealed_segments(root.stream(STREAM))[1:]:
        segment.path.unlink()
    assert any("its newest segments are gone or of an older copy" in told for told in verify(root).problems)


def test_gaps_that_no_number_can_hold_end_no_verb(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    last = dt.datetime.max.replace(tzinfo=dt.UTC)
    put(root, "gaps", [gap(records_lost=RECORDS_MAX), gap(records_lost=RECORDS_MAX, end_ts=last), gap()])
    with connect(root) as sql:
        [row] = gaps_by_cause(sql)
    assert (row["records_lost"], row["last_end"], row["gaps"]) == (RECORDS_MAX, last, 3)
    assert lake(root, "status")[0] == 0


def test_exit_codes_and_problems_for_programs(root: Root) -> None:
    assert lake(root, "verify")[0] == 0
    code, output = lake(root, "verify", "--json")
    assert code == 0
    assert json.loads(output)[-1]["checked"] == "proof holds"
    (root.path / "lake.json").write_text("[]")
    code, output = lake(root, "verify")
    assert code == 1
    assert "lake.json: is gone or not what a lake has" in output
    (root.path / "lake.json").unlink()
    result = CliRunner().invoke(app, ["--root", str(root.path), "verify", "--json"])
    assert result.exit_code == 1
    [problem] = [row["checked"] for row in json.loads(result.stdout) if row["checked"].startswith("problem ")]
    assert "lake.json" in problem


def test_no_lake_and_a_foreign_marker_are_the_user_s_to_change(tmp_path: Path) -> None:
    assert lake(Root(tmp_path / "nothing"), "verify")[0] == 2
    root = open_root(tmp_path / "lake", create=True)
    (root.path / "lake.json").write_text('{"format": "other", "layout": 1}')
    assert lake(root, "verify")[0] == 2


def test_since_last_reads_what_was_written_to_and_nothing_else(root: Root) -> None:
    verify(root, remember=True)
    again = verify(root, since_last=True)
    assert again.problems == []
    assert sum(proof.remembered for proof in again.tables) == sum(proof.files for proof in again.tables) > 0
    table = Table.open(root, TABLES["quotes"])
    path = table.folder / table.files()[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"2")
    assert any(path.name in told for told in verify(root, since_last=True).problems)
