"""Books of imported files, whose changes have no ids: given as they are told, and never as proven."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli import app

START_US = 1_709_251_200_000_000  # 2024-03-01
MESSAGES = [  # ms after midnight, snapshot, side, price, amount
    (1, True, "bid", 60_000, 100), (1, True, "bid", 59_999, 200), (1, True, "ask", 60_001, 300),
    (101, False, "bid", 60_000, 0), (101, False, "ask", 60_002, 50),
    (10_001, True, "bid", 60_010, 10), (10_001, True, "ask", 60_011, 20), (10_101, False, "ask", 60_012, 5),
]  # fmt: skip


def _run(root: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--root", str(root), *arguments])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    head = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    lines = [
        f"deribit,BTC-PERPETUAL,{START_US + ms * 1000},{START_US + ms * 1000 + 4000},"
        f"{str(whole).lower()},{side},{p},{a}\n"
        for ms, whole, side, p, a in MESSAGES
    ]
    (folder / "book.csv").write_text(head + "".join(lines))
    done = _run(folder / "lake", "import", "--tardis", "incremental_book_L2", str(folder / "book.csv"))
    assert done.exit_code == 0, done.output
    return folder / "lake"


@pytest.mark.parametrize(
    ("at", "bids", "asks"),
    [
        ("00:00:00.004", [[60_000, 100], [59_999, 200]], [[60_001, 300]]),
        ("00:00:00.100", [[60_000, 100], [59_999, 200]], [[60_001, 300]]),
        ("00:00:05", [[59_999, 200]], [[60_001, 300], [60_002, 50]]),
        ("00:00:10.050", [[60_010, 10]], [[60_011, 20]]),
        ("00:00:20", [[60_010, 10]], [[60_011, 20], [60_012, 5]]),
    ],
)
def test_an_imported_book_is_what_its_messages_make_and_marked(
    root: Path, at: str, bids: list[list[float]], asks: list[list[float]]
) -> None:
    told = _run(root, "book", "BTC-PERPETUAL", "--at", f"2024-03-01T{at}", "--json")
    assert told.exit_code == 0
    assert "lake: continuity not proven: " in told.stderr
    found = json.loads(told.stdout)
    assert (found["bids"], found["asks"], found["continuity"]) == (bids, asks, "not proven")


@pytest.mark.parametrize(
    ("at", "says"),
    [
        ("00:00:00", "no snapshot before it is on record"),
        ("00:40:00", "the imported messages of it end before then"),
    ],
)
def test_outside_of_what_was_imported_there_is_no_book(root: Path, at: str, says: str) -> None:
    told = _run(root, "book", "BTC-PERPETUAL", "--at", f"2024-03-01T{at}", "--json")
    assert told.exit_code == 1
    assert says in told.stderr
    assert json.loads(told.stdout)["continuity"] is None


def test_no_sample_is_made_of_it_and_depth_says_why(root: Path) -> None:
    told = _run(root, "depth", "--date", "2024-03-01")
    assert "imported books of 2024-03-01 have no rows" in told.stderr
    assert json.loads(_run(root, "sql", "SELECT count(*) AS n FROM depth", "--format", "json").stdout) == [
        {"n": 0}
    ]
