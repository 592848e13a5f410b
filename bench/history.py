"""How fast the simulated venue tells of its past, so that a backfill measured against it measures itself.

`python -m bench.history [--long]`: CPU-seconds of the venue's process, HTTP included and its start left out.
"""

from __future__ import annotations

import argparse
import http.client
from typing import Final

from bench.harness import Figure, cpu, report
from collectors.simulator.process import SimulatorProcess, start
from collectors.simulator.settings import SimulatorSettings

FIRST_MS: Final = 1_600_000_000_000
BARS: Final = 5_001
PAGE: Final = 10_000
MINUTE_MS: Final = 60_000
SETTINGS: Final = SimulatorSettings(instruments=2, hold=True)
CANDLES: Final = (
    "/api/v2/public/get_tradingview_chart_data?instrument_name=BTC-PERPETUAL&resolution=1"
    "&start_timestamp={first}&end_timestamp={last}"
)
TRADES: Final = (
    "/history/api/v2/public/get_last_trades_by_instrument?instrument_name=BTC-PERPETUAL&count=10000"
    "&start_seq={first}&end_seq={last}"
)


def candle_paths(count: int) -> list[str]:
    """Full windows of 1-minute candles, one after the other."""
    step = BARS * MINUTE_MS
    return [
        CANDLES.format(first=FIRST_MS + n * step - 1, last=FIRST_MS + (n + 1) * step - 1)
        for n in range(count)
    ]


def trade_paths(count: int) -> list[str]:
    """Full pages of trades, one after the other."""
    return [TRADES.format(first=n * PAGE + 1, last=(n + 1) * PAGE) for n in range(count)]


def asked(paths: list[str]) -> float:
    """CPU-seconds of a venue that answers these, and is then ended."""
    with cpu(children=True) as clock, start(SETTINGS) as venue:
        _ask(venue, paths)
    return clock.used


def _ask(venue: SimulatorProcess, paths: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", venue.port)
    for path in paths:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK or len(body) < PAGE:
            raise SystemExit(f"{path}: {response.status} {body[:200]!r}")
    connection.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help="ten times as much")
    scale = 10 if parser.parse_args().long else 1
    candles, trades = candle_paths(80 * scale), trade_paths(20 * scale)
    first = [candles[0], trades[0]]  # what is computed once belongs to the start
    idle = asked(first)
    by_candle = len(candles) * BARS / (asked([*first, *candles]) - idle)
    by_trade = len(trades) * PAGE / (asked([*first, *trades]) - idle)
    report(
        "The simulated venue's history",
        [
            Figure(
                "1-minute candles told", by_candle, "per CPU-s", 500_000, 1_000_000, higher_is_better=True
            ),
            Figure(
                "trades told by the history host",
                by_trade,
                "per CPU-s",
                25_000,
                50_000,
                higher_is_better=True,
            ),
        ],
    )


if __name__ == "__main__":
    main()
