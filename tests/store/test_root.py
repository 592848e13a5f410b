"""The lake's folder: created once, recognised, and refused when it is foreign or newer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lake.errors import RootError
from lake.root import FOLDERS, LAYOUT_VERSION, MARKER, open_root


def test_created_root_is_recognised(tmp_path: Path) -> None:
    created = open_root(tmp_path / "new" / "lake", create=True)
    assert open_root(tmp_path / "new" / "lake") == created
    assert {p.name for p in created.path.iterdir()} == {*FOLDERS, MARKER}


def test_missing_root_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(RootError, match="is not a lake; start one with"):
        open_root(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RootError, match=r"other files in it \(thesis\.txt"):
        open_root(tmp_path, create=True)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_first_start_that_was_cut_short_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / f".{MARKER}.77.tmp").write_text("{")
    assert open_root(tmp_path, create=True).path == tmp_path


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({"format": "ticklake", "layout": LAYOUT_VERSION + 1}, "install a newer ticklake"),
        ({"format": "ticklake", "layout": "one"}, "install a newer ticklake"),
        ({"format": "somebody", "layout": 1}, "give another folder"),
        ({"layout": 1}, "not a version marker"),
        ([], "not a version marker"),
    ],
)
def test_newer_and_foreign_markers_are_refused_with_advice(
    tmp_path: Path, content: object, advice: str
) -> None:
    (tmp_path / MARKER).write_text(json.dumps(content))
    with pytest.raises(RootError, match=advice):
        open_root(tmp_path, create=True)


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "deribit main", "-x", "x" * 65])
def test_stream_names_cannot_leave_the_spool(tmp_path: Path, name: str) -> None:
    with pytest.raises(RootError, match="stream name"):
        open_root(tmp_path, create=True).stream(name)
