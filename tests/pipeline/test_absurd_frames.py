"""Frames that say what cannot be are kept aside with their reason, and the others beside them are taken."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest

from lake.spool import Batch, RecordKind
from pipeline.decoding import AHEAD_MAX_US, Chunk, chunks

NOW_NS = 1_789_344_931_096_000_000
DAY_MS = AHEAD_MAX_US // 1000
NAME = "BTC-PERPETUAL"
TRADE = {
    "timestamp": NOW_NS // 10**6, "price": 1.5, "amount": 10.0, "direction": "buy", "instrument_name": NAME,
    "trade_seq": 4, "trade_id": "4",
}  # fmt: skip


def frame(**changes: Any) -> bytes:
    params = {"channel": "trades.any.any.100ms", "data": [{**TRADE, **changes}]}
    return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}).encode()


def decoded(*frames: bytes, recv_ns: int = NOW_NS) -> Chunk:
    count = len(frames)
    batch = Batch(
        "deribit", 0, np.arange(recv_ns, recv_ns + count), np.zeros(count, np.uint16),
        np.full(count, RecordKind.FRAME, np.uint8), list(frames),
    )  # fmt: skip
    [chunk] = chunks([batch], "deribit", "deribit")
    assert len(chunk.rows["trades"]) + len(chunk.rejected) == count
    return chunk


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": 1e300}, "size: number beyond 1e"),
        ({"price": -1.1e15}, "price: number beyond 1e"),
        ({"trade_seq": 2**53 + 1}, "trade_seq"),
        ({"trade_seq": 2**63 - 2}, "trade_seq"),
        ({"trade_seq": -1}, "trade_seq"),
        ({"timestamp": 9_214_646_400_000}, "timestamp"),
        ({"timestamp": 0}, "timestamp"),
        ({"timestamp": NOW_NS // 10**6 + DAY_MS + 1}, "more than a day after it came"),
        ({"timestamp": 4_000_000_000_000}, "2096-10-02 .* more than a day after it came"),
        ({"trade_id": "x" * 20_000_000}, "trade_id"),
        ({"block_trade_id": "x" * 5_000}, "block_trade_id"),
        ({"trade_id": 10**40}, "trade_id"),
    ],
)
def test_what_cannot_be_is_kept_aside(changes: dict[str, Any], reason: str) -> None:
    chunk = decoded(frame(), frame(**changes), frame(trade_seq=5))
    assert chunk.rows["trades"]["trade_seq"].to_pylist() == [4, 5]
    [rejected] = chunk.rejected
    assert rejected.offset == 1
    assert re.search(reason, rejected.reason), rejected.reason


def test_what_is_only_large_is_taken() -> None:
    large = {
        "amount": 1e15,
        "trade_seq": 2**53,
        "timestamp": NOW_NS // 10**6 + DAY_MS,
        "trade_id": "x" * 4096,
    }
    assert decoded(frame(**large)).rejected == []


def test_a_clock_of_ours_that_is_behind_costs_nothing() -> None:
    years_ago = NOW_NS - 3 * 365 * 86_400 * 10**9
    frames = [frame(trade_seq=number) for number in range(40)]
    assert decoded(*frames, recv_ns=years_ago).rejected == []
