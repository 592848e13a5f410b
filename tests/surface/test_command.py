"""The verb as a person uses it: what it prints, what it draws, what it refuses."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from cli import app
from lake.root import Root
from tests.surface import kit

RUNNER = CliRunner()


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return kit.new_lake(tmp_path / "lake")


def lake(root: Root, *arguments: str, code: int = 0) -> str:
    """Output of `lake surface`, errors included."""
    found = RUNNER.invoke(app, ["--root", str(root.path), "surface", *arguments])
    assert found.exit_code == code, found.output
    return found.output


def test_it_says_what_it_computed(root: Root) -> None:
    (row,) = json.loads(lake(root, "--json"))
    assert (row["family"], row["date"], row["instants"], row["smiles"]) == ("btc_option", "2026-03-02", 3, 9)
    assert json.loads(lake(root, "--json")) == []
    assert "nothing" in lake(root, "--date", "2026-03-02")


def test_one_instant_shows_its_expiries(root: Root) -> None:
    found = json.loads(lake(root, "--at", "2026-03-02T11:30", "--json"))
    assert [row["expiry"] for row in found] == ["BTC-6MAR26", "BTC-27MAR26", "BTC-26JUN26"]
    assert found == json.loads(lake(root, "--at", "2026-03-02T12:30+01:00", "--json"))
    assert "BTC-27MAR26" in lake(root, "--at", "2026-03-02T11:30")


def test_a_lake_that_cannot_be_written_shows_an_instant_and_keeps_nothing(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode, **_: mode == os.R_OK)
        found = lake(root, "--at", "2026-03-02T11:30", "--json")
        assert not root.table("surface").exists()
        assert "--png" in lake(root, "--at", "2026-03-02T11:30", "--png", "x.png", code=2)
    assert json.loads(found) == json.loads(lake(root, "--at", "2026-03-02T11:30", "--json"))


def test_the_last_instant_is_that_which_all_that_is_still_recorded_reaches(root: Root) -> None:
    kit.put_quotes(root, kit.ticks(kit.NOON - dt.timedelta(seconds=5)), version=1, family="eth_option")
    kit.put_quotes(root, kit.ticks(kit.NOON - dt.timedelta(days=2)), version=1, family="sol_usdc_option")
    found = json.loads(lake(root, "--at", "last", "--json"))
    assert [row["family"] for row in found] == ["btc_option"] * 3 + ["eth_option"] * 3
    (first,) = json.loads(lake(root, "--at", "last", "--maturity", "30d", "--currency", "BTC", "--json"))
    assert first["ts"].startswith("2026-03-02T12:00:00")


def test_constant_maturities_are_shown_over_time(root: Root) -> None:
    found = json.loads(lake(root, "--maturity", "30d", "--maturity", "400d", "--json"))
    assert [(row["ts"][11:16], row["days"]) for row in found] == [
        (hour, days) for hour in ("10:00", "11:00", "12:00") for days in (30.0, 400.0)
    ]
    assert all(40.0 < row["atm"] < 46.0 for row in found[::2])
    assert all(row["atm"] is row["rr25"] is row["bf25"] is None for row in found[1::2])


def test_pictures_of_the_newest_surface_go_into_a_folder(root: Root, tmp_path: Path) -> None:
    lake(root, "--png", str(tmp_path / "pictures"))
    stem = "btc_option-20260302T120000Z"
    found = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in found] == [f"{stem}-{what}.png" for what in ("map", "series", "smiles")]
    for path in found:
        assert path.stat().st_size < 150_000
        with Image.open(path) as picture:
            assert picture.width >= 900
            assert len(picture.getcolors(256) or ()) > 8  # something is drawn


def test_the_map_goes_into_a_file_of_one_family_only(root: Root, tmp_path: Path) -> None:
    file = tmp_path / "map.png"
    lake(root, "--at", "2026-03-02T11:00", "--png", str(file))
    first = file.read_bytes()
    lake(root, "--png", str(file))
    assert file.read_bytes() != first
    kit.put_quotes(root, kit.ticks(kit.NOON), version=1, family="eth_option")
    assert "add --currency" in lake(root, "--png", str(file), code=2)
    lake(root, "--png", str(file), "--currency", "btc")


def test_pictures_need_a_surface(root: Root, tmp_path: Path) -> None:
    lake(root)
    kit.put_quotes(root, [kit.tick("ETH-27MAR26-3000-C", kit.NOON, 50.0)], version=1, family="eth_option")
    told = lake(root, "--currency", "ETH", "--png", str(tmp_path / "none"), code=2)
    assert "there is no surface to draw" in told
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--at", "noon"], "is no instant"),
        (["--at", "2026-03-02T12:00", "--date", "2026-03-02"], "not both"),
        (["--every", "hourly"], "is no duration"),
        (["--every", "2d"], "change --every"),
        (["--currency", "DOGE"], "there are of BTC"),
        (["--at", "2027-01-01"], "quotes reach to 2026-03-02 12:00"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(root: Root, arguments: list[str], words: str) -> None:
    assert words in lake(root, *arguments, code=2)


@pytest.mark.parametrize("library", ["matplotlib", "duckdb"])
def test_who_only_reads_the_settings_does_not_pay_for(library: str) -> None:
    code = f"import sys, cli, pipeline.surface; cli.sections(); sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
