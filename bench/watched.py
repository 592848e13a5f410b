"""A `lake collect` daemon under observation: memory and CPU of it and of its ingester, as Linux counts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from collectors.simulator.process import SimulatorProcess

STOP_SECONDS: Final = 120.0
POLL_S: Final = 0.05
_KB: Final = 1024
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Sample:
    """One look at a process."""

    at_s: float
    rss_mb: float
    cpu_s: float


@dataclass(slots=True)
class Watched:
    """A daemon; `samples` by role ("collector", "ingester") grow with every `look`."""

    process: subprocess.Popen[bytes]
    samples: dict[str, list[Sample]] = field(default_factory=lambda: {"collector": [], "ingester": []})

    def look(self) -> None:
        """Sample both processes; one that is not there yet, or has gone, gives no sample."""
        pids = {"collector": self.process.pid, "ingester": child_of(self.process.pid)}
        for role, pid in pids.items():
            sample = look_at(pid) if pid is not None else None
            if sample is not None:
                self.samples[role].append(sample)

    def watch(self, seconds: float, every_s: float) -> None:
        """Look again and again for so long.

        Raises:
            ValueError: the daemon has ended meanwhile.
        """
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            if self.process.poll() is not None:
                raise ValueError(f"the collector ended by itself with status {self.process.returncode}")
            self.look()
            time.sleep(max(0.0, min(every_s, until_s - time.monotonic())))

    def stop(self) -> float:
        """SIGTERM; seconds until both processes were through.

        Raises:
            ValueError: they did not end with status 0.
        """
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS)
        if status:
            raise ValueError(f"the collector ended with status {status}")
        return time.monotonic() - began_s

    def peak_mb(self, role: str) -> float:
        """Most memory seen."""
        return max(sample.rss_mb for sample in self.samples[role])

    def cores(self, role: str) -> float:
        """CPU seconds per second between the first look and the last."""
        first, last = self.samples[role][0], self.samples[role][-1]
        return (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s)


def look_at(pid: int) -> Sample | None:
    """Memory and CPU time of a process; None where it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    rss = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
    if not rss:
        return None  # a zombie
    return Sample(time.monotonic(), rss[0] / _KB, (int(times[11]) + int(times[12])) / _TICKS_PER_S)


def child_of(pid: int) -> int | None:
    """The first child of a process."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(children[0]) if children else None


@contextmanager
def daemon(
    root: Path, venue: SimulatorProcess, settings: Mapping[str, object], log: Path
) -> Iterator[Watched]:
    """`lake collect` with its ingester into `root`; `settings` are variables such as LAKE_SPOOL_RETAIN_HOURS."""
    command = [sys.executable, "-m", "cli", "--root", str(root), "collect"]
    command += ["--ws-url", venue.ws_url, "--rest-url", venue.rest_url, "--json"]
    environment = {**os.environ, **{name: str(value) for name, value in settings.items()}}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield Watched(process)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_until_flowing(
    venue: SimulatorProcess, watched: Watched, frames: int, patience_s: float = 60.0
) -> None:
    """Return when the venue has sent so many frames.

    Raises:
        ValueError: it did not within the time, or the collector has ended.
    """
    deadline_s = time.monotonic() + patience_s
    while venue.control("stats")["sent"] < frames:
        if time.monotonic() > deadline_s or watched.process.poll() is not None:
            raise ValueError("the collector does not record")
        time.sleep(POLL_S)


def lake_says(root: Path, *arguments: str) -> list[dict[str, object]]:
    """The answer of a verb of `lake` with --json; ValueError with its words where it fails."""
    command = [sys.executable, "-m", "cli", "--root", str(root), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"lake {arguments[0]}: {done.stderr.strip()}")
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows
