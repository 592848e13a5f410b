"""What every test gets: a clean environment, and the real recordings where this machine has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.system.kit import Forge

REAL_DATA_ENV = "LAKE_REAL_DATA"
REPOSITORY = Path(__file__).resolve().parent.parent

if sys.dont_write_bytecode:
    # Hundreds of processes are started here: each module is compiled once, though not beside its source.
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(REPOSITORY / ".pytest_cache" / "bytecode")
    os.environ["PYTHONDONTWRITEBYTECODE"], os.environ["PYTHONPYCACHEPREFIX"] = "", sys.pycache_prefix


WAITS_LONG = (
    "system/test_chaos.py",
    "system/test_all_killed.py",
    "books/test_whole.py",
    "system/test_continuity.py",
)
"""Tests that take long and mostly wait: begun first, they wait beside others."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than there are cores, as many tests wait."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait long."""
    items.sort(key=lambda item: not str(item.path).endswith(WAITS_LONG))


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


@pytest.fixture(scope="session")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    """A process with everything imported, from which verbs of the command are forked that may be killed."""
    from tests.system import kit

    with kit.forge(tmp_path_factory.mktemp("forge") / "log") as process:
        yield process
