"""One recorded market for all tests of the pipeline; each works on a copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.root import Root
from pipeline.ingest import IngestSettings, ingest
from tests.pipeline import kit


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """A lake with about 3,000 frames in its spool and nothing in its tables. Not to be changed."""
    return kit.record_market(tmp_path_factory.mktemp("market") / "lake", frames=3000, segment_bytes=20_000)


@pytest.fixture
def recorded(market: Root, tmp_path: Path) -> Root:
    """A copy of the recorded market."""
    return kit.copy_of(market, tmp_path / "lake")


@pytest.fixture(scope="session")
def market_in_tables(market: Root, tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The recorded market in many small files, one commit a segment. Not to be changed."""
    root = kit.copy_of(market, tmp_path_factory.mktemp("market") / "lake")
    ingest(root, IngestSettings(records_per_commit=1))
    return root


@pytest.fixture
def ingested(market_in_tables: Root, tmp_path: Path) -> Root:
    """A copy of the market in many small files."""
    return kit.copy_of(market_in_tables, tmp_path / "lake")
