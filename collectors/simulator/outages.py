"""Faults that befall calls: refusals for a time, refusals of the next few, results that are not whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal

from collectors.simulator import rpc
from collectors.simulator.orders import Spoil
from collectors.simulator.rpc import RpcError

Outage = Literal["rate_limit", "settlement", "maintenance", "refuse"]
ALWAYS_ANSWERED: Final = (
    "test", "hello", "status", "get_time", "set_heartbeat", "disable_heartbeat", "unsubscribe", "unsubscribe_all",
)  # fmt: skip
HTTP_BAD_REQUEST: Final = 400
HTTP_TOO_MANY_REQUESTS: Final = 429
HTTP_UNAVAILABLE: Final = 503


@dataclass
class _Turns:
    """Which calls of a kind are hit: each `every`-th, `left` times."""

    left: int
    every: int
    met: int = 0

    def hit(self) -> bool:
        """Whether the call that was just met is hit."""
        self.met += 1
        if self.met % self.every:
            return False
        self.left -= 1
        return True


@dataclass
class _Failure:
    method: str
    error: RpcError
    turns: _Turns


@dataclass
class _Spoiled:
    order: Spoil
    turns: _Turns


@dataclass
class _Missing:
    patterns: tuple[str, ...]
    left: int


class Outages:
    """What is out of order."""

    def __init__(self) -> None:
        self.refuse_status = HTTP_UNAVAILABLE
        self._ends: dict[Outage, asyncio.TimerHandle] = {}  # what lasts, and what ends it
        self._failures: list[_Failure] = []
        self._missing: list[_Missing] = []
        self._spoiled: list[_Spoiled] = []

    def active(self, outage: Outage) -> bool:
        """Whether it lasts still."""
        return outage in self._ends

    def begin(self, outage: Outage, seconds: float, at_end: Callable[[], None] | None = None) -> None:
        """Let it last for a time from now, whatever was ordered before; `at_end` runs when it is over."""
        if outage in self._ends:
            self._ends[outage].cancel()

        def over() -> None:
            del self._ends[outage]
            if at_end is not None:
                at_end()

        self._ends[outage] = asyncio.get_running_loop().call_later(seconds, over)

    def close(self) -> None:
        """End everything without a word."""
        for end in self._ends.values():
            end.cancel()

    def fail(self, method: str, error: RpcError, calls: int, every: int = 1) -> None:
        """Refuse `calls` calls of methods like `method` (without `public/`), each `every`-th from now on."""
        self._failures.append(_Failure(method.removeprefix("public/"), error, _Turns(calls, every)))

    def spoil(self, order: Spoil) -> None:
        """Spoil the next REST answers that the order speaks of."""
        self._spoiled.append(_Spoiled(order, _Turns(order.calls, order.every)))

    def spoiled(self, host: str, method: str) -> Spoil | None:
        """How the answer to this REST call is spoiled, if it is."""
        for spoiled in self._spoiled:
            order = spoiled.order
            if order.host not in ("*", host) or not fnmatchcase(method, order.method.removeprefix("public/")):
                continue
            if spoiled.turns.hit():
                if not spoiled.turns.left:
                    self._spoiled.remove(spoiled)
                return order
        return None

    def leave_out(self, patterns: tuple[str, ...], calls: int) -> None:
        """Forget channels like these in the next `calls` subscribe calls that name some of them."""
        self._missing.append(_Missing(patterns, calls))

    def check(self, method: str) -> None:
        """Raise what a call of `public/<method>` gets now instead of its result, if anything."""
        if self.active("maintenance"):
            raise RpcError(rpc.MAINTENANCE, "system_maintenance")
        if self.active("rate_limit"):
            raise RpcError(rpc.TOO_MANY_REQUESTS, "too_many_requests")
        if self.active("settlement") and method not in ALWAYS_ANSWERED:
            raise RpcError(rpc.SETTLEMENT, "settlement_in_progress")
        for failure in self._failures:
            if fnmatchcase(method, failure.method) and failure.turns.hit():
                if not failure.turns.left:
                    self._failures.remove(failure)
                raise failure.error

    def connection_status(self) -> int | None:
        """The HTTP status that a new connection is refused with now, if it is."""
        if self.active("maintenance"):
            return HTTP_UNAVAILABLE
        return self.refuse_status if self.active("refuse") else None

    def acknowledged(self, channels: list[str]) -> list[str]:
        """The channels of a subscribe call that are not forgotten."""
        for missing in self._missing:
            kept = [c for c in channels if not any(fnmatchcase(c, p) for p in missing.patterns)]
            if len(kept) < len(channels):
                missing.left -= 1
                if not missing.left:
                    self._missing.remove(missing)
                return kept
        return channels

    def http_status(self, error: RpcError) -> int:
        """The HTTP status around an error: 429 only in the outage that stands for an overrun."""
        if self.active("rate_limit") and error.code == rpc.TOO_MANY_REQUESTS:
            return HTTP_TOO_MANY_REQUESTS
        return HTTP_UNAVAILABLE if error.code == rpc.MAINTENANCE else HTTP_BAD_REQUEST
