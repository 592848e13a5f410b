"""What happens to an instrument, told in every channel that speaks of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from collectors.simulator import frames
from collectors.simulator.book import Change
from collectors.simulator.instrument import Instrument, Trade


class Outlet(Protocol):
    """Where frames go; `listened` holds the channels worth building a text for."""

    @property
    def listened(self) -> Collection[str]:
        """Channels somebody is subscribed to."""

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """Send `data` to everybody subscribed to `channel`."""

    def withhold(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        """Put on record that everybody subscribed to `channel` should have got `data`, and did not."""


class Publisher:
    """Builds the texts of books, trades and listings that somebody listens to."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._pending: dict[str, list[Trade]] = {}  # of the channels of many instruments

    def listing(self, item: Instrument, what: str, data: str, now_ms: int) -> None:
        """Tell `instrument.creation` or `instrument.state`."""
        for channel in self._listened(item, f"instrument.{what}", ""):
            self._outlet.publish(channel, data, now_ms, None)

    def book(
        self, item: Instrument, now_ms: int, previous: int, changes: tuple[Sequence[Change], Sequence[Change]]
    ) -> None:
        """Tell what happened to bids and asks since the change id `previous`, or swallow it as a gap."""
        outlet, change_id = self._outlet, item.book.change_id
        skipped = item.skip_changes > 0
        item.skip_changes -= skipped
        if item.channel_book in outlet.listened:
            data = frames.book_change(item.spec.name, now_ms, change_id, previous, *changes)
            send = outlet.withhold if skipped else outlet.publish
            send(item.channel_book, data, change_id, previous)
        for channel, depth in item.channel_grouped:
            if channel in outlet.listened:
                outlet.publish(channel, item.grouped_data(now_ms, depth), change_id, None)

    def trades(self, item: Instrument, fresh: list[Trade]) -> None:
        """Tell an instrument's trades in its own channel, and keep them for the next of the others."""
        outlet = self._outlet
        chosen = list(self._listened(item, "trades", ".100ms"))
        if item.skip_trades:
            lost, fresh = fresh[: item.skip_trades], fresh[item.skip_trades :]
            item.skip_trades -= len(lost)
            for channel in chosen:
                outlet.withhold(channel, _data(lost), [lost[0].trade_id, lost[-1].trade_id], None)
            if item.channel_trades in outlet.listened:
                outlet.withhold(item.channel_trades, _data(lost), [lost[0].seq, lost[-1].seq], None)
        if not fresh:
            return
        if item.channel_trades in outlet.listened:
            outlet.publish(item.channel_trades, _data(fresh), [fresh[0].seq, fresh[-1].seq], None)
        for channel in chosen:
            self._pending.setdefault(channel, []).extend(fresh)

    def flush_trades(self) -> None:
        """Tell what was kept for the channels of many instruments."""
        for channel, fresh in self._pending.items():
            self._outlet.publish(channel, _data(fresh), [fresh[0].trade_id, fresh[-1].trade_id], None)
        self._pending.clear()

    def _listened(self, item: Instrument, head: str, tail: str) -> Iterator[str]:
        """Channels by kind and currency that speak of an instrument and are listened to."""
        for kind in (item.spec.kind, "any"):
            for currency in (item.spec.currency, "any"):
                channel = f"{head}.{kind}.{currency}{tail}"
                if channel in self._outlet.listened:
                    yield channel


def _data(trades: list[Trade]) -> str:
    return "[" + ",".join([trade.text for trade in trades]) + "]"
