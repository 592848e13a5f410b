"""An empty lake for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.root import Root, open_root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)
