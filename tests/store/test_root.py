"""The lake's folder: created once, recognised, and refused when it is foreign or newer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lake.delta import Table
from lake.errors import RootError
from lake.log_damage import log_damage
from lake.root import FOLDERS, LAYOUT_VERSION, MARKER, open_root
from tests.store.ticks import TRADES, append, compact, ids, new_root


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


@pytest.mark.parametrize("name", ["ticks%202024", "back\\slash", "%41", "new\nline"])
def test_a_name_that_misleads_delta_readers_is_refused_before_anything_is_made(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(RootError, match="misleads Delta readers"):
        open_root(tmp_path / name / "lake", create=True)
    (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / name)
    with pytest.raises(RootError, match="misleads Delta readers"):
        open_root(tmp_path / "link" / "lake", create=True)
    assert list((tmp_path / name).iterdir()) == []


@pytest.mark.parametrize(
    "name", ["50%", "a b ü#", "[a]*?", "date=2024-06-30", "family=spot", "q'\"&;~", "%zz"]
)
def test_a_table_is_found_below_a_folder_of_any_other_name(tmp_path: Path, name: str) -> None:
    table = Table.open(new_root(tmp_path / name), TRADES)
    append(table, 0, 3)
    append(table, 3, 5)
    compact(table)
    assert ids(Table.open(table.root, TRADES)) == list(range(5))
    for number in range(5, 60):
        append(table, number, number + 1)
    assert log_damage(table.root, "trades") == []
