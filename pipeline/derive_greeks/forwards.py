"""The forward of each option at each moment, and where it is from.

In this order, each only where the one before has nothing fresh:

1. `underlying_price`: the venue's own, sent with the quote, else the last sent with any quote of the same expiry;
2. `future`: the mark (else the middle) of the future of the same expiry and currency;
3. `parity`: put-call parity, C - P = F - K without discounting (Stoll, "The Relationship Between Put and Call Option
   Prices", 1969; in coin (c - p) F = F - K), each minute over the strikes nearest to the money where both are quoted.

A forward is only ever used at or after the moment it became known, so nothing here looks ahead. A day is taken by
itself: what was known before midnight is not carried into it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.deribit.names import parse_name
from lake.errors import InputError
from lake.exact import as_sent, to_floats
from lake.schema import UNROUNDED
from pipeline.derive_greeks.partition import row_groups
from pipeline.derive_greeks.terms import Listing, TermsOf, microseconds, named_codes, terms_of

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int8]
Chain = tuple[str, int]

SOURCES: Final = ("underlying_price", "future", "parity")
NO_SOURCE: Final = -1
SECOND_US: Final = 1_000_000
PARITY_BUCKET_US: Final = 60 * SECOND_US
ROWS_GATHERED: Final = 1_000_000
PARITY_STRIKES: Final = 5
"""Forwards of so many strikes, the nearest to the money, of which the median is taken."""
_PRICES: Final = ("instrument", "ts", "bid_price", "ask_price")


class Series(NamedTuple):
    """A forward over time: at `ts` (µs, ascending) it became `value`."""

    ts: Ints
    value: Floats

    def at(self, moments: Ints, max_age_us: int) -> Floats:
        """The newest value at each moment; NaN where there is none, or it is older than `max_age_us`."""
        found = np.searchsorted(self.ts, moments, side="right") - 1
        fresh = (found >= 0) & (moments - self.ts[found] <= max_age_us)
        return np.where(fresh, self.value[found], np.nan)


Curves = Mapping[Chain, Series]
_Rows = tuple[Ints, Ints, Floats]


class Forwards:
    """Forwards of all expiries of one family on one day; the files are looked at when first needed.

    quotes: files of the options' quotes; futures: files of the quotes of dated futures.
    """

    def __init__(
        self, quotes: Sequence[Path], futures: Sequence[Path], listing: Listing, max_age_us: int
    ) -> None:
        self._quotes = quotes
        self._futures = futures
        self._listing = listing
        self._max_age_us = max_age_us

    def fill(self, sent: Floats, terms: TermsOf, ts: Ints) -> tuple[Floats, Codes]:
        """The forward of each row, and its place in `SOURCES` (else `NO_SOURCE`); `sent` came with the row."""
        forward = np.where(sent > 0, sent, np.nan)
        source = np.where(np.isnan(forward), NO_SOURCE, 0).astype(np.int8)
        for code, name in enumerate(SOURCES):
            missing = np.flatnonzero((source == NO_SOURCE) & (terms.chain >= 0))
            if not missing.size:
                break
            curves: Curves = getattr(self, f"_{name}")
            chain = terms.chain[missing]
            for number in np.unique(chain):
                series = curves.get(terms.chains[number])
                if series is not None:
                    rows = missing[chain == number]
                    forward[rows] = series.at(ts[rows], self._max_age_us)
            source[missing[~np.isnan(forward[missing])]] = code
        return forward, source

    @cached_property
    def _underlying_price(self) -> Curves:
        points = _Points()
        for rows in row_groups(self._quotes, ("instrument", "ts", "underlying_price", UNROUNDED)):
            codes, names = named_codes(rows["instrument"])
            terms = terms_of(names, self._listing)
            points.add(
                terms.chains,
                terms.chain[codes],
                microseconds(rows["ts"]),
                as_sent(rows, "underlying_price"),
            )
        return points.curves()

    @cached_property
    def _future(self) -> Curves:
        points = _Points()
        for rows in row_groups(self._futures, (*_PRICES, "mark_price")):
            codes, names = named_codes(rows["instrument"])
            chains = [_expiring(name) for name in names]
            known = tuple(dict.fromkeys(chain for chain in chains if chain is not None))
            numbers = np.array([-1 if chain is None else known.index(chain) for chain in chains], np.int64)
            mark = to_floats(rows["mark_price"])
            points.add(
                known, numbers[codes], microseconds(rows["ts"]), np.where(mark > 0, mark, _middle(rows))
            )
        return points.curves()

    @cached_property
    def _parity(self) -> Curves:
        """One forward a minute: a minute's last quotes of both sides of every strike."""
        numbers: dict[str, int] = {}
        found = _LastOfEach(PARITY_BUCKET_US)
        for rows in row_groups(self._quotes, _PRICES):
            codes, names = named_codes(rows["instrument"])
            own = np.array([numbers.setdefault(name, len(numbers)) for name in names], np.int64)[codes]
            found.add(own, microseconds(rows["ts"]), _middle(rows))
        option, ts, middle = found.rows()
        return _by_parity(terms_of(list(numbers), self._listing).take(option), ts, middle)


class _Points:
    """Forwards of many chains as they are found, the last of each second kept."""

    def __init__(self) -> None:
        self._numbers: dict[Chain, int] = {}
        self._found = _LastOfEach(SECOND_US)

    def add(self, chains: Sequence[Chain], chain: Ints, ts: Ints, value: Floats) -> None:
        """Points of the chains that `chain` numbers in `chains`; -1, NaN and what is not positive count for nothing."""
        own = np.array([self._numbers.setdefault(c, len(self._numbers)) for c in chains], np.int64)
        known = (chain >= 0) & (value > 0)
        self._found.add(own[chain[known]], ts[known], value[known])

    def curves(self) -> Curves:
        """All points as one series a chain."""
        chain, ts, value = self._found.rows()
        return {
            name: Series(ts[chain == number], value[chain == number])
            for name, number in self._numbers.items()
            if (chain == number).any()
        }


class _LastOfEach:
    """Of each key and bucket of time the last known value, over pieces in any order, in the memory of the result."""

    def __init__(self, bucket_us: int) -> None:
        self._bucket_us = bucket_us
        self._pieces: list[_Rows] = []
        self._settled = 0

    def add(self, key: Ints, ts: Ints, value: Floats) -> None:
        """Take in a piece; values may be NaN."""
        self._pieces.append(_last_of_each(key, ts, value, self._bucket_us))
        if sum(len(piece[0]) for piece in self._pieces) > 2 * self._settled + ROWS_GATHERED:
            self._pieces = [self.rows()]
            self._settled = len(self._pieces[0][0])

    def rows(self) -> _Rows:
        """Key, time and value of all that is kept, sorted by key and time."""
        if not self._pieces:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        key, ts, value = zip(*self._pieces, strict=True)
        return _last_of_each(np.concatenate(key), np.concatenate(ts), np.concatenate(value), self._bucket_us)


def _last_of_each(key: Ints, ts: Ints, value: Floats, bucket_us: int) -> _Rows:
    known = np.flatnonzero(~np.isnan(value))
    order = known[np.lexsort((ts[known], key[known]))]
    key, ts, value = key[order], ts[order], value[order]
    bucket = ts // bucket_us
    last = np.ones(len(ts), np.bool_)
    last[:-1] = (key[1:] != key[:-1]) | (bucket[1:] != bucket[:-1])
    return key[last], ts[last], value[last]


def _by_parity(terms: TermsOf, ts: Ints, middle: Floats) -> Curves:
    """Forwards from rows of calls and puts, each the last of its minute."""
    bucket = ts // PARITY_BUCKET_US
    order = np.lexsort((terms.is_call, terms.strike, bucket, terms.chain))
    chain, bucket, ts, middle = terms.chain[order], bucket[order], ts[order], middle[order]
    strike, is_call, inverse = terms.strike[order], terms.is_call[order], terms.inverse[order]
    same = (chain[1:] == chain[:-1]) & (bucket[1:] == bucket[:-1]) & (strike[1:] == strike[:-1])
    put = np.flatnonzero(same & (chain[1:] >= 0) & is_call[1:] & ~is_call[:-1])
    call = put + 1
    gap = middle[call] - middle[put]
    with np.errstate(divide="ignore"):
        forward = np.where(inverse[put], strike[put] / (1.0 - gap), strike[put] + gap)
    usable = np.isfinite(forward) & (forward > 0)
    put, call, forward, gap = put[usable], call[usable], forward[usable], gap[usable]
    distance = np.abs(np.log(forward / strike[put]))
    known_at = np.maximum(ts[put], ts[call])
    order = np.lexsort((distance, bucket[put], chain[put]))
    group = np.stack([chain[put], bucket[put]])[:, order]
    starts = np.flatnonzero(
        np.concatenate([[True], (group[:, 1:] != group[:, :-1]).any(axis=0)])[: len(order)]
    )
    found: dict[Chain, list[tuple[int, float]]] = {}
    for start, end in itertools.pairwise([*starts.tolist(), len(order)]):
        nearest = order[start : min(end, start + PARITY_STRIKES)]
        point = int(known_at[nearest].max()), float(np.median(forward[nearest]))
        found.setdefault(terms.chains[int(group[0, start])], []).append(point)
    return {
        name: Series(np.array([at for at, _ in points], np.int64), np.array([value for _, value in points]))
        for name, points in found.items()
    }


def _expiring(name: str) -> Chain | None:
    """Basis and expiry of a dated future; None of any other name."""
    try:
        parsed = parse_name(name)
    except InputError:
        return None
    if parsed.kind != "future" or parsed.expiry is None:
        return None
    return parsed.basis, parsed.expiry


def _middle(rows: pa.Table) -> Floats:
    """Middle of bid and ask; NaN where one is missing or they are crossed."""
    bid, ask = to_floats(rows["bid_price"]), to_floats(rows["ask_price"])
    return np.where((bid > 0) & (ask >= bid), (bid + ask) / 2.0, np.nan)
