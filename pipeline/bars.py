"""Bars of our own: 1m, 5m and 1h from trades, 5m and 1h from the venue's 1m candles, and how the two agree.

A trade counts once, however often it was received. Trades that cannot be right (without a size above 0, or a price
above 0 where it is not of a combo) are left out, and counted by `left_out`. `volume` is in base coin and `cost` in the
currency of the price, as the venue has them in its candles: an inverse future trades in USD, so there the amount is the
cost and the volume is the sum of amount over price. The price of a combo is a difference and may be below 0: its cost
takes it without sign, and the volume of a combo of inverse futures is the sum of amount over index.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import parse_name
from lake.datafile import DataFile, Partition
from lake.root import Root
from lake.schema import TABLES
from lake.views import Connection, query
from pipeline.derivation import Derivation, Derived, Progress, bring_up_to_date, by_month

SPEC: Final = TABLES["bars"]
COMBOS: Final = "combo"
OF_FUTURES: Final = "-FS-"
"""What the names of combos of futures have in them."""
RESOLUTIONS: Final = {"1m": "1 minute", "5m": "5 minutes", "1h": "1 hour"}

_RIGHT: Final = f"""size > 0 AND isfinite(size) AND isfinite(price) AND (price > 0 OR family = '{COMBOS}')
    AND (NOT contains(instrument, '{OF_FUTURES}') OR index_price > 0)"""
_FROM_TRADES: Final = """
    WITH once AS (
        SELECT venue, instrument, ts, trade_seq, price, size,
            CASE WHEN family = '{combos}' THEN index_price ELSE price END AS coin_price
        FROM trades
        WHERE family = $family AND date >= $first AND date < $end AND {right}
        QUALIFY row_number() OVER (PARTITION BY venue, instrument, trade_id ORDER BY recv_ts) = 1
    )
    SELECT venue, instrument, '{resolution}' AS resolution, 'trades' AS source,
        time_bucket(INTERVAL '{interval}', ts) AS ts,
        first(price ORDER BY ts, trade_seq) AS open, max(price) AS high, min(price) AS low,
        last(price ORDER BY ts, trade_seq) AS close,
        sum(size) AS amount, sum(size * abs(price)) AS worth, sum(size / coin_price) AS coins, count(*) AS parts
    FROM once GROUP BY venue, instrument, time_bucket(INTERVAL '{interval}', ts)
"""
_LEFT_OUT: Final = f"""
    SELECT instrument, count(*) AS "trades left out" FROM trades
    WHERE NOT coalesce({_RIGHT}, false) {{of_months}} GROUP BY instrument ORDER BY instrument
"""  # noqa: S608 - our own words
_FROM_CANDLES: Final = """
    WITH once AS (
        SELECT venue, instrument, ts, open, high, low, close, volume, cost FROM candles
        WHERE family = $family AND date >= $first AND date < $end AND resolution = '1m' AND open IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY venue, instrument, ts ORDER BY recv_ts) = 1
    )
    SELECT venue, instrument, '{resolution}' AS resolution, 'candles' AS source,
        time_bucket(INTERVAL '{interval}', ts) AS ts,
        first(open ORDER BY ts) AS open, max(high) AS high, min(low) AS low, last(close ORDER BY ts) AS close,
        sum(volume) AS volume, sum(cost) AS cost, count(*) AS parts
    FROM once GROUP BY venue, instrument, time_bucket(INTERVAL '{interval}', ts)
"""
_AGREEMENT: Final = """
    SELECT b.instrument, count(*) AS "minutes compared",
        count(*) FILTER (WHERE b.open <> c.open OR b.high <> c.high OR b.low <> c.low OR b.close <> c.close)
            AS "prices differ",
        -- The venue rounds a volume to eight decimals.
        count(*) FILTER (WHERE abs(b.volume - c.volume) > greatest(6e-9, 1e-6 * greatest(b.volume, c.volume)))
            AS "volumes differ",
        max(abs(b.close / c.close - 1)) AS "largest difference of closes"
    FROM bars b JOIN candles c USING (venue, instrument, resolution, ts)
    WHERE b.source = 'trades' AND b.resolution = '1m' AND c.volume > 0
        AND c.source = 'venue' {of_months}
    GROUP BY b.instrument ORDER BY "prices differ" DESC, b.instrument
"""


def derive_bars(
    root: Root, *, months: Sequence[dt.date] | None = None, progress: Progress | None = None
) -> list[Derived]:
    """Bring `bars` up to date with `trades` and `candles`; raises as `bring_up_to_date` does."""
    return bring_up_to_date(root, _DERIVATION, months=months, progress=progress)


def agreement(root: Root, *, months: Sequence[dt.date] | None = None) -> list[dict[str, Any]]:
    """Per instrument: minutes (or only those of `months`, their first days) for which there are bars from trades and
    candles of the venue, and how many differ."""
    of_months = ""
    for view in ("b", "c") if months else ():
        wanted = ", ".join(f"DATE '{month}'" for month in months or ())
        of_months += f" AND date_trunc('month', {view}.date) IN ({wanted})"
    rows: list[dict[str, Any]] = query(root, _AGREEMENT.format(of_months=of_months)).to_pylist()
    return rows


def left_out(root: Root, *, months: Sequence[dt.date] | None = None) -> list[dict[str, Any]]:
    """Per instrument: how many of its trades (of `months`, their first days, or all) no bar counts, as they cannot be
    right; none where all are."""
    firsts = ", ".join(f"DATE '{month}'" for month in months or ())
    of_months = f"AND date_trunc('month', date) IN ({firsts})" if firsts else ""
    rows: list[dict[str, Any]] = query(root, _LEFT_OUT.format(of_months=of_months)).to_pylist()
    return rows


def _inputs(root: Root) -> Mapping[Partition, Sequence[DataFile]]:
    together: dict[Partition, list[DataFile]] = defaultdict(list)
    for name in ("trades", "candles"):
        for partition, files in by_month(root, name).items():
            together[partition] += files
    return together


def _compute(connection: Connection, partition: Partition) -> pa.Table:
    span = {"family": partition.family, "first": partition.date, "end": SPEC.closes(partition.date)}
    parts = []
    for resolution, interval in RESOLUTIONS.items():
        words = {"resolution": resolution, "interval": interval, "right": _RIGHT, "combos": COMBOS}
        parts.append(_with_amounts(connection.query(_FROM_TRADES.format(**words), span)))
        if resolution != "1m":
            longer = connection.query(_FROM_CANDLES.format(**words), span)
            parts.append(longer.select(SPEC.names).cast(SPEC.arrow_schema))
    return pa.concat_tables(parts)


def _with_amounts(bars: pa.Table) -> pa.Table:
    """Volume and cost, out of the three sums that either may be."""
    names = pc.unique(bars["instrument"]).to_pylist()
    in_usd = pa.array([name for name in names if _trades_in_usd(name)], pa.string())
    inverse = pc.is_in(bars["instrument"], value_set=in_usd).to_numpy()
    amount, worth, coins = (bars[name].to_numpy() for name in ("amount", "worth", "coins"))
    bars = bars.append_column("volume", pa.array(np.where(inverse, coins, amount), pa.float64()))
    bars = bars.append_column("cost", pa.array(np.where(inverse, amount, worth), pa.float64()))
    return bars.select(SPEC.names).cast(SPEC.arrow_schema)


def _trades_in_usd(name: str) -> bool:
    parsed = parse_name(name)
    return parsed.quote is None and parsed.kind in ("future", "future_combo")


_DERIVATION: Final = Derivation(SPEC, _FROM_TRADES + _FROM_CANDLES, _inputs, _compute)
