"""What the tests of the surface share: smiles that are known, and lakes whose quotes come from them."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from lake.conform import conform
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from pipeline.surface.chain import SECONDS_PER_YEAR, Chain
from pipeline.surface.svi import Svi

DAY = dt.date(2026, 3, 2)
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
FORWARD = 80_000.0
SMILES = {
    dt.datetime(2026, 3, 6, 8, tzinfo=dt.UTC): Svi(0.0006, 0.030, -0.2, 0.004, 0.05),
    dt.datetime(2026, 3, 27, 8, tzinfo=dt.UTC): Svi(0.0050, 0.060, -0.25, 0.01, 0.12),
    dt.datetime(2026, 6, 26, 8, tzinfo=dt.UTC): Svi(0.0300, 0.120, -0.3, 0.02, 0.25),
}
STRIKES = tuple(float(strike) for strike in range(60_000, 104_000, 2_000))


def us(moment: dt.datetime) -> int:
    """µs since the epoch."""
    return round(moment.timestamp()) * 1_000_000


def years(expiry: dt.datetime, at: dt.datetime = NOON) -> float:
    """From one to the other in the venue's years."""
    return (expiry - at).total_seconds() / SECONDS_PER_YEAR


def chain(
    smiles: dict[dt.datetime, Svi] = SMILES,
    *,
    strikes: Sequence[float] = STRIKES,
    half_spread: float | None = None,
) -> Chain:
    """Calls and puts of every strike and expiry, quoted exactly on the smiles."""
    rows = [(e, k, call) for e in smiles for k in strikes for call in (True, False)]
    expiry = np.array([us(e) for e, _, _ in rows])
    strike = np.array([k for _, k, _ in rows])
    is_call = np.array([call for _, _, call in rows])
    iv = np.array([100.0 * float(smiles[e].volatility(np.log(k / FORWARD), years(e))) for e, k, _ in rows])
    empty = np.full(len(rows), np.nan)
    bid, ask = (empty, empty) if half_spread is None else (iv - half_spread, iv + half_spread)
    return Chain(
        us(NOON), expiry, strike, is_call, np.full(len(rows), FORWARD), bid, ask, iv, np.zeros(len(rows))
    )


def option_name(expiry: dt.datetime, strike: float, *, call: bool, underlying: str = "BTC") -> str:
    """As the venue names it."""
    return f"{underlying}-{expiry.day}{expiry:%b%y}-{strike:.0f}-{'C' if call else 'P'}".upper()


def tick(name: str, ts: dt.datetime, mark_iv: float | None, **others: Any) -> dict[str, Any]:
    """One row of `quotes`."""
    return {
        "venue": "deribit",
        "instrument": name,
        "ts": ts,
        "recv_ts": ts,
        "underlying_price": FORWARD,
        "mark_iv": mark_iv,
        **others,
    }


def ticks(
    ts: dt.datetime, smiles: dict[dt.datetime, Svi] = SMILES, *, lift: float = 0.0, underlying: str = "BTC"
) -> list[dict[str, Any]]:
    """A tick of every option on `underlying` at `ts`, `lift` volatility points above the smiles, as of noon."""
    return [
        tick(
            option_name(e, k, call=call, underlying=underlying),
            ts,
            round(100.0 * float(smile.volatility(np.log(k / FORWARD), years(e))) + lift, 2),
        )
        for e, smile in smiles.items()
        for k in STRIKES
        for call in (True, False)
    ]


def put_quotes(
    root: Root, rows: Sequence[dict[str, Any]], *, version: int, family: str = "btc_option"
) -> None:
    """Append rows to `quotes`."""
    spec = TABLES["quotes"]
    names = [name for name in spec.names if any(name in row for row in rows)]
    columns = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    found = conform(spec, columns)
    assert not found.reasons
    table = found.rows.append_column("date", spec.dates(found.rows["ts"]))
    table = table.append_column("family", pa.array([family] * len(table), pa.string()))
    Table.open(root, spec).append(table, app=f"kit/{family}", version=version, origin=f"i.kit.{version}")


def new_lake(folder: Path) -> Root:
    """A lake with quotes every half hour from 10:00 to 12:00, each a little above those before."""
    shutil.copytree(_filled().name, folder)
    return open_root(folder)


@cache
def _filled() -> TemporaryDirectory[str]:
    """That lake, filled once in a process; the folder is gone at its end."""
    folder = TemporaryDirectory()
    root = open_root(Path(folder.name), create=True)
    for number in range(5):
        moment = NOON - dt.timedelta(minutes=30 * (4 - number))
        put_quotes(root, ticks(moment, lift=0.1 * number), version=number + 1)
    return folder
