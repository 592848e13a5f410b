"""What the proofs of the whole system share: rounds, forked children that can be killed, and the account.

`LAKE_TEST_ROUNDS=20 pytest tests/system` multiplies every number of random rounds, for a long run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from collectors.simulator import Sent, read_account
from lake.root import Root
from lake.spool import Batch, RecordKind, open_segments, read_segment, sealed_segments
from tests.conftest import REPOSITORY

ROUNDS: Final = max(1, int(os.environ.get("LAKE_TEST_ROUNDS", "1")))
"""Read at import: no test sees a variable of ours in its environment."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
STREAM: Final = "deribit"
FLOWING_COMMITS: Final = 40
"""After so many commits a life has long had its subscriptions: what it asks and is told until then is a dozen."""
SPOOL: Final = {"segment_bytes": 60_000, "commit_interval_ms": 10.0}
"""Small segments and quick commits, so that a short life passes every step."""


@dataclass(frozen=True)
class Life:
    """How a child ended (negative: the signal) and the last durable offset that it reported."""

    status: int
    durable: int


class Forge:
    """A process whose forked children run one verb each; see `tests.system.forge`."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def run(
        self,
        request: dict[str, Any],
        *,
        kill_after_s: float | None = None,
        after_commits: tuple[int, signal.Signals] | None = None,
        on_start: Callable[[], None] | None = None,
        beside: Callable[[int], None] | None = None,
    ) -> Life:
        """Run a child to its end, or SIGKILL it so long after its start, or signal it after so many commits.

        `beside` gets its pid in a thread.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"log": str(self._log), **request}) + "\n")
        self._process.stdin.flush()
        durable, commits, pid, killer = 0, 0, 0, None
        for line in self._process.stdout:
            word, number = line.split()
            if word == "pid" and kill_after_s is not None:
                killer = threading.Timer(kill_after_s, _send, (int(number), signal.SIGKILL))
                killer.start()
            if word == "pid" and beside is not None:
                threading.Thread(target=beside, args=(int(number),), daemon=True).start()
            if word == "pid" and on_start:
                on_start()
            if word == "pid":
                pid = int(number)
            if word == "durable":
                assert int(number) >= durable
                durable, commits = int(number), commits + 1
                if after_commits is not None and commits == after_commits[0]:
                    _send(pid, after_commits[1])
            if word == "ended":
                if killer is not None:
                    killer.cancel()
                return Life(os.waitstatus_to_exitcode(int(number)), durable)
        raise AssertionError(f"the forge ended by itself: {self.said()}")

    def lake(self, *arguments: str, crash_at: str | None = None, **environment: str) -> tuple[int, str]:
        """Exit code (negative: the signal) and output of a verb of the command."""
        before = len(self.said())
        request = {"verb": arguments, "environment": {"HOME": os.environ["HOME"], **environment}}
        return self.run({**request, "crash_at": crash_at}).status, self.said()[before:]

    def said(self) -> str:
        """All that the children printed."""
        return self._log.read_text() if self._log.exists() else ""


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@contextlib.contextmanager
def forge(log: Path) -> Iterator[Forge]:
    """Start a process for killable children; what they print goes to `log`."""
    command = [sys.executable, "-m", "tests.system.forge"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LAKE_")}
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Forge(process, log)
        finally:
            assert process.stdin is not None
            process.stdin.close()


@dataclass(frozen=True)
class Record:
    """One record of the spool."""

    offset: int
    recv_ns: int
    connection: int
    kind: int
    payload: bytes

    @property
    def is_frame(self) -> bool:
        return self.kind == RecordKind.FRAME

    @property
    def is_tick(self) -> bool:
        return self.is_frame and is_notification(self.payload)

    def event(self) -> dict[str, Any]:
        """The event that it holds; empty for other kinds."""
        found: dict[str, Any] = json.loads(self.payload) if self.kind == RecordKind.EVENT else {}
        return found


def records(root: Root) -> list[Record]:
    """Everything in the sealed spool, in order; offsets are checked to be 0, 1, 2, …"""
    found: list[Record] = []
    for segment in sealed_segments(root.stream(STREAM)):
        for item in read_segment(segment.path):
            assert isinstance(item, Batch)
            assert item.first_offset == len(found), "offsets have a hole or repeat"
            columns = zip(
                item.recv_ns.tolist(),
                item.connection.tolist(),
                item.kind.tolist(),
                item.payloads,
                strict=True,
            )
            found += [Record(len(found) + i, *row) for i, row in enumerate(columns)]
    return found


def events_so_far(root: Root) -> list[dict[str, Any]]:
    """The durable events of a stream that may still be written."""
    found: list[dict[str, Any]] = []
    folder = root.stream(STREAM)
    for segment in [*sealed_segments(folder), *open_segments(folder)]:
        try:
            for item in read_segment(segment.path):
                kinds = zip(item.kind.tolist(), item.payloads, strict=True)
                found += [json.loads(payload) for kind, payload in kinds if kind == RecordKind.EVENT]
        except FileNotFoundError:
            continue  # sealed just now: the next look finds it
    return found


def durable(folder: Path) -> int:
    """Records of the stream in `folder` that are on the disk by now."""
    segments = [*sealed_segments(folder), *open_segments(folder)] if folder.is_dir() else []
    return max((segment.end_offset for segment in segments), default=0)


def account_by_session(path: Path) -> dict[int, list[Sent]]:
    """What the venue sent, session by session, in order."""
    sessions: dict[int, list[Sent]] = defaultdict(list)
    for sent in read_account(path):
        if not sent.withheld:
            sessions[sent.session].append(sent)
    return dict(sessions)


def rng(seed: int) -> random.Random:
    """Chance that repeats itself, for one seed."""
    return random.Random(seed)


def is_notification(frame: bytes) -> bool:
    """Whether the frame brings data of a channel; by parsing, without the recorder's shortcuts."""
    try:
        message = json.loads(frame)
    except ValueError:
        return False
    return isinstance(message, dict) and message.get("method") == "subscription"


def micros(time: datetime) -> int:
    """Microseconds since the epoch, exactly."""
    return (time - EPOCH) // timedelta(microseconds=1)
