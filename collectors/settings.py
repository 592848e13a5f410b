"""What can be set about a collector."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from collectors.backoff import BackoffSettings
from collectors.transport import TRANSPORTS, TransportSettings
from lake.errors import SettingsError

CONNECTIONS_PER_ADDRESS_MAX: Final = 30
"""The venue allows 32 per IP address, HTTP included (its page on connection management)."""
CHANNELS_PER_CALL_MAX: Final = 500
"""The venue's own limit; longer lists have been refused from 250 up."""
HEARTBEAT_MIN_S: Final = 10
BOOK_DEPTHS: Final = (1, 5, 10, 20, 50, 100, 1000, 10000)
"""How many levels of a book the venue can be asked for (its documentation)."""
KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo")
SERIES: Final = ("funding", "index_prices", "volatility_index", "platform_state", "marks")
INTERVALS: Final = ("100ms", "agg2")
"""The venue has a third, raw, for callers who have logged in; a collector never does."""


@dataclass(frozen=True, slots=True)
class CollectorSettings:
    """Settings of a live collector. Checked on construction; every message names the setting and the cure."""

    ws_url: str = "wss://www.deribit.com/ws/api/v2"
    """WebSocket address of the venue."""
    rest_url: str = "https://www.deribit.com/api/v2"
    """REST address of the venue; methods are appended as /public/…"""
    currencies: tuple[str, ...] = ()
    """Currencies to record as the venue groups them (BTC, ETH, USDC, …); empty: all."""
    kinds: tuple[str, ...] = ("future", "option")
    """Kinds of instrument to record: future (perpetuals too), option, spot, future_combo, option_combo; empty: all.
    A trade of a combo appears on its legs as well."""
    name_pattern: str = ""
    """Regular expression that a whole instrument name must match; empty: all."""
    instruments_max: int | None = None
    """Record at most so many instruments: perpetuals first, then by nearest expiry; None: no bound."""
    top_by_open_interest: int | None = None
    """Record only so many instruments of each currency, those with the largest open interest in USD; None: all."""
    series: tuple[str, ...] = ("funding", "index_prices", "volatility_index", "platform_state")
    """What to record beside tickers, books and trades. funding: the momentary rate of perpetuals, and by REST the
    rate of every hour. index_prices and volatility_index: the indices behind the instruments. platform_state: what
    the venue says of locks and maintenance. marks: mark price and volatility of all options of an index in one
    channel, for every index of which an option is of a wanted kind and name; not recorded unless named here, because
    tickers tell the same, and with Greeks. It is for a selection that records few options (top_by_open_interest,
    instruments_max) and wants the volatility of all."""
    funding_interval: str = "agg2"
    """Interval of the momentary funding rate: agg2 (a second or two) or 100ms. Tickers have the rate every 100 ms
    anyway."""
    shard: str = ""
    """Record one part of the instruments, such as 1/3, beside other collectors that record the other parts; the first
    part also records the trades of all and the indices. Empty: everything."""
    relist_seconds: float = 3600.0
    """How often the instruments are listed (and ranked) anew, beside what the venue announces."""
    expired_grace_s: float = 300.0
    """How long an instrument is still recorded after its expiry or the end of its listing."""
    transport: str = "picows"
    """WebSocket library: picows or websockets."""
    channels_per_connection: int = 1000
    """Channels on one connection; as many connections are opened as that takes."""
    connections_max: int = CONNECTIONS_PER_ADDRESS_MAX
    """Most connections to open, at most 30."""
    channels_per_call: int = 250
    """Channels in one subscribe call, at most 500."""
    calls_per_s: float = 3.0
    """Subscribe calls per second over all connections, after the burst; fewer for a while once the venue has refused
    one, such as where several collectors share an address."""
    calls_burst: int = 10
    """Subscribe calls that may go out at once."""
    heartbeat_s: int = 30
    """Interval of the venue's heartbeat, at least 10."""
    silence_max_s: float = 60.0
    """A connection without any frame for so long is dead and is replaced."""
    reply_timeout_s: float = 15.0
    """Longest wait for the reply to a call."""
    stable_s: float = 30.0
    """A connection that lived so long resets the backoff; a shorter one counts as one more failure."""
    rest_per_s: float = 5.0
    """REST requests per second (the venue does not publish its limit for anonymous callers)."""
    rest_burst: int = 5
    """REST requests that may go out at once."""
    rest_timeout_s: float = 30.0
    """Longest time for one REST request."""
    rest_attempts: int = 5
    """Attempts for one REST request before its transient error is told."""
    book_check_seconds: float = 45.0
    """The venue is asked for one book every so many seconds, of each instrument in turn, to compare with what the
    stream says: 1,700 instruments take a day. 0: never."""
    book_check_levels: int = 100
    """Levels a side to ask for: 1, 5, 10, 20, 50, 100, 1000 or 10000."""
    flush_timeout_s: float = 6.0
    """Longest wait for the last records to become durable when stopping."""
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    """Waits between attempts, for connections and REST alike."""
    link: TransportSettings = field(default_factory=TransportSettings)
    """Bounds of one WebSocket connection, and how the venue is reached."""

    def __post_init__(self) -> None:
        check_address("ws_url", self.ws_url, "wss", "ws")
        check_address("rest_url", self.rest_url, "https", "http")
        _within("connections_max", self.connections_max, 1, CONNECTIONS_PER_ADDRESS_MAX)
        _within("channels_per_call", self.channels_per_call, 1, CHANNELS_PER_CALL_MAX)
        _within("channels_per_connection", self.channels_per_connection, 2, 1 << 20)
        _within("heartbeat_s", self.heartbeat_s, HEARTBEAT_MIN_S, 3600)
        _within("rest_attempts", self.rest_attempts, 1, 100)
        _within("calls_burst", self.calls_burst, 1, 1 << 20)
        _within("rest_burst", self.rest_burst, 1, 1 << 20)
        if self.instruments_max is not None:
            _within("instruments_max", self.instruments_max, 1, 1 << 20)
        if self.top_by_open_interest is not None:
            _within("top_by_open_interest", self.top_by_open_interest, 1, 1 << 20)
        if self.transport not in TRANSPORTS:
            raise SettingsError(f"transport {self.transport!r}: use one of {', '.join(TRANSPORTS)}")
        if self.book_check_levels not in BOOK_DEPTHS:
            raise SettingsError(
                f"book_check_levels {self.book_check_levels}: use one of {', '.join(map(str, BOOK_DEPTHS))}"
            )
        if self.book_check_seconds < 0:
            raise SettingsError(f"book_check_seconds {self.book_check_seconds}: use 0 or more")
        for name in self.series:
            if name not in SERIES:
                raise SettingsError(f"series: {name!r} is not a series; use {', '.join(SERIES)}")
        if self.funding_interval not in INTERVALS:
            raise SettingsError(f"funding_interval {self.funding_interval!r}: use {', '.join(INTERVALS)}")
        for kind in self.kinds:
            if kind not in KINDS:
                raise SettingsError(f"kinds: {kind!r} is not a kind of instrument; use {', '.join(KINDS)}")
        part, parts = self.part
        if not 1 <= part <= parts:
            raise SettingsError(f"shard {self.shard!r}: write part/parts, such as 1/3")
        for name in (
            "silence_max_s", "reply_timeout_s", "rest_timeout_s", "flush_timeout_s", "relist_seconds",
            "expired_grace_s",
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} {getattr(self, name)}: use a number of seconds above 0")
        for name in ("calls_per_s", "rest_per_s"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} {getattr(self, name)}: use a number of calls a second above 0")
        try:
            re.compile(self.name_pattern)
        except re.error as error:
            raise SettingsError(f"name_pattern {self.name_pattern!r}: {error}") from None

    @property
    def part(self) -> tuple[int, int]:
        """`shard` as numbers: which part of how many; (1, 1) where everything is recorded."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.shard or "1/1")
        return (int(found[1]), int(found[2])) if found else (0, 0)


def check_address(name: str, url: str, *schemes: str) -> None:
    """Raises SettingsError unless `url` is an address of one of `schemes` with a host in it."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not parts.fragment
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{name} {url!r}: give an address that begins with {'://, '.join(schemes)}://")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{name} {value}: use a number from {low} to {high}")
