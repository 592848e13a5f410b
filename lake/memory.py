"""Memory that was freed goes back to the system: allocators keep it, in more and more pieces as days go by."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

KEEP_LITTLE: Final[Mapping[str, str]] = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "_RJEM_MALLOC_CONF": "narenas:1,background_thread:true,dirty_decay_ms:1000,lg_tcache_max:12",
    "DUCKDB_JE_MALLOC_CONF": "narenas:1,dirty_decay_ms:0,muzzy_decay_ms:0,lg_tcache_max:12",
}
"""Environment of a process that works for days, beside others.

Every allocator keeps heaps for its threads, and gives little back of what was freed, the less the more heaps there are.
With these, Arrow takes its memory from the C library, where `give_back` reaches it, and the C library makes two heaps.
The two jemallocs, of the Delta library (`_RJEM_`) and of DuckDB, make one each, and return what is free after a second,
or at once.
"""


def give_back() -> None:
    """Return to the system what this process has freed; some ms, so after large work and not within it."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    """The C library's `malloc_trim`; None where it has none (musl, macOS)."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
