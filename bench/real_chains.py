"""Option chains that other people recorded from Deribit, 2020 to 2026, as the surface takes them.

The folder is that of `LAKE_REAL_DATA` (default ../shared/data), files in `chain/`. Each collector wrote in its own
way; what is said here about units and missing values is from comparing the files with each other. Where bid and ask
come as prices, their volatilities are inverted; where a file has no forward, it follows from the venue's deltas.
"""

from __future__ import annotations

import datetime as dt
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import zstandard

from collectors.deribit.names import parse_name
from pipeline.greeks import implied_volatility
from pipeline.surface.chain import SECONDS_PER_YEAR, Chain
from pipeline.surface.svi import Floats

REAL_DATA: Final = Path(
    os.environ.get("LAKE_REAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)
MANY: Final = "znmahbub_deribit_btc_eth_chain_2025-12_2026-08.parquet"
DAILY: Final = "pitspa_deribit_btc_daily_chain_2026-03_2026-08.parquet"
_EXPIRY_HOUR: Final = 8


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One chain, the file it is from, and what the options are on."""

    file: str
    currency: str
    chain: Chain

    @property
    def year(self) -> int:
        """Year of the snapshot."""
        return dt.datetime.fromtimestamp(self.chain.ts / 1e6, dt.UTC).year


def snapshots(folder: Path, *, every: int = 1, only: str = "") -> Iterator[Snapshot]:
    """Every `every`-th snapshot of each file, at least one; of the files whose names begin with `only`."""
    for path in sorted((folder / "chain").glob(f"{only}*")):
        reader = _READERS.get(path.name.partition("_")[0])
        if reader and "futures_marks" not in path.name:
            for currency, chain in reader(path, every):
                yield Snapshot(path.name, currency, chain)


def _many(path: Path, every: int) -> Iterator[tuple[str, Chain]]:
    """Several snapshots a day of all BTC and ETH options; volatility is a fraction, prices in coin, null is missing."""
    columns = [
        "timestamp",
        "underlying",
        "option_type",
        "strike",
        "expiry_datetime",
        "bid_price",
        "ask_price",
    ]
    columns += ["implied_volatility", "currency"]
    if path.suffix == ".parquet":
        table = pq.read_table(path, columns=["snapshot_file", *columns])
        files = table["snapshot_file"].combine_chunks()
    else:
        table = _csv(path).select(columns)
        files = pa.array([path.name] * len(table)).dictionary_encode()
    codes = files.indices.to_numpy()
    for code in np.argsort(np.array(files.dictionary.to_pylist()))[::every]:
        rows = table.filter(pa.array(codes == code))
        for currency in ("BTC", "ETH"):
            one = rows.filter(pc.equal(pc.cast(rows["currency"], pa.string()), currency))
            if len(one):
                yield currency, _many_chain(one)


def _many_chain(rows: pa.Table) -> Chain:
    ts = int(_iso_us(rows["timestamp"]).max())
    expiry = _iso_us(rows["expiry_datetime"])
    is_call = np.asarray(pc.equal(pc.cast(rows["option_type"], pa.string()), "call"))
    strike, forward = (_numbers(rows[name]) for name in ("strike", "underlying"))
    years = (expiry - ts) / 1e6 / SECONDS_PER_YEAR
    bid, ask = (
        _inverted(_numbers(rows[name]), forward, strike, years, is_call)
        for name in ("bid_price", "ask_price")
    )
    mark = _numbers(rows["implied_volatility"]) * 100.0
    return Chain(ts, expiry, strike, is_call, forward, bid, ask, mark, np.zeros(len(rows)))


def _daily(path: Path, every: int) -> Iterator[tuple[str, Chain]]:
    """One BTC chain a day; missing prices and volatilities are 0, volatility is a fraction, prices in coin."""
    table = pq.read_table(path)
    for moment in sorted(set(table["snapshot_ts"].to_pylist()))[::every]:
        rows = table.filter(pc.equal(table["snapshot_ts"], moment))
        ts = _us(dt.datetime.fromisoformat(moment))
        days = [dt.date.fromisoformat(text) for text in rows["expiry"].to_pylist()]
        expiry = np.array([_us(dt.datetime.combine(d, dt.time(_EXPIRY_HOUR), dt.UTC)) for d in days])
        is_call = np.asarray(pc.equal(rows["option_type"], "C"))
        strike, forward = (_numbers(rows[name]) for name in ("strike", "forward_price"))
        years = (expiry - ts) / 1e6 / SECONDS_PER_YEAR
        bid, ask = (_inverted(_numbers(rows[n]), forward, strike, years, is_call) for n in ("bid", "ask"))
        mark = _numbers(rows["implied_vol"]) * 100.0
        yield "BTC", Chain(ts, expiry, strike, is_call, forward, bid, ask, mark, np.zeros(len(rows)))


def _books(path: Path, every: int) -> Iterator[tuple[str, Chain]]:
    """Order books of all options, one request each: volatilities in percent, 0 where missing; a sweep takes minutes."""
    table = pq.read_table(path) if path.suffix == ".parquet" else _csv(path)
    names = table["instrument_name"].to_pylist()
    sweep, counted = np.zeros(len(names), np.int64), dict.fromkeys(names, 0)
    for row, name in enumerate(names):
        sweep[row] = counted[name]
        counted[name] += 1
    for number in range(0, int(sweep.max()) + 1, every):
        yield "BTC", _book_chain(table.filter(pa.array(sweep == number)))


def _book_chain(rows: pa.Table) -> Chain:
    seen = _numbers(rows["timestamp"]) * 1000.0
    ts = int(seen.max())
    bid, ask, mark, forward = (
        _numbers(rows[name]) for name in ("bid_iv", "ask_iv", "mark_iv", "underlying_price")
    )
    expiry, strike, is_call = _terms(rows["instrument_name"].to_pylist())
    return Chain(ts, expiry, strike, is_call, forward, bid, ask, mark, (ts - seen) / 1e6)


def _hourly(path: Path, every: int) -> Iterator[tuple[str, Chain]]:
    """A BTC chain an hour, volatilities in percent, 0 where missing; no forward: it follows from delta and mark."""
    table = _csv(path)
    moments = table["date"].to_pylist()
    for moment in sorted(set(moments))[::every]:
        rows = table.filter(pc.equal(table["date"], pa.scalar(moment, table["date"].type)))
        ts = _us(moment if isinstance(moment, dt.datetime) else dt.datetime.fromisoformat(moment))
        expiry, strike, is_call = _terms(rows["instrument_name"].to_pylist())
        bid, ask, mark, delta = (_numbers(rows[n]) for n in ("bid_iv", "ask_iv", "mark_iv", "delta"))
        forward = _forward_of_delta(expiry, strike, np.where(is_call, delta, delta + 1.0), mark, ts)
        yield "BTC", Chain(ts, expiry, strike, is_call, forward, bid, ask, mark, np.zeros(len(rows)))


def _summaries(path: Path, every: int) -> Iterator[tuple[str, Chain]]:
    """Book summaries of all ETH options, one snapshot: prices only, in coin, null where missing."""
    del every
    rows = _csv(path)
    seen = _numbers(rows["creation_timestamp"]) * 1000.0
    ts = int(seen.max())
    expiry, strike, is_call = _terms(rows["instrument_name"].to_pylist())
    forward = _numbers(rows["underlying_price"])
    years = (expiry - ts) / 1e6 / SECONDS_PER_YEAR
    bid, ask, mark = (
        _inverted(_numbers(rows[name]), forward, strike, years, is_call)
        for name in ("bid_price", "ask_price", "mark_price")
    )
    yield "ETH", Chain(ts, expiry, strike, is_call, forward, bid, ask, mark, (ts - seen) / 1e6)


_READERS: Final = {
    "znmahbub": _many,
    "pitspa": _daily,
    "zkvn": _books,
    "bottama": _books,
    "schepal": _books,
    "r1quant": _hourly,
    "definer": _summaries,
}


def _forward_of_delta(
    expiry: npt.NDArray[np.int64], strike: Floats, call_delta: Floats, mark: Floats, ts: int
) -> Floats:
    """ln F = ln K + d₁ σ√T − σ²T/2, the median over the options of each expiry near the money."""
    from scipy.special import ndtri

    deviation = mark / 100.0 * np.sqrt(np.maximum(expiry - ts, 0) / 1e6 / SECONDS_PER_YEAR)
    with np.errstate(invalid="ignore"):
        logs = np.log(strike) + ndtri(call_delta) * deviation - deviation**2 / 2.0
    forward = np.full(len(strike), np.nan)
    for one in np.unique(expiry):
        near = (expiry == one) & (np.abs(call_delta - 0.5) < 0.3) & np.isfinite(logs)
        if near.any():
            forward[expiry == one] = np.exp(np.median(logs[near]))
    return forward


def _inverted(
    price: Floats, forward: Floats, strike: Floats, years: Floats, is_call: npt.NDArray[np.bool_]
) -> Floats:
    """Volatility in percent of prices in coin, NaN where there is none."""
    found: Floats = implied_volatility(price, forward, strike, years, is_call, inverse=True) * 100.0
    return found


def _terms(names: list[str]) -> tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.bool_]]:
    parsed = [parse_name(name) for name in names]
    return (
        np.array([option.expiry for option in parsed], np.int64),
        np.array([option.strike for option in parsed], np.float64),
        np.array([option.option_type == "call" for option in parsed]),
    )


def _csv(path: Path) -> pa.Table:
    with path.open("rb") as file:
        content = zstandard.ZstdDecompressor().stream_reader(file).read()
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(io.BytesIO(content), parse_options=options)


def _numbers(column: Any) -> Floats:
    found: Floats = np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan), np.float64)
    return found


def _iso_us(column: Any) -> npt.NDArray[np.int64]:
    if pa.types.is_timestamp(column.type):
        times = column
    else:
        text = pc.replace_substring(pc.cast(column, pa.string()), "+00:00", "Z")
        times = pc.cast(text, pa.timestamp("us", "UTC"))
    found: npt.NDArray[np.int64] = np.asarray(pc.cast(pc.cast(times, pa.timestamp("us", "UTC")), pa.int64()))
    return found


def _us(moment: dt.datetime) -> int:
    return round((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()) * 1_000_000
