"""Settings of the Greeks job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GreeksSettings:
    """What of the Greeks is stored, and with how much memory it is computed."""

    quotes_every_s: float = 60.0
    """Of quotes, the last of each instrument in every interval of so many seconds is stored; 0 stores all of them.
    In between they are computed on read, which costs less than to keep them (docs/greeks.md)."""

    forward_max_age_s: float = 120.0
    """A forward that did not come with the quote itself may be this old; older ones leave the row null."""

    rows_in_memory: int = 250_000
    """A partition is worked on in ranges of instruments of about this many rows (about 800 bytes each)."""

    workers: int = 1
    """Processes to work on partitions in; each needs the memory above."""

    def __post_init__(self) -> None:
        for name in ("rows_in_memory", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("quotes_every_s", "forward_max_age_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
