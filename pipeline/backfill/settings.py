"""What can be set about backfilling."""

from __future__ import annotations

from dataclasses import dataclass, field

from collectors.backoff import BackoffSettings
from collectors.settings import CollectorSettings, check_address
from collectors.transport import TransportSettings
from lake.errors import SettingsError

CONCURRENCY_MAX = 24
"""The venue allows 32 connections per address, and a recorder beside this needs some."""


@dataclass(frozen=True, slots=True)
class BackfillSettings:
    """Where history is asked for, and how fast."""

    rest_url: str = "https://www.deribit.com/api/v2"
    """REST address of the venue; methods are appended as /public/…"""
    history_url: str = "https://history.deribit.com/api/v2"
    """Address of the venue's host of old trades and expired instruments."""
    rest_per_s: float = 5.0
    """Requests per second to the venue. Its limit for callers without a key is not published; where this is too many,
    the venue's refusals slow it down."""
    history_per_s: float = 5.0
    """Requests per second to the history host."""
    burst: int = 5
    """Requests that may go out at once, for each host."""
    concurrency: int = 8
    """Requests under way at once, over both hosts; at most 24. The venue bans who goes on after refusals, so it should
    be less than what it forgives."""
    attempts: int = 6
    """Attempts for one request before its transient error is told: the first, and one after each wait."""
    timeout_s: float = 60.0
    """Longest time for one request."""
    backoff: BackoffSettings = field(
        default_factory=lambda: BackoffSettings(base_s=1.0, cap_s=16.0, factor=2.0)
    )
    """Waits between attempts: at most 1, 2, 4, 8, 16 seconds, each drawn from zero up."""
    quiet_s: float = 10.0
    """After a host found it too much, nothing is asked of it for so many seconds, and half as much from then on."""
    listing_minutes: float = 60.0
    """A list of instruments that is on record is good for so long."""
    refusal_days: float = 7.0
    """What the venue refused for good is not asked again for so many days."""
    currencies: tuple[str, ...] = ("BTC", "ETH", "USDC", "USDT", "EURR")
    """Currencies, as the venue groups instruments, that are backfilled where none is named."""
    trades_per_page: int = 10_000
    """Trades in one answer of the history host, at most 10,000."""
    recent_per_page: int = 1_000
    """Trades in one answer of the venue itself, at most 1,000."""
    segment_mb: float = 16.0
    """Answers are brought into the tables in runs of so many million bytes (of trades four times as many, because each
    run adds a file to every day it touches); bounds memory, to about 15 times that beside what the process needs."""

    def __post_init__(self) -> None:
        check_address("rest_url", self.rest_url, "https", "http")
        check_address("history_url", self.history_url, "https", "http")
        if not 1 <= self.concurrency <= CONCURRENCY_MAX:
            raise SettingsError(f"concurrency {self.concurrency}: use a number from 1 to {CONCURRENCY_MAX}")
        for name, highest in (("trades_per_page", 10_000), ("recent_per_page", 1_000)):
            if not 10 <= getattr(self, name) <= highest:
                raise SettingsError(f"{name} {getattr(self, name)}: use a number from 10 to {highest}")
        for name in ("rest_per_s", "history_per_s", "timeout_s", "listing_minutes", "segment_mb"):
            if getattr(self, name) <= 0:
                raise SettingsError(f"{name} {getattr(self, name)}: use a number above 0")
        if self.burst < 1 or self.attempts < 1 or self.refusal_days < 0 or self.quiet_s < 0:
            raise SettingsError("burst and attempts must be at least 1, refusal_days and quiet_s at least 0")

    def host(self, url: str, per_s: float, link: TransportSettings) -> CollectorSettings:
        """The same as settings of a REST client for the host at `url`, reached by `link`."""
        return CollectorSettings(
            rest_url=url,
            rest_per_s=per_s,
            rest_burst=self.burst,
            rest_timeout_s=self.timeout_s,
            rest_attempts=self.attempts,
            backoff=self.backoff,
            link=link,
        )
