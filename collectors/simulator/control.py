"""The control door: carries out orders on a running venue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from collectors.simulator import frames, orders
from collectors.simulator.feeds import GeneratedFeed, ReplayFeed
from collectors.simulator.history import Host
from collectors.simulator.hub import Hub
from collectors.simulator.limits import Limits
from collectors.simulator.orders import Order
from collectors.simulator.outages import Outages
from collectors.simulator.rpc import Clock, RpcError
from collectors.simulator.session import Session

MAINTENANCE_CLOSE: Final = 1001  # going away (RFC 6455 §7.4.1)


class Control:
    """Knows every part of the venue that an order may touch."""

    def __init__(
        self,
        hub: Hub,
        feed: GeneratedFeed | ReplayFeed,
        outages: Outages,
        clock: Clock,
        *,
        restart: Callable[[float], Awaitable[None]],
        limit_channels: Callable[[int], None],
        limits: Mapping[Host, Limits],
    ) -> None:
        self._hub = hub
        self._feed = feed
        self._outages = outages
        self._clock = clock
        self._restart = restart
        self._limit_channels = limit_channels
        self._limits = limits

    async def do(self, order: Order) -> dict[str, Any]:
        """Carry out an order; the answer of those that ask something, empty for the others.

        Raises:
            InputError: no such instrument or session, or not in a replay.
        """
        match order:
            case orders.Sessions():
                return {"sessions": [_described(session) for session in self._hub.sessions.values()]}
            case orders.BookTruth():
                return self._feed.book(order.instrument)
            case orders.LimitsTold():
                return {"limits": self._limits_told(order.reset)}
            case orders.Truth():
                return {"truth": await asyncio.to_thread(self._feed.truth, order)}
            case orders.FlushAccount() if self._hub.account is not None:
                self._hub.account.flush()
            case orders.Restart():
                await self._restart(order.seconds)
            case orders.ChannelLimit():
                self._limit_channels(order.count)
        await self._connections(order)
        self._notifications(order)
        await self._calls(order)
        self._market(order)
        return {}

    def _limits_told(self, reset: bool) -> dict[str, Any]:
        told: dict[str, Any] = {host: limits.told() for host, limits in self._limits.items()}
        if reset:
            for limits in self._limits.values():
                limits.reset()
        return told

    async def _connections(self, order: Order) -> None:
        """Faults of whole connections."""
        hub = self._hub
        match order:
            case orders.Drop():
                for session in hub.chosen(order.session):
                    await hub.drop(session, order.code, order.reason)
            case orders.DropAll():
                for session in hub.chosen(None):
                    await hub.drop(session)
            case orders.HalfOpen():
                for session in hub.chosen(order.session):
                    session.stall(order.seconds)
            case orders.Slow():
                for session in hub.chosen(order.session):
                    hub.throttle(session, order.bytes_per_second)

    def _notifications(self, order: Order) -> None:
        """Faults of what is sent."""
        hub = self._hub
        match order:
            case orders.Silence() | orders.Speak():
                hub.silent = isinstance(order, orders.Silence)
            case orders.Garbage():
                hub.publish_bytes(hub.chosen(order.session), None, order.text.encode(), None, None)
                hub.flush()
            case orders.Lose():
                hub.tampering.order("lose", order.channel, order.count)
            case orders.Forget():
                hub.forget(hub.chosen(order.session), order.channel)
            case orders.Duplicate():
                hub.tampering.order("duplicate", order.channel, order.count)
            case orders.Reorder():
                hub.tampering.order("reorder", order.channel, order.count)
            case orders.Gap():
                self._feed.gap(order.instrument, order.count)
            case orders.MissTrades():
                self._feed.miss_trades(order.instrument, order.count)

    async def _calls(self, order: Order) -> None:
        """Faults of what is answered."""
        outages, feed, hub = self._outages, self._feed, self._hub
        match order:
            case orders.Partial():
                outages.leave_out(tuple(order.channels), order.calls)
            case orders.Fail():
                outages.fail(order.method, RpcError(order.code, order.message), order.calls, order.every)
            case orders.Spoil():
                outages.spoil(order)
            case orders.RateLimit():
                outages.begin("rate_limit", order.seconds)
            case orders.Settlement():
                feed.lock(True)
                outages.begin("settlement", order.seconds, lambda: feed.lock(False))
            case orders.Maintenance():
                self._tell_maintenance(under_way=True)
                for session in hub.chosen(None):
                    await hub.drop(session, MAINTENANCE_CLOSE, "system_maintenance")
                outages.begin("maintenance", order.seconds, lambda: self._tell_maintenance(under_way=False))
            case orders.Refuse():
                outages.refuse_status = order.status
                outages.begin("refuse", order.seconds)

    def _tell_maintenance(self, *, under_way: bool) -> None:
        self._hub.publish("platform_state", frames.platform_maintenance(under_way), None, None)
        self._hub.flush()

    def _market(self, order: Order) -> None:
        """Events of the market and its clock."""
        feed = self._feed
        match order:
            case orders.Skew():
                feed.shift_clock(order.ms - self._clock.skew_ms)
                self._clock.skew_ms = order.ms
            case orders.State():
                feed.set_state(order.instrument, order.state)
            case orders.List():
                feed.list_instrument(order.instrument)
            case orders.Expire():
                feed.expire(order.instrument)


def _described(session: Session) -> dict[str, Any]:
    return {
        "session": session.number,
        "channels": len(session.channels),
        "half_open": session.half_open,
        "bytes_per_second": session.bytes_per_second,
        "backlog": len(session.backlog),
    }
