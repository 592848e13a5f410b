"""Instants as whole µs since the epoch, which arrays of the lake count in, and as datetimes in UTC."""

from __future__ import annotations

import datetime as dt
from typing import Final

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND: Final = dt.timedelta(microseconds=1)
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
CENTURY_SECONDS: Final = 36_525 * 86_400.0


def to_us(instant: dt.datetime) -> int:
    """µs since the epoch, exactly."""
    return (instant - EPOCH) // MICROSECOND


def from_us(us: int) -> dt.datetime:
    """The instant `us` µs after the epoch, UTC; the inverse of `to_us`."""
    return EPOCH + us * MICROSECOND


def midnight_us(day: dt.date) -> int:
    """The start of a UTC day, µs since the epoch."""
    return to_us(dt.datetime.combine(day, dt.time(), dt.UTC))
