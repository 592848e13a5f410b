"""A simulated venue in a process of its own, for tests and benchmarks.

    with start(SimulatorSettings(rate=5_000)) as venue:
        collect(venue.ws_url, venue.rest_url)

Readiness comes through a pipe; the child ends when told, when the block ends, and when its parent dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collectors.simulator.server import Simulator
from collectors.simulator.settings import SimulatorSettings
from lake.errors import InputError, VenueUnavailableError

READY_TIMEOUT_S: Final = 120.0
STOP_TIMEOUT_S: Final = 60.0
_CONTROL_TIMEOUT_S: Final = 60.0  # the truth of years takes a while
_POLL_S: Final = 0.02


class SimulatorProcess:
    """A running child; made by `start`."""

    def __init__(self, child: subprocess.Popen[bytes], port: int) -> None:
        self._child = child
        self.pid = child.pid
        self.port = port
        self.ws_url = f"ws://127.0.0.1:{port}/ws/api/v2"
        self.rest_url = f"http://127.0.0.1:{port}/api/v2"
        self.history_url = f"http://127.0.0.1:{port}/history/api/v2"

    def control(self, action: str, **details: object) -> dict[str, Any]:
        """Do one scripted fault, or report (`stats`).

        Raises:
            InputError: the simulator refused the order.
        """
        body = msgspec.json.encode({"action": action, **details})
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/control", data=body)
        try:
            with urllib.request.urlopen(request, timeout=_CONTROL_TIMEOUT_S) as response:  # noqa: S310
                result: dict[str, Any] = msgspec.json.decode(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise InputError(error.read().decode()) from None
        return result

    def wait_finished(self, timeout_s: float) -> dict[str, Any]:
        """Statistics once the replay or the market's `max_frames` is through.

        Raises:
            VenueUnavailableError: not within the time.
        """
        deadline = time.monotonic() + timeout_s
        while not (stats := self.control("stats"))["finished"]:
            if time.monotonic() > deadline:
                raise VenueUnavailableError(f"the simulator did not finish within {timeout_s} s: {stats}")
            time.sleep(_POLL_S)
        return stats

    def stop(self) -> None:
        """End the child; its account is complete afterwards."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End the child at once."""
        self._child.kill()
        self._child.wait()


@contextlib.contextmanager
def start(settings: SimulatorSettings, *, ready_s: float = READY_TIMEOUT_S) -> Iterator[SimulatorProcess]:
    """Start a simulator and yield it when its port answers; a large recording needs more than `ready_s` by default.

    Raises:
        VenueUnavailableError: the child ended or was not ready in time.
    """
    reader, writer = os.pipe()
    command = [
        sys.executable,
        "-P",
        "-m",
        __name__,
        str(writer),
        msgspec.json.encode(settings, enc_hook=str).decode(),
    ]
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writer,))
    finally:
        os.close(writer)
    venue = None
    try:
        with open(reader, "rb") as ready:  # noqa: PTH123
            readable, _, _ = select.select([ready], [], [], ready_s)
            line = ready.readline() if readable else b""
        if not line:
            raise VenueUnavailableError("the simulator did not start; its own message is above")
        venue = SimulatorProcess(child, int(line))
        yield venue
    finally:
        if venue is not None:
            venue.stop()
        else:
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


def _settings(text: str) -> SimulatorSettings:
    return msgspec.json.decode(text, type=SimulatorSettings, dec_hook=lambda kind, value: kind(value))


async def _serve(settings: SimulatorSettings, ready: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(0, _parent_spoke, loop, stop)
    async with Simulator(settings) as simulator:
        os.write(ready, f"{simulator.port}\n".encode())
        os.close(ready)
        stopped = asyncio.create_task(stop.wait())
        failed = asyncio.create_task(simulator.wait())
        done, _ = await asyncio.wait({stopped, failed}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, failed):
            if task not in done:
                task.cancel()
        if failed in done:
            failed.result()


def _parent_spoke(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """End of stdin means the parent is gone."""
    if not os.read(0, 4096):
        loop.remove_reader(0)
        stop.set()


if __name__ == "__main__":
    asyncio.run(_serve(_settings(sys.argv[2]), int(sys.argv[1])))
