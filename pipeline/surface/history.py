"""Reading the table `surface` back: surfaces to evaluate, and series of constant maturity."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from lake.instants import from_us
from lake.root import Root
from lake.views import connect
from pipeline.surface.evaluate import Expiry, Surface, Wing
from pipeline.surface.svi import Svi

_SMILES: Final = """
    SELECT epoch_us(ts) AS ts, epoch_us(expiration_ts) AS expiry, forward, k_low, k_high,
        svi_a AS a, svi_b AS b, svi_rho AS rho, svi_m AS m, svi_sigma AS sigma
    FROM surface
    WHERE family = $family AND ts >= $first AND ts <= $last AND method IS NOT NULL
    ORDER BY ts, expiry
"""

_SHOWN: Final = """
    SELECT instrument AS expiry, round((epoch_us(expiration_ts) - epoch_us(ts)) / 864e8, 2) AS days,
        round(forward, 2) AS forward, round(atm, 2) AS atm, round(rr25, 2) AS rr25, round(bf25, 2) AS bf25,
        coalesce(method, failure) AS smile, source, quotes, strikes, round(rmse, 3) AS error,
        round(max_error, 2) AS largest, butterfly, calendar
    FROM surface
    WHERE family = $family AND ts = $at
    ORDER BY expiration_ts
"""


@dataclass(frozen=True, slots=True)
class ConstantMaturity:
    """What a desk would have quoted at `ts` for an expiry in `days`; NaN where no expiries lie around it."""

    ts: dt.datetime
    days: float
    quoted: Wing

    def as_row(self) -> dict[str, Any]:
        """For display."""
        return {
            "ts": self.ts,
            "days": self.days,
            **{k: round(v, 4) for k, v in self.quoted._asdict().items()},
        }


def surfaces(root: Root, family: str, first: dt.datetime, last: dt.datetime) -> Iterator[Surface]:
    """The stored surfaces of `family` from `first` to `last`, both included, in order of time.

    Example: `for surface in surfaces(open_root(path), "btc_option", start, end): surface.volatility(90_000, expiry)`
    """
    with connect(root) as connection:
        rows = connection.query(_SMILES, {"family": family, "first": first, "last": last}).to_pylist()
    for ts, smiles in groupby(rows, key=lambda row: int(row["ts"])):
        yield Surface(ts, [_expiry(row) for row in smiles])


def constant_maturity(
    root: Root, family: str, first: dt.datetime, last: dt.datetime, days: Sequence[float]
) -> list[ConstantMaturity]:
    """Volatility at the money, risk reversal and butterfly of constant maturities, one for each instant and `days`."""
    return [
        ConstantMaturity(from_us(surface.ts), one, surface.constant_maturity(one))
        for surface in surfaces(root, family, first, last)
        for one in days
    ]


def smile_rows(root: Root, family: str, at: dt.datetime) -> list[dict[str, Any]]:
    """What the table says of one instant, one row per expiry, for display."""
    with connect(root) as connection:
        rows: list[dict[str, Any]] = connection.query(_SHOWN, {"family": family, "at": at}).to_pylist()
    return rows


def last_instant(root: Root, family: str, first: dt.datetime, last: dt.datetime) -> dt.datetime | None:
    """The newest instant between the two of which the table has a smile of `family`."""
    with connect(root) as connection:
        (row,) = connection.query(
            """
            SELECT max(epoch_us(ts)) AS ts FROM surface
            WHERE family = $family AND ts >= $first AND ts <= $last AND method IS NOT NULL
            """,
            {"family": family, "first": first, "last": last},
        ).to_pylist()
    return None if row["ts"] is None else from_us(row["ts"])


def _expiry(row: dict[str, Any]) -> Expiry:
    return Expiry(
        row["expiry"], row["forward"], row["k_low"], row["k_high"], Svi(*(row[name] for name in Svi._fields))
    )
