"""Small tables for the tests of the store: rows as a decoder yields them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from lake.conform import conform
from lake.exact import Array
from lake.schema import TABLES

DAY_US = 1_790_726_400_000_000
"""2026-09-30 00:00 UTC in µs."""


def quotes(count: int, **columns: Sequence[Any] | Array) -> pa.Table:
    """Decoded quotes, one a second; `columns` replace or add to what every row must have."""
    given: Mapping[str, Sequence[Any] | Array] = {
        "venue": ["deribit"] * count,
        "instrument": ["BTC-25DEC26-76000-C"] * count,
        "ts": pa.array([DAY_US + second * 1_000_000 for second in range(count)], pa.int64()),
        "recv_ts": pa.array([DAY_US + second * 1_000_000 + 7_123 for second in range(count)], pa.int64()),
        "mark_iv": [38.25 + second / 100 for second in range(count)],
        **columns,
    }
    return pa.table(dict(given))


def stored_quotes(count: int, **columns: Sequence[Any] | Array) -> pa.Table:
    """The same, in storage types."""
    return conform(TABLES["quotes"], quotes(count, **columns)).rows


def trades(ids: Sequence[str], recv_us: Sequence[int], **columns: Sequence[Any]) -> pa.Table:
    """Trades in storage types, all of one instrument and moment."""
    count = len(ids)
    given: Mapping[str, Sequence[Any] | Array] = {
        "venue": ["deribit"] * count,
        "instrument": ["BTC-PERPETUAL"] * count,
        "ts": pa.array([DAY_US] * count, pa.int64()),
        "recv_ts": pa.array([DAY_US + us for us in recv_us], pa.int64()),
        "trade_id": list(ids),
        "price": [76917.5] * count,
        "size": [8450.0] * count,
        "side": ["buy"] * count,
        **columns,
    }
    return conform(TABLES["trades"], pa.table(dict(given))).rows
