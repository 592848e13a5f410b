"""Lakes of option quotes for the tests of Greeks: made by hand, by formula, and from recorded chains."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from collectors.deribit.decode import decode
from collectors.deribit.names import family
from lake.conform import conform
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES

DAY = dt.date(2026, 9, 30)
DAY_US = 1_790_726_400_000_000
NOW = dt.datetime(2026, 10, 5, tzinfo=dt.UTC)
SECOND_US = 1_000_000
CHAINS = (
    "zkvn_deribit_btc_order_books_20241104-101033.parquet",
    "zkvn_deribit_btc_order_books_20241105-102542.parquet",
    "zkvn_deribit_btc_order_books_20241105-125901.parquet",
)
_TICKER = (
    "index_price", "last_price", "settlement_price", "min_price", "max_price", "open_interest", "mark_price",
    "best_ask_price", "best_bid_price", "interest_rate", "mark_iv", "underlying_price", "underlying_index", "bid_iv", "ask_iv",
    "best_ask_amount", "best_bid_amount", "timestamp", "instrument_name",
)  # fmt: skip


def normal(x: float) -> float:
    """The normal distribution function, by the library of C."""
    return math.erfc(-x / math.sqrt(2)) / 2


def black(forward: float, strike: float, years: float, volatility: float, *, call: bool) -> float:
    """Undiscounted value of a European option, straight from the textbook."""
    spread = volatility * math.sqrt(years)
    d1 = math.log(forward / strike) / spread + spread / 2
    w = 1 if call else -1
    return w * (forward * normal(w * d1) - strike * normal(w * (d1 - spread)))


def append(
    root: Root, name: str, rows: Sequence[Mapping[str, Any]], *, version: int = 1, app: str = "test"
) -> None:
    """Append rows, given as decoded numbers, to a table as ingest would."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    append_table(
        root, name, pa.Table.from_pylist([{k: row.get(k) for k in keys} for row in rows]), version, app
    )


def append_table(root: Root, name: str, given: pa.Table, version: int = 1, app: str = "test") -> None:
    """Append decoded rows to a table as ingest would."""
    spec = TABLES[name]
    conformed = conform(spec, given)
    assert conformed.reasons == {}
    rows = conformed.rows
    if spec.partitioned:
        families = [family(instrument) for instrument in rows["instrument"].to_pylist()]
        rows = rows.append_column("date", spec.dates(rows["ts"])).append_column("family", pa.array(families))
    Table.open(root, spec).append(rows, app=app, version=version, origin=f"i.{app}.{version}")


def quote(instrument: str, second: float, **columns: Any) -> dict[str, Any]:
    """One decoded quote, `second` seconds into the day."""
    ts = DAY_US + round(second * SECOND_US)
    return {"venue": "deribit", "instrument": instrument, "ts": ts, "recv_ts": ts + 7123, **columns}


def lake(folder: Path) -> Root:
    """A new lake."""
    return open_root(folder, create=True)


def chain_lake(folder: Path, real_data: Path, files: Iterable[str] = CHAINS) -> Root:
    """Recorded order books of whole BTC chains, each told as ticker frames and taken the ordinary way into `quotes`."""
    root = lake(folder)
    for version, file in enumerate(files, 1):
        frames = [_ticker_frame(row) for row in pq.read_table(real_data / "chain" / file).to_pylist()]
        received = np.full(len(frames), 1_790_000_000_000_000_000, np.int64)
        decoded = decode(frames, received, np.zeros(len(frames), np.int64))
        assert decoded.rejects == []
        quotes = decoded.tables["quotes"]
        keep = [name for name in quotes.column_names if name in TABLES["quotes"].names]
        append_table(root, "quotes", quotes.select(keep), version)
    return root


def _ticker_frame(row: Mapping[str, Any]) -> bytes:
    data = {name: row[name] for name in _TICKER}
    data["stats"] = {name: row[f"stats.{name}"] for name in ("high", "low", "price_change", "volume")}
    data["greeks"] = {name: row[f"greeks.{name}"] for name in ("delta", "gamma", "vega", "theta", "rho")}
    channel = f"ticker.{row['instrument_name']}.100ms"
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(message, separators=(",", ":")).encode()


def greeks_of(root: Root) -> pa.Table:
    """All rows of the table `greeks`, as stored, in order."""
    table = Table.find(root, TABLES["greeks"])
    assert table is not None
    return table.read().sort_by([("instrument", "ascending"), ("ts", "ascending"), ("source", "ascending")])


def held(root: Root) -> tuple[int, int]:
    """Rows and content hash of the table `greeks`, by its log."""
    table = Table.find(root, TABLES["greeks"])
    files = table.files() if table else []
    return sum(f.rows for f in files), sum(f.content_hash for f in files) % (1 << 64)


def by_name(rows: pa.Table) -> dict[str, dict[str, Any]]:
    """Rows by instrument, of which each must have one."""
    found = {row["instrument"]: row for row in rows.to_pylist()}
    assert len(found) == len(rows)
    return found


def total(rows: pa.Table, column: str) -> int:
    """Sum of a column of booleans."""
    return int(pc.sum(rows[column]).as_py() or 0)
