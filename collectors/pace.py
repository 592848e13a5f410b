"""A bound on how often something is done: a token bucket."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

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

    def refused(self, pause_s: float) -> None:
        """The other side found it too much. This bucket's rate is fixed: it is for the caller to wait."""


class AdaptiveBucket(TokenBucket):
    """A token bucket that learns a limit nobody publishes.

    After a refusal nothing comes through for `quiet_s`: venues count refusals, and shut out who goes on. Then the rate
    is half of what was refused, and grows by 5 % every `STEP_S`; for `REMEMBERED_S` not beyond 95 % of what was
    refused, after that up to `per_s` again. Refusals while it is quiet answer what had been sent before, and change
    nothing.
    """

    SLOWER: Final = 0.5
    FASTER: Final = 1.05
    STEP_S: Final = 10.0
    SAFE: Final = 0.95
    REMEMBERED_S: Final = 600.0

    def __init__(
        self, per_s: float, burst: int, quiet_s: float = 10.0, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(per_s, burst, clock_s)
        self._highest = per_s
        self._quiet_s = quiet_s
        self._refused_per_s = per_s
        self._refused_s = -math.inf
        self._grown_s = clock_s()
        self._blocked_until_s = -math.inf

    @property
    def per_s(self) -> float:
        """The rate now."""
        return self._per_s

    def reserve(self) -> float:
        """As for `TokenBucket`; while it is quiet after a refusal, no token comes."""
        now_s = self._clock_s()
        ceiling = self._highest
        if now_s - self._refused_s < self.REMEMBERED_S:
            ceiling = min(ceiling, self.SAFE * self._refused_per_s)
        while now_s - self._grown_s >= self.STEP_S:
            self._grown_s += self.STEP_S
            self._per_s = max(self._per_s, min(ceiling, self._per_s * self.FASTER))
        return super().reserve()

    async def wait(self) -> None:
        """Return when it is our turn, also where it became quiet meanwhile."""
        await super().wait()
        while self._clock_s() < self._blocked_until_s:
            await super().wait()

    def refused(self, pause_s: float) -> None:
        """Nothing for `pause_s` seconds or until it has been quiet long enough, and less from then on."""
        now_s = self._clock_s()
        if now_s >= self._blocked_until_s:
            self._refused_per_s, self._refused_s = self._per_s, now_s
            self._per_s *= self.SLOWER
        self._blocked_until_s = max(self._blocked_until_s, now_s + max(pause_s, self._quiet_s))
        self._grown_s = self._blocked_until_s
        # As many tokens are owed as the quiet time would bring: the first comes when it is over, then one by one.
        self._at_s = now_s
        self._tokens = min(self._tokens, 1.0 - (self._blocked_until_s - now_s) * self._per_s)
