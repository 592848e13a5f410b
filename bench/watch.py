"""What keeping watch costs: µs of CPU per frame for tickers, book changes and trades, noted and looked into.

    python -m bench.watch [frames]

Every book message continues the chain of its channel, as it does while nothing is missing. The best of some
rounds counts: the machine is shared.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

from bench.decode import INSTRUMENTS, notification
from bench.harness import Figure, cpu, report
from collectors.continuity import Hole, Leap, Skew, Whole
from collectors.deribit.watch import Watch
from collectors.silence import Silent

FRAMES: Final = 100_000
ROUNDS: Final = 3
AIM_US: Final = 1.0
MUST_US: Final = 2.0
PAD: Final = '"stats":{"high":0.0118,"low":0.0065,"price_change":-38.6792},' * 8
TERMS: Final = '"trade_id":"BTC-1","timestamp":1789344931096,"tick_direction":0,"price":0.01,"amount":1.0'


class _Alarmed:
    """Nothing is missing here: every finding is a mistake."""

    def book_broke(self, connection: int, channel: str) -> None:
        raise AssertionError(connection, channel)

    def book_mended(self, channel: str) -> None:
        raise AssertionError(channel)

    def book_whole(self, channel: str, whole: Whole) -> None:
        raise AssertionError(channel, whole)

    def trades_missing(self, connection: int, channel: str, hole: Hole) -> None:
        raise AssertionError(connection, channel, hole)

    def trades_leapt(self, connection: int, channel: str, leap: Leap) -> None:
        raise AssertionError(connection, channel, leap)

    def silence_ended(self, connection: int, silent: Silent) -> None:
        raise AssertionError(connection, silent)

    def clock_skewed(self, skew: Skew) -> None:
        raise AssertionError(skew)


def ticker(n: int) -> bytes:
    name = INSTRUMENTS[n % len(INSTRUMENTS)]
    return notification(f"ticker.{name}.100ms", f'"timestamp":{n},{PAD}"instrument_name":"{name}"')


def book(n: int) -> bytes:
    name, kind = INSTRUMENTS[n % len(INSTRUMENTS)], "change" if n >= len(INSTRUMENTS) else "snapshot"
    prev = f',"prev_change_id":{n - len(INSTRUMENTS)}' if kind == "change" else ""
    return notification(
        f"book.{name}.100ms",
        f'"timestamp":{n},"type":"{kind}","change_id":{n},"instrument_name":"{name}",'
        f'"bids":[["change",0.0125,30.0],["delete",0.0120,0.0]],"asks":[]{prev}',
    )


def trade(n: int) -> bytes:
    name, seq = INSTRUMENTS[n % len(INSTRUMENTS)], n // len(INSTRUMENTS)
    data = f'{TERMS},"trade_seq":{seq},"instrument_name":"{name}"'
    return notification("trades.option.BTC.100ms", data).replace(b'"data":{', b'"data":[{')[:-2] + b"]}}"


def watched_us(frames: list[bytes]) -> float:
    """µs of CPU per frame, best of the rounds."""

    async def once() -> float:
        watch = Watch(_Alarmed())
        with cpu() as clock:
            for number, frame in enumerate(frames):
                watch.observe(number, 1, frame)
            watch.catch_up()
        assert watch.unreadable == 0
        return clock.used * 1e6 / len(frames)

    return min(asyncio.run(once()) for _ in range(ROUNDS))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else FRAMES
    makers = {"ticker": ticker, "book change": book, "trade": trade}
    report(
        "keeping watch",
        [
            Figure(name, watched_us([make(n) for n in range(count)]), "µs/frame", MUST_US, AIM_US)
            for name, make in makers.items()
        ],
    )


if __name__ == "__main__":
    main()
