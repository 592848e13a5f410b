"""A process whose children record into a spool until they are killed: see test_crash.

Reads one JSON request a line: {"folder", "life", "seed", "crash_at" or null, "alarm_s" or null}. Each child
writes "durable N" lines by itself, straight to the pipe, whenever the writer says so; then this process
writes "ended STATUS". Forking from here spares every round the start of an interpreter.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from lake import crashpoints
from lake.spool import SpoolSettings, SpoolWriter

RECORDS_PER_LIFE = 400


def payload_of(life: int, index: int) -> bytes:
    """What record number `index` of a life says; sizes from nothing to more than a page."""
    return b"%d %d " % (life, index) + random.Random(life << 20 | index).randbytes(index * 37 % 5000)


def report(durable: int) -> None:
    os.write(1, b"durable %d\n" % durable)


def live(request: dict[str, Any]) -> None:
    """Record until killed, or to the end."""
    rng = random.Random(request["seed"])
    if request["crash_at"]:
        crashpoints._FUSE = crashpoints._Fuse(request["crash_at"])  # type: ignore[misc]
    if request["alarm_s"]:
        signal.setitimer(signal.ITIMER_REAL, request["alarm_s"])  # SIGALRM's default ends the process at once
    settings = SpoolSettings(commit_interval_ms=0.5, segment_bytes=rng.choice((1 << 14, 1 << 20)))
    with SpoolWriter(Path(request["folder"]), settings, on_durable=report) as writer:
        for index in range(RECORDS_PER_LIFE):
            writer.append(payload_of(request["life"], index))
            if rng.random() < 0.05:
                writer.flush()
            if rng.random() < 0.01:
                writer.rotate()


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                live(json.loads(line))
            except BaseException as error:  # the forked copy must end here, whatever happens
                os.write(2, f"{error!r}\n".encode())
                os._exit(70)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os.write(1, b"ended %d\n" % status)


if __name__ == "__main__":
    main()
