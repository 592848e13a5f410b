"""Request limits of one host for one caller: pools of credits, refusals, and the ban of who goes on.

The pools are those of the venue's rate-limit article; the size of the one for callers without a key is
unpublished, so it is a setting.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from collectors.simulator import rpc
from collectors.simulator.rpc import RpcError

LIST_PER_SECOND: Final = 1.0  # get_instruments: 10,000 credits of 500,000, of which 10,000 come back a second
LIST_BURST: Final = 50.0
_EXCESS: Final = 10  # refusals
_EXCESS_S: Final = 10.0  # within this time lead to a ban


class BannedError(Exception):
    """The caller is shut out; protocol content (HTTP 429), so not one of the lake's."""


@dataclass
class Pool:
    """Requests that may be made: `burst` at once, `per_second` in the long run; 0: any number."""

    per_second: float
    burst: float
    left: float = 0.0
    at: float | None = None

    def take(self, now: float) -> bool:
        """Whether one more request is within the allowance; if so it is counted."""
        if not self.per_second:
            return True
        if self.at is None:
            self.left, self.at = self.burst, now
        self.left = min(self.left + (now - self.at) * self.per_second, self.burst)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class Limits:
    """Admits requests of one host, and counts them. `per_second` 0: everything is admitted."""

    def __init__(self, per_second: float, burst: float, ban_s: float) -> None:
        self.per_second = per_second
        self._ban_s = ban_s
        self._pool = Pool(per_second, burst)
        self._lists = Pool(LIST_PER_SECOND, LIST_BURST)
        self._refusals: deque[float] = deque()
        self._banned_until: float | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the counts; allowances and bans stay."""
        self._requests = self._refused = self._shut_out = self._bans = self._repeated = 0
        self._first: float | None = None
        self._last = 0.0
        self._by_method: dict[str, int] = {}
        self._seen: set[int] = set()

    def admit(self, method: str, query: str, now: float) -> None:
        """Count a request that came at `now`, in seconds of any steady clock.

        Raises:
            RpcError: 10028, beyond the allowance.
            BannedError: went on in spite of many refusals.
        """
        self._count(method, query, now)
        if not self.per_second:
            return
        if self._banned_until is not None and now < self._banned_until:
            self._shut_out += 1
            raise BannedError
        self._banned_until = None
        pool = self._lists if method == "get_instruments" else self._pool
        if pool.take(now):
            return
        self._refused += 1
        self._refusals.append(now)
        while self._refusals[0] < now - _EXCESS_S:
            self._refusals.popleft()
        if len(self._refusals) >= _EXCESS:
            self._bans += 1
            self._banned_until = now + self._ban_s
            self._refusals.clear()
        raise RpcError(rpc.TOO_MANY_REQUESTS, "too_many_requests")

    def _count(self, method: str, query: str, now: float) -> None:
        self._first = now if self._first is None else self._first
        self._last = now
        self._requests += 1
        self._by_method[method] = self._by_method.get(method, 0) + 1
        asked = hash((method, query))
        self._repeated += asked in self._seen
        self._seen.add(asked)

    def told(self) -> dict[str, Any]:
        """The counts: `utilisation` is requests over what the long-run rate allows between the first and the last."""
        span = self._last - self._first if self._first is not None else 0.0
        return {
            "requests": self._requests,
            "by_method": self._by_method,
            "repeated": self._repeated,
            "refused": self._refused,
            "shut_out": self._shut_out,
            "bans": self._bans,
            "banned": self._banned_until is not None and self._last < self._banned_until,
            "per_second": self.per_second,
            "span_s": span,
            "utilisation": self._requests / (self.per_second * span) if self.per_second and span else None,
        }
