"""The basis of dated futures, minute by minute: against the perpetual, and against the index.

    basis      = future - perpetual           (closes of the 1m candles of the same minute)
    annualised = basis / perpetual * 365 days / (expiry - end of the minute)

Every minute in which both have a candle has a row; minutes without trades carry the last price forward, as the
venue's candles do. The index is the last value recorded in that minute.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa

from collectors.deribit.names import parse_name
from lake.datafile import DataFile, Partition
from lake.root import Root
from lake.schema import TABLES
from lake.views import Connection
from pipeline.derivation import Derivation, Derived, Progress, bring_up_to_date, by_month

SPEC: Final = TABLES["basis"]
FUTURES: Final = "future"
PERPETUALS: Final = "perpetual"
INDICES: Final = "index"

_NAMES: Final = """
    SELECT DISTINCT instrument FROM candles
    WHERE family = 'future' AND date >= $month AND date < $end AND resolution = '1m'
"""
_BASIS: Final = """
    WITH pairs AS (
        SELECT unnest($futures) AS instrument, unnest($perpetuals) AS perpetual, unnest($indices) AS index_name,
            unnest($expiries) AS expiration_ts
    ), minutes AS (
        SELECT venue, instrument, ts, arg_min(close, recv_ts) AS close FROM candles
        WHERE date >= $month AND date < $end AND resolution = '1m' AND close IS NOT NULL
            AND (family = 'future' OR suffix(family, 'perpetual'))  -- not the candles of options
        GROUP BY venue, instrument, ts
    ), index_minutes AS (
        SELECT venue, instrument, time_bucket(INTERVAL '1 minute', ts) AS ts, last(price ORDER BY ts) AS price
        FROM index_prices WHERE date >= $month AND date < $end GROUP BY ALL
    )
    SELECT f.venue, f.instrument, f.ts, pairs.perpetual,
        f.close AS future_price, p.close AS perpetual_price, i.price AS index_price,
        f.close - p.close AS basis, f.close - i.price AS basis_index,
        (f.close / p.close - 1) * 31536000 / seconds AS annualised,
        (f.close / i.price - 1) * 31536000 / seconds AS annualised_index,
        f.close > p.close AS contango, pairs.expiration_ts
    FROM minutes f JOIN pairs USING (instrument)
    JOIN minutes p ON p.venue = f.venue AND p.ts = f.ts AND p.instrument = pairs.perpetual
    LEFT JOIN index_minutes i ON i.venue = f.venue AND i.ts = f.ts AND i.instrument = pairs.index_name,
    LATERAL (SELECT epoch(pairs.expiration_ts) - epoch(f.ts) - 60 AS seconds)
    WHERE seconds > 0
"""


def derive_basis(
    root: Root, *, months: Sequence[dt.date] | None = None, progress: Progress | None = None
) -> list[Derived]:
    """Bring `basis` up to date with `candles` and `index_prices`; raises as `bring_up_to_date` does."""
    return bring_up_to_date(root, _DERIVATION, months=months, progress=progress)


def _inputs(root: Root) -> Mapping[Partition, Sequence[DataFile]]:
    """Of each month with futures: its candles of futures and perpetuals, and its index prices."""
    together: dict[Partition, list[DataFile]] = defaultdict(list)
    candles = by_month(root, "candles")
    indices = by_month(root, "index_prices")
    for partition in candles:
        if partition.family == FUTURES:
            of_month = [p for p in candles if p.date == partition.date]
            concerned = [p for p in of_month if p.family == FUTURES or p.family.endswith(PERPETUALS)]
            together[partition] = [file for p in concerned for file in candles[p]]
            together[partition] += [file for p in indices if p.date == partition.date for file in indices[p]]
    return together


def _compute(connection: Connection, partition: Partition) -> pa.Table:
    month = partition.date
    names = connection.query(_NAMES, {"month": month, "end": SPEC.closes(month)})["instrument"].to_pylist()
    futures, perpetuals, indices, expiries = [], [], [], []
    for name in sorted(names):
        parsed = parse_name(name)
        if parsed.expiry is None:
            continue
        futures.append(name)
        perpetuals.append(f"{parsed.basis}-PERPETUAL")
        indices.append(f"{parsed.base}_{parsed.quote or 'USD'}".lower())
        expiries.append(dt.datetime.fromtimestamp(parsed.expiry / 1e6, dt.UTC))
    rows = connection.query(
        _BASIS,
        {
            "month": month,
            "end": SPEC.closes(month),
            "futures": futures,
            "perpetuals": perpetuals,
            "indices": indices,
            "expiries": expiries,
        },
    )
    return rows.select(SPEC.names)


_DERIVATION: Final = Derivation(SPEC, _BASIS, _inputs, _compute)
