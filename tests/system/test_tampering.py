"""Nothing that happens to a thing in a lake's folder goes unnoticed, but what is free of claims by design."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lake.root import Root
from quality.verify import verify
from tests.conftest import REPOSITORY
from tests.system.tampering import FOLDERS, HARMS, KINDS, YESTERDAY, Folder, Kind, Lakes, build, rendered


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    return build(tmp_path_factory.mktemp("tampering"))


@contextmanager
def restored(root: Root, *paths: Path) -> Iterator[None]:
    """Put the folders that hold `paths` back as they were."""
    aside = root.path.with_name("aside")
    folders = {path if path.is_dir() else path.parent for path in paths}
    files = folders == {root.path}  # the marker's: not the whole lake
    for number, folder in enumerate(folders):
        if files:
            aside.mkdir()
            shutil.copy2(paths[0], aside / "0")
        else:
            shutil.copytree(folder, aside / str(number))
    try:
        yield
    finally:
        for number, folder in enumerate(folders):
            if files:
                shutil.copy2(aside / "0", paths[0])
                continue
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(aside / str(number), folder)
        shutil.rmtree(aside)


def test_all_three_are_sound(lakes: Lakes) -> None:
    for root in (lakes.recording, lakes.stopped, lakes.yesterday):
        assert verify(root).problems == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_one_file(lakes: Lakes, kind: Kind) -> None:
    root = lakes.stopped if kind.closed else lakes.recording
    found = sorted(root.path.glob(kind.pattern))
    path = found[-1 if kind.newest else 0]
    old = lakes.yesterday.path / path.relative_to(root.path)
    wrong = []
    for name, harm in HARMS.items():
        if name == YESTERDAY and not kind.changes:
            assert not old.exists() or old.read_bytes() == path.read_bytes()
            continue
        with restored(root, path):
            harm(path, old)
            problems = verify(root).problems
        if bool(problems) == (name in kind.free):
            wrong.append((name, problems))
    assert not wrong
    (root.path / f"copy-{path.name}").unlink(missing_ok=True)


@pytest.mark.parametrize(
    "one", FOLDERS, ids=lambda one: f"{one.name} {'of yesterday' if one.older else 'gone'}"
)
def test_whole_folders(lakes: Lakes, one: Folder) -> None:
    root = lakes.recording
    paths = [root.path / path for path in one.paths]
    with restored(root, *paths):
        for path in paths:
            old = lakes.yesterday.path / path.relative_to(root.path)
            if path.is_dir():
                shutil.rmtree(path)
            if one.older and old.is_dir():
                shutil.copytree(old, path)
            elif one.older:
                shutil.copy2(old, path)
        problems = verify(root).problems
    assert bool(problems) != bool(one.free), problems


def test_the_page_on_the_proof_has_this_table() -> None:
    assert rendered() in (REPOSITORY / "docs" / "proof.md").read_text()
