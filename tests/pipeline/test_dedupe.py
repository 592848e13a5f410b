"""Each tick is in the tables once, at any time, whoever brought it; what differs is there as often as it differs."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import SpoolSettings, SpoolWriter, sealed_segments
from lake.tables import Tables
from lake.views import query
from pipeline import dedupe
from pipeline.compact import CompactSettings, compact
from pipeline.ingest import IngestSettings, Kept, ingest
from tests.pipeline import kit

SMALL = IngestSettings(records_per_commit=1)
NOON_MS = 1_795_000_000_000
STEPS = (
    "ingest:after_quotes",
    "ingest:after_trades",
    "ingest:after_book",
    "ingest:after_gaps",
    "ingest:after_group",
)


def trade(number: int, **said: Any) -> dict[str, Any]:
    """A trade as the venue tells it."""
    told = {
        "trade_seq": number, "trade_id": str(number), "timestamp": NOON_MS + number, "price": 100.0, "amount": 10.0,
        "instrument_name": "BTC-PERPETUAL", "direction": "buy", "tick_direction": 0, "index_price": 100.0,
        "mark_price": 100.0, "contracts": 1.0,
    }  # fmt: skip
    return {**told, **said}


def frame(*trades: dict[str, Any]) -> bytes:
    params = {"channel": "trades.future.any.100ms", "data": list(trades)}
    return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}).encode()


def hear(root: Root, stream: str, frames: Sequence[bytes], segment_bytes: int = 40_000) -> None:
    """Record frames in a stream."""
    with SpoolWriter(root.stream(stream), SpoolSettings(segment_bytes=segment_bytes)) as spool:
        for one in frames:
            spool.append(one)
            spool.flush()


def sums(root: Root) -> tuple[int, float]:
    [row] = query(root, "SELECT count(*) AS n, sum(size) AS size FROM trades").to_pylist()
    return row["n"], row["size"]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def test_a_trade_that_comes_again_is_left_out_and_counted(root: Root) -> None:
    hear(root, "deribit", [frame(trade(1), trade(2), trade(1)), frame(trade(2), trade(3))])
    ingest(root)
    hear(root, "deribit-b", [frame(trade(3), trade(4))])
    ingest(root)
    assert sums(root) == (4, 40.0)
    [row] = query(root, "SELECT sum(repeated) AS again, sum(rows_trades) AS rows FROM coverage").to_pylist()
    assert (row["again"], row["rows"]) == (3, 4)
    kit.assert_sound(root)


def test_a_trade_is_known_in_days_that_are_finished_too(root: Root) -> None:
    hear(root, "deribit", [frame(trade(1), trade(2))])
    ingest(root)
    day = query(root, "SELECT DISTINCT date FROM trades").to_pylist()[0]["date"]
    compact(root, days=[day])
    hear(root, "deribit-b", [frame(trade(2), trade(3))])
    ingest(root)
    assert sums(root) == (3, 30.0)
    kit.assert_sound(root)


@pytest.mark.parametrize("differs", [{"price": 101.0}, {"amount": 20.0}, {"direction": "sell"}])
def test_trades_that_contradict_each_other_stay_and_are_told(
    root: Root, caplog: pytest.LogCaptureFixture, differs: dict[str, Any]
) -> None:
    hear(root, "deribit", [frame(trade(1))])
    ingest(root)
    hear(root, "deribit-b", [frame(trade(1, **differs), trade(2))])
    ingest(root)
    compact(root, CompactSettings(roll_up_files=2))
    assert sums(root)[0] == 3
    assert "1 rows of trades contradict rows that are held, first BTC-PERPETUAL 1" in caplog.text
    kit.assert_sound(root)


@pytest.mark.parametrize("finished", [False, True])
def test_a_row_that_tells_more_takes_the_place_of_the_one_held(root: Root, finished: bool) -> None:
    hear(root, "deribit", [frame(trade(1), trade(2)), frame(trade(3))])
    ingest(root)
    if finished:
        compact(root, days=[query(root, "SELECT DISTINCT date FROM trades").to_pylist()[0]["date"]])
    hear(
        root,
        "deribit-b",
        [frame(trade(2, liquidation="T"), trade(2, liquidation="T"), trade(4)), frame(trade(2))],
    )
    ingest(root)
    assert sums(root) == (4, 40.0)
    told = query(root, "SELECT trade_id FROM trades WHERE liquidation = 'T'").to_pylist()
    assert told == [{"trade_id": "2"}]
    kit.assert_sound(root)


def test_rows_whose_hashes_collide_are_all_kept(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedupe, "row_hashes", lambda rows, _columns: np.zeros(rows.num_rows, np.uint64))
    hear(root, "deribit", [frame(trade(1), trade(2))])
    ingest(root)
    hear(root, "deribit-b", [frame(trade(2), trade(3))])
    ingest(root)
    assert sums(root) == (3, 30.0)
    kit.assert_sound(root)


def both_hear(recorded: Root) -> dict[str, int]:
    """A second collector that heard the same; how many rows there are once."""
    hear(recorded, "deribit-b", kit.durable_frames(recorded))
    return kit.expected(recorded).rows


def test_files_too_large_to_be_remembered_are_looked_into(
    recorded: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dedupe, "WHOLE_ROWS_MAX", 10)
    monkeypatch.setattr(dedupe, "KEPT_MAX_BYTES", 1000)
    once = both_hear(recorded)
    ingest(recorded, SMALL)
    assert kit.held(recorded).rows == once
    kit.assert_sound(recorded)


@pytest.mark.parametrize("seed", range(2))
def test_two_ingesters_in_turn_bring_each_tick_once_at_any_moment(recorded: Root, seed: int) -> None:
    once, chance = both_hear(recorded), random.Random(seed)
    waiting = [
        (segment.path, recorded.path.parent / f"{stream}-{segment.path.name}", stream)
        for stream in ("deribit", "deribit-b")
        for segment in sealed_segments(recorded.stream(stream))
    ]
    for path, aside, _ in waiting:
        path.rename(aside)
    keepers = [Kept(Tables(recorded)), Kept(Tables(recorded))]
    while waiting:
        of = chance.choice(sorted({stream for _, _, stream in waiting}))
        path, aside, _ = next(one for one in waiting if one[2] == of)
        waiting.remove((path, aside, of))
        aside.rename(path)
        ingest(recorded, SMALL, streams=[of], kept=chance.choice(keepers))
        if chance.random() < 0.1:
            compact(recorded, CompactSettings(roll_up_files=3))
        if chance.random() < 0.1:
            unique(recorded)
    unique(recorded)
    assert kit.held(recorded).rows == once
    kit.assert_sound(recorded)


def unique(root: Root) -> None:
    """No table that ticks go to has a row twice."""
    for name in kit.TICKS:
        table = Table.open(root, TABLES[name])
        key = [column for column in TABLES[name].natural_key if column != "unrounded"]
        key += [column for column in (TABLES[name].position,) if column]
        rows = table.read(key)
        assert rows.group_by(key).aggregate([]).num_rows == len(rows), name


def test_counts_come_out_the_same_whenever_ingest_is_killed(recorded: Root, tmp_path: Path) -> None:
    once = both_hear(recorded)
    calm = kit.copy_of(recorded, tmp_path / "calm")
    ingest(calm)
    arguments = ("--root", str(recorded.path), "ingest")
    for number, step in enumerate(STEPS):
        code, output = kit.finish(
            kit.lake_command(
                *arguments, crash_at=f"{step}:{number % 2 + 1}", LAKE_INGEST_RECORDS_PER_COMMIT="1500"
            )
        )
        assert code == kit.KILLED, f"{step}: {output}"
    ingest(recorded)
    assert kit.held(recorded).rows == once
    counted = "SELECT sum(repeated) AS again, sum(rows_quotes) AS quotes, sum(rows_instruments) AS terms FROM coverage"
    assert query(recorded, counted).to_pylist() == query(calm, counted).to_pylist()
    kit.assert_sound(recorded)
