"""A lake that was copied while it recorded, or restored in parts, loses nothing without a row in `gaps`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lake.delta_commit import COMMITS_PER_CHECKPOINT
from lake.delta_log import checkpoint_versions, log_folder
from lake.errors import CorruptionError
from lake.root import open_root
from lake.spool import SpoolWriter, sealed_segments
from lake.views import query
from pipeline.compact import compact
from quality.verify import verify
from tests.pipeline import kit
from tests.pipeline.small_lake import CONTROL, INDEX, STREAM, TRADES, SmallLake, small_lake

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking would take hours of copying
EVERYTHING = (TRADES, INDEX, TRADES, CONTROL)


def causes(lake: SmallLake) -> list[str]:
    return [row["cause"] for row in query(lake.root, "SELECT cause FROM gaps ORDER BY start_ts").to_pylist()]


def is_noticed(lake: SmallLake) -> None:
    """The proof does not hold."""
    assert verify(lake.root).problems != []


def goes_on_whole(lake: SmallLake) -> None:
    """Record and ingest, twice: the proof holds, and all is there or on record."""
    for _ in range(2):
        lake.record(*EVERYTHING)
        lake.ingest()
        assert verify(lake.root).problems == []
    assert lake.unaccounted() == []


def test_a_lake_copied_spool_first_begins_a_new_epoch_with_a_gap(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(lake.root.spool, copy / "spool")
    lake.record(*EVERYTHING)
    lake.record(TRADES, crash=True)
    lake.ingest()
    shutil.copytree(lake.root.path, copy, ignore=shutil.ignore_patterns("spool"), dirs_exist_ok=True)
    copied = SmallLake(open_root(copy), lake.clock, lake.sent)
    is_noticed(copied)
    epochs = {segment.stream for segment in sealed_segments(copied.root.stream(STREAM))}
    goes_on_whole(copied)
    assert len({segment.stream for segment in sealed_segments(copied.root.stream(STREAM))} - epochs) == 1


def test_an_older_spool_beside_newer_tables_is_ingested_without_a_recorder(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    shutil.copytree(lake.root.spool, tmp_path / "spool")
    lake.record(*EVERYTHING)
    lake.ingest()
    shutil.rmtree(lake.root.spool)
    shutil.copytree(tmp_path / "spool", lake.root.spool)
    lake.ingest()
    assert verify(lake.root).problems == []
    goes_on_whole(lake)
    assert "restored" not in causes(lake), "nothing was lost"


@pytest.mark.parametrize("table", ["trades", "index_prices", "gaps", "coverage"])
def test_an_older_table_gets_its_rows_again_from_the_spool(tmp_path: Path, table: str) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.record(INDEX)
    lake.ingest()
    shutil.copytree(lake.root.table(table), tmp_path / "older")
    lake.record(*EVERYTHING)
    lake.ingest()
    lake.record(TRADES)
    lake.ingest()
    shutil.rmtree(lake.root.table(table))
    shutil.copytree(tmp_path / "older", lake.root.table(table))
    is_noticed(lake)
    lake.ingest()
    assert verify(lake.root).problems == []
    assert lake.unaccounted() == []
    assert "restored" not in causes(lake)
    goes_on_whole(lake)


@pytest.mark.parametrize("table", ["trades", "index_prices", "gaps"])
def test_what_an_older_table_lacks_and_the_spool_has_no_more_is_on_record(tmp_path: Path, table: str) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.record(INDEX)
    lake.ingest()
    shutil.copytree(lake.root.table(table), tmp_path / "older")
    for _ in range(3):
        lake.record(*EVERYTHING)
        lake.ingest()
    lake.expire(keep=1)
    shutil.rmtree(lake.root.table(table))
    shutil.copytree(tmp_path / "older", lake.root.table(table))
    is_noticed(lake)
    lake.ingest()
    assert verify(lake.root).problems == []
    assert lake.unaccounted() == []
    assert "restored" in causes(lake)
    goes_on_whole(lake)


def test_coverage_is_made_again_also_where_checkpoints_stand_for_commits(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    for _ in range(COMMITS_PER_CHECKPOINT + 3):
        lake.record(TRADES)
    lake.ingest()
    assert checkpoint_versions(log_folder(lake.root.table("trades")))
    assert verify(lake.root).problems == []
    shutil.rmtree(lake.root.table("coverage"))
    is_noticed(lake)
    lake.ingest()
    assert verify(lake.root).problems == []
    goes_on_whole(lake)


def lose_nothing(lake: SmallLake) -> None:
    """The spool stays whole."""


def lose_most(lake: SmallLake) -> None:
    lake.expire(keep=1)


def lose_the_spool(lake: SmallLake) -> None:
    shutil.rmtree(lake.root.stream(STREAM))


@pytest.mark.parametrize("lose", [lose_nothing, lose_most, lose_the_spool])
def test_coverage_is_made_again_from_the_tables_and_claims_no_loss(
    tmp_path: Path, lose: Callable[[SmallLake], None]
) -> None:
    lake = small_lake(tmp_path / "lake")
    for _ in range(3):
        lake.record(*EVERYTHING)
        lake.ingest()
    shutil.rmtree(lake.root.table("coverage"))
    lose(lake)
    is_noticed(lake)
    lake.ingest()
    assert verify(lake.root).problems == []
    assert "spool_missing" not in causes(lake)
    assert "restored" not in causes(lake)
    lost = query(lake.root, "SELECT sum(records_lost)::BIGINT AS n FROM coverage").to_pylist()
    assert lost == [{"n": 0}]
    goes_on_whole(lake)


def test_everything_older_is_recorded_on_with_a_gap(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    older = lake.copied(tmp_path / "older")
    lake.record(*EVERYTHING)
    lake.ingest()
    older.clock, older.sent = lake.clock, lake.sent
    goes_on_whole(older)


def test_newer_tables_beside_a_spool_in_use_are_noticed_and_their_records_kept(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    other = lake.copied(tmp_path / "other")
    lake.record(*EVERYTHING)
    lake.record(*EVERYTHING)
    lake.ingest()
    other.clock = lake.clock
    other.sent = lake.sent
    other.record(*EVERYTHING)
    for name in ("tables", "heads", "retired"):
        shutil.rmtree(other.root.path / name)
        shutil.copytree(lake.root.path / name, other.root.path / name)
    is_noticed(other)
    other.ingest()
    assert verify(other.root).problems == []
    assert other.unaccounted() == []
    assert len(query(other.root, "SELECT 1 FROM trades").to_pylist()) == 2 * 4
    goes_on_whole(other)


def test_a_recorder_at_work_keeps_its_segments_and_ingest_says_why_it_stops(tmp_path: Path) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    other = lake.copied(tmp_path / "other")
    lake.record(*EVERYTHING)
    lake.ingest()
    other.clock, other.sent = lake.clock, lake.sent
    other.record(*EVERYTHING)
    shutil.rmtree(other.root.tables)
    shutil.copytree(lake.root.tables, other.root.tables)
    before = set(other.root.stream(STREAM).glob("*.seg"))
    with SpoolWriter(other.root.stream(STREAM)), pytest.raises(CorruptionError, match="stop the recorder"):
        other.ingest()
    assert before <= set(other.root.stream(STREAM).glob("*.seg"))
    other.ingest()
    assert verify(other.root).problems == []


@pytest.mark.parametrize("step", ["restamp:after_segment", "restamp:after_segment:2"])
def test_killed_while_records_get_new_offsets_nothing_is_lost(tmp_path: Path, step: str) -> None:
    lake = small_lake(tmp_path / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    other = lake.copied(tmp_path / "other")
    for _ in range(4):
        lake.record(*EVERYTHING)
    lake.ingest()
    other.clock, other.sent = lake.clock, lake.sent
    for _ in range(3):
        other.record(*EVERYTHING)
    shutil.rmtree(other.root.tables)
    shutil.copytree(lake.root.tables, other.root.tables)
    process = kit.lake_command("--root", str(other.root.path), "ingest", crash_at=step)
    code, output = kit.finish(process)
    assert code == kit.KILLED, output
    other.ingest()
    assert verify(other.root).problems == []
    assert other.unaccounted() == []


PARTS = ("spool", "heads", "staging", "retired", "run", "locks", "logs", "quarantine", "manifests")
TABLES_COPIED = ("trades", "index_prices", "gaps", "coverage", "instruments")
KINDS = st.lists(st.sampled_from([TRADES, INDEX, CONTROL]), min_size=0, max_size=3)
ACTION = st.one_of(
    st.tuples(st.just("record"), KINDS, st.booleans()),
    st.just(("ingest",)),
    st.just(("compact",)),
)


@settings(
    max_examples=8, deadline=None, phases=PHASES, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.data(),
    first=st.lists(ACTION, min_size=1, max_size=4),
    order=st.permutations([*PARTS, *TABLES_COPIED]),
    keep=st.integers(1, 6),
)
def test_copied_in_any_order_while_it_records(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    first: list[tuple[object, ...]],
    order: list[str],
    keep: int,
) -> None:
    folder = tmp_path_factory.mktemp("copying")
    lake = small_lake(folder / "lake")
    lake.record(*EVERYTHING)
    lake.ingest()
    for action in first:
        act(lake, action)
    copy = folder / "copy"
    copy.mkdir()
    shutil.copy(lake.root.path / "lake.json", copy)
    pauses = set(data.draw(st.lists(st.integers(0, len(order) - 1), min_size=1, max_size=4, unique=True)))
    for position, part in enumerate(order):
        if position in pauses:
            for action in data.draw(st.lists(ACTION, min_size=1, max_size=3)):
                act(lake, action)
        source = lake.root.table(part) if part in TABLES_COPIED else lake.root.path / part
        target = copy / "tables" / part if part in TABLES_COPIED else copy / part
        if source.exists():
            shutil.copytree(source, target)
    copied = SmallLake(open_root(copy), lake.clock, lake.sent)
    if copied.root.streams():
        copied.expire(keep)
    goes_on_whole(copied)


def act(lake: SmallLake, action: tuple[object, ...]) -> None:
    match action:
        case ("record", list(kinds), bool(crash)):
            lake.record(*map(str, kinds), crash=crash)
        case ("ingest",):
            lake.ingest()
        case _:
            compact(lake.root, days=[])
