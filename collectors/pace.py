"""A bound on how often something is done: a token bucket."""

from __future__ import annotations

import asyncio
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
    """A token bucket that learns a limit nobody publishes: slower by a third after a refusal, then slowly up again.

    Refusals within a second of each other are one: they answer what had been sent before the first was known.
    After `RECOVERY_S` without one the rate grows by 5 %, and so on up to `per_s`.
    """

    SLOWER: Final = 0.67
    FASTER: Final = 1.05
    RECOVERY_S: Final = 10.0

    def __init__(self, per_s: float, burst: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(per_s, burst, clock_s)
        self._highest = per_s
        self._changed_s = clock_s()
        self._blocked_until_s = 0.0
        self.refusals = 0

    @property
    def per_s(self) -> float:
        """The rate now."""
        return self._per_s

    def reserve(self) -> float:
        """As for `TokenBucket`; nothing comes through while the pause after a refusal lasts."""
        now_s = self._clock_s()
        while self._per_s < self._highest and now_s - self._changed_s >= self.RECOVERY_S:
            self._per_s = min(self._highest, self._per_s * self.FASTER)
            self._changed_s += self.RECOVERY_S
        return max(super().reserve(), self._blocked_until_s - now_s)

    async def wait(self) -> None:
        """Return when it is our turn, also where a pause began meanwhile."""
        await super().wait()
        while (left_s := self._blocked_until_s - self._clock_s()) > 0:
            await asyncio.sleep(left_s)

    def refused(self, pause_s: float) -> None:
        """Nothing for `pause_s` seconds, and less from then on."""
        now_s = self._clock_s()
        self.refusals += 1
        self._blocked_until_s = max(self._blocked_until_s, now_s + pause_s)
        if self.refusals == 1 or now_s - self._changed_s >= 1.0:
            self._per_s *= self.SLOWER
        self._changed_s = now_s
        self._tokens = min(self._tokens, 0.0)
