"""A process whose forked children record, or run a verb of the command, until they are killed: see `kit.Forge`.

Reads one JSON request a line:

    {"log": FILE, "crash_at": null or "area:moment:n", "environment": {…},
     "record": {"root", "ws_url", "rest_url", "seconds", "spool": {…}, "stream"}}    record() with reports
    {… "verb": ["--root", DIR, "ingest", …]}                                   any verb

and writes "pid N", "durable N" while a recorder reports, then "ended STATUS". Forking from here, with all
imports done, spares every round the start of an interpreter.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from typer.testing import CliRunner

import pipeline.compact
import pipeline.ingest  # noqa: F401 - imported before the fork, so that children need not
from cli import app
from collectors.daemon import record
from collectors.settings import CollectorSettings
from lake import crashpoints
from lake.root import open_root
from lake.spool import SpoolSettings

PR_SET_PDEATHSIG: Final = 1


def say(pipe: int, text: str) -> None:
    os.write(pipe, f"{text}\n".encode())


def live(request: dict[str, Any], pipe: int) -> None:
    """One child's life."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.environ.update(request.get("environment", {}))
    if request.get("crash_at"):
        crashpoints._FUSE = crashpoints._Fuse(request["crash_at"])  # type: ignore[misc]
    if "verb" in request:
        app(request["verb"])
        return
    logging.basicConfig(level=logging.WARNING)
    order = request["record"]
    urls = CollectorSettings(ws_url=order["ws_url"], rest_url=order["rest_url"])
    record(
        open_root(Path(order["root"]), create=True),
        urls,
        SpoolSettings(**order.get("spool", {})),
        stream=order.get("stream", "deribit"),
        seconds=order.get("seconds"),
        on_durable=lambda offset: say(pipe, f"durable {offset}"),
    )


def main() -> None:
    pipe = os.dup(1)
    os.dup2(2, 1)
    CliRunner().invoke(
        app, ["--root", "/dev/null/no-lake", "ingest"]
    )  # imports what verbs import when they run
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 0
            try:
                live(json.loads(line), pipe)
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 1
            except BaseException as error:  # the forked copy must end here, whatever happens
                logging.getLogger(__name__).exception("the child failed")
                os.write(2, f"{error!r}\n".encode())
                status = 70
            sys.stdout.flush()
            os._exit(status)
        say(pipe, f"pid {child}")
        _, status = os.waitpid(child, 0)
        say(pipe, f"ended {status}")


if __name__ == "__main__":
    main()
