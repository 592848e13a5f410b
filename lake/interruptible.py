"""Long calls into a library that does not hear of signals: run them aside, and stay able to stop them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, Self, TypeVar

T = TypeVar("T")
AGAIN_S: Final = 0.05
"""An interrupt that comes just before the work begins is lost: it is given again until the work has ended."""


class Interruptible:
    """Runs calls, one at a time, in a thread of its own; `interrupt` must make one that is under way end with an error.

    Whatever comes over the waiting thread, such as KeyboardInterrupt, ends the call first and is then raised on.
    """

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self._interrupt = interrupt
        self._work: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._some = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._left_s: float | None = None

    def __enter__(self) -> Self:
        return self

    def allow(self, seconds: float) -> None:
        """From now on, calls may take so long together; 0: as long as they take."""
        self._left_s = seconds or None

    def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises.

        Raises:
            TimeoutError: the allowed time is over; the call has ended.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="sql", daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        with self._some:
            self._work.append((future, call))
            self._some.notify()
        started = time.monotonic()
        try:
            return self._result(future)
        except BaseException:
            while not future.done():
                self._interrupt()
                _wait(future, AGAIN_S)
            raise
        finally:
            if self._left_s is not None:
                self._left_s = max(0.0, self._left_s - (time.monotonic() - started))

    def close(self) -> None:
        """End the thread."""
        with self._some:
            self._closed = True
            self._some.notify()
        if self._thread is not None:
            self._thread.join()

    def _result(self, future: Future[T]) -> T:
        if not _wait(future, self._left_s):
            raise TimeoutError
        return future.result()

    def _serve(self) -> None:
        while True:
            with self._some:
                self._some.wait_for(lambda: self._work or self._closed)
                if not self._work:
                    return
                future, call = self._work.pop()
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it belongs to the thread that waits
                future.set_exception(error)
            del future, call


def _wait(future: Future[Any], seconds: float | None) -> bool:
    """Whether it was done within so many seconds; None: it is waited for."""
    over = threading.Event()
    future.add_done_callback(lambda _: over.set())
    return over.wait(seconds)
