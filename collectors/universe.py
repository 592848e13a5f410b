"""Which instruments exist and are to be recorded now: a state machine without input or output.

Three sources feed it. A listing is the truth, but old by the time it is read, and an hour apart from the next.
Announcements and changes of state come at once, but one can be lost with a connection, and the venue may not
offer them. The clock tells of expiries that nobody announces. Where they disagree:

- An instrument is taken off only for a reason: its expiry, a word of the venue, or its absence from two listings
  in a row. It is then recorded for a grace period more.
- What a listing calls active after its expiry and grace goes on: then it is our clock that is wrong.
- A listing says nothing about what was heard after it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from collectors.deribit.lifecycle import ENDING, LIVING, ROUTINE
from collectors.deribit.selection import Listing, choose, currency_of, in_part, matches, matches_name
from collectors.settings import CollectorSettings

CONFIRM_MS: Final = 60_000
"""After a listing that lacks living instruments or could not be had, another one is due so soon."""
UNKNOWN_MS: Final = 500
"""A name nobody has announced is looked up in a listing so soon: its announcement may still come."""
SPACING_MS: Final = 2_000
"""The least time between two listings; looking up a name that stays unknown waits twice as long each time."""
UNKNOWN_TRIES: Final = 6


@dataclass(frozen=True, slots=True)
class Changes:
    """Instruments to begin with, most important first, and instruments to leave."""

    subscribe: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.subscribe or self.drop)


@dataclass(slots=True)
class _Entry:
    """An instrument; times in ms since the epoch."""

    listing: Listing
    heard_ms: int
    """When we last heard of it other than by a listing."""
    drop_ms: int | None
    """When to stop recording it; None: not foreseen."""
    absences: int = 0


class Universe:
    """The instruments of a venue as one collector is to record them. All times in ms since the epoch, UTC.

    Feed it by `relist`, `created`, `state` and `rank`; ask `changes` what to do, and look at `relist_due_ms` and
    `rank_due_ms` for when it needs to be fed.
    """

    def __init__(self, settings: CollectorSettings, now_ms: int) -> None:
        self._settings = settings
        self._grace_ms = round(settings.expired_grace_s * 1000)
        self._relist_ms = round(settings.relist_seconds * 1000)
        self._entries: dict[str, _Entry] = {}
        self._unknown: dict[str, int] = {}
        self._open_interest: Mapping[str, float] = {}
        self._relisted_ms = now_ms - SPACING_MS
        self._changed = False
        self._next_drop_ms: int | None = None
        self.recorded: set[str] = set()
        """What the changes told so far amount to."""
        self.relist_due_ms = now_ms
        self.rank_due_ms = now_ms

    # -- feeding

    def relist(self, listings: Iterable[Listing], requested_ms: int, now_ms: int) -> None:
        """Take a complete listing of what the settings' currencies have, asked for at `requested_ms`.

        An empty listing is taken for a failure of the venue.
        """
        listed = {listing.instrument_name: listing for listing in listings}
        if not listed:
            return self.relist_failed(now_ms)
        for name, listing in listed.items():
            self._see(name, listing, requested_ms, now_ms)
        due_ms = now_ms + self._relist_ms
        for name in [name for name in self._entries if name not in listed]:
            if self._is_in_doubt(name, requested_ms, now_ms):
                due_ms = now_ms + min(CONFIRM_MS, self._relist_ms)
        self._changed = True
        self._relisted_ms = now_ms
        self.relist_due_ms = due_ms
        self._look_up_unknown(now_ms)
        return None

    def relist_failed(self, now_ms: int) -> None:
        """No listing could be had; another try is due a little later."""
        self._relisted_ms = now_ms
        self.relist_due_ms = now_ms + min(CONFIRM_MS, self._relist_ms)

    def relist_soon(self, now_ms: int) -> None:
        """Something may have been missed: have a listing as soon as the venue may be asked for one."""
        self.relist_due_ms = min(self.relist_due_ms, max(now_ms + UNKNOWN_MS, self._relisted_ms + SPACING_MS))

    def created(self, listing: Listing, now_ms: int) -> None:
        """Take an announcement of a new instrument."""
        self._unknown.pop(listing.instrument_name, None)
        drop_ms = self._drop_by_clock(listing, now_ms) if listing.is_active else now_ms
        self._entries[listing.instrument_name] = _Entry(_active(listing), now_ms, drop_ms)
        self._changed = True

    def state(self, name: str, word: str, now_ms: int) -> None:
        """Take the news that instrument `name` is now in state `word`."""
        entry = self._entries.get(name)
        if entry is None:
            if word not in ENDING and matches_name(name, self._settings):
                self._unknown.setdefault(name, 0)
                self.relist_soon(now_ms)
            return
        entry.heard_ms = now_ms
        if word in ENDING:
            self._end(entry, now_ms)
        elif word in LIVING:
            expires_ms = self._drop_by_clock(entry.listing, now_ms)
            if expires_ms is None and entry.drop_ms is not None and _expires(entry.listing):
                self.relist_soon(now_ms)  # alive after its expiry: let the listing decide
            elif entry.drop_ms != expires_ms:
                entry.drop_ms = expires_ms
                self._changed = True
        elif word not in ROUTINE:
            self.relist_soon(now_ms)

    def rank(self, open_interest: Mapping[str, float], now_ms: int) -> None:
        """Take the open interest of all instruments, in USD by name."""
        self._open_interest = dict(open_interest)
        self._changed = True
        self.rank_due_ms = now_ms + self._relist_ms

    def rank_failed(self, now_ms: int) -> None:
        """No open interest could be had: the last ranking stands for now."""
        self.rank_due_ms = now_ms + min(CONFIRM_MS, self._relist_ms)

    # -- asking

    @property
    def currencies(self) -> list[str]:
        """The currencies whose instruments need to be ranked."""
        entries = self._entries.values()
        chosen = (entry.listing for entry in entries if matches(entry.listing, self._settings))
        return sorted({currency_of(listing.instrument_name) for listing in chosen})

    def changes(self, now_ms: int) -> Changes:
        """What to do to be recording what ought to be recorded now; taken as done from here on."""
        if not self._changed and (self._next_drop_ms is None or now_ms < self._next_drop_ms):
            return Changes()
        self._changed = False
        living = [e for e in self._entries.values() if e.drop_ms is None or e.drop_ms > now_ms]
        self._next_drop_ms = min((e.drop_ms for e in living if e.drop_ms is not None), default=None)
        chosen = choose((e.listing for e in living), self._settings, self._open_interest)
        names = [row.instrument_name for row in chosen if in_part(row.instrument_name, self._settings)]
        subscribe = tuple(name for name in names if name not in self.recorded)
        drop = tuple(sorted(self.recorded.difference(names)))
        self.recorded = set(names)
        return Changes(subscribe, drop)

    # -- deciding

    def _see(self, name: str, listing: Listing, requested_ms: int, now_ms: int) -> None:
        """An instrument is listed."""
        self._unknown.pop(name, None)
        entry = self._entries.get(name)
        if entry is None:
            drop_ms = self._drop_by_clock(listing, requested_ms) if listing.is_active else now_ms
            self._entries[name] = _Entry(_active(listing), requested_ms, drop_ms)
            return
        entry.listing = _active(listing)
        entry.absences = 0
        if entry.heard_ms <= requested_ms:
            if listing.is_active:
                entry.drop_ms = self._drop_by_clock(listing, requested_ms)
            else:
                self._end(entry, now_ms)

    def _is_in_doubt(self, name: str, requested_ms: int, now_ms: int) -> bool:
        """An instrument is not listed: end or forget it, or wait for a second listing without it."""
        entry = self._entries[name]
        if entry.heard_ms > requested_ms:
            return False
        if entry.drop_ms is not None and entry.drop_ms <= now_ms:
            del self._entries[name]
            return False
        entry.absences += 1
        if entry.absences > 1 or (_expires(entry.listing) and entry.listing.expiration_timestamp <= now_ms):
            self._end(entry, now_ms)
            return False
        return True

    def _end(self, entry: _Entry, now_ms: int) -> None:
        end_ms = now_ms + self._grace_ms
        if entry.drop_ms is None or entry.drop_ms > end_ms:
            entry.drop_ms = end_ms
            self._changed = True

    def _drop_by_clock(self, listing: Listing, alive_ms: int) -> int | None:
        """When the clock ends an instrument that lived at `alive_ms`; None: it has outlived that already."""
        end_ms = listing.expiration_timestamp + self._grace_ms
        return end_ms if _expires(listing) and end_ms > alive_ms else None

    def _look_up_unknown(self, now_ms: int) -> None:
        """Names that even the listing does not know: try again, later each time, then leave it at that."""
        for name, tries in list(self._unknown.items()):
            if tries + 1 >= UNKNOWN_TRIES:
                del self._unknown[name]
                continue
            self._unknown[name] = tries + 1
            self.relist_due_ms = min(self.relist_due_ms, now_ms + (SPACING_MS << tries))


def _expires(listing: Listing) -> bool:
    """Whether an expiry was sent; that of perpetuals, in the year 3000, is as good as any."""
    return listing.expiration_timestamp > 0


def _active(listing: Listing) -> Listing:
    """Activity is told by `drop_ms`; the listing is kept for its other terms."""
    return listing if listing.is_active else msgspec.structs.replace(listing, is_active=True)
