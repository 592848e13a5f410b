"""What an option's price depends on by contract: strike, expiry, call or put, and the coin or currency it is paid in.

The venue's listings decide (table `instruments`, the newest version of each option); for an option whose listing was
never seen, its name, whose expiry is 08:00 UTC of the day it names.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import option_family, parse_name
from lake.content import row_hashes
from lake.delta import Table
from lake.errors import InputError
from lake.exact import Array
from lake.instants import midnight_us, to_us
from lake.root import Root
from lake.schema import TABLES

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NO_EXPIRY: Final = np.iinfo(np.int64).min
REVERSED: Final = "reversed"
_LISTED: Final = (
    "instrument", "valid_from", "kind", "instrument_type", "base_currency", "quote_currency", "option_type",
    "strike", "creation_ts", "expiration_ts",
)  # fmt: skip
_TERMS: Final = (
    "instrument", "instrument_type", "base_currency", "quote_currency", "option_type", "strike", "expiration_ts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OptionTerms:
    """Terms of one option.

    strike: counter currency; expiry: µs since the epoch; inverse: priced in coin, else in the quote currency; basis:
    what expires together, BTC (coin-settled) or BTC_USDC, as instruments' names begin.
    """

    strike: float
    expiry: int
    is_call: bool
    inverse: bool
    basis: str


class Listing(Protocol):
    """Terms by instrument name, as listings tell them."""

    def get(self, name: str, /) -> OptionTerms | None:
        """Terms of one option; None where no listing told them."""
        ...


@dataclass(frozen=True, slots=True)
class TermsOf:
    """Terms of several options as arrays; an option without terms has strike NaN and expiry `NO_EXPIRY`.

    chain: number of the pair (basis, expiry) in `chains`, -1 without terms.
    """

    strike: Floats
    expiry: Ints
    is_call: Mask
    inverse: Mask
    chain: Ints
    chains: tuple[tuple[str, int], ...]

    def take(self, codes: npt.NDArray[Any]) -> TermsOf:
        """The terms of each row, where `codes` numbers the rows' options."""
        return TermsOf(
            self.strike[codes], self.expiry[codes], self.is_call[codes], self.inverse[codes],
            self.chain[codes], self.chains,
        )  # fmt: skip


def named(name: str) -> OptionTerms | None:
    """Terms that a name tells; None where it is no option's."""
    try:
        parsed = parse_name(name)
    except InputError:
        return None
    if parsed.kind != "option" or parsed.strike is None or parsed.expiry is None:
        return None
    return OptionTerms(
        parsed.strike, parsed.expiry, parsed.option_type == "call", parsed.quote is None, parsed.basis
    )


def terms_of(names: Sequence[str], listing: Listing) -> TermsOf:
    """Terms of each option in `names`, by `listing`, else by the name."""
    found = [listing.get(name) or named(name) for name in names]
    chains: dict[tuple[str, int], int] = {}
    for terms in found:
        if terms is not None:
            chains.setdefault((terms.basis, terms.expiry), len(chains))
    return TermsOf(
        strike=np.array([np.nan if t is None else t.strike for t in found], np.float64),
        expiry=np.array([NO_EXPIRY if t is None else t.expiry for t in found], np.int64),
        is_call=np.array([t is not None and t.is_call for t in found], np.bool_),
        inverse=np.array([t is not None and t.inverse for t in found], np.bool_),
        chain=np.array([-1 if t is None else chains[t.basis, t.expiry] for t in found], np.int64),
        chains=tuple(chains),
    )


class Listings:
    """The newest terms of every option that a listing of this lake has named."""

    def __init__(self, rows: pa.Table) -> None:
        """From rows of `instruments`, of options only, each option once."""
        self._rows = rows
        self._places = {name: place for place, name in enumerate(rows["instrument"].to_pylist())}

    @classmethod
    def read(cls, root: Root) -> Listings:
        """From the table `instruments`; empty where there is none yet."""
        table = Table.find(root, TABLES["instruments"])
        if table is None:
            return cls(TABLES["instruments"].arrow_schema.empty_table())
        rows = table.read(_LISTED)
        rows = rows.filter(pc.equal(rows["kind"], "option")).sort_by("valid_from")
        codes, names = named_codes(rows["instrument"])
        newest = np.zeros(len(names), np.int64)
        newest[codes] = np.arange(len(rows))  # of several versions the last, which is the newest
        return cls(rows.take(pa.array(newest)))

    def get(self, name: str) -> OptionTerms | None:
        """Terms of one option; None where no listing told them whole."""
        place = self._places.get(name)
        return None if place is None else _listed({c: self._rows[c][place].as_py() for c in _LISTED})

    def alive(self, of_family: str, day: dt.date) -> dict[str, OptionTerms]:
        """Options of a family that were listed at some moment of a UTC day."""
        rows = self._rows.filter(pa.array(self._there(of_family, day))).to_pylist()
        found = ((row["instrument"], _listed(row)) for row in rows)
        return {name: terms for name, terms in found if terms is not None}

    def fingerprint(self, of_family: str, day: dt.date) -> int:
        """A number that differs where the terms of `alive` do; cheap, for asking of thousands of days."""
        return int(self._hashes[self._there(of_family, day)].sum(dtype=np.uint64))

    def _there(self, of_family: str, day: dt.date) -> Mask:
        start, end = (midnight_us(day + dt.timedelta(days=days)) for days in (0, 1))
        codes, families = self._families
        family = families.index(of_family) if of_family in families else -1
        there: Mask = (codes == family) & (self._dies >= start) & (self._born < end)
        return there

    @cached_property
    def _hashes(self) -> npt.NDArray[np.uint64]:
        return row_hashes(self._rows, _TERMS)

    @cached_property
    def _born(self) -> Ints:
        return microseconds(self._rows["creation_ts"])

    @cached_property
    def _dies(self) -> Ints:
        return microseconds(self._rows["expiration_ts"])

    @cached_property
    def _families(self) -> tuple[npt.NDArray[np.int32], list[str]]:
        """Of each option the place of its family in a list: the first part of its name tells."""
        codes, bases = named_codes(pc.list_element(pc.split_pattern(self._rows["instrument"], "-"), 0))
        return codes, [option_family(basis) for basis in bases]


@lru_cache(maxsize=1)
def listings(root: Root, version: int) -> Listings:
    """`Listings.read`, once a process for each `version` of the table (`listings_version`)."""
    del version
    return Listings.read(root)


def listings_version(root: Root) -> int:
    """Version of the table `instruments`; -1 where there is none yet."""
    table = Table.find(root, TABLES["instruments"])
    return -1 if table is None else table.version


def _listed(row: Mapping[str, Any]) -> OptionTerms | None:
    """One listing's terms; None where it lacks what a price depends on, so that the name is left to tell."""
    strike, kind, dies = row["strike"], row["option_type"], row["expiration_ts"]
    if strike is None or dies is None or kind not in ("call", "put"):
        return None
    told = named(row["instrument"])
    settled = row["instrument_type"]
    if settled is None and told is None:
        return None
    inverse = told.inverse if settled is None and told is not None else settled == REVERSED
    basis = row["base_currency"] if inverse else f"{row['base_currency']}_{row['quote_currency']}"
    return OptionTerms(strike, to_us(dies), kind == "call", inverse, told.basis if told else basis)


def microseconds(times: Array, absent: int = NO_EXPIRY) -> Ints:
    """A column of times as µs since the epoch; `absent` where null."""
    array = times.combine_chunks() if isinstance(times, pa.ChunkedArray) else times
    return np.asarray(pc.fill_null(array.cast(pa.int64()), absent), np.int64)


def named_codes(instrument: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A column of instrument names as numbers into a list of the distinct names."""
    column = instrument.combine_chunks()
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return np.asarray(column.indices, np.int32), column.dictionary.to_pylist()
