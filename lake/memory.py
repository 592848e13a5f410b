"""Memory that was freed goes back to the system: allocators keep it, in more and more pieces as days go by."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import pyarrow as pa


def give_back() -> None:
    """Return to the system what this process has freed; some ms, so after large work and not within it."""
    pa.default_memory_pool().release_unused()
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The C library's `malloc_trim`; None where it has none (musl, macOS)."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
