"""A bound on how often something is done: a token bucket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from lake.errors import SettingsError


class TokenBucket:
    """Lets `burst` through at once and `per_s` each second from then on, in the order of asking."""

    def __init__(self, per_s: float, burst: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        if per_s <= 0 or burst < 1:
            raise SettingsError(
                f"call rate {per_s}/s, burst {burst}: the rate must be above 0, the burst at least 1"
            )
        self._per_s = per_s
        self._burst = float(burst)
        self._clock_s = clock_s
        self._tokens = float(burst)
        self._at_s = clock_s()

    def reserve(self) -> float:
        """Take the next token, if need be one that is still to come; seconds until it is there."""
        now_s = self._clock_s()
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        self._tokens -= 1.0
        return max(0.0, -self._tokens / self._per_s)

    async def wait(self) -> None:
        """Return when it is our turn."""
        wait_s = self.reserve()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
