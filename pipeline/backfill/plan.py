"""What to ask for: the questions whose answers the lake lacks, and what that will take."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lake.errors import InputError
from pipeline.backfill.engine import Unit
from pipeline.backfill.ledger import Ledger, Listed, Recorded, refused
from pipeline.backfill.settings import BackfillSettings

KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo")
DAY_MS: Final = 86_400_000
PUBLISHING_MS: Final = 30_000
"""What ended within this time may not have been published yet, and is left to a later run."""
URGENCIES: Final = (("critical", 7), ("high", 30), ("medium", 90))
"""Options by days left to their expiry; what is left longer, or has expired, is `low`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user wants: which instruments, which time (UTC, end excluded), bars of which length."""

    instruments: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    start: dt.datetime | None = None
    end: dt.datetime | None = None
    resolution: str | None = None
    strikes: tuple[float, float] | None = None
    expired: bool = True
    reread: dt.date | None = None

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise InputError(f"--kind {kind}: use {', '.join(KINDS)}")
        for name in self.instruments:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
                raise InputError(f"--instrument {name!r} is no instrument's name, such as BTC-PERPETUAL")
        if self.start is not None and self.end is not None and self.start >= self.end:
            last = self.end - dt.timedelta(days=1)
            raise InputError(f"--from {self.start:%Y-%m-%d} is after --to {last:%Y-%m-%d}")
        if self.strikes is not None and self.strikes[0] > self.strikes[1]:
            raise InputError("--strikes LOW-HIGH: the first must not be above the second")


@dataclass(slots=True)
class Plan:
    """The units to work through, in order, and what is left out."""

    units: list[Unit] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Instruments, currencies and indices that are not asked for, each with the venue's refusal."""

    def may_ask(self, subject: str, rows: Iterable[Recorded], planning: Planning) -> bool:
        """Whether the venue has not refused `subject` lately, by the answers on record; a refusal is noted."""
        reason = refused(rows, planning.refused_since_us)
        if reason is not None:
            self.skipped[subject] = reason
        return reason is None

    def as_rows(self, settings: BackfillSettings) -> list[dict[str, Any]]:
        """Units and requests by host, and the seconds they take at the settings' rates."""
        rates = {"venue": settings.rest_per_s, "history": settings.history_per_s}
        found = []
        for host, per_s in rates.items():
            units = [unit for unit in self.units if unit.host == host]
            if units:
                requests = sum(unit.requests for unit in units)
                found.append(
                    {
                        "host": host,
                        "units": len(units),
                        "requests at least": requests,
                        "per second": per_s,
                        "seconds": round(requests / per_s, 1),
                        "first": f"{units[0].subject} {units[0].what}",
                        "last": f"{units[-1].subject} {units[-1].what}",
                    }
                )
        return found


@dataclass(frozen=True, slots=True)
class Planning:
    """What all planners get: the lake, the choice, the settings, and the moment the run began (ms)."""

    ledger: Ledger
    choice: Choice
    settings: BackfillSettings
    now_ms: int

    @property
    def start_ms(self) -> int:
        """The first moment wanted; 0 where the user names none."""
        return 0 if self.choice.start is None else int(self.choice.start.timestamp() * 1000)

    @property
    def end_ms(self) -> int:
        """The moment after the last wanted, at most now."""
        if self.choice.end is None:
            return self.now_ms
        return min(self.now_ms, int(self.choice.end.timestamp() * 1000))

    @property
    def published_ms(self) -> int:
        """The moment before which bars and hours that have ended can be had; as `end_ms`."""
        return min(self.end_ms, self.now_ms - PUBLISHING_MS)

    @property
    def refused_since_us(self) -> int:
        """Refusals before this are forgotten."""
        return (self.now_ms - int(self.settings.refusal_days * DAY_MS)) * 1000

    @property
    def currencies(self) -> tuple[str, ...]:
        """Currencies to look at."""
        return self.choice.currencies or self.settings.currencies

    def chosen(self, kinds: Sequence[str], only: Callable[[Listed], bool] = lambda _: True) -> list[Listed]:
        """Instruments that the user wants, most urgent first; of `kinds` where the user names none.

        Raises:
            InputError: a name that was asked for is in no list of the venue.
        """
        wanted = set(self.choice.instruments)
        listed = self.ledger.instruments
        unknown = wanted - {item.name for item in listed}
        if unknown:
            raise InputError(
                f"the venue lists no instrument {sorted(unknown)[0]}; names are like BTC-PERPETUAL"
            )
        found = [
            item
            for item in listed
            if (item.name in wanted if wanted else self._fits(item, kinds)) and only(item)
        ]
        return sorted(found, key=self._urgency)

    def _fits(self, item: Listed, kinds: Sequence[str]) -> bool:
        choice = self.choice
        if item.kind not in (choice.kinds or kinds) or item.currency not in self.currencies:
            return False
        if choice.strikes is not None and item.strike is not None:
            low, high = choice.strikes
            if not low <= item.strike <= high:
                return False
        if not choice.expired and item.expires_ms <= self.now_ms:
            return False
        return item.expires_ms > self.start_ms and item.created_ms < self.end_ms

    def _urgency(self, item: Listed) -> tuple[int, int, int, str]:
        """Perpetuals, futures, then options; the living before the dead, and each by nearness of its expiry."""
        kind = 0 if item.perpetual else 1 + KINDS.index(item.kind) if item.kind in KINDS else len(KINDS) + 1
        dead = item.expires_ms <= self.now_ms
        return kind, int(dead), abs(item.expires_ms - self.now_ms), item.name


def midnight(day: dt.date) -> dt.datetime:
    """The beginning of a UTC day."""
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def strike_range(text: str) -> tuple[float, float]:
    """LOW-HIGH as two numbers; InputError where it is not so written."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)", text.strip())
    if found is None:
        raise InputError(f"--strikes {text!r} is no range; write it like 60000-90000")
    return float(found[1]), float(found[2])


def urgency(item: Listed, now_ms: int) -> str:
    """How soon what the venue knows of an instrument becomes harder to get."""
    left_days = (item.expires_ms - now_ms) / DAY_MS
    if left_days <= 0:
        return "low"
    return next((word for word, days in URGENCIES if left_days < days), "low")
