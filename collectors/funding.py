"""The funding of every hour, asked for by REST when the hour is over: no channel tells it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from collectors.deribit.funding_answers import HISTORY, newest_hour_ms
from collectors.deribit.rest import RestClient
from collectors.sink import Tape
from lake.errors import LakeError

INTERVAL_S: Final = 1.0
"""How often it is looked whether an hour is over."""
HOUR_MS: Final = 3_600_000
PUBLISHED_MS: Final = 20_000
"""So long after the hour it is asked for."""
RETRY_MS: Final = 30_000
"""So long after a try that did not bring the hour comes the next; twice as long after each further one."""
LOOK_BACK_MS: Final = 24 * HOUR_MS
"""The first question reaches back so far: what a collector missed while it was away. Older hours are in the
venue's history for good, and for `lake backfill`."""
CLOCK_SLACK_MS: Final = 600_000
"""Our clock may be behind the venue's by so much; what it tells of later hours is no hour's funding."""
NS_PER_MS: Final = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    """How far the funding of one perpetual is known, and when to ask next; times in ms since the epoch."""

    newest_ms: int
    due_ms: int = 0
    wait_ms: int = RETRY_MS


class FundingHours:
    """`run` until cancelled: asks for what `perpetuals` names, and records the answers.

    An hour that the venue has not published yet, or an error, leads to another try, and each question begins where
    the last answer ended: so no hour is missed, and hardly one recorded twice.
    """

    def __init__(
        self,
        perpetuals: Callable[[], Collection[str]],
        tape: Tape,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._perpetuals = perpetuals
        self._tape = tape
        self._clock_ns = clock_ns
        self._asked: dict[str, _Asked] = {}

    async def run(self, rest: RestClient) -> None:
        """Ask whenever it is time."""
        while True:
            await self.ask_due(rest)
            await asyncio.sleep(INTERVAL_S)

    async def ask_due(self, rest: RestClient) -> None:
        """Ask for every perpetual of which an hour is due now."""
        names = self._perpetuals()
        self._asked = {name: asked for name, asked in self._asked.items() if name in names}
        failures: dict[str, LakeError] = {}
        for name in names:
            now_ms = self._now_ms()
            asked = self._asked.setdefault(name, _Asked(now_ms - LOOK_BACK_MS))
            if now_ms < asked.due_ms:
                continue
            try:
                await self._ask(rest, name, asked)
            except LakeError as error:
                failures[name] = error
            self._plan(asked)
        if failures:
            first, why = next(iter(failures.items()))
            _log.warning(
                "the funding of %d perpetuals could not be had, first %s: %s", len(failures), first, why
            )

    async def _ask(self, rest: RestClient, name: str, asked: _Asked) -> None:
        window = {"start_timestamp": asked.newest_ms, "end_timestamp": self._now_ms()}
        reply = await rest.get(HISTORY, {"instrument_name": name, **window})
        self._tape.response(reply.as_record())
        asked.newest_ms = max(asked.newest_ms, newest_hour_ms(reply.result, self._now_ms() + CLOCK_SLACK_MS))

    def _plan(self, asked: _Asked) -> None:
        """When to ask next: after the next hour, or soon again where the last one is still lacking."""
        now_ms = self._now_ms()
        hour_ms = now_ms // HOUR_MS * HOUR_MS
        next_ms = hour_ms + HOUR_MS + PUBLISHED_MS
        if asked.newest_ms >= hour_ms or now_ms + asked.wait_ms >= next_ms:
            asked.due_ms, asked.wait_ms = next_ms, RETRY_MS
        else:
            asked.due_ms = now_ms + asked.wait_ms
            asked.wait_ms *= 2

    def _now_ms(self) -> int:
        return self._clock_ns() // NS_PER_MS
