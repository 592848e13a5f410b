"""One recorded market for all tests of the pipeline; each works on a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.root import Root
from tests.pipeline import kit


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A lake with about 6,000 frames in its spool and nothing in its tables. Not to be changed."""
    return kit.record_market(tmp_path_factory.mktemp("market") / "lake", frames=6000)


@pytest.fixture
def recorded(market: Root, tmp_path: Path) -> Root:
    """A copy of the recorded market."""
    return kit.copy_of(market, tmp_path / "lake")
