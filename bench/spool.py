"""What the spool costs: CPU seconds per million ticker frames to make durable and to read back, bytes a frame.

    python -m bench.spool [--frames N] [--long] [--dir DIR]

Frames of the simulated market, about 760 bytes each, appended as fast as they go (the queue is kept below 64 MB).
CPU is that of the whole process, user and system, both threads, once the frames are made. How long a frame waits
is measured by `bench.durability`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Final

from bench.frames import market_frames
from bench.harness import Figure, cpu, report
from lake.spool import SpoolSettings, SpoolWriter, read_segment, sealed_segments

FRAMES, FRAMES_LONG = 100_000, 500_000
CHECK_EVERY: Final = 4096
QUEUE_BYTES_MAX: Final = 64 << 20


def write(folder: Path, frames: list[bytes]) -> float:
    """CPU seconds to append all frames and make them durable."""
    with cpu() as clock, SpoolWriter(folder, SpoolSettings()) as writer:
        for i, frame in enumerate(frames):
            if i % CHECK_EVERY == 0 and writer.stats.pending_bytes > QUEUE_BYTES_MAX:
                writer.flush()
            writer.append(frame)
        writer.flush()
    return clock.used


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--long", action="store_true", help=f"{FRAMES_LONG:,} frames instead of {FRAMES:,}")
    parser.add_argument("--dir", type=Path, help="folder on the disk to measure")
    options = parser.parse_args()
    frames = market_frames(options.frames or (FRAMES_LONG if options.long else FRAMES))
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        folder = Path(directory) / "spool" / "bench"
        write_s = write(folder, frames)
        segments = sealed_segments(folder)
        stored = sum(info.path.stat().st_size for info in segments)
        with cpu() as reading:
            count = sum(len(batch.payloads) for info in segments for batch in read_segment(info.path))
    if count != len(frames):
        raise ValueError(f"wrote {len(frames)} frames and read {count}")
    million = count / 1e6
    size = sum(map(len, frames)) / count
    figures = [
        Figure(f"append, compress, fsync; frames of {size:.0f} B", write_s / million, "CPU-s/M frames"),
        Figure("read back", reading.used / million, "CPU-s/M frames"),
        Figure("stored", stored / count, "B/frame"),
    ]
    report("The spool", figures)


if __name__ == "__main__":
    main()
