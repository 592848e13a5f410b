"""Where a job over many partitions runs: in this process, or in several. The job does not know."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Executor(Protocol):
    """Runs a picklable function over items; results come in the order of the items."""

    def map(self, job: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `job` to each item; the first exception ends the run and is raised here."""
        ...


class SerialExecutor:
    """One after the other, in this process."""

    def map(self, job: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `job` to each item."""
        return map(job, items)


class ProcessExecutor:
    """In `workers` processes, started fresh so that no lock, thread or open table is inherited."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, job: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Apply `job` to each item, `workers` at a time."""
        # A fresh interpreter would look for its modules in the working folder first, and ends with a traceback of
        # its own at Ctrl-C, which the terminal sends to it as well.
        os.environ.setdefault("PYTHONSAFEPATH", "1")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            self._workers, context, signal.signal, (signal.SIGINT, signal.SIG_DFL)
        ) as pool:
            yield from pool.map(job, items)


def executor(workers: int) -> Executor:
    """The executor for this many workers."""
    return SerialExecutor() if workers == 1 else ProcessExecutor(workers)
