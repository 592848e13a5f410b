"""A collector that is shot while a gap is open: the next life closes it where the last one ended, or heals it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.root import Root, open_root
from lake.views import query
from pipeline.ingest import ingest
from tests.pipeline.kit import assert_sound
from tests.system import kit
from tests.waiting import until

NAME = "BTC-PERPETUAL"
BOOK = f"book.{NAME}.100ms"


@pytest.fixture
def venue(tmp_path: Path) -> Iterator[SimulatorProcess]:
    account = tmp_path / "account.jsonl"
    with start(SimulatorSettings(instruments=20, rate=120.0, seed=5, account=account)) as process:
        yield process


def test_a_broken_book_and_missing_trades_survive_a_kill(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    order = {
        "root": str(root.path), "ws_url": venue.ws_url, "rest_url": venue.rest_url, "seconds": 3600.0,
        "spool": {"commit_interval_ms": 10.0},
    }  # fmt: skip

    def break_things(pid: int) -> None:
        until(lambda: venue.control("stats")["sent"] > 300)
        # The book must not be whole again before trades are seen to be missing.
        venue.control("fail", method="unsubscribe", code=10040, message="retry", calls=50)
        venue.control("gap", instrument=NAME, count=2)
        venue.control("miss_trades", instrument=NAME, count=3)
        until(lambda: still_open(root) >= {"book_break", "missing_trades"})
        os.kill(pid, signal.SIGKILL)

    def heal(pid: int) -> None:
        before = venue.control("stats")["sent"]
        until(lambda: venue.control("stats")["sent"] > before + 300)
        until(lambda: not still_open(root))
        os.kill(pid, signal.SIGTERM)

    with kit.forge(tmp_path / "log") as forge:
        assert forge.run({"record": order}, beside=break_things).status == -signal.SIGKILL, forge.said()
        assert forge.run({"record": order}, beside=heal).status == 0, forge.said()
    ingest(root)
    assert_sound(root)
    check(root)


def still_open(root: Root) -> set[str]:
    """Causes of the gaps whose end has not been told, by the durable records."""
    found: dict[tuple[Any, ...], str] = {}
    for event in kit.events_so_far(root):
        for gap in [*event.get("gaps", []), event]:
            key = tuple(gap.get(name) for name in ("cause", "connection", "channel", "start_ns", "first_seq"))
            if event["type"] in ("GapOpened", "GapsOpen") and "cause" in gap:
                found[key] = gap["cause"]
        if event["type"] in ("Gap", "GapWithdrawn"):
            found.pop(key, None)
    return set(found.values())


def check(root: Root) -> None:
    rows = query(root, "SELECT * FROM gaps ORDER BY start_ts").to_pylist()
    [crash] = [row for row in rows if row["cause"] == "crashed" and row["channel"] is None]
    broken = [row for row in rows if row["cause"] == "book_break"]
    assert [(row["channel"], row["healed"]) for row in broken] == [(BOOK, False)]
    first_life = [
        record for record in kit.records(root) if record.recv_ns // 1000 <= kit.micros(crash["start_ts"])
    ]
    last_ns = first_life[-1].recv_ns
    assert kit.micros(crash["start_ts"]) == last_ns // 1000
    assert kit.micros(broken[0]["end_ts"]) == (last_ns + 999) // 1000, "the claims join"
    trades = [row for row in rows if row["cause"] == "missing_trades" and row["instrument"] == NAME]
    assert [(row["healed"], row["records_lost"]) for row in trades] == [(True, 0)]
    held = query(root, f"SELECT DISTINCT trade_seq AS n FROM trades WHERE instrument = '{NAME}'").to_pylist()
    numbers = {row["n"] for row in held}
    assert numbers == set(range(min(numbers), max(numbers) + 1))
