"""Channels that speak once a second, and the first frame of any channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from collectors.simulator import frames
from collectors.simulator.prices import Index

PUBLIC_METHODS: Final = "platform_state.public_methods_state"

if TYPE_CHECKING:
    from collectors.simulator.instrument import Instrument
    from collectors.simulator.market import Market


def publish_slow(market: Market) -> None:
    """Indices, volatility indices, funding, option marks and the platform's state, once a simulated second."""
    now, listened, publish = market.now_ms, market.outlet.listened, market.outlet.publish
    for index in market.indices.all.values():
        for channel in (f"deribit_price_index.{index.name}", f"deribit_volatility_index.{index.name}"):
            if channel in listened:
                publish(channel, _index_data(channel, index, now), now, None)
        channel = f"markprice.options.{index.name}"
        if channel in listened and (changed := _changed_marks(market, index)):
            publish(channel, changed, now, None)
    for item in market.instruments.values():
        if item.spec.perpetual and item.channel_perpetual_slow in listened:
            publish(item.channel_perpetual_slow, item.perpetual_data(now), now, None)
    if "platform_state" in listened:
        names = list(market.indices.all)
        publish(
            "platform_state",
            frames.platform_state(names[now // 1000 % len(names)], locked=market.locked),
            now,
            None,
        )


def _index_data(channel: str, index: Index, now_ms: int) -> str:
    if channel.startswith("deribit_price_index."):
        return frames.price_index(index.name, now_ms, index.price)
    return frames.volatility_index(index.name, now_ms, round(index.volatility, 4))


def _options(market: Market, index: Index) -> list[Instrument]:
    return [item for item in market.instruments.values() if item.index is index and item.smile is not None]


def _mark_rows(market: Market, items: list[Instrument]) -> str:
    """`markprice.options`: one row per option."""
    return "[" + ",".join([item.mark_row(market.now_ms) for item in items]) + "]"


def _changed_marks(market: Market, index: Index) -> str | None:
    """The rows of the options of an index whose mark has changed since it was told; None where none has."""
    changed = [item for item in _options(market, index) if item.told_mark != item.published_mark]
    for item in changed:
        item.told_mark = item.published_mark
    return _mark_rows(market, changed) if changed else None


def first_frame(market: Market, channel: str) -> tuple[str, object] | None:
    """`data` and sequence id sent right after a channel was subscribed; None where nothing is."""
    now, parts = market.now_ms, channel.split(".")
    family = parts[0]
    if family == "markprice":
        return _mark_rows(market, _options(market, market.indices.all[parts[2]])), now
    if family.startswith("deribit_"):
        return _index_data(channel, market.indices.all[parts[1]], now), now
    if channel == PUBLIC_METHODS:
        return frames.public_methods(allowed=True), now
    if family == "platform_state":
        return frames.platform_state(next(iter(market.indices.all)), locked=market.locked), now
    item = market.instruments.get(parts[1])
    if item is None:
        return None
    if family == "book":
        if channel == item.channel_book:
            return item.snapshot_data(now), item.book.change_id
        return item.grouped_data(now, int(parts[3])), item.book.change_id
    makers = {"ticker": item.ticker_data, "quote": item.quote_data}
    if item.spec.perpetual:
        makers["perpetual"] = item.perpetual_data
    return (makers[family](now), now) if family in makers else None
