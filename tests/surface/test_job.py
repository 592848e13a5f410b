"""`lake surface`: every instant once, from what was known at that instant, whatever kills the run."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lake.content import content_hash
from lake.delta import Table
from lake.errors import BusyError, InputError
from lake.locks import exclusive
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.views import query
from pipeline.compact import compact
from pipeline.surface.history import constant_maturity, surfaces
from pipeline.surface.job import compute, snapshot
from pipeline.surface.settings import SurfaceSettings
from quality.verify import verify
from tests.surface import kit
from tests.system.kit import Forge

HALF_HOUR = dt.timedelta(minutes=30)
INSTANTS = [kit.NOON - HALF_HOUR * number for number in (4, 3, 2, 1, 0)]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return kit.new_lake(tmp_path / "lake")


def stored(root: Root) -> pa.Table:
    """All rows of the table, in order."""
    return query(root, "SELECT * FROM surface ORDER BY family, ts, expiration_ts")


def rows(root: Root) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = stored(root).to_pylist()
    return found


def instants(root: Root) -> list[dt.datetime]:
    return sorted({row["ts"] for row in rows(root)})


def test_every_hour_that_the_quotes_reach_has_a_row_per_expiry(root: Root) -> None:
    (done,) = compute(root)
    assert (done.family, done.instants, done.smiles, done.failures) == ("btc_option", 3, 9, 0)
    assert instants(root) == INSTANTS[::2]
    for row in rows(root):
        assert (row["method"], row["source"], row["failure"]) == ("svi", "mark", None)
        assert (row["venue"], row["family"], row["forward"]) == ("deribit", "btc_option", kit.FORWARD)
        assert row["rmse"] < 0.02
        assert row["quotes"] == 2 * len(kit.STRIKES)
        assert row["strikes"] + sum(json.loads(row["excluded"]).values()) == row["quotes"]
        assert not row["butterfly"]
        assert not row["calendar"]
    assert [row["instrument"] for row in rows(root)[:3]] == ["BTC-6MAR26", "BTC-27MAR26", "BTC-26JUN26"]
    assert [row["expiration_ts"] for row in rows(root)[:3]] == list(kit.SMILES)


def test_a_surface_knows_what_was_quoted_then_and_nothing_later(root: Root) -> None:
    compute(root, every=HALF_HOUR)
    at_money = [row["atm"] for row in rows(root) if row["instrument"] == "BTC-26JUN26"]
    lifts = [later - earlier for earlier, later in itertools.pairwise(at_money)]
    assert lifts == pytest.approx([0.1] * 4, abs=0.02)


def test_progress_is_told_by_family_and_day(root: Root) -> None:
    kit.put_quotes(root, kit.ticks(kit.NOON, underlying="ETH"), version=1, family="eth_option")
    told: list[tuple[int, int]] = []

    def progress(results: Iterable[Any], total: int) -> Iterator[Any]:
        for number, result in enumerate(results, 1):
            told.append((number, total))
            yield result

    assert len(compute(root, progress=progress)) == 2
    assert told == [(1, 2), (2, 2)]


def test_a_second_run_finds_nothing_to_do(root: Root) -> None:
    compute(root, every=HALF_HOUR)
    before, version = stored(root), Table.open(root, TABLES["surface"]).version
    assert compute(root, every=HALF_HOUR) == []
    assert compute(root) == []
    assert compute(root, at=kit.NOON) == []
    assert stored(root).equals(before)
    assert Table.open(root, TABLES["surface"]).version == version


def test_the_way_there_makes_no_difference(root: Root, tmp_path: Path) -> None:
    compute(root, at=INSTANTS[3])
    compute(root)
    compute(root, every=HALF_HOUR, settings=SurfaceSettings(workers=2))
    other = kit.new_lake(tmp_path / "other")
    compute(other, every=HALF_HOUR)
    assert stored(root).equals(stored(other))


@pytest.mark.parametrize(
    "place",
    [
        "surface:before_append",
        "delta:after_write",
        "delta:before_commit",
        "delta:after_commit",
        "surface:after_append",
    ],
)
def test_killed_anywhere_and_run_again_every_row_is_there_once(
    root: Root, place: str, tmp_path: Path, forge: Forge
) -> None:
    ether = kit.ticks(kit.NOON, underlying="ETH")  # a second commit to be killed before
    kit.put_quotes(root, ether, version=1, family="eth_option")
    code, output = forge.lake("--root", str(root.path), "surface", crash_at=place)
    assert code == -signal.SIGKILL, output
    compute(root)
    other = kit.new_lake(tmp_path / "other")
    kit.put_quotes(other, ether, version=1, family="eth_option")
    compute(other)
    assert stored(root).equals(stored(other))
    assert [told for told in verify(root).problems if "surface" in told] == []
    held = {str(path.relative_to(root.table("surface"))) for path in root.table("surface").rglob("*.parquet")}
    assert held == {file.path for file in Table.open(root, TABLES["surface"]).files()}, "garbage left"


def test_compaction_keeps_the_table_and_the_job_still_knows_it(root: Root) -> None:
    compute(root)
    compute(root, every=HALF_HOUR)
    before = stored(root)
    compact(root, tables=["surface"], now=kit.NOON + dt.timedelta(days=60))
    assert len(Table.open(root, TABLES["surface"]).files()) == 1
    assert stored(root).equals(before)
    assert compute(root, every=HALF_HOUR) == []
    assert [told for told in verify(root).problems if "surface" in told] == []


def test_an_instant_that_the_quotes_do_not_reach_yet_waits(root: Root) -> None:
    with pytest.raises(InputError, match="quotes reach to 2026-03-02 12:00"):
        compute(root, at=kit.NOON + dt.timedelta(seconds=1))
    compute(root)
    kit.put_quotes(root, kit.ticks(kit.NOON + dt.timedelta(hours=1, seconds=1)), version=9)
    (done,) = compute(root)
    assert done.instants == 1
    assert instants(root)[-1] == kit.NOON + dt.timedelta(hours=1)


def test_quotes_too_old_at_the_instant_make_rows_without_a_smile(root: Root) -> None:
    kit.put_quotes(root, kit.ticks(kit.NOON + dt.timedelta(hours=2)), version=9)
    compute(root)
    late = [row for row in rows(root) if row["ts"] == kit.NOON + dt.timedelta(hours=1)]
    assert len(late) == len(kit.SMILES)
    for row in late:
        assert (row["method"], row["failure"], row["strikes"]) == (None, "stale", 0)
        derived = ("svi_a", "svi_b", "svi_rho", "svi_m", "svi_sigma", "k_low", "k_high", "rmse", "rmse_equal",
                   "max_error", "least_g", "butterfly", "calendar", "atm", "rr25", "bf25")  # fmt: skip
        assert {row[name] for name in derived} == {None}
        assert json.loads(row["excluded"]) == {"stale": row["quotes"]}


def test_an_expiry_with_one_quote_has_a_row_that_says_so(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    lonely = kit.option_name(dt.datetime(2026, 4, 24, 8, tzinfo=dt.UTC), 80_000, call=True)
    silent = kit.option_name(dt.datetime(2026, 5, 29, 8, tzinfo=dt.UTC), 80_000, call=True)
    moment = kit.NOON - dt.timedelta(minutes=1)
    ticks = [*kit.ticks(moment), kit.tick(lonely, moment, 45.0), kit.tick(silent, moment, None)]
    kit.put_quotes(root, [*ticks, kit.tick(lonely, kit.NOON, 45.0)], version=1)
    (done,) = compute(root, at=kit.NOON)
    assert (done.smiles, done.failures) == (3, 2)
    failures = {row["instrument"]: row["failure"] for row in rows(root)}
    assert failures["BTC-24APR26"] == "too few strikes"
    assert failures["BTC-29MAY26"] == "no volatility"


def test_options_that_have_expired_are_gone(root: Root) -> None:
    at = dt.datetime(2026, 3, 6, 8, tzinfo=dt.UTC)
    kit.put_quotes(root, kit.ticks(at - dt.timedelta(minutes=5)), version=9)
    kit.put_quotes(root, kit.ticks(at), version=10)
    compute(root, at=at)
    assert {row["instrument"] for row in rows(root)} == {"BTC-27MAR26", "BTC-26JUN26"}


def test_midnight_sees_the_quotes_of_the_evening(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    midnight = dt.datetime(2026, 3, 3, tzinfo=dt.UTC)
    kit.put_quotes(root, kit.ticks(midnight - dt.timedelta(minutes=10)), version=1)
    kit.put_quotes(root, kit.ticks(midnight + dt.timedelta(minutes=10), lift=5.0), version=2)
    compute(root)
    assert instants(root) == [midnight]
    marks = query(root, "SELECT mark_iv FROM quotes WHERE instrument = 'BTC-26JUN26-80000-C' ORDER BY ts")
    assert rows(root)[-1]["atm"] == pytest.approx(marks["mark_iv"][0].as_py(), abs=0.05)


def test_of_two_ticks_at_one_time_the_last_received_counts(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    later = [
        {**tick, "recv_ts": tick["recv_ts"] + dt.timedelta(seconds=1)}
        for tick in kit.ticks(kit.NOON, lift=3.0)
    ]
    kit.put_quotes(root, [*later, *kit.ticks(kit.NOON)], version=1)
    compute(root, at=kit.NOON)
    expected = 100.0 * kit.SMILES[list(kit.SMILES)[2]].volatility(0.0, kit.years(list(kit.SMILES)[2])) + 3.0
    assert rows(root)[-1]["atm"] == pytest.approx(float(expected), abs=0.05)


def test_families_are_kept_apart_and_can_be_chosen(root: Root) -> None:
    linear = [
        {**tick, "instrument": tick["instrument"].replace("BTC-", "BTC_USDC-")}
        for tick in kit.ticks(kit.NOON, lift=7.0)
    ]
    kit.put_quotes(root, linear, version=1, family="btc_usdc_option")
    compute(root, at=kit.NOON, currencies=["btc_usdc"])
    assert {(row["family"], row["instrument"].partition("-")[0]) for row in rows(root)} == {
        ("btc_usdc_option", "BTC_USDC")
    }
    compute(root, at=kit.NOON)
    assert len(rows(root)) == 2 * len(kit.SMILES)


def test_snapshot_is_what_the_table_holds(root: Root) -> None:
    compute(root, at=kit.NOON)
    for smile, row in zip(snapshot(root, "btc_option", kit.NOON), rows(root), strict=True):
        assert smile.svi is not None
        assert list(smile.svi) == [row[f"svi_{name}"] for name in smile.svi._fields]


def test_stored_surfaces_can_be_read_and_give_constant_maturities(root: Root) -> None:
    compute(root)
    found = list(surfaces(root, "btc_option", INSTANTS[0], kit.NOON))
    assert [surface.ts for surface in found] == [kit.us(moment) for moment in INSTANTS[::2]]
    expiry = list(kit.SMILES)[1]
    assert found[-1].volatility(kit.FORWARD, kit.us(expiry)) == pytest.approx(
        100.0 * kit.SMILES[expiry].volatility(0.0, kit.years(expiry)) + 0.4, abs=0.02
    )
    days = (expiry - kit.NOON) / dt.timedelta(days=1)
    *_, last = constant_maturity(root, "btc_option", INSTANTS[0], kit.NOON, [days])
    assert last.ts == kit.NOON
    row = next(row for row in rows(root) if row["ts"] == kit.NOON and row["expiration_ts"] == expiry)
    assert last.quoted == pytest.approx((row["atm"], row["rr25"], row["bf25"]), abs=1e-9)
    (short,) = constant_maturity(root, "btc_option", kit.NOON, kit.NOON, [1.0])
    assert math.isnan(short.quoted.atm)


def test_only_one_computes_at_a_time(root: Root) -> None:
    with exclusive(root.locks / "surface.lock", "being tested"), pytest.raises(BusyError):
        compute(root)


def test_bad_input_is_told_in_one_line(root: Root, tmp_path: Path) -> None:
    empty = open_root(tmp_path / "empty", create=True)
    for lake, given, words in (
        (empty, {}, "has no quotes of options yet"),
        (root, {"currencies": ["SOL"]}, "no quotes of options on SOL; there are of BTC"),
        (root, {"days": [dt.date(2020, 1, 1)]}, "from 2026-03-02 to 2026-03-02"),
        (root, {"every": dt.timedelta(days=2)}, "change --every"),
    ):
        arguments: dict[str, Any] = given
        with pytest.raises(InputError, match=words):
            compute(lake, **arguments)


@pytest.mark.parametrize(
    "wrong",
    [{"source": "bid"}, {"min_delta": 0.5}, {"max_iv": 0.0}, {"outlier_floor": -1.0}, {"workers": 0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SurfaceSettings(**wrong)


def test_rows_hash_as_the_log_says(root: Root) -> None:
    compute(root)
    table = Table.open(root, TABLES["surface"])
    assert content_hash(table.read()) == sum(file.content_hash for file in table.files()) % (1 << 64)
