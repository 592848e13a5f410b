"""`lake demo`: the way of a tick from a venue's socket to three SQL answers, as a newcomer runs it."""

from __future__ import annotations

import re
from pathlib import Path

from lake.root import open_root
from tests.pipeline.kit import assert_sound, expected, finish, held, lake_command, read_table
from tests.system.kit import Forge


def test_demo_ends_with_three_answers(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    code, output = finish(lake_command("demo", "--root", str(folder), "--for", "3s"))
    assert code == 0, output
    root = open_root(folder)
    assert sum(expected(root).rows.values()) == sum(held(root).rows.values()) > 300
    assert len(read_table(root, "gaps")) == 0
    assert_sound(root)
    for verb in ("collect", "compact", "verify", "greeks", "status", "sql"):
        assert f"lake --root {folder} {verb}" in output
    _, *answers = re.split(r"\n\$ lake --root \S+ sql ", output)
    busiest, smile, missing = answers
    assert len(re.findall(r"^\W*[A-Z]+-\w+.*:\d\d\.", busiest, re.MULTILINE)) == 5
    assert len(re.findall(r"^\W*\d+,\d{3}\W+0\.\d+\W", smile, re.MULTILINE)) >= 3
    assert len(read_table(root, "greeks")) > 100
    assert re.search(r"^\W*btc_option\W+\d+\W+\d+\W+0\W", missing, re.MULTILINE), "no trade is missing"
    assert "proof holds" in output


def test_demo_refuses_a_folder_that_is_in_use(tmp_path: Path, forge: Forge) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    for command in (["demo", "--root", str(tmp_path)], ["--root", str(tmp_path), "demo"]):
        code, output = forge.lake(*command)
        assert code == 2
        assert output.count("\n") == 1
        assert "not empty" in output
