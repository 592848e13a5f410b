"""A day of an option market as the venue would send it, for measuring bytes per row.

The noise is what decides the figures, so it is modelled where it arises: the index is a random walk of
cents at one step a second, shared by all options; each underlying is the index plus a slowly moving basis;
mark IVs follow a smile whose level and skew drift, rounded to 2 decimals; Greeks and marks are computed by
Deribit's formulas from those *rounded* inputs and rounded as the venue does (5 and 4 decimals). Quotes sit on
ticks and change rarely; open interest and last price change with trades.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import ndtr

from lake.exact import Array

F8 = npt.NDArray[np.float64]
I8 = npt.NDArray[np.int64]

DAY_START_S: Final = 1_790_726_400  # 2026-09-30 00:00 UTC
DAY_S: Final = 86_400
TICK_PERIOD_MS: Final = 1007  # a quiet option's ticker repeats every 1.007 s
YEAR_S: Final = 365 * 86_400
VENUE: Final = "deribit"
# (days to expiry, strikes as a fraction of the index): a near, a middle and a far slice of a chain
CHAIN: Final = (
    (1.33, (0.94, 0.98, 1.0, 1.03)),
    (9.33, (0.9, 1.0, 1.08)),
    (86.33, (0.7, 1.0, 1.3)),
    (268.33, (0.8, 1.5)),
)
INDEX_START: Final = 83_251.03
INDEX_VOL: Final = 0.42


@dataclass(frozen=True, slots=True)
class Market:
    """What all options of a day share, one value per second."""

    index: F8  # dollars, 2 decimals
    level: F8  # drift of the at-the-money volatility, vol points
    skew: F8


def make_market(rng: np.random.Generator) -> Market:
    """The day's index and volatility surface drift."""
    step = INDEX_START * INDEX_VOL / np.sqrt(YEAR_S)
    # The index is an average of exchanges, so its moves are heavier-tailed than a normal walk's.
    moves = rng.standard_t(4, DAY_S) * step / np.sqrt(2)
    index = np.round(INDEX_START + np.cumsum(moves), 2)
    # Marks are smoothed by the venue: the surface moves by hundredths of a point a second, not every second.
    moved = rng.random(DAY_S) < 0.5
    level = np.cumsum(rng.normal(0, 0.012, DAY_S) * moved)
    skew = np.cumsum(rng.normal(0, 0.004, DAY_S) * moved)
    return Market(index, level, skew)


def _stamps(rng: np.random.Generator, ticks: int) -> I8:
    """Venue times of one option's ticker frames in ms: the 1.007 s beat, and top-of-book changes."""
    beats = min(ticks * 4 // 5, DAY_S * 1000 // TICK_PERIOD_MS)
    beat = np.arange(beats) * TICK_PERIOD_MS + rng.integers(0, 1000) + rng.integers(0, 12, beats)
    extra = rng.integers(0, int(beat[-1]), ticks - beats)
    return np.unique(np.concatenate([beat, extra])).astype(np.int64) + DAY_START_S * 1000


def _held(rng: np.random.Generator, values: npt.NDArray[np.float64], change_rate: float) -> F8:
    """`values` sampled at random moments and held between them."""
    changed = rng.random(len(values)) < change_rate
    changed[0] = True
    return values[np.maximum.accumulate(np.where(changed, np.arange(len(values)), 0))]


def _on_tick(price: F8, up: bool) -> F8:
    """Price in coin on the venue's tick: 0.0001 up to 0.005, 0.0005 above."""
    tick = np.where(price < 0.005, 1e-4, 5e-4)
    units = np.ceil(price / tick) if up else np.floor(price / tick)
    return np.round(units * tick, 4)


def _greeks(forward: F8, strike: float, iv: F8, years: F8, call: bool) -> dict[str, F8]:
    """Deribit's mark price and Greeks from its rounded inputs, rounded as it rounds them."""
    w = 1.0 if call else -1.0
    sd = iv / 100 * np.sqrt(years)
    d1 = np.log(forward / strike) / sd + sd / 2
    d2 = d1 - sd
    density = np.exp(-d1 * d1 / 2) / np.sqrt(2 * np.pi)
    value = w * (forward * ndtr(w * d1) - strike * ndtr(w * d2))
    theta = -forward * density * iv / 100 / (2 * np.sqrt(years)) / 365 * np.minimum(1, years * 365)
    return {
        "mark_price": np.round(value / forward, 4),
        "delta": np.round(w * ndtr(w * d1), 5),
        "gamma": np.round(density / (forward * sd), 5),
        "vega": np.round(forward * density * np.sqrt(years) / 100, 5),
        "theta": np.round(np.maximum(theta, -value), 5),
        "rho": np.round(w * strike * years * ndtr(w * d2) / 100, 5),
    }


def option_quotes(
    rng: np.random.Generator, market: Market, days: float, strike: float, call: bool, ticks: int
) -> dict[str, object]:
    """One option-day of the quotes table, columns as decode yields them (float64, int64 µs, text)."""
    ts = _stamps(rng, ticks)
    ticks = len(ts)
    mark = np.minimum((ts - DAY_START_S * 1000) // 1000, DAY_S - 1)  # marks move once a second
    years = (days * 86_400 - (ts // 1000 - DAY_START_S)) / YEAR_S
    basis = np.cumsum(rng.normal(0, 0.35, DAY_S)) * 0.2 + INDEX_START * 0.05 * days / 365
    forward = np.round(market.index + basis, 2)[mark]
    money = np.log(strike / forward) / np.sqrt(np.maximum(years, 1e-4))
    iv = np.round(38 + market.level[mark] - (3 + market.skew[mark]) * money + 9 * money**2, 2)
    greeks = _greeks(forward, strike, iv, years, call)
    fair = greeks["mark_price"]
    half = np.maximum(0.0004, fair * 0.02)
    bid = _held(rng, _on_tick(np.maximum(fair - half, 1e-4), up=False), 0.08)
    ask = _held(rng, _on_tick(fair + half, up=True), 0.08)
    sizes = np.round(rng.lognormal(2, 1, (2, ticks)), 1) + 0.1
    vega_coin = np.maximum(greeks["vega"] / forward, 1e-6)
    lag_us = (rng.lognormal(9.2, 0.35, ticks)).astype(np.int64)
    day = dt.datetime.fromtimestamp(DAY_START_S, dt.UTC) + dt.timedelta(days=days)
    expiry = day.strftime("%-d%b%y").upper()
    text = [f"BTC-{expiry}-{strike:.0f}-{'C' if call else 'P'}", f"SYN.BTC-{expiry}"]
    codes = np.zeros(ticks, np.int32)
    return {
        "venue": pa.DictionaryArray.from_arrays(codes, [VENUE]),
        "instrument": pa.DictionaryArray.from_arrays(codes, [text[0]]),
        "ts": ts * 1000,
        "recv_ts": ts * 1000 + lag_us,
        "bid_price": np.round(bid, 4),
        "bid_size": np.round(_held(rng, sizes[0], 0.15), 1),
        "ask_price": np.round(ask, 4),
        "ask_size": np.round(_held(rng, sizes[1], 0.15), 1),
        "last_price": _held(rng, bid, 0.001),
        "index_price": market.index[mark],
        "underlying_price": forward,
        "underlying_index": pa.DictionaryArray.from_arrays(codes, [text[1]]),
        "bid_iv": np.round(np.maximum(iv - (fair - bid) / vega_coin / 1.0, 0.01), 2),
        "ask_iv": np.round(iv + (ask - fair) / vega_coin, 2),
        "mark_iv": iv,
        **greeks,
        "open_interest": np.round(400 + np.cumsum(rng.random(ticks) < 0.002) * 0.5, 1),
        "funding_8h": pa.nulls(ticks, pa.float64()),
        "current_funding": pa.nulls(ticks, pa.float64()),
    }


def quotes_day(order: tuple[str, ...], *, ticks: int = 15_000, seed: int = 7) -> pa.Table:
    """A day of calls and puts over four expiries, sorted by instrument and time; columns in `order`."""
    rng = np.random.default_rng(seed)
    market = make_market(rng)
    parts = []
    for days, moneyness in CHAIN:
        for fraction in moneyness:
            strike = round(INDEX_START * fraction / 1000) * 1000.0
            for call in (True, False):
                columns = option_quotes(rng, market, days, strike, call, ticks)
                parts.append(pa.table({name: columns[name] for name in order}))
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _coded(rng: np.random.Generator, values: list[str], weights: list[float], rows: int) -> Array:
    """Text drawn from `values`."""
    codes = rng.choice(len(values), rows, p=weights).astype(np.int32)
    return pa.DictionaryArray.from_arrays(codes, values)


def trades_day(order: tuple[str, ...], *, rows: int = 140_000, seed: int = 7) -> pa.Table:
    """A day of a liquid perpetual's trades (140,000 is what BTC-PERPETUAL has), columns in `order`.

    Orders arrive in bursts and sweep several makers: half of the trades share their millisecond, match, index
    and mark with the trade before. The engine's match id is a time-ordered number, its clock is in ns.
    """
    rng = np.random.default_rng(seed)
    market = make_market(rng)
    first = rng.random(rows) < 0.5  # opens a match; the others are further fills of it
    first[0] = True
    match = np.cumsum(first) - 1
    matches = int(match[-1]) + 1
    gaps_ns = rng.lognormal(0, 2.0, matches)
    at_ns = np.cumsum(gaps_ns / gaps_ns.sum() * (DAY_S - 1) * 1e9).astype(np.int64)[match]
    second = at_ns // 1_000_000_000
    mark = np.round(market.index + _held(rng, rng.normal(8, 1.5, DAY_S), 0.2), 2)
    price = np.round((market.index[second] + 8) * 2) / 2 + np.round(rng.normal(0, 1, matches)[match]) * 0.5
    size = np.maximum(np.round(rng.lognormal(5.5, 1.8, rows) / 10), 1) * 10.0
    ts = (at_ns // 1_000_000) * 1000 + DAY_START_S * 1_000_000
    lag_us = rng.lognormal(9.2, 0.35, matches).astype(np.int64)[match]
    seq = np.arange(rows, dtype=np.int64)
    starts = np.flatnonzero(first)
    ids = 267_258_393 + np.cumsum(rng.choice([1, 1, 1, 2, 3], rows))
    columns = {
        "venue": _coded(rng, [VENUE], [1.0], rows),
        "instrument": _coded(rng, ["BTC-PERPETUAL"], [1.0], rows),
        "ts": ts,
        "recv_ts": ts + lag_us,
        "trade_id": pa.array(ids).cast(pa.string()),
        "trade_seq": 140_284_854 + seq,
        "price": price,
        "size": size,
        "side": _coded(rng, ["buy", "sell"], [0.5, 0.5], matches).take(match),
        "index_price": market.index[second],
        "mark_price": mark[second],
        "contracts": size / 10,
        "tick_direction": rng.integers(0, 4, rows),
        "starbase_match_id": 225_046_781_992_378_368 + ((at_ns // 1_000_000) << 22) + seq - starts[match],
        "starbase_timestamp": at_ns + DAY_START_S * 1_000_000_000,
    }
    empty = pa.nulls(rows)
    return pa.table({name: columns.get(name, empty) for name in order})


def book_day(order: tuple[str, ...], *, messages: int = 120_000, seed: int = 7) -> pa.Table:
    """Level events of a liquid perpetual's book, 100 ms conflated, columns in `order`.

    A message changes 1 to 12 levels near the top; amounts are multiples of 10 USD; a third of the changes are
    new levels and a third deletes. change_id is a venue-wide counter that jumps by thousands.
    """
    rng = np.random.default_rng(seed)
    market = make_market(rng)
    at_ms = np.cumsum(100 + np.where(rng.random(messages) < 0.7, 0, rng.integers(0, 300, messages)) + 1)
    at_ms = at_ms + rng.integers(-3, 4, messages)
    second = np.minimum(at_ms // 1000, DAY_S - 1)
    events = rng.geometric(0.25, messages).clip(1, 12)
    message = np.repeat(np.arange(messages), events)
    rows = len(message)
    level = np.arange(rows) - np.repeat(np.cumsum(events) - events, events)
    bid = level < np.repeat(rng.binomial(events, 0.5), events)
    distance = rng.geometric(0.08, rows) * 0.5
    top = np.round(market.index[second][message] * 2) / 2
    action = rng.integers(0, 3, rows)
    size = np.maximum(np.round(rng.lognormal(6, 1.8, rows) / 10), 1) * 10.0
    change = 118_850_965_713 + np.cumsum(rng.lognormal(8.5, 0.9, messages)).astype(np.int64)
    ts = at_ms * 1000 + DAY_START_S * 1_000_000
    columns = {
        "venue": _coded(rng, [VENUE], [1.0], rows),
        "instrument": _coded(rng, ["BTC-PERPETUAL"], [1.0], rows),
        "ts": ts[message],
        "recv_ts": (ts + rng.lognormal(9.2, 0.35, messages).astype(np.int64))[message],
        "type": _coded(rng, ["change"], [1.0], rows),
        "change_id": change[message],
        "prev_change_id": np.concatenate([[change[0] - 4711], change[:-1]])[message],
        "level": level,
        "side": pa.DictionaryArray.from_arrays(bid.astype(np.int32), ["ask", "bid"]),
        "action": pa.DictionaryArray.from_arrays(action.astype(np.int32), ["new", "change", "delete"]),
        "price": np.where(bid, top - distance, top + distance),
        "size": np.where(action == 2, 0.0, size),
    }
    return pa.table({name: columns[name] for name in order})
