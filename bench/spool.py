"""What the spool costs: CPU-seconds per million ticker frames to make durable and to read, bytes a frame.

    python -m bench.spool [--frames N] [--rate FRAMES_PER_SECOND] [--dir DIR]

Frames have a ticker's shape with prices, sizes and Greeks that move, about 790 bytes each. CPU is that of the
whole process, user and system, once the frames are made. `--rate` paces them and prints the time from receipt
to durable as well; its CPU includes the pacing.
"""

# ruff: noqa: UP031 - two dozen numbers read better beside their template
from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lake.spool import SpoolSettings, SpoolWriter, read_segment, sealed_segments

TARGET_WRITE_CPU_SECONDS = 1.3
TARGET_READ_CPU_SECONDS = 0.5
TARGET_P95_MS = 100.0
INSTRUMENTS = 400


def make_frames(count: int, seed: int = 1) -> list[bytes]:
    """`count` ticker notifications of a venue-like market, in a repeatable order."""
    rng = random.Random(seed)
    prices = [rng.uniform(0.001, 0.2) for _ in range(INSTRUMENTS)]
    names = [f"BTC-{1 + i % 28}DEC26-{40000 + 1000 * (i // 2)}-{'CP'[i % 2]}" for i in range(INSTRUMENTS)]
    frames = []
    clock_ms = 1_789_344_930_000
    for _ in range(count):
        i = min(int(rng.paretovariate(0.5)) - 1, INSTRUMENTS - 1)
        prices[i] = max(0.0005, prices[i] + rng.gauss(0, 0.0002))
        clock_ms += rng.randrange(3)
        frames.append(_ticker(names[i], prices[i], clock_ms, rng))
    return frames


def _ticker(name: str, price: float, clock_ms: int, rng: random.Random) -> bytes:
    iv = 40 + 20 * rng.random()
    index = 76_000 + 50 * rng.random()
    return (
        '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.%s.100ms","data":{'
        '"timestamp":%d,"state":"open","stats":{"high":%.4f,"low":%.4f,"price_change":%.4f,"volume":%.1f,'
        '"volume_usd":%.2f},"greeks":{"delta":%.5f,"gamma":%.5f,"vega":%.5f,"theta":%.5f,"rho":%.5f},'
        '"index_price":%.2f,"instrument_name":"%s","last_price":%.4f,"settlement_price":%.8f,"min_price":%.4f,'
        '"max_price":%.4f,"open_interest":%.1f,"mark_price":%.4f,"best_ask_price":%.4f,"best_bid_price":%.4f,'
        '"interest_rate":0.0,"mark_iv":%.2f,"bid_iv":%.2f,"ask_iv":%.2f,"underlying_price":%.4f,'
        '"underlying_index":"SYN.BTC-25DEC26","estimated_delivery_price":%.2f,"best_ask_amount":%.1f,'
        '"best_bid_amount":%.1f}}}'
        % (
            *(name, clock_ms, price * 1.2, price * 0.8, 3.2, 120.5, 512_000.25),
            *(rng.random(), rng.random() / 1e3, 50 * rng.random(), -30 * rng.random(), 20 * rng.random()),
            *(index, name, price, price * 1.01, price * 0.5, price * 1.5, 530.2, price),
            *(price * 1.01, price * 0.99, iv, iv - 1, iv + 1, index + 20, index),
            *(10 * rng.random(), 10 * rng.random()),
        )
    ).encode()


def write(folder: Path, frames: list[bytes], rate: float | None) -> tuple[float, list[float]]:
    """Append all frames; return CPU-seconds and, when paced, the milliseconds each commit's oldest waited."""
    waits: list[float] = []
    received: list[float] = []

    def note(durable: int) -> None:
        now = time.perf_counter()
        waits.extend((now - received[i]) * 1e3 for i in range(len(waits), durable))

    started, cpu = time.perf_counter(), time.process_time()
    with SpoolWriter(folder, SpoolSettings(), on_durable=note if rate else None) as writer:
        for i, frame in enumerate(frames):
            if rate:
                if i % 50 == 0:
                    time.sleep(max(0.0, started + i / rate - time.perf_counter()))
                received.append(time.perf_counter())
            elif i % 4096 == 0 and writer.stats.pending_bytes > 64 << 20:
                writer.flush()
            writer.append(frame)
        writer.flush()
    return time.process_time() - cpu, waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    frames = make_frames(options.frames)
    raw = sum(map(len, frames))
    millions = len(frames) / 1e6
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        folder = Path(directory) / "spool" / "bench"
        cpu, waits = write(folder, frames, options.rate)
        segments = sealed_segments(folder)
        stored = sum(info.path.stat().st_size for info in segments)
        before = time.process_time()
        count = sum(len(batch.payloads) for info in segments for batch in read_segment(info.path))
        read_cpu = time.process_time() - before
    if count != len(frames):
        sys.exit(f"wrote {len(frames)} frames and read {count}")
    print(f"frames                      {len(frames):>10,} of {raw / len(frames):.0f} B")
    print(f"stored B/frame              {stored / len(frames):>10.1f}")
    print(f"write CPU-s per million     {cpu / millions:>10.2f}   target {TARGET_WRITE_CPU_SECONDS}")
    print(f"read CPU-s per million      {read_cpu / millions:>10.2f}   target {TARGET_READ_CPU_SECONDS}")
    if waits:
        p50, p95, p99 = np.percentile(waits, (50, 95, 99))
        print(
            f"durable after, p50/p95/p99  {p50:.1f} / {p95:.1f} / {p99:.1f} ms   target p95 {TARGET_P95_MS}"
        )


if __name__ == "__main__":
    main()
