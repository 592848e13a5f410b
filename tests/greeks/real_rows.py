"""Real option rows with the venue's own Greeks and volatilities, and how far ours are from them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from collectors.deribit.names import parse_name
from pipeline.greeks import greeks, implied_volatility
from tests.conftest import REAL_DATA_ENV, REPOSITORY

Floats = NDArray[np.float64]
YEAR_MS: Final = 365 * 86_400_000
NAMES: Final = ("delta", "gamma", "vega", "theta", "rho")
ROUNDING: Final = 5e-6
"""The venue rounds Greeks to five decimals."""
IV_CAP: Final = 500.0
"""Volatilities the venue shows for what it does not invert."""
SETTLED_DAYS: Final = 3.0
"""Closer to expiry the venue's volatility, some seconds older than the price beside it, says less of the formula."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Options at one time each; Greeks and volatilities (in points) as sent, NaN where not."""

    forward: Floats
    strike: Floats
    years: Floats
    is_call: NDArray[np.bool_]
    sent: dict[str, Floats]

    def computed(self) -> dict[str, Floats]:
        """Our Greeks from the venue's mark volatility, theta capped by its mark price."""
        mark_usd = self.sent["mark_price"] * self.forward
        volatility = self.sent["mark_iv"] / 100
        got = greeks(self.forward, self.strike, self.years, volatility, self.is_call, mark_price_usd=mark_usd)
        return dict(zip(NAMES, got[:5], strict=True))

    def quoted(self, side: str) -> tuple[Floats, Floats, Floats]:
        """Price, our volatility in points and the venue's for the rows with a quote on `side`."""
        price = self.sent[f"best_{side}_price"]
        found = implied_volatility(price, self.forward, self.strike, self.years, self.is_call, inverse=True)
        there = price > 0
        return price[there], 100 * found[there], self.sent[f"{side}_iv"][there]

    def volatility_errors(self, side: str, *, days: float = 0.0) -> Floats:
        """Points between our volatility and the venue's, of the options with more than `days` to expiry."""
        _, ours, theirs = self.quoted(side)
        long = (self.years * 365 > days)[self.sent[f"best_{side}_price"] > 0]
        return np.abs(ours - theirs)[(theirs > 0) & (theirs < IV_CAP) & long]

    def within_bounds(self, side: str) -> NDArray[np.bool_]:
        """Which of those prices lie between intrinsic value and upper bound: a volatility exists for no other."""
        price = self.sent[f"best_{side}_price"]
        sign = np.where(self.is_call, 1.0, -1.0)
        intrinsic = np.maximum(sign * (self.forward - self.strike), 0.0) / self.forward
        upper = np.where(self.is_call, 1.0, self.strike / self.forward)
        inside = (price > intrinsic * (1 + 1e-12)) & (price < upper)
        return np.asarray(inside[price > 0])


def recordings() -> Path | None:
    """Folder of the real recordings, if it is there."""
    folder = Path(os.environ.get(REAL_DATA_ENV, REPOSITORY.parent / "shared" / "data"))
    return folder if folder.is_dir() else None


def btc_2021(folder: Path) -> Rows:
    """976 BTC options of 2021-02-11, marks to 8 decimals."""
    return _from_table(_csv(folder / "chain" / "bottama_deribit_btc_order_books_2021-02.csv.zst"))


def btc_2020(folder: Path) -> Rows:
    """326 BTC options of 2020-05-21, marks to 8 decimals."""
    table = _csv(folder / "greeks" / "deribit_option_greeks.csv")
    mine = np.array(["schepal" in source for source in table["provenance"].to_pylist()])
    names = {"best_bid_price": "bid_price", "best_ask_price": "ask_price"}
    return _from_table(table.filter(pa.array(mine)), names, greek="", time="timestamp_ms")


def btc_2024(folder: Path) -> list[Rows]:
    """Three sweeps of 960 BTC options of 2024-11, marks to 4 decimals; many rows' members are of different times."""
    return [_from_table(pq.read_table(path)) for path in sorted((folder / "chain").glob("zkvn_*.parquet"))]


def _csv(path: Path) -> pa.Table:
    text = path.read_bytes()
    if path.suffix == ".zst":
        text = subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
    options = pyarrow.csv.ParseOptions(newlines_in_values=True)
    return pyarrow.csv.read_csv(pa.BufferReader(text), parse_options=options)


def _from_table(
    table: pa.Table, names: dict[str, str] | None = None, *, greek: str = "greeks.", time: str = "timestamp"
) -> Rows:
    def column(name: str) -> Floats:
        values: Any = table[name].to_pylist()
        return np.array([np.nan if value in (None, "") else float(value) for value in values])

    parsed = [parse_name(name) for name in table["instrument_name"].to_pylist()]
    expiry_ms = np.array([(name.expiry or 0) / 1000 for name in parsed])
    sent = {name: column(f"{greek}{name}") for name in NAMES}
    for name in ("mark_price", "mark_iv", "best_bid_price", "best_ask_price", "bid_iv", "ask_iv"):
        sent[name] = column((names or {}).get(name, name))
    return Rows(
        forward=column("underlying_price"),
        strike=np.array([float(name.strike or "nan") for name in parsed]),
        years=(expiry_ms - column(time)) / YEAR_MS,
        is_call=np.array([name.option_type == "call" for name in parsed]),
        sent=sent,
    )


def relative_rmse(ours: Floats, sent: Floats) -> float:
    """Root mean square of the difference over that of what the venue sent."""
    return float(np.sqrt(np.mean((ours - sent) ** 2) / np.mean(sent**2)))
