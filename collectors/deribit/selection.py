"""Which instruments to record, which channels that takes, and over how many connections."""

from __future__ import annotations

import heapq
import logging
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final

import msgspec

from collectors.deribit import channels, wire
from collectors.settings import CollectorSettings
from lake.errors import SchemaDriftError, SettingsError

ANY: Final = "any"
VOLATILITY_INDICES: Final = ("btc_usd", "eth_usd")
"""The price indices that have a volatility index (venue's documentation)."""


Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
"""What can be a part of a channel's name."""


class Summary(msgspec.Struct, frozen=True):
    """What ranking needs of a `get_book_summary_by_currency` row."""

    instrument_name: str
    open_interest: float | None = None
    underlying_price: float | None = None
    mark_price: float | None = None

    @property
    def worth(self) -> float:
        """Open interest in USD."""
        is_linear = "_" in self.instrument_name.partition("-")[0]
        price = self.underlying_price or ((self.mark_price or 0.0) if is_linear else 1.0)
        return (self.open_interest or 0.0) * price


class Listing(msgspec.Struct, frozen=True):
    """What choosing channels needs of a `get_instruments` row; expiry in ms since the epoch."""

    instrument_name: Name
    kind: wire.Text
    expiration_timestamp: int = 0
    settlement_period: wire.Text = ""
    price_index: wire.Text = ""
    is_active: bool = True


_LISTINGS: Final = msgspec.json.Decoder(list[Listing])
_LISTING: Final = msgspec.json.Decoder(Listing)
_SUMMARIES: Final = msgspec.json.Decoder(list[Summary])
_SUMMARY: Final = msgspec.json.Decoder(Summary)

_log = logging.getLogger(__name__)


def decode_listings(result: msgspec.Raw) -> list[Listing]:
    """The rows of a `get_instruments` result; what cannot be read is left out and told.

    Raises:
        SchemaDriftError: it is no list, or none of its rows can be read.
    """
    try:
        taken = wire.each(result, _LISTINGS, _LISTING)
        if taken.wrong:
            _log.warning("get_instruments: %s", taken.told("instruments"))
        return taken.rows
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"get_instruments has changed its shape: {error}") from None


def decode_open_interest(result: msgspec.Raw) -> dict[str, float]:
    """Open interest in USD by instrument, of a `get_book_summary_by_currency` result.

    Options and linear contracts count it in base coins, inverse futures in USD (venue's contract
    specifications), so that only the worth makes a future and an option comparable.

    Rows that cannot be read are left out.

    Raises:
        SchemaDriftError: it is no list, or none of its rows can be read.
    """
    try:
        taken = wire.each(result, _SUMMARIES, _SUMMARY)
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"get_book_summary_by_currency has changed its shape: {error}") from None
    return {row.instrument_name: row.worth for row in taken.rows}


def choose(
    listings: Iterable[Listing], settings: CollectorSettings, open_interest: Mapping[str, float]
) -> list[Listing]:
    """The active listings that the settings ask for: perpetuals first, then by expiry and name, each once.

    open_interest: USD by instrument, for `top_by_open_interest`; without an entry, none.
    """
    wanted = {listing.instrument_name: listing for listing in listings if matches(listing, settings)}
    chosen = sorted(
        wanted.values(),
        key=lambda row: (row.settlement_period != "perpetual", row.expiration_timestamp, row.instrument_name),
    )
    if settings.top_by_open_interest is not None:
        chosen = _largest(chosen, settings.top_by_open_interest, open_interest)
    return chosen[: settings.instruments_max]


def matches(listing: Listing, settings: CollectorSettings) -> bool:
    """Whether an instrument is active, of a wanted kind, and has a wanted name."""
    return (
        listing.is_active
        and (not settings.kinds or listing.kind in settings.kinds)
        and matches_name(listing.instrument_name, settings)
    )


def matches_name(name: str, settings: CollectorSettings) -> bool:
    """Whether `name_pattern` matches the whole name, or there is none."""
    return not settings.name_pattern or re.fullmatch(settings.name_pattern, name) is not None


def _largest(chosen: list[Listing], count: int, open_interest: Mapping[str, float]) -> list[Listing]:
    """The `count` listings of each currency with the largest open interest, in the order of `chosen`."""
    groups: dict[str, list[Listing]] = {}
    for listing in chosen:
        groups.setdefault(currency_of(listing.instrument_name), []).append(listing)
    kept: set[str] = set()
    for group in groups.values():
        group.sort(key=lambda row: -open_interest.get(row.instrument_name, 0.0))
        kept.update(listing.instrument_name for listing in group[:count])
    return [listing for listing in chosen if listing.instrument_name in kept]


def currency_of(name: str) -> str:
    """The currency under which the venue groups an instrument: BTC-PERPETUAL BTC, SOL_USDC-PERPETUAL USDC."""
    return name.partition("-")[0].rpartition("_")[2]


def in_part(name: str, settings: CollectorSettings) -> bool:
    """Whether this collector records the instrument: parts are cut by a hash of the name, for good."""
    part, parts = settings.part
    return zlib.crc32(name.encode()) % parts == part - 1


def trade_channels(settings: CollectorSettings) -> list[str]:
    """One channel for every trade of a kind and currency, on the collector of the first part."""
    return [channels.all_trades(*group) for group in _groups(settings)] if settings.part[0] == 1 else []


def lifecycle_channels(settings: CollectorSettings) -> list[str]:
    """The channels that announce new instruments and changes of state, of each kind and currency."""
    groups = _groups(settings)
    return [announce(*group) for announce in (channels.creations, channels.states) for group in groups]


def _groups(settings: CollectorSettings) -> list[tuple[str, str]]:
    """Kinds and currencies as channels name them."""
    return [
        (kind, currency) for currency in settings.currencies or (ANY,) for kind in settings.kinds or (ANY,)
    ]


def platform_channels(settings: CollectorSettings) -> list[str]:
    """The channels in which the venue speaks of itself, where they are wanted."""
    return list(channels.PLATFORM) if "platform_state" in settings.series else []


def index_channels(listings: Iterable[Listing], settings: CollectorSettings) -> list[str]:
    """The channels of the indices that wanted instruments settle against, on the collector of the first part."""
    if settings.part[0] != 1:
        return []
    wanted = [listing for listing in listings if listing.price_index and matches(listing, settings)]
    indices = sorted({listing.price_index for listing in wanted})
    of_options = sorted({listing.price_index for listing in wanted if listing.kind == "option"})
    named = {
        "index_prices": map(channels.price_index, indices),
        "volatility_index": map(channels.volatility_index, set(VOLATILITY_INDICES).intersection(indices)),
        "marks": map(channels.marks, of_options),
    }
    return sorted(
        channel for series, found in named.items() if series in settings.series for channel in found
    )


def is_perpetual(name: str) -> bool:
    """Whether an instrument is a perpetual, by its name."""
    return name.endswith("-PERPETUAL")


def instrument_channels(name: str, settings: CollectorSettings) -> list[str]:
    """The channels of one instrument: `ticker` and `book`; of a perpetual also that of its funding."""
    found = [channels.ticker(name), channels.book(name)]
    if is_perpetual(name) and "funding" in settings.series:
        found.append(channels.perpetual(name, settings.funding_interval))
    return found


def deal(names: Sequence[str], shared: Sequence[str], settings: CollectorSettings) -> list[list[str]]:
    """Names of instruments, one list per connection: dealt out in turn, so that busy neighbours part.

    `shared` (channels of many instruments) are to ride on the first connection, which gets so many less.

    Raises:
        SettingsError: more channels than the connections may carry.
    """
    each = {name: len(instrument_channels(name, settings)) for name in names}
    total = len(shared) + sum(each.values())
    connections = max(1, math.ceil(total / settings.channels_per_connection))
    if connections > settings.connections_max:
        raise SettingsError(
            f"{total} channels need {connections} connections of at most {settings.connections_max}; "
            "raise channels_per_connection or connections_max, or record less "
            "(currencies, kinds, name_pattern, instruments_max, series, shard)"
        )
    hands: list[list[str]] = [[] for _ in range(connections)]
    loads = [(len(shared) if number == 0 else 0, number) for number in range(connections)]
    heapq.heapify(loads)
    for name in names:
        load, number = loads[0]
        hands[number].append(name)
        heapq.heapreplace(loads, (load + each[name], number))
    return hands
