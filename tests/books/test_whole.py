"""The whole way: a simulated venue in its own process is recorded, and its books are rebuilt as it says they were."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lake.books import book_at
from lake.books.reading import BookReader, Register
from lake.content import content_hash
from lake.delta import Table
from lake.instants import from_us, to_us
from lake.root import Root
from lake.schema import TABLES
from lake.views import query
from pipeline.compact import compact
from pipeline.depth import DepthRows, DepthSettings, depth_job
from pipeline.periodic import Periodic
from quality.books import PERIOD, check_rows
from quality.verify import verify
from tests.books.kit import Message, naive_at
from tests.pipeline.kit import KILLED, copy_of
from tests.system.kit import Forge
from tests.system.test_continuity import Stage, recording, run

TRUTHS = 45
EVERY_SECOND = {"LAKE_DEPTH_EVERY_SECONDS": "1", "LAKE_DEPTH_SETTLE_SECONDS": "5"}
SETTINGS = DepthSettings(every_seconds=1, settle_seconds=5.0)
STEPS = ("delta:after_write", "delta:after_commit")


@dataclass(frozen=True)
class Recorded:
    """A lake, and what the venue said of its books meanwhile."""

    root: Root
    truths: list[dict[str, Any]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Ten seconds of a market; in the midst of them a book breaks and every connection is lost."""
    folder = tmp_path_factory.mktemp("recorded")
    truths: list[dict[str, Any]] = []

    async def scenario() -> Stage:
        chance = random.Random(11)
        async with recording(folder / "lake", book_check_seconds=0.05) as stage:
            channels = [c for session in stage.recorder.sessions for c in session.channels]
            names = sorted(c.split(".")[1] for c in channels if c.startswith("book."))
            for number in range(TRUTHS):
                if number == TRUTHS // 3:
                    await stage.order("gap", instrument="BTC-PERPETUAL", count=3)
                if number == TRUTHS // 2:
                    await stage.order("drop_all")
                name = chance.choice([*names, "BTC-PERPETUAL"])
                truths.append(await asyncio.to_thread(stage.venue.control, "book", instrument=name))
                await stage.until_recorded(25)
            await stage.until_recorded(1800)
        return stage

    return Recorded(run(scenario()).root, truths)


def test_every_book_is_the_venues_own_at_any_instant_or_is_not_given(recorded: Recorded) -> None:
    reasons: Counter[str | None] = Counter()
    for truth in recorded.truths:
        found = book_at(recorded.root, truth["instrument"], from_us(truth["timestamp"] * 1000), levels=None)
        reasons[found.reason] += 1
        if found.reason is None:
            assert found.bids == tuple(map(tuple, truth["bids"]))
            assert found.asks == tuple(map(tuple, truth["asks"]))
            assert found.change_id == truth["change_id"]
    assert reasons[None] >= TRUTHS * 2 // 3, reasons


def test_the_venues_answers_agree_with_what_was_rebuilt(recorded: Recorded) -> None:
    first = from_us(recorded.truths[0]["timestamp"] * 1000)
    instants = [
        dt.datetime.fromtimestamp(first.timestamp() // 600 * 600, dt.UTC) + PERIOD * n for n in (0, 1, 2)
    ]
    rows = check_rows(recorded.root, instants)
    [answers] = query(recorded.root, "SELECT count(*) AS n FROM book_answers").to_pylist()
    assert len(rows) == answers["n"] > 20
    results = Counter(rows["result"].to_pylist())
    assert results["differs"] == 0, [d for d in rows["difference"].to_pylist() if d]
    assert results["equal"] > 0.8 * len(rows)


def samples(root: Root, **now: Any) -> list[Any]:
    return Periodic(root, depth_job(SETTINGS)).run(**now)


def held(root: Root) -> tuple[int, int]:
    """How many rows `depth` has, and the hash of what they say."""
    files = Table.open(root, TABLES["depth"]).files()
    return sum(file.rows for file in files), sum(file.content_hash for file in files) % (1 << 64)


def test_samples_are_the_books_and_a_second_run_adds_nothing(recorded: Recorded, tmp_path: Path) -> None:
    root = copy_of(recorded.root, tmp_path / "copy")
    messages = stored(root)
    at = dt.datetime.now(dt.UTC)
    [*ran] = samples(root, now=at)
    assert sum(one.instants for one in ran) >= 5
    rows = query(root, "SELECT * FROM depth").to_pylist()
    assert len(rows) > 200
    for row in rows:
        naive = naive_at(since_snapshot(messages[row["instrument"]], to_us(row["ts"])), to_us(row["ts"]))
        assert naive is not None
        bids, asks = naive.sides()
        count = None if row["complete"] else 20
        assert list(zip(row["bid_prices"], row["bid_sizes"], strict=True)) == list(bids[:count])
        assert list(zip(row["ask_prices"], row["ask_sizes"], strict=True)) == list(asks[:count])
    assert any(not row["complete"] for row in rows)
    before = held(root)
    assert samples(root, now=at) == []
    assert held(root) == before
    assert verify(root).problems == []
    # A day that was rewritten gives the same books, by day and by instant.
    compact(root, now=at + dt.timedelta(days=40))
    assert verify(root).problems == []
    for row in random.Random(1).sample(rows, 10):
        found = book_at(root, row["instrument"], row["ts"])
        assert [list(level) for level in found.bids] == [
            list(level) for level in zip(row["bid_prices"], row["bid_sizes"], strict=True)
        ][:20]


def stored(root: Root) -> dict[str, list[Message]]:
    """The messages of the table `book`, per instrument, in the order of their ids."""
    found: dict[str, dict[tuple[int, bool], Message]] = {}
    order = "ORDER BY instrument, change_id, type, recv_ts, level"
    for row in query(root, f"SELECT * FROM book {order}").to_pylist():
        key = (row["change_id"], row["type"] == "snapshot")
        its = found.setdefault(row["instrument"], {})
        prev = row["prev_change_id"]
        message = its.setdefault(key, Message(0, key[0], prev, to_us(row["ts"]), to_us(row["recv_ts"]), []))
        if row["side"]:
            message.levels.append((row["side"], row["action"], row["price"], row["size"]))
    return {name: list(its.values()) for name, its in found.items()}


def since_snapshot(messages: list[Message], at_us: int) -> list[Message]:
    starts = [i for i, m in enumerate(messages) if m.snapshot and m.ts <= at_us]
    return messages[starts[-1] :]


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_killed_is_made_good_by_the_next(
    recorded: Recorded, tmp_path: Path, forge: Forge, step: str
) -> None:
    untouched, killed = (copy_of(recorded.root, tmp_path / name) for name in ("untouched", "killed"))
    arguments = ("--root", str(killed.path), "depth")
    assert forge.lake(*arguments, crash_at=step, **EVERY_SECOND)[0] == KILLED
    before = dt.datetime.now(dt.UTC)
    code, output = forge.lake(*arguments, **EVERY_SECOND)
    assert code == 0, output
    samples(untouched, now=before)
    due = "SELECT DISTINCT ts FROM depth ORDER BY ts"
    wanted, made = (query(root, due)["ts"].to_pylist() for root in (untouched, killed))
    assert made[: len(wanted)] == wanted != []
    at = dt.datetime.now(dt.UTC)  # instants have fallen due since: one and the same end for both lakes
    samples(killed, now=at)
    samples(untouched, now=at)
    assert held(killed) == held(untouched)


def test_books_kept_in_memory_and_taken_up_from_the_table_give_the_same_rows(recorded: Recorded) -> None:
    first = recorded.truths[0]["timestamp"] // 1000 + 2
    instants = [from_us((first + second) * 1_000_000) for second in range(5)]
    at_once = DepthRows(SETTINGS)(recorded.root, instants)
    keeping = DepthRows(SETTINGS)
    one_by_one = [keeping(recorded.root, [instant]) for instant in instants]
    anew = [DepthRows(SETTINGS)(recorded.root, [instant]) for instant in instants]
    assert len(at_once) > 100
    hashes = {content_hash(at_once)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.depth.ROWS_AT_ONCE", 3_000)
        patch.setattr("pipeline.depth.STEP_MIN_US", 100_000)
        files = BookReader(recorded.root, Register()).files()
        assert DepthRows(SETTINGS)._waypoint(files, to_us(instants[-1])) is not None
        in_parts = DepthRows(SETTINGS)(recorded.root, instants[-1:])
    assert content_hash(in_parts) == content_hash(DepthRows(SETTINGS)(recorded.root, instants[-1:]))
    hashes |= {sum(map(content_hash, parts)) % (1 << 64) for parts in (one_by_one, anew)}
    assert len(hashes) == 1


def test_the_verbs_say_what_they_did(recorded: Recorded, forge: Forge) -> None:
    root = str(recorded.root.path)
    truth = next(t for t in recorded.truths if t["bids"] and t["asks"])
    at = from_us(truth["timestamp"] * 1000).isoformat()
    code, output = forge.lake("--root", root, "book", truth["instrument"], "--at", at, "--json")
    assert code == 0, output
    assert f'"change_id": {truth["change_id"]}' in output
    before = from_us(truth["timestamp"] * 1000 - 300_000_000).isoformat()
    code, output = forge.lake("--root", root, "book", truth["instrument"], "--at", before)
    assert code == 1, output
    assert "no snapshot before it is on record" in output
    assert forge.lake("--root", root, "book", "NO-SUCH", "--at", at)[0] == 2
    assert forge.lake("--root", root, "book", "X", "--at", "noon")[0] == 2
