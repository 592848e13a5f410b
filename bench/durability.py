"""How long a received frame waits until it is durable, at a steady rate, and proof that none was lost.

    python -m bench.durability [--rate 5000] [--minutes 10]      default: 20 seconds

Tickers come over a loopback WebSocket from a process of its own. A frame's wait runs from its receive stamp to the
moment the spool says that its offset is fsynced. Afterwards the segments are read back: every frame that was sent
must be there once, in order, byte for byte, and offsets must run from 0 without a hole.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.harness import Figure, cpu, peak_rss_mb, report
from bench.socket_to_table import STREAM, session
from bench.venue import Load, sending
from collectors.sink import Tape
from lake.root import Root, open_root
from lake.spool import RecordKind, SpoolSettings, SpoolWriter, read_segment, sealed_segments

SECONDS: Final = 20.0
POOL_FRAMES: Final = 100_000
MUST_P95_MS, AIM_P99_MS = 100.0, 50.0


class _Stamps:
    """A sink that notes the receive time of every record on its way to the spool."""

    def __init__(self, spool: SpoolWriter) -> None:
        self.recv_ns = array("q")
        self._append, self._extend = spool.append, spool.extend
        self.flush = spool.flush

    def append(self, payload: bytes, *, connection: int = 0, kind: RecordKind = RecordKind.FRAME,
               recv_ns: int | None = None) -> None:  # fmt: skip
        self.recv_ns.append(recv_ns or 0)
        self._append(payload, connection=connection, kind=kind, recv_ns=recv_ns)

    def extend(self, payloads: Sequence[bytes], *, connection: int = 0, kind: RecordKind = RecordKind.FRAME,
               recv_ns: int | None = None) -> None:  # fmt: skip
        first_ns = recv_ns or 0
        self.recv_ns.extend(range(first_ns, first_ns + len(payloads)))
        self._extend(payloads, connection=connection, kind=kind, recv_ns=recv_ns)


def record(root: Root, load: Load) -> tuple[np.ndarray, float]:
    """Receive `load`; milliseconds from receipt to durable for each record, and the CPU seconds spent."""
    offsets, moments = array("q"), array("q")

    def on_durable(offset: int) -> None:
        moments.append(time.time_ns())
        offsets.append(offset)

    with (
        sending(load) as url,
        SpoolWriter(root.stream(STREAM), SpoolSettings(), on_durable=on_durable) as spool,
    ):
        stamps = _Stamps(spool)
        with cpu() as clock:
            asyncio.run(session(Tape(stamps), url, load.frames))
            spool.flush()
    durable_by = np.searchsorted(np.asarray(offsets), np.arange(len(stamps.recv_ns)), side="right")
    waits_ms = (np.asarray(moments)[durable_by] - np.asarray(stamps.recv_ns)) / 1e6
    return waits_ms, clock.used


def lost(root: Root, load: Load) -> int:
    """Frames sent that are not in the spool at their place, and offsets that are missing."""
    pool = load.made()
    expected = missing = seen = 0
    for segment in sealed_segments(root.stream(STREAM)):
        for batch in read_segment(segment.path):
            missing += batch.first_offset - expected
            expected = batch.end_offset
            for payload, kind in zip(batch.payloads, batch.kind.tolist(), strict=True):
                if kind == RecordKind.FRAME and b'"method":"subscription"' in payload:
                    missing += payload != pool[seen % len(pool)]
                    seen += 1
    return missing + load.frames - seen


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=5_000.0, help="frames per second")
    parser.add_argument("--minutes", type=float, default=SECONDS / 60)
    parser.add_argument("--long", action="store_true", help="two minutes")
    options = parser.parse_args()
    seconds = 120.0 if options.long else options.minutes * 60
    load = Load(int(options.rate * seconds), rate=options.rate, pool=POOL_FRAMES)
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        waits_ms, cpu_s = record(root, load)
        missing = lost(root, load)
    p50, p95, p99 = np.percentile(waits_ms, (50, 95, 99)).tolist()
    figures = [
        Figure("durable after receipt, p50", p50, "ms"),
        Figure("durable after receipt, p95", p95, "ms", MUST_P95_MS),
        Figure("durable after receipt, p99", p99, "ms", MUST_P95_MS, AIM_P99_MS),
        Figure("durable after receipt, longest", float(waits_ms.max()), "ms"),
        Figure(f"frames lost of {load.frames:,}", missing, "frames", 0, 0),
        Figure("receive and spool, frames arriving one by one", cpu_s / load.frames * 1e6, "CPU-s/M frames"),
        Figure("peak memory of the process", peak_rss_mb(), "MB"),
    ]
    report(f"Durability at {options.rate:,.0f} frames/s for {seconds:g} s", figures)


if __name__ == "__main__":
    main()
