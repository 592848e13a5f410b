"""How long to wait before trying again: exponential, capped, with full jitter.

Full jitter (a uniform draw between zero and the ceiling) spreads clients that lost the same server at the
same moment over the whole interval, so that they do not come back as one wave.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from lake.errors import SettingsError


@dataclass(frozen=True, slots=True)
class BackoffSettings:
    """The ceiling of the wait: `base_s` at first, `factor` times more each time, never above `cap_s`."""

    base_s: float = 1.0
    """Ceiling of the first wait."""
    cap_s: float = 60.0
    """Ceiling of every wait."""
    factor: float = 2.0
    """Growth of the ceiling from one attempt to the next."""

    def __post_init__(self) -> None:
        if not 0 < self.base_s <= self.cap_s:
            raise SettingsError(f"backoff: base_s {self.base_s} must be in (0, cap_s {self.cap_s}]")
        if self.factor < 1:
            raise SettingsError(f"backoff: factor {self.factor} must be at least 1")


class Backoff:
    """The waits of one client. `uniform` draws from [a, b] and can be replaced."""

    def __init__(
        self,
        settings: BackoffSettings,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._settings = settings
        self._uniform = uniform
        self._ceiling_s = settings.base_s

    @property
    def ceiling_s(self) -> float:
        """The next wait is at most this long."""
        return self._ceiling_s

    def next_s(self) -> float:
        """Seconds to wait now; the ceiling of the following wait grows."""
        wait_s = self._uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._settings.cap_s, self._ceiling_s * self._settings.factor)
        return wait_s

    def reset(self) -> None:
        """Start over: the last attempt has proved itself."""
        self._ceiling_s = self._settings.base_s
