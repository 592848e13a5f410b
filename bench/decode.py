"""CPU seconds to decode a million frames into columns: tickers, small book changes, 20-level book snapshots.

Run as `python -m bench.decode [--frames N] [--long]`. The frames are made here with the fields, widths and spelling of
venue's; every frame differs, as sizes and prices move. The best of some rounds counts: the machine is shared.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from typing import Final

import numpy as np

from bench.harness import Figure, cpu, report
from collectors.deribit.decode import decode

FRAMES, FRAMES_LONG = 50_000, 200_000
SNAPSHOTS_PER_FRAME: Final = 0.2
LEVELS: Final = 20
ROUNDS: Final = 3
INSTRUMENTS: Final = [
    f"BTC-25DEC26-{strike}-{kind}" for strike in range(40_000, 120_000, 500) for kind in "CP"
]
START_MS: Final = 1_789_344_931_096


def notification(channel: str, data: str) -> bytes:
    return (
        f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{{{data}}}}}}}'
    ).encode()


def ticker(n: int, rng: random.Random) -> bytes:
    name, bid = rng.choice(INSTRUMENTS), rng.randrange(1, 4000)
    iv, forward = rng.randrange(2000, 9000) / 100, rng.randrange(7_600_000, 7_700_000) / 100
    return notification(
        f"ticker.{name}.100ms",
        f'"timestamp":{START_MS + n},"state":"open","stats":{{"high":0.0118,"low":0.0065,'
        f'"price_change":-38.6792,"volume":1555.0,"volume_usd":1268694.68}},"greeks":{{"delta":0.{rng.randrange(10**5):05},'
        f'"gamma":2.8e-4,"vega":{iv},"theta":-217.49347,"rho":1.31068}},"index_price":{forward},"instrument_name":"{name}",'
        f'"last_price":{bid / 1e4},"settlement_price":0.00897474,"min_price":0.0001,"max_price":0.0365,'
        f'"open_interest":534.4,"mark_price":{bid / 1e4 + 0.0004:.4f},"interest_rate":0.0,'
        f'"estimated_delivery_price":{forward},"best_ask_price":{(bid + 10) / 1e4},'
        f'"best_bid_price":{bid / 1e4},'
        f'"mark_iv":{iv},"bid_iv":{iv - 1:.2f},"ask_iv":{iv + 1:.2f},"underlying_price":{forward},'
        f'"underlying_index":"BTC-25DEC26","best_ask_amount":{rng.randrange(300)}.0,"best_bid_amount":10.0',
    )


def change(n: int, rng: random.Random) -> bytes:
    name = rng.choice(INSTRUMENTS)
    level = f'["{rng.choice(("new", "change"))}",{rng.randrange(1, 4000) / 1e4},{rng.randrange(1, 300)}.0]'
    sides = (level, "") if n % 2 else ("", level)
    return notification(
        f"book.{name}.100ms",
        f'"timestamp":{START_MS + n},"type":"change","change_id":{118850996425 + n},'
        f'"instrument_name":"{name}","bids":[{sides[0]}],"asks":[{sides[1]}],'
        f'"prev_change_id":{118850996424 + n}',
    )


def snapshot(n: int, rng: random.Random) -> bytes:
    name, middle = rng.choice(INSTRUMENTS), rng.randrange(140_000, 170_000) / 2
    bids, asks = (
        ",".join(
            f'["new",{middle + sign * level / 2},{rng.randrange(1, 90_000)}0.0]' for level in range(LEVELS)
        )
        for sign in (-1, 1)
    )
    return notification(
        f"book.{name}.100ms",
        f'"timestamp":{START_MS + n},"type":"snapshot","change_id":{118850996425 + n},'
        f'"instrument_name":"{name}","bids":[{bids}],"asks":[{asks}]',
    )


def measure(make: Callable[[int, random.Random], bytes], count: int) -> tuple[float, float]:
    """CPU seconds per million frames, and bytes per frame."""
    rng = random.Random(1)
    frames = [make(n, rng) for n in range(count)]
    recv_ns, connection = np.arange(count, dtype=np.int64), np.zeros(count, np.uint16)
    best = float("inf")
    for _ in range(ROUNDS):
        with cpu() as clock:
            result = decode(frames, recv_ns, connection)
        best = min(best, clock.used)
    if result.rejects:
        raise ValueError(result.rejects[0].reason)
    return best / count * 1e6, sum(map(len, frames)) / count


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--long", action="store_true", help=f"{FRAMES_LONG:,} frames instead of {FRAMES:,}")
    options = parser.parse_args()
    count = options.frames or (FRAMES_LONG if options.long else FRAMES)
    figures = []
    for name, make, frames, target in (
        ("tickers", ticker, count, 2.0),
        ("book changes of one level", change, count, None),
        (f"book snapshots of {LEVELS} levels a side", snapshot, int(count * SNAPSHOTS_PER_FRAME), None),
    ):
        seconds, size = measure(make, frames)
        figures.append(Figure(f"{name}, {size:.0f} B", seconds, "CPU-s/M frames", must=target))
    report("Frames into Arrow columns", figures)


if __name__ == "__main__":
    main()
