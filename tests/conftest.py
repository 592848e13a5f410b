"""What every test gets: a clean environment, and the real recordings where this machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA_ENV = "LAKE_REAL_DATA"
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the developer's own shell or home reaches a test."""
    for name in list(os.environ):
        if name.startswith("LAKE_") and name != REAL_DATA_ENV:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real recordings; the test is skipped, saying so, where there is none."""
    folder = Path(os.environ.get(REAL_DATA_ENV, REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real recordings: {folder} is not a folder (set {REAL_DATA_ENV})")
    return folder
