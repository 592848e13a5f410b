"""What the README tells the reader to type works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lake.root import Root
from pipeline.ingest import ingest
from tests.conftest import REPOSITORY
from tests.pipeline import kit

EXAMPLE = re.compile(r"<!-- example -->\n```sh\n(.*?)```", re.DOTALL)
BLOCKS = EXAMPLE.findall((REPOSITORY / "README.md").read_text())
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A small lake with ingested rows."""
    root = kit.record_market(tmp_path_factory.mktemp("readme") / "lake", frames=1200, instruments=25)
    ingest(root)
    return root


def test_readme_has_examples() -> None:
    assert len(COMMANDS) >= 6
    assert all(command.startswith("lake ") for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_example_of_the_readme(lake: Root, command: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euc", command],
        env={**os.environ, "PATH": path, "LAKE_ROOT": str(lake.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
    assert result.stderr == ""
