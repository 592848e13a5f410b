"""Keeps what is recorded in step with what the venue lists: asks, listens, and applies the answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from collectors.deribit.lifecycle import LIVING, StateChange, decode_lifecycle
from collectors.deribit.rest import RestClient
from collectors.deribit.selection import (
    ANY,
    Listing,
    choose,
    decode_listings,
    decode_open_interest,
    index_channels,
)
from collectors.fleet import Fleet
from collectors.settings import CollectorSettings
from collectors.sink import Tape
from collectors.universe import Universe
from lake.errors import LakeError, SchemaDriftError, SettingsError

INTERVAL_S: Final = 0.2
"""How often it is looked whether there is something to do. Listings come in bursts, and one call takes many."""
NS_PER_MS: Final = 1_000_000

_log = logging.getLogger(__name__)


class Upkeep:
    """`begin`, then `run` until cancelled; `hear` every lifecycle frame meanwhile.

    REST answers are recorded. Once recording, no trouble with them ends it: it is logged, and tried again.
    """

    def __init__(
        self,
        settings: CollectorSettings,
        fleet: Fleet,
        tape: Tape,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings = settings
        self._fleet = fleet
        self._tape = tape
        self._clock_ns = clock_ns
        self._heard_connects = 0
        self._opened: set[str] = set()
        self._was_listed = False
        self._fresh: list[str] = []
        self.universe = Universe(settings, self._now_ms())
        self.index_channels: list[str] = []
        """Channels of the indices of all instruments heard of so far."""

    async def begin(self, rest: RestClient) -> tuple[str, ...]:
        """List (and rank) the instruments; the names to begin with.

        Raises:
            SettingsError: the settings select nothing.
            VenueRefusedError, VenueUnavailableError, SchemaDriftError: no instruments could be listed.
        """
        listings = await self._list(rest)
        if not choose(listings, self._settings, {}):
            raise SettingsError(
                "no listed instrument matches currencies, kinds and name_pattern; widen one of these"
            )
        self._fresh.clear()  # these are dealt with the names
        if self._settings.top_by_open_interest is not None:
            await self._rank(rest)
        return self.universe.changes(self._now_ms()).subscribe

    async def run(self, rest: RestClient) -> None:
        """Keep in step until cancelled. Asking the venue by REST may take long; applying goes on beside it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_listed(rest))
            group.create_task(self._keep_applied())

    def hear(self, frame: bytes) -> None:
        """Take a lifecycle notification; one that cannot be read leads to a listing."""
        now_ms = self._now_ms()
        try:
            news = decode_lifecycle(frame)
        except SchemaDriftError as error:
            _log.warning("%s", error)
            self.universe.relist_soon(now_ms)
            return
        if isinstance(news, Listing):
            self.universe.created(news, now_ms)
            self._note_indices([news])
        elif isinstance(news, StateChange):
            self.universe.state(news.instrument_name, news.state, now_ms)
            if news.state in LIVING:
                self._opened.add(news.instrument_name)

    def _now_ms(self) -> int:
        return self._clock_ns() // NS_PER_MS

    async def _keep_applied(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            changes = self.universe.changes(self._now_ms())
            if changes:
                _log.info("%d instruments more, %d less", len(changes.subscribe), len(changes.drop))
                await self._fleet.apply(changes)
            if self._fresh:
                fresh, self._fresh = self._fresh, []
                await self._fleet.share(fresh)
            if self._opened:
                opened, self._opened = self._opened, set()
                await self._fleet.ask_again(opened)
            if self._was_listed:
                self._was_listed = False
                await self._fleet.ask_again()

    async def _keep_listed(self, rest: RestClient) -> None:
        ranked = self._settings.top_by_open_interest is not None
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._notice_reconnect()
            if self._now_ms() >= self.universe.relist_due_ms:
                try:
                    await self._list(rest)
                    self._was_listed = True
                except LakeError as error:
                    _log.warning("the instruments could not be listed: %s", error)
                    self.universe.relist_failed(self._now_ms())
            if ranked and self._now_ms() >= self.universe.rank_due_ms:
                try:
                    await self._rank(rest)
                except LakeError as error:
                    _log.warning("the instruments could not be ranked: %s", error)
                    self.universe.rank_failed(self._now_ms())

    def _notice_reconnect(self) -> None:
        """What was announced while the first connection was not subscribed is found by a listing."""
        session = self._fleet.sessions[0]
        if session.established.is_set() and session.connects != self._heard_connects:
            self._heard_connects = session.connects
            self.universe.relist_soon(self._now_ms())

    async def _list(self, rest: RestClient) -> list[Listing]:
        requested_ms = self._now_ms()
        listings: list[Listing] = []
        for currency in self._settings.currencies or (ANY,):
            reply = await rest.get("get_instruments", {"currency": currency, "expired": "false"})
            self._tape.response(reply.as_record())
            listings += decode_listings(reply.result)
        self.universe.relist(listings, requested_ms, self._now_ms())
        self._note_indices(listings)
        return listings

    def _note_indices(self, listings: Iterable[Listing]) -> None:
        """Remember the channels of indices that were not known before."""
        known = set(self.index_channels)
        fresh = [c for c in index_channels(listings, self._settings) if c not in known]
        self.index_channels += fresh
        self._fresh += fresh

    async def _rank(self, rest: RestClient) -> None:
        open_interest: dict[str, float] = {}
        for currency in self.universe.currencies:
            reply = await rest.get("get_book_summary_by_currency", {"currency": currency})
            self._tape.response(reply.as_record())
            open_interest |= decode_open_interest(reply.result)
        self.universe.rank(open_interest, self._now_ms())
