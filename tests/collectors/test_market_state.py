"""What the market has a reason to be still for, by the venue's own words."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from collectors.deribit.market_state import MarketState

BTC, ETH, SOL = "ticker.BTC-PERPETUAL.100ms", "book.ETH-PERPETUAL.100ms", "ticker.SOL_USDC-PERPETUAL.100ms"
TRADES = "trades.any.any.100ms"
NOW_NS = 1_795_000_000_000_000_000


def platform(**data: Any) -> bytes:
    return frame("platform_state", data)


def state(name: str, word: str) -> bytes:
    return frame("instrument.state.any.any", {"instrument_name": name, "state": word, "timestamp": 1})


def frame(channel: str, data: Any) -> bytes:
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(message).encode()


def status(**result: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(result).encode())


def resting(market: MarketState, *channels: str) -> list[int | None]:
    return [market.resting_ns(channel, NOW_NS) for channel in channels]


def test_a_lock_of_an_index_is_a_reason_for_its_instruments_alone() -> None:
    market = MarketState()
    market.platform(platform(price_index="btc_usd", locked=True), 5)
    market.platform(platform(price_index="btc_usd", locked=True, reasons=["settlement"]), 7)
    assert resting(market, BTC, ETH, SOL) == [5, None, None]
    market.platform(platform(price_index="sol_usdc", locked=True), 8)
    assert resting(market, BTC, ETH, SOL) == [5, None, 8]
    assert resting(market, TRADES, "deribit_price_index.eth_usd") == [5, None]
    assert resting(market, "markprice.options.btc_usd", "markprice.options.eth_usd") == [5, None]
    market.platform(platform(price_index="btc_usd", locked=False), 9)
    assert (resting(market, BTC, SOL), market.locked) == ([None, 8], True)


def test_maintenance_is_a_reason_for_everything_and_a_halt_for_one() -> None:
    market = MarketState()
    market.platform(platform(maintenance=True), 3)
    assert resting(market, BTC, ETH, TRADES) == [3, 3, 3]
    market.platform(platform(maintenance=False), 4)
    market.instrument(state("BTC-PERPETUAL", "halted"), 6)
    market.instrument(state("BTC-PERPETUAL", "locked"), 7)
    assert resting(market, BTC, ETH) == [6, None]
    market.instrument(state("BTC-PERPETUAL", "open"), 8)
    assert resting(market, BTC, ETH) == [None, None]


def test_an_expiry_is_a_reason_from_its_moment_on() -> None:
    market = MarketState()
    eight_ns = 1_795_248_000_000_000_000  # 21 November 2026, 08:00 UTC
    channel = "ticker.BTC-21NOV26-90000-C.100ms"
    assert market.resting_ns(channel, eight_ns - 1) is None
    assert market.resting_ns(channel, eight_ns + 1) == eight_ns


def test_status_is_the_truth_about_locks_and_a_lock_may_be_as_old_as_the_last_answer_without_one() -> None:
    market = MarketState()
    market.status(status(locked="true", locked_indices=["btc_usd"]), 10)
    assert resting(market, BTC, SOL) == [0, 0]
    market.status(status(locked="false", locked_indices=[]), 20)
    assert resting(market, BTC, SOL) == [None, None]
    market.status(status(locked="partial", locked_indices=["eth_usd"]), 30)
    assert resting(market, BTC, ETH) == [None, 20]
    market.platform(platform(price_index="btc_usd", locked=True), 35)
    market.status(status(locked=True), 40)
    assert resting(market, BTC, ETH, SOL) == [20, 20, 20]
    market.forget()
    assert not market.locked


def test_what_is_no_such_message_is_told() -> None:
    market = MarketState()
    for wrong in (frame("platform_state", 7), b"{"):
        with pytest.raises(msgspec.DecodeError):
            market.platform(wrong, 1)
