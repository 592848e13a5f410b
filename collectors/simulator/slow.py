"""Channels that speak once a second, and the first frame of any channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.simulator import frames
from collectors.simulator.prices import Index

if TYPE_CHECKING:
    from collectors.simulator.market import Market


def publish_slow(market: Market) -> None:
    """Indices, volatility indices, option marks and the platform's state, once a simulated second."""
    now, listened, publish = market.now_ms, market.outlet.listened, market.outlet.publish
    for index in market.indices.all.values():
        for channel in (f"deribit_price_index.{index.name}", f"deribit_volatility_index.{index.name}"):
            if channel in listened:
                publish(channel, _index_data(channel, index, now), now, None)
        channel = f"markprice.options.{index.name}"
        if channel in listened:
            publish(channel, _mark_rows(market, index), now, None)
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


def _mark_rows(market: Market, index: Index) -> str:
    """`markprice.options`: one row per option of an index."""
    items = market.instruments.values()
    rows = [item.mark_row(market.now_ms) for item in items if item.index is index and item.smile is not None]
    return "[" + ",".join(rows) + "]"


def first_frame(market: Market, channel: str) -> tuple[str, object] | None:
    """`data` and sequence id sent right after a channel was subscribed; None where nothing is."""
    now, parts = market.now_ms, channel.split(".")
    family = parts[0]
    if family == "markprice":
        return _mark_rows(market, market.indices.all[parts[2]]), now
    if family.startswith("deribit_"):
        return _index_data(channel, market.indices.all[parts[1]], now), now
    if family == "platform_state":
        return frames.platform_state(next(iter(market.indices.all)), locked=market.locked), now
    item = market.instruments.get(parts[1])
    if item is None:
        return None
    if family == "book":
        if channel == item.channel_book:
            return item.snapshot_data(now), item.book.change_id
        return item.grouped_data(now, int(parts[3])), item.book.change_id
    makers = {"ticker": item.ticker_data, "quote": item.quote_data, "perpetual": item.perpetual_data}
    return (makers[family](now), now) if family in makers else None
