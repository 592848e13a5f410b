"""CPU seconds by stage of a way through the code, measured where the stages are called.

A stage is a function of the product as its caller knows it: `Stages.watch("pipeline.ingest", "sort_by", "sort")`
puts a clock around the name `sort_by` in that module. A stage called inside another counts only for itself.
"""

from __future__ import annotations

import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stages:
    """CPU seconds of this process by stage, while inside `watching`."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    @contextmanager
    def watching(self, *stages: tuple[str, str, str]) -> Iterator[None]:
        """Clocks around (module or module:class, name, stage), taken away at the end."""
        restore: list[tuple[Any, str, Any]] = []
        try:
            for where, name, stage in stages:
                module, _, inner = where.partition(":")
                owner = importlib.import_module(module)
                owner = getattr(owner, inner) if inner else owner
                original = getattr(owner, name)
                restore.append((owner, name, original))
                setattr(owner, name, self._clocked(original, stage))
            yield
        finally:
            for owner, name, original in reversed(restore):
                setattr(owner, name, original)

    def _clocked(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def clocked(*arguments: Any, **named: Any) -> Any:
            with self._clock(stage):
                found = function(*arguments, **named)
            return self._each(found, stage) if hasattr(found, "__next__") else found

        return clocked

    def _each(self, items: Iterator[Any], stage: str) -> Iterator[Any]:
        """A generator's work is done when it is asked for the next item."""
        while True:
            with self._clock(stage):
                item = next(items, self)
            if item is self:
                return
            yield item

    @contextmanager
    def _clock(self, stage: str) -> Iterator[None]:
        self._inner.append(0.0)
        before = time.process_time()
        try:
            yield
        finally:
            used = time.process_time() - before
            inner = self._inner.pop()
            if self._inner:
                self._inner[-1] += used
            self.seconds[stage] += used - inner
