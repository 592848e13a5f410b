"""A process that is kept running beside this one: started again when it dies, and asked to finish at the end."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Final, Self

RETRY_FIRST_S: Final = 1.0
RETRY_MAX_S: Final = 60.0
STABLE_S: Final = 60.0
"""A process that lived so long is started again without waiting longer than the first time."""

_log = logging.getLogger(__name__)


class Companion:
    """Runs `command` inside a `with` block, or until `finish`; it must end by itself when its input ends.

    The input is a pipe that only this process holds, so that even if this process is killed, nobody is left behind.
    It has a session of its own: Ctrl-C at the terminal reaches this process alone. One that ends with code 0
    wants to be replaced by a fresh one; any other end is told in the log, and it is started again after a while.
    `environment` is added to ours.
    """

    def __init__(
        self,
        command: Sequence[str],
        name: str,
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        retry_first_s: float = RETRY_FIRST_S,
    ) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._name = name
        self._retry_first_s = retry_first_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"keeper-{name}", daemon=True)

    def __enter__(self) -> Self:
        self._start()
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def finish(self) -> int:
        """End the process's input, wait for its end, and return its exit code; again, only the code.

        Where it is dead just now, it is started once more, to finish what the dead one left.
        """
        if self._code is not None:
            return self._code
        with self._lock:
            self._over.set()
            process = self._process
        if process is None or process.poll() is not None:
            process = self._popen_after(process)
        process.communicate()
        self._keeper.join()
        self._code = process.returncode
        return self._code

    def _keep(self) -> None:
        wait_s = self._retry_first_s
        while (process := self._process) is not None:
            began_s = time.monotonic()
            code = process.wait()
            if self._over.is_set():
                return
            if code == 0:
                wait_s = self._retry_first_s
            else:
                if time.monotonic() - began_s >= STABLE_S:
                    wait_s = self._retry_first_s
                _log.warning("%s ended with code %d; it is started again in %g s", self._name, code, wait_s)
                if self._over.wait(wait_s):
                    return
                wait_s = min(2 * wait_s, RETRY_MAX_S)
            if not self._start():
                return

    def _start(self) -> bool:
        """Start the process unless `finish` was called."""
        with self._lock:
            if self._over.is_set():
                return False
            self._process = self._popen_after(self._process)
            return True

    def _popen_after(self, dead: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes]:
        if dead is not None and dead.stdin is not None:
            dead.stdin.close()
        environment = os.environ | self._environment
        return subprocess.Popen(self._command, env=environment, start_new_session=True, stdin=subprocess.PIPE)
