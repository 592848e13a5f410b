"""The whole venue at once: 1,700 instruments, ticker, book and trades, at 5,000 frames/s, then bursts of 30,000/s.

    python -m bench.full_load [--minutes N] [--burst-seconds N] [--long]

Default: 20 seconds and a burst of 3; --long: ten minutes and a burst of 30 s.

The simulated venue, the collector and the ingester are three processes on this machine. The venue keeps an account
of every frame it hands to a socket; afterwards every one of them must be in the spool, over one connection in the
order of sending, byte for byte (by hash). A frame's wait runs from its receive stamp to the moment the
spool says that it is fsynced. Frames of a burst are made before it begins, because making 30,000 a second takes
longer than recording them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from bench.harness import Figure, report
from bench.watched import Sample, look_at
from collectors.simulator import SimulatorSettings, read_account
from collectors.simulator.account import frame_hash
from collectors.simulator.chain import build_chain
from collectors.simulator.frames import notification
from collectors.simulator.market import Market
from collectors.simulator.process import SimulatorProcess, start
from collectors.simulator.settings import VENUE_SUBSCRIBE_PER_SECOND
from lake.beats import COLLECT, beat_path, read_beat
from lake.memory import KEEP_LITTLE
from lake.root import Root, open_root
from lake.spool import RecordKind, read_segment, sealed_segments
from lake.views import query

STREAM: Final = "deribit"
INSTRUMENTS: Final = 1_700
RATE, BURST_RATE = 5_000.0, 30_000.0
SECONDS, SECONDS_LONG = 20.0, 600.0
BURST_S, BURST_S_LONG = 3.0, 30.0
LOADING_S: Final = 300.0
"""The venue reads the frames of the burst before it can be reached."""
LEAD_S: Final = 2.0
"""A burst comes out of the ordinary rate."""
IN_FLIGHT_NS: Final = 1_000_000_000
"""What the venue sent so shortly before the end may have been on its way."""
MUST_P95_MS, AIM_P99_MS = 100.0, 50.0
MEMORY_MUST_MB, MEMORY_AIM_MB = 500.0, 250.0
TRADES: Final = ("trades.future.any.100ms", "trades.option.any.100ms")


@dataclass(slots=True)
class Run:
    """What was measured of one recording."""

    samples: dict[str, list[Sample]] = field(
        default_factory=lambda: {"venue": [], "collector": [], "ingester": []}
    )
    pending_bytes: int = 0
    still_asked: int = 0
    ended_ns: int = 0

    def look(self, pids: dict[str, int], root: Root) -> None:
        """Sample every process, and the memory that waits for the disk."""
        for role, pid in pids.items():
            sample = look_at(pid)
            if sample is not None:
                self.samples[role].append(sample)
        beat = read_beat(beat_path(root.run, COLLECT, STREAM))
        if beat is not None and beat.collector is not None:
            self.pending_bytes = max(self.pending_bytes, beat.collector.spool.pending_bytes)
            self.still_asked = beat.collector.still_asked

    def peak_mb(self, role: str) -> float:
        """Most memory seen."""
        return max(sample.rss_mb for sample in self.samples[role])

    def cores(self, role: str) -> float:
        """CPU seconds per second."""
        first, last = self.samples[role][0], self.samples[role][-1]
        return (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s)


@contextmanager
def _process(
    *arguments: str, stdin: int | None = None, environment: Mapping[str, str] = MappingProxyType({})
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**os.environ, **environment},
        stdin=stdin,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def record(folder: Path, venue: SimulatorProcess, seconds: float | None) -> Run:
    """Record `venue` with an ingester beside, for so long or until it is through; both end well or raise ValueError."""
    run, root = Run(), open_root(folder / "lake", create=True)
    place = str(root.path)
    with (
        _process("bench.recording", place, venue.ws_url, venue.rest_url, STREAM, str(folder / "durable.npz"))
        as collector,
        _process("cli", "--root", place, "ingest", "--follow", "--leash", "--stream", STREAM,
                 stdin=subprocess.PIPE, environment=KEEP_LITTLE) as ingester,
    ):  # fmt: skip
        pids = {"venue": venue.pid, "collector": collector.pid, "ingester": ingester.pid}
        until_s = time.monotonic() + (seconds or 3600.0)
        while time.monotonic() < until_s:
            if collector.poll() is not None:
                raise ValueError(f"the collector ended by itself with status {collector.returncode}")
            run.look(pids, root)
            if seconds is None and venue.control("stats")["finished"]:
                break
            time.sleep(1.0)
        if seconds is None:
            time.sleep(IN_FLIGHT_NS / 1e9)
        run.ended_ns = time.time_ns()
        collector.send_signal(signal.SIGTERM)
        if collector.wait(60.0):
            raise ValueError(f"the collector ended with status {collector.returncode}")
        ingester.communicate(timeout=600.0)
        if ingester.returncode:
            raise ValueError(f"the ingester ended with status {ingester.returncode}")
    return run


def waits_ms(folder: Path, root: Root) -> tuple[np.ndarray, np.ndarray]:
    """Of every record: receive time in ns, and milliseconds from there until it was durable."""
    told = np.load(folder / "durable.npz")
    stamps = [
        batch.recv_ns
        for segment in sealed_segments(root.stream(STREAM))
        for batch in read_segment(segment.path)
    ]
    recv_ns = np.concatenate(stamps)
    durable_by = np.searchsorted(told["offsets"], np.arange(len(recv_ns)), side="right")
    known = durable_by < len(told["moments"])  # the last are sealed by the close of the spool
    return recv_ns[known], (told["moments"][durable_by[known]] - recv_ns[known]) / 1e6


def lost(root: Root, account: Path, ended_ns: int) -> tuple[int, int, float]:
    """Frames that the venue handed over and the spool has not, or not in order; all frames; their rate per second."""
    recorded: dict[int, list[str]] = {}
    for segment in sealed_segments(root.stream(STREAM)):
        for batch in read_segment(segment.path):
            frames = batch.kind == RecordKind.FRAME
            for at in np.flatnonzero(frames).tolist():
                recorded.setdefault(int(batch.connection[at]), []).append(frame_hash(batch.payloads[at]))
    sent: dict[int, list[str]] = {}
    stamps: list[int] = []
    for line in read_account(account):
        if not line.withheld and line.sent_ns < ended_ns - IN_FLIGHT_NS:
            sent.setdefault(line.session, []).append(line.hash)
            stamps.append(line.sent_ns)
    missing = 0
    for frames_sent in sent.values():
        match = next((came for came in recorded.values() if came[:1] == frames_sent[:1]), [])
        if match[: len(frames_sent)] != frames_sent:
            missing += max(1, sum((Counter(frames_sent) - Counter(match)).values()))
    busy_s = (np.percentile(stamps, 99.5) - np.percentile(stamps, 0.5)) / 1e9
    return missing, len(stamps), 0.99 * len(stamps) / busy_s


def figures(folder: Path, run: Run, account: Path, busiest_s: float | None) -> list[Figure]:
    """Everything that is asked of a recording; `busiest_s`: waits of its last seconds only, which have no target."""
    must_ms, aim_ms = (MUST_P95_MS, AIM_P99_MS) if busiest_s is None else (None, None)
    root = open_root(folder / "lake")
    missing, sent, rate = lost(root, account, run.ended_ns)
    recv_ns, waits = waits_ms(folder, root)
    if busiest_s is not None:
        waits = waits[recv_ns > recv_ns[-1] - int((busiest_s + IN_FLIGHT_NS / 1e9) * 1e9)]
    p50, p95, p99 = np.percentile(waits, (50, 95, 99)).tolist()
    gaps = query(
        root,
        "SELECT cause, channel, instrument, healed, start_ts::TEXT, end_ts::TEXT FROM gaps ORDER BY start_ts",
    ).to_pylist()
    for gap in gaps:
        sys.stdout.write(f"gap: {gap}\n")
    return [
        Figure(f"frames lost of {sent:,}", missing, "frames", 0, 0),
        Figure("rows in gaps", len(gaps), "rows", 0, 0),
        Figure("frames sent in the middle 99 %", rate, "frames/s"),
        Figure("durable after receipt, p50", p50, "ms"),
        Figure("durable after receipt, p95", p95, "ms", must_ms),
        Figure("durable after receipt, p99", p99, "ms", must_ms, aim_ms),
        Figure("durable after receipt, longest", float(waits.max()), "ms"),
        Figure("collector: most memory", run.peak_mb("collector"), "MB", MEMORY_MUST_MB, MEMORY_AIM_MB),
        Figure("collector: CPU", run.cores("collector"), "cores"),
        Figure("collector: most memory waiting for the disk", run.pending_bytes / 1e6, "MB"),
        Figure("collector: questions about channels that were still", run.still_asked, "requests"),
        Figure("ingester: most memory", run.peak_mb("ingester"), "MB"),
        Figure("ingester: CPU", run.cores("ingester"), "cores"),
        Figure("venue: CPU", run.cores("venue"), "cores"),
        Figure("load of the machine over the last minute", os.getloadavg()[0], "runnable"),
    ]


def steady(folder: Path, seconds: float) -> list[Figure]:
    """The market as it goes."""
    account = folder / "account.jsonl"
    market = SimulatorSettings(
        instruments=INSTRUMENTS,
        rate=RATE,
        hold=True,
        account=account,
        subscribe_per_second=VENUE_SUBSCRIBE_PER_SECOND,
    )
    with start(market) as venue:
        run = record(folder, venue, seconds)
    return figures(folder, run, account, None)


def burst(folder: Path, seconds: float) -> list[Figure]:
    """The market's frames of a longer time, made before, in a shorter one."""
    recording, account = folder / "recording.txt", folder / "account.jsonl"
    render(recording, seconds)
    replay = SimulatorSettings(replay=(recording,), account=account, max_pending_bytes=64 << 20)
    with start(replay, ready_s=LOADING_S) as venue:
        recording.unlink()
        run = record(folder, venue, None)
    return figures(folder, run, account, seconds)


class _Outlet:
    """Writes what the market publishes, each frame with the time at which it is to be sent."""

    def __init__(self, listened: set[str], file: Path) -> None:
        self.listened = listened
        self.frames = 0
        self._file = file.open("wb")

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """A line of a recording."""
        del seq, prev
        lead = LEAD_S * RATE
        at_s = self.frames / RATE if self.frames < lead else LEAD_S + (self.frames - lead) / BURST_RATE
        self._file.write(b"%.6f: %s\n" % (at_s, notification(channel, data).encode()))
        self.frames += 1

    def withhold(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """Nothing is withheld here."""
        raise AssertionError((channel, data, seq, prev))

    def close(self) -> None:
        """The recording is complete."""
        self._file.close()


def render(file: Path, seconds: float) -> None:
    """Write a recording of the whole market: some time at the ordinary rate, then so many seconds of the burst."""
    start_ms = time.time_ns() // 1_000_000
    specs = build_chain(INSTRUMENTS, start_ms)
    outlet = _Outlet(set(), file)
    market = Market(specs, seed=1, rate=RATE, start_ms=start_ms, outlet=outlet)
    items = list(market.instruments.values())
    outlet.listened |= {channel for item in items for channel in (item.channel_ticker, item.channel_book)}
    outlet.listened |= set(TRADES)
    for item in items:
        outlet.publish(item.channel_book, item.snapshot_data(start_ms), None, None)
    while outlet.frames < LEAD_S * RATE + seconds * BURST_RATE:
        market.step()
    outlet.close()


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--burst-seconds", type=float)
    parser.add_argument("--burst-only", action="store_true", help="leave the first part out")
    parser.add_argument("--long", action="store_true", help="ten minutes, and a burst of half a minute")
    options = parser.parse_args()
    seconds = options.minutes * 60 if options.minutes else SECONDS_LONG if options.long else SECONDS
    burst_s = options.burst_seconds or (BURST_S_LONG if options.long else BURST_S)
    if not options.burst_only:
        with tempfile.TemporaryDirectory() as folder:
            found = steady(Path(folder), seconds)
        report(f"Full load: {INSTRUMENTS:,} instruments, {RATE:,.0f} frames/s for {seconds:g} s", found)
    with tempfile.TemporaryDirectory() as folder:
        found = burst(Path(folder), burst_s)
    report(f"Burst: {BURST_RATE:,.0f} frames/s for {burst_s:g} s", found)


if __name__ == "__main__":
    main()
