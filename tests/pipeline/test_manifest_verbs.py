"""Manifests from outside: made by compaction of a recorded lake, held by the proof, shown, checked and renewed."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import app
from lake.manifests import ManifestSettings
from lake.root import Root
from pipeline.compact import compact
from pipeline.ingest import ingest
from quality.verify import verify
from tests.pipeline import kit

TOMORROW = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)


def run(root: Root | Path, *arguments: str) -> Result:
    path = root.path if isinstance(root, Root) else root
    return CliRunner().invoke(app, ["--root", str(path), *arguments])


@pytest.fixture
def closed(recorded: Root, tmp_path: Path) -> Root:
    """The recorded market, two days later, with a signed manifest."""
    assert run(recorded, "manifest", "keygen", str(tmp_path / "key")).exit_code == 0
    ingest(recorded)
    report = compact(recorded, now=TOMORROW, manifests=ManifestSettings(str(tmp_path / "key")))
    assert report.manifests
    return recorded


def test_a_recorded_day_is_attested_shown_and_proven_elsewhere(closed: Root, tmp_path: Path) -> None:
    kit.assert_sound(closed)
    listed = json.loads(run(closed, "manifest", "show", "--json").stdout)
    day = listed[-1]["day"]
    assert listed[-1]["signed"] is True
    shown = run(closed, "manifest", "show", day)
    assert shown.exit_code == 0, shown.output
    assert "partitions" in shown.stdout
    assert "deribit@" in shown.stdout
    said = json.loads(run(closed, "manifest", "show", day, "--json").stdout)
    assert sum(stream["rows"]["quotes"] for stream in said["streams"]) == kit.held(closed).rows["quotes"]
    archive = tmp_path / "archive"
    shutil.copytree(closed.tables, archive / "tables")
    shutil.copytree(closed.manifests, archive / "manifests")
    file, key = str(archive / "manifests" / f"{day}.json"), str(tmp_path / "key.pub")
    nowhere = tmp_path / "nowhere"
    proven = run(nowhere, "manifest", "check", file, "--key", key, "--json")
    assert proven.exit_code == 0, proven.output
    assert json.loads(proven.stdout)["signature"] == "valid"
    victim = next(archive.rglob("date=*/*/c-*.parquet"))
    victim.unlink()
    missing = run(nowhere, "manifest", "check", file)
    assert missing.exit_code == 1
    assert "is missing" in missing.output
    assert run(nowhere, "manifest", "check", file, "--subset").exit_code == 0
    assert run(nowhere, "manifest", "check", str(archive / "no.json")).exit_code == 2


def test_a_lost_manifest_fails_the_proof_until_it_is_renewed(
    closed: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sorted(closed.manifests.glob("*.json"))[-1]
    path.unlink()
    assert any(f"{path} is missing" in problem for problem in verify(closed).problems)
    assert run(closed, "verify").exit_code == 1
    result = run(closed, "manifest", "show", path.stem)
    assert result.exit_code == 2
    assert "there is no manifest of" in result.output
    result = run(closed, "manifest", "renew", path.stem, "--why", "lost")
    assert result.exit_code == 1, "today is not closed yet"
    assert "no closed day" in result.output


def test_late_rows_are_no_problem_before_and_after_compaction(closed: Root) -> None:
    from lake.spool import SpoolSettings, SpoolWriter

    frames = [
        f.replace(b'"trade_id":"', b'"trade_id":"9') for f in kit.durable_frames(closed) if b'"trades.' in f
    ]
    with SpoolWriter(closed.stream(kit.STREAM), SpoolSettings()) as spool:
        for frame in frames:
            spool.append(frame)
    ingest(closed)
    kit.assert_sound(closed)
    assert compact(closed, now=TOMORROW).manifests
    kit.assert_sound(closed)
    assert list(closed.manifests.glob("*.r1.json"))
    assert compact(closed, now=TOMORROW).manifests == {}
