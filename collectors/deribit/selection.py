"""Which instruments to record, which channels that takes, and over how many connections."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from collectors.deribit import channels
from collectors.settings import CollectorSettings
from lake.errors import SchemaDriftError, SettingsError

ANY: Final = "any"


class Listing(msgspec.Struct, frozen=True):
    """What choosing channels needs of a `get_instruments` row; expiry in ms since the epoch."""

    instrument_name: str
    kind: str
    expiration_timestamp: int = 0
    settlement_period: str = ""
    is_active: bool = True


_LISTINGS: Final = msgspec.json.Decoder(list[Listing])


def decode_listings(result: msgspec.Raw) -> list[Listing]:
    """The rows of a `get_instruments` result.

    Raises:
        SchemaDriftError: a row lacks a field or has another type.
    """
    try:
        return _LISTINGS.decode(result)
    except msgspec.MsgspecError as error:
        raise SchemaDriftError(f"get_instruments has changed its shape: {error}") from None


def select(listings: Iterable[Listing], settings: CollectorSettings) -> list[Listing]:
    """The active listings that the settings ask for: perpetuals first, then by expiry and name, each once.

    Raises:
        SettingsError: none is left.
    """
    pattern = re.compile(settings.name_pattern) if settings.name_pattern else None
    wanted = {
        listing.instrument_name: listing
        for listing in listings
        if listing.is_active
        and (not settings.kinds or listing.kind in settings.kinds)
        and (pattern is None or pattern.fullmatch(listing.instrument_name))
    }
    if not wanted:
        raise SettingsError(
            "no listed instrument matches currencies, kinds and name_pattern; widen one of these"
        )
    chosen = sorted(
        wanted.values(),
        key=lambda row: (row.settlement_period != "perpetual", row.expiration_timestamp, row.instrument_name),
    )
    return chosen[: settings.instruments_max]


def trade_channels(settings: CollectorSettings) -> list[str]:
    """One channel for every trade of a kind and currency: `trades.{kind}.{currency}.100ms`."""
    return [
        channels.all_trades(kind, currency)
        for currency in settings.currencies or (ANY,)
        for kind in settings.kinds or (ANY,)
    ]


def instrument_channels(name: str) -> list[str]:
    """The channels of one instrument: `ticker` and `book`."""
    return [channels.ticker(name), channels.book(name)]


def shard(names: Sequence[str], shared: Sequence[str], settings: CollectorSettings) -> list[list[str]]:
    """Channel lists, one per connection: instruments dealt out in turn, so that busy neighbours part.

    Ticker and book of an instrument stay together. `shared` (the trade channels) ride on the first one.

    Raises:
        SettingsError: more channels than the connections may carry.
    """
    total = len(shared) + sum(len(instrument_channels(name)) for name in names)
    connections = max(1, math.ceil(total / settings.channels_per_connection))
    if connections > settings.connections_max:
        raise SettingsError(
            f"{total} channels need {connections} connections of at most {settings.connections_max}; "
            "raise channels_per_connection or connections_max, or record less "
            "(currencies, kinds, name_pattern, instruments_max)"
        )
    shards: list[list[str]] = [[] for _ in range(connections)]
    shards[0] += shared
    for position, name in enumerate(names):
        shards[position % connections] += instrument_channels(name)
    return shards
