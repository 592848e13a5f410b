"""What the tests of backfilling share: runs against a simulated venue, held against the venue's own account.

The account is the hash of all rows of a thing, so it is right to the last digit or not at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from collectors.backoff import BackoffSettings
from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess
from lake.root import Root, open_root
from lake.spool import SpoolSettings
from lake.views import query
from pipeline.backfill.plan import Choice
from pipeline.backfill.run import Job, Report
from pipeline.backfill.settings import BackfillSettings
from quality.verify import verify
from tests.waiting import until

QUICK = BackoffSettings(base_s=0.01, cap_s=0.05, factor=2.0)
COLUMNS = {
    "candles": "epoch_ms(ts), open, high, low, close, volume, cost",
    "trades": "trade_seq, epoch_ms(ts), price, size",
}


def past(**changes: Any) -> SimulatorSettings:
    """A small venue whose market stands still, with some past."""
    wanted: dict[str, Any] = {
        "instruments": 12, "rate": 200.0, "hold": True, "past_futures": 3, "past_options": 12, "past_days": 20,
        "past_trades": 300, "past_perpetual_trades": 300, "past_burst": 120,
    }  # fmt: skip
    return SimulatorSettings(**{**wanted, **changes})


def settings(venue: SimulatorProcess, **changes: Any) -> BackfillSettings:
    """As fast as the venue answers."""
    wanted: dict[str, Any] = {
        "rest_url": venue.rest_url, "history_url": venue.history_url, "rest_per_s": 2000.0, "history_per_s": 2000.0,
        "backoff": QUICK, "quiet_s": 0.1, "currencies": ("BTC", "ETH"),
    }  # fmt: skip
    return BackfillSettings(**{**wanted, **changes})


def lake(folder: Path) -> Root:
    """A new lake."""
    return open_root(folder / "lake", create=True)


def job(root: Root, dataset: str, chosen: BackfillSettings, **choice: Any) -> Job:
    """A backfill of `dataset`."""
    return Job(root, dataset, Choice(**choice), chosen, SpoolSettings())


def run(root: Root, dataset: str, chosen: BackfillSettings, **choice: Any) -> Report:
    """Do it."""
    return asyncio.run(job(root, dataset, chosen, **choice).run())


def rows(root: Root, statement: str) -> list[dict[str, Any]]:
    """An answer of the lake's SQL."""
    return list(query(root, statement).to_pylist())


def assert_sound(root: Root) -> None:
    """`lake verify` has nothing to say."""
    assert verify(root).problems == []


def account_of(root: Root, dataset: str, instrument: str) -> tuple[int, str]:
    """How many rows the lake holds of an instrument, and their hash as the venue makes it of its own."""
    names = COLUMNS[dataset]
    order = "trade_seq" if dataset == "trades" else "ts"
    table = query(root, f"SELECT {names} FROM {dataset} WHERE instrument = '{instrument}' ORDER BY {order}")
    columns = [column.to_numpy() for column in table.columns]
    return len(table), hashlib.sha256(np.column_stack(columns).astype("<f8").tobytes()).hexdigest()


def assert_as_told(
    root: Root, venue: SimulatorProcess, dataset: str, names: Sequence[str], end_ms: int
) -> int:
    """The lake holds of `names` what the venue says its history holds, row for row; how many rows that is."""
    total = 0
    for name in names:
        told = venue.control("truth", dataset=dataset, instrument=name, end=end_ms)["truth"]
        held, hashed = account_of(root, dataset, name)
        assert (held, hashed) == (told["rows"], told["sha256"] if held else hashed), name
        total += held
    return total


def told_ms(root: Root, dataset: str) -> int:
    """The last moment that all answers about `dataset` reach to, ms."""
    found = rows(root, f"SELECT epoch_ms(max(end_ts)) AS ms FROM backfills WHERE dataset = '{dataset}'")
    return int(found[0]["ms"])


def killed(root: Root, venue: SimulatorProcess, *arguments: str, after: int, per_s: float) -> None:
    """Run the verb in a process of its own and kill it after so many requests."""
    process = subprocess.Popen(
        command(root, venue, *arguments),
        env=environment(per_s), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    before = requests(venue)
    until(lambda: process.poll() is not None or requests(venue) >= before + after, "requests")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it was through before"


def requests(venue: SimulatorProcess) -> int:
    """How many the venue has had by now."""
    return int(venue.control("limits")["limits"]["www"]["requests"])


def command(root: Root, venue: SimulatorProcess, *arguments: str) -> list[str]:
    """The verb's command line."""
    urls = ["--rest-url", venue.rest_url, "--history-url", venue.history_url]
    return [sys.executable, "-m", "cli", "--root", str(root.path), "backfill", *arguments, *urls]


def environment(per_s: float) -> dict[str, str]:
    """The environment of a verb that asks at a rate."""
    return {**os.environ, "LAKE_BACKFILL_REST_PER_S": str(per_s), "LAKE_BACKFILL_HISTORY_PER_S": str(per_s)}
