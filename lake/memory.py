"""Memory that was freed goes back to the system: allocators keep it, in more and more pieces as days go by."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

KEEP_LITTLE: Final[Mapping[str, str]] = {"ARROW_DEFAULT_MEMORY_POOL": "system"}
"""Environment of a process that works for days: Arrow then takes its memory from the C library. Its other pools keep
what their many threads freed, more from hour to hour, and `give_back` cannot reach it."""


def give_back() -> None:
    """Return to the system what this process has freed; some ms, so after large work and not within it."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The C library's `malloc_trim`; None where it has none (musl, macOS)."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
