"""What a venue has to say, in time: a generated market or a recording, driving the hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Any, Final

from collectors.simulator import frames
from collectors.simulator.chain import build_chain, parse_name
from collectors.simulator.chain_file import load_chain
from collectors.simulator.history import HistoryMethods, Past
from collectors.simulator.history.course import MINUTE_MS
from collectors.simulator.history.tape import first_id
from collectors.simulator.history.truth import truth
from collectors.simulator.hub import Hub
from collectors.simulator.instrument import Instrument
from collectors.simulator.market import HISTORY_MS, STEP_MS, Market
from collectors.simulator.orders import Truth
from collectors.simulator.replay import ReplayMethods, load
from collectors.simulator.rest import MarketMethods
from collectors.simulator.session import Session
from collectors.simulator.settings import SimulatorSettings
from collectors.simulator.slow import PUBLIC_METHODS, first_frame
from lake.errors import InputError

_SLEEP_WORTH_S: Final = 0.001
_MAX_LAG_S: Final = 1.0  # beyond this the clock slips instead of catching up
_REPLAY_BATCH: Final = 64
_DVOL_INDICES: Final = ("btc_usd", "eth_usd")


class GeneratedFeed:
    """Steps a market in pace with the wall clock."""

    def __init__(self, settings: SimulatorSettings, hub: Hub) -> None:
        start = settings.start_ms if settings.start_ms is not None else time.time_ns() // 1_000_000
        prices: dict[str, float] = {}
        if settings.chain_file:
            specs, prices = load_chain(settings.chain_file, settings.instruments, start)
        self.past = Past(
            settings, prices, start_ms=start, end_ms=(start - HISTORY_MS) // MINUTE_MS * MINUTE_MS
        )
        if not settings.chain_file:
            prices = {base: self.past.course.index_at(base, start) for base in ("BTC", "ETH")}
            specs = build_chain(settings.instruments, start, prices)
        self.market = Market(
            specs,
            seed=settings.seed,
            rate=settings.rate,
            start_ms=start,
            outlet=hub,
            prices=prices,
            trades_before=lambda spec: self.past.outright(spec).count,
            first_trade_id=first_id(self.past.end_ms),
        )
        self.methods = MarketMethods(self.market, self.past)
        self.history = HistoryMethods(self.methods)
        self._channels: tuple[int, frozenset[str]] = (0, frozenset())  # of which state of the listings
        self._settings = settings
        self._hub = hub
        self._slipped_s = 0.0
        self._shift_ms = 0  # of the venue's clock against the truth

    def instruments(self) -> Collection[str]:
        """What is listed now."""
        return self.market.instruments

    @property
    def channels(self) -> frozenset[str]:
        """What can be subscribed now; the channels of what has expired are no more."""
        if self._channels[0] != self.market.listings:
            self._channels = self.market.listings, _market_channels(self.market)
        return self._channels[1]

    async def run(self) -> None:
        """Step until cancelled, or until `max_frames`."""
        settings, hub, market = self._settings, self._hub, self.market
        loop = asyncio.get_running_loop()
        if settings.hold:
            await hub.subscribed.wait()
        if settings.start_ms is None:
            market.now_ms = max(market.now_ms, time.time_ns() // 1_000_000 + self._shift_ms)
        pace = STEP_MS / 1000 / market.speed if settings.rate else 0.0
        due = loop.time()
        while not settings.max_frames or market.frames < settings.max_frames:
            market.step()
            hub.flush()
            await hub.drained()
            due += pace
            wait = due - loop.time()
            if not pace:
                due = loop.time()
            elif wait < -_MAX_LAG_S:
                self._slip(-wait)
                due -= wait
            await asyncio.sleep(wait if wait > _SLEEP_WORTH_S else 0)

    def _slip(self, seconds: float) -> None:
        """This process was too slow: venue time that follows the wall clock skips what was lost."""
        self._slipped_s += seconds
        if self._settings.start_ms is None and self.market.speed == 1.0:
            self.market.now_ms += int(seconds * 1000)

    def greet(self, session: Session, channel: str) -> None:
        """The first frame of a channel just subscribed."""
        first = first_frame(self.market, channel)
        if first is not None:
            data, seq = first
            self._hub.publish_to(session, channel, data, seq)

    def gap(self, instrument: str, count: int) -> None:
        """Swallow the next `count` changes of a book while its chain goes on."""
        self._item(instrument).skip_changes += count

    def miss_trades(self, instrument: str, count: int) -> None:
        """Tell nobody about the next `count` trades of an instrument."""
        self._item(instrument).skip_trades += count

    def lock(self, locked: bool) -> None:
        """Begin or end a settlement: `platform_state` tells it for every index."""
        self.market.locked = locked
        for name in self.market.indices.all:
            data = frames.platform_state(name, locked=locked)
            self._hub.publish("platform_state", data, self.market.now_ms, None)
        self._hub.flush()

    def shift_clock(self, ms: int) -> None:
        """Move the venue's time."""
        self.market.now_ms += ms
        self._shift_ms += ms

    def book(self, instrument: str) -> dict[str, Any]:
        """The true book of an instrument, live or expired: every level, best first, as `[price, amount]`."""
        item = self.market.expired.get(instrument) or self._item(instrument)
        book = item.book
        levels = [[[float(p), float(a)] for p, a in book.levels(side)] for side in (0, 1)]
        return {
            "instrument": instrument,
            "change_id": book.change_id,
            "timestamp": self.market.now_ms,
            "bids": levels[0],
            "asks": levels[1],
        }

    def truth(self, order: Truth) -> dict[str, Any]:
        """What the history holds of one thing."""
        return truth(self.methods, order)

    def set_state(self, instrument: str, state: str) -> None:
        """Move an instrument to another life-cycle state and tell the subscribers."""
        self.market.set_state(self._item(instrument), state)
        self._hub.flush()

    def expire(self, instrument: str) -> None:
        """End the life of an instrument now."""
        self.market.retire([self._item(instrument)])
        self._hub.flush()

    def list_instrument(self, instrument: str) -> None:
        """Add an instrument by name."""
        if instrument in self.market.instruments:
            raise InputError(f"{instrument} is listed already")
        self.market.add(parse_name(instrument, now_ms=self.market.now_ms))
        self._hub.flush()

    def _item(self, name: str) -> Instrument:
        found = self.market.instruments.get(name)
        if found is None:
            raise InputError(f"no instrument {name!r} is listed")
        return found

    def stats(self) -> dict[str, Any]:
        """How far the market is: frames made, venue time, its speed against the wall clock, time lost."""
        market = self.market
        return {
            "frames": market.frames,
            "steps": market.steps,
            "now_ms": market.now_ms,
            "speed": market.speed,
            "slipped_s": self._slipped_s,
        }


def _market_channels(market: Market) -> frozenset[str]:
    """Every channel a generated market knows."""
    found = {"platform_state", PUBLIC_METHODS}
    currencies = {"any"}
    for item in market.instruments.values():
        currencies.add(item.spec.currency)
        found |= {item.channel_ticker, item.channel_book, item.channel_trades, item.channel_quote}
        found |= {channel for channel, _ in item.channel_grouped}
        if item.spec.kind == "future":
            found |= {item.channel_perpetual, item.channel_perpetual_slow}
    for kind in ("option", "future", "spot", "any", "future_combo", "option_combo"):
        for currency in currencies:
            found |= {f"trades.{kind}.{currency}.100ms", f"instrument.state.{kind}.{currency}"}
            found.add(f"instrument.creation.{kind}.{currency}")
    for name in market.indices.all:
        found |= {f"deribit_price_index.{name}", f"markprice.options.{name}"}
        if name in _DVOL_INDICES:
            found.add(f"deribit_volatility_index.{name}")
    return frozenset(found)


class ReplayFeed:
    """Sends recorded notifications, each once, in order, at a chosen pace."""

    def __init__(self, settings: SimulatorSettings, hub: Hub) -> None:
        self.recorded = load(settings.replay)
        self.methods = ReplayMethods(self.recorded, time.time_ns() // 1_000_000)
        self.history = self.methods  # a recording has no past beside itself
        self.channels = frozenset(record.channel for record in self.recorded)
        self._settings = settings
        self._hub = hub
        self._sent = self._skipped = 0

    def instruments(self) -> None:
        """Unknown: a replay only says what was recorded."""

    async def run(self) -> None:
        """Wait for subscribers, then send everything once.

        It begins when every recorded channel is subscribed, or when no new subscription came for the time
        of grace; frames of channels that nobody subscribed to are then skipped.
        """
        settings, hub = self._settings, self._hub
        await self._wait_for_subscribers()
        loop = asyncio.get_running_loop()
        start = loop.time()
        for position, record in enumerate(self.recorded):
            if settings.replay_speed:
                wait = start + record.offset_s / settings.replay_speed - loop.time()
                if wait > _SLEEP_WORTH_S:
                    hub.flush()
                    await asyncio.sleep(wait)
            if settings.replay_everything:
                listeners = [s for s in hub.sessions.values() if s.channels]
            else:
                listeners = hub.listened.get(record.channel, [])
            if listeners:
                self._sent += 1
                hub.notify(listeners, record.channel, record.payload, record.seq, record.prev)
            else:
                self._skipped += 1
            if position % _REPLAY_BATCH == 0:
                hub.flush()
                await hub.drained()
                await asyncio.sleep(0)
        hub.flush()

    async def _wait_for_subscribers(self) -> None:
        hub = self._hub
        await hub.subscribed.wait()
        while not self.channels <= hub.listened.keys():
            hub.subscribed.clear()
            try:
                await asyncio.wait_for(hub.subscribed.wait(), self._settings.replay_grace_s)
            except TimeoutError:
                return

    def greet(self, session: Session, channel: str) -> None:
        """A recording brings its own first frames."""

    def gap(self, instrument: str, count: int) -> None:
        """Refused: a replay says what was recorded."""
        raise InputError(f"a replay is byte for byte: no {count} changes of {instrument} can be left out")

    def miss_trades(self, instrument: str, count: int) -> None:
        """Refused: a replay says what was recorded."""
        raise InputError(f"a replay is byte for byte: no {count} trades of {instrument} can be left out")

    def lock(self, locked: bool) -> None:
        """A recording has its own `platform_state`; only calls notice the settlement."""

    def shift_clock(self, ms: int) -> None:
        """Refused: a replay says what was recorded."""
        raise InputError(f"a replay is byte for byte: its clock cannot be shifted by {ms} ms")

    def book(self, instrument: str) -> dict[str, Any]:
        """Refused: a replay keeps no books."""
        raise InputError(f"a replay keeps no book of {instrument}")

    def truth(self, order: Truth) -> dict[str, Any]:
        """Refused: a replay has no history."""
        raise InputError(f"a replay has no history of {order.dataset}")

    def set_state(self, instrument: str, state: str) -> None:
        """Refused: a replay says what was recorded."""
        raise InputError(f"a replay is byte for byte: {instrument} cannot become {state!r}")

    def expire(self, instrument: str) -> None:
        """Refused: a replay says what was recorded."""
        raise InputError(f"a replay is byte for byte: {instrument} cannot expire")

    def list_instrument(self, instrument: str) -> None:
        """Refused: a replay says what was recorded."""
        raise InputError(f"a replay is byte for byte: {instrument} cannot be listed")

    def stats(self) -> dict[str, Any]:
        """How far the replay is."""
        return {"replayed": self._sent, "skipped": self._skipped, "recorded": len(self.recorded)}
