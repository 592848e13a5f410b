"""Backfilling from a simulated venue on this machine: how fast, how much memory, what limits and kills leave of it.

    python -m bench.backfill [--long]

The short form backfills two years of one-minute candles of a perpetual as fast as the venue answers, and the trades of
100 expired options. `--long` takes two perpetuals since 2018 with 150 expired futures, under a request limit that makes
it minutes instead of hours, killing the process (SIGKILL) again and again; and the trades of 1,000 expired options. The
figures of CPU and memory are of the backfilling process alone; the simulated venue, in a process of its own, computes
each candle when it is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.harness import Figure, report
from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.root import open_root
from lake.views import query

UNLIMITED: Final = 5_000.0
LIMIT_PER_S: Final = 30.0
"""The allowance of the long form: six times the careful one of the live venue, so that it ends in minutes."""
KILLS: Final = 5
KILL_AFTER_S: Final = 20.0


def market(**past: Any) -> SimulatorSettings:
    """A venue whose live market stands still."""
    return SimulatorSettings(instruments=12, rate=100.0, hold=True, **past)


def command(folder: Path, venue: SimulatorProcess, arguments: Sequence[str]) -> list[str]:
    """The verb, as a program would call it."""
    urls = ["--rest-url", venue.rest_url, "--history-url", venue.history_url, "--json"]
    return [sys.executable, "-m", "cli", "--root", str(folder), "backfill", *arguments, *urls]


def environment(per_s: float) -> dict[str, str]:
    """The rate of both hosts."""
    return {**os.environ, "LAKE_BACKFILL_REST_PER_S": str(per_s), "LAKE_BACKFILL_HISTORY_PER_S": str(per_s)}


def backfill(
    folder: Path, venue: SimulatorProcess, *arguments: str, per_s: float = UNLIMITED
) -> tuple[dict[str, Any], resource.struct_rusage]:
    """Run it to its end; what it says of itself, and what it used."""
    process = subprocess.Popen(
        command(folder, venue, arguments), env=environment(per_s), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout as output:
        said = output.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments}: exit code {process.returncode}\n{said.decode()}")
    told: dict[str, Any] = json.loads(said)[0]
    return told, used


def killed(folder: Path, venue: SimulatorProcess, *arguments: str, per_s: float, after_s: float) -> None:
    """Run it for so many seconds, then kill it."""
    process = subprocess.Popen(
        command(folder, venue, arguments), env=environment(per_s), stdout=subprocess.DEVNULL
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def cpu_s(used: resource.struct_rusage) -> float:
    """User and system time."""
    return used.ru_utime + used.ru_stime


def finding(told: dict[str, Any], words: str) -> int:
    """The count of one check."""
    return int(next(check["count"] for check in told["checks"] if words in check["check"]))


def unthrottled(folder: Path, first: str, last: str) -> list[Figure]:
    """Candles of one perpetual, as fast as the venue answers."""
    with start(market(past_futures=4, past_options=4, past_perpetual_trades=500)) as venue:
        wanted = ("candles", "--instrument", "BTC-PERPETUAL", "--from", first, "--to", last)
        backfill(folder, venue, "instruments")
        told, used = backfill(folder, venue, *wanted)
    rows = told["rows"]
    wall = "candles per second of wall clock, venue included"
    return [
        Figure("candles", rows, "bars"),
        Figure(wall, rows / told["seconds"], "bars/s", 100_000, 500_000, True),
        Figure("CPU-s per million candles, starting included", cpu_s(used) / rows * 1e6, "CPU-s", 10.0, 2.0),
        Figure("memory at most", used.ru_maxrss / 1024, "MB", 500),
        Figure("missing, not the venue's", finding(told, "not asked for"), "bars", 0),
        Figure("held twice", finding(told, "twice"), "bars", 0),
    ]


def limited(folder: Path) -> list[Figure]:
    """Perpetuals and expired futures under a limit, killed again and again."""
    allowance = {"rest_per_second": LIMIT_PER_S, "history_per_second": LIMIT_PER_S}
    wanted = ("candles", "--currency", "BTC", "--currency", "ETH", "--to", "2026-09-30")
    with start(market(past_futures=150, past_options=4, past_perpetual_trades=300, **allowance)) as venue:
        for _ in range(KILLS):
            killed(folder, venue, *wanted, per_s=LIMIT_PER_S, after_s=KILL_AFTER_S)
        before = venue.control("limits", reset=True)["limits"]["www"]
        told, _ = backfill(folder, venue, *wanted, per_s=LIMIT_PER_S)
        after = venue.control("limits")["limits"]["www"]
        needed = query(
            open_root(folder),
            "SELECT count(*) AS n FROM (SELECT DISTINCT instrument, start_ts FROM backfills WHERE dataset = 'candles')",
        )["n"][0].as_py()
    asked = sum(counts["by_method"].get("get_tradingview_chart_data", 0) for counts in (before, after))
    return [
        Figure("candles of two perpetuals and the expired futures", finding(told, "1m bars"), "bars"),
        Figure(f"requests, with {KILLS} kills on the way", asked, "requests"),
        Figure("requests that were made twice", 100.0 * (asked - needed) / needed, "%", 2.0),
        Figure(
            "share of the allowance used, last stretch", 100.0 * after["utilisation"], "%", 95.0, None, True
        ),
        Figure("refusals", before["refused"] + after["refused"], "requests", 0),
        Figure("bans", before["bans"] + after["bans"], "bans", 0),
        Figure("missing, not the venue's", finding(told, "not asked for"), "bars", 0),
        Figure("missing, the venue's own", finding(told, "venue has none"), "bars"),
        Figure("held twice", finding(told, "twice"), "bars", 0),
    ]


def expired_options(folder: Path, count: int) -> list[Figure]:
    """Every trade of expired options, by its number."""
    with start(market(past_futures=4, past_options=count, past_trades=1_500)) as venue:
        began_s = time.monotonic()
        told, used = backfill(folder, venue, "trades", "--kind", "option")
        seconds = time.monotonic() - began_s
        truth = venue.control("truth", dataset="trades")["truth"]["instruments"]
    held = query(
        open_root(folder),
        "SELECT instrument, count(*) AS n, count(DISTINCT trade_seq) AS numbers, max(trade_seq) AS last FROM trades"
        " GROUP BY instrument",
    ).to_pylist()
    traded = {
        name: told["rows"] for name, told in truth.items() if name.endswith(("-C", "-P")) and told["rows"]
    }
    whole = sum(row["n"] == row["numbers"] == row["last"] == traded[row["instrument"]] for row in held)
    crowded = query(
        open_root(folder),
        "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM trades GROUP BY instrument, ts)",
    )["n"][0].as_py()
    return [
        Figure("options that were ever traded", len(traded), "instruments"),
        Figure("of these held with every trade, each once", whole, "instruments", len(traded), None, True),
        Figure("trades", told["rows"], "trades"),
        Figure("trades of one instrument in one millisecond, at most", crowded, "trades"),
        Figure("requests per instrument", told["requests"] / len(held), "requests"),
        Figure("trades per second of wall clock, venue included", told["rows"] / seconds, "trades/s"),
        Figure("CPU-s per million trades", cpu_s(used) / told["rows"] * 1e6, "CPU-s"),
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="seven years, 150 futures, 1,000 options, kills")
    parser.add_argument("--only", choices=("candles", "limit", "options"), help="one part")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "candles"):
            span = ("2019-01-01", "2025-12-31") if options.long else ("2023-01-01", "2024-12-31")
            report("backfill: one-minute candles, no limit", unthrottled(Path(folder) / "free", *span))
        if options.only in (None, "options"):
            count = 1_000 if options.long else 100
            report("backfill: trades of expired options", expired_options(Path(folder) / "options", count))
        if options.long and options.only in (None, "limit"):
            title = f"backfill: candles at {LIMIT_PER_S:g} requests/s allowed"
            report(title, limited(Path(folder) / "limited"))


if __name__ == "__main__":
    main()
