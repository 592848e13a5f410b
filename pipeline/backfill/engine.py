"""Asks many questions at a bounded rate, keeps every answer, and tells how far it is.

A unit is the smallest thing that is asked for by itself. Its transient errors are retried by the client of its host;
what stays unavailable after that is told at the end, and is lacking again in the next plan. What the venue refuses
for good is an answer too: it goes on record and is not asked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from collectors.deribit.rest import RestClient, RestReply
from collectors.pace import AdaptiveBucket
from collectors.transport import TransportSettings
from lake.errors import TransientError
from pipeline.backfill.recording import Recording
from pipeline.backfill.settings import BackfillSettings

Host = Literal["venue", "history"]
FAILURES_MAX: Final = 3
"""Units that fail one after the other, without a success between, before the run gives up."""


class Ask(Protocol):
    """Asks one question of a host; the answer is on record when it comes back."""

    async def __call__(self, host: Host, method: str, params: Mapping[str, str | int]) -> RestReply:
        """The answer, which may be a refusal.

        Raises:
            VenueUnavailableError: every attempt failed.
        """


@dataclass(frozen=True, slots=True)
class Unit:
    """Something to ask for: `work` asks; `requests` is how many questions that takes, as far as is known."""

    dataset: str
    subject: str
    what: str
    work: Callable[[Ask], Awaitable[None]]
    host: Host = "venue"
    requests: int = 1


def single(host: Host, method: str, params: Mapping[str, str | int]) -> Callable[[Ask], Awaitable[None]]:
    """Work that is one question."""

    async def work(ask: Ask) -> None:
        await ask(host, method, params)

    return work


@dataclass(slots=True)
class Progress:
    """How far a run is."""

    units: int = 0
    done: int = 0
    requests: int = 0
    rows: int = 0
    began_s: float = field(default_factory=time.monotonic)
    refusals: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began_s


class Engine:
    """Runs units against both hosts of the venue; an async context manager."""

    def __init__(
        self,
        settings: BackfillSettings,
        recording: Recording,
        progress: Progress,
        on_progress: Callable[[Progress], None] = lambda _: None,
        link: TransportSettings | None = None,
    ) -> None:
        self._settings = settings
        self._link = link or TransportSettings()
        self._recording = recording
        self._tell = on_progress
        self.progress = progress
        self._held = AsyncExitStack()
        self._clients: dict[Host, RestClient] = {}
        self._in_a_row = 0
        self._requests_before = progress.requests

    async def __aenter__(self) -> Engine:
        chosen = self._settings
        hosts: tuple[tuple[Host, str, float], ...] = (
            ("venue", chosen.rest_url, chosen.rest_per_s),
            ("history", chosen.history_url, chosen.history_per_s),
        )
        for host, url, per_s in hosts:
            client = RestClient(
                chosen.host(url, per_s, self._link),
                pace=AdaptiveBucket(per_s, chosen.burst, chosen.quiet_s),
                connections=chosen.concurrency,
            )
            self._clients[host] = await self._held.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._held.aclose()

    async def run(self, units: Sequence[Unit]) -> None:
        """Work through `units`, several at a time and in their order.

        Raises:
            VenueRefusedError: a host does not know a method: its address is wrong.
            VenueUnavailableError: several units in a row failed; what was answered before is kept.
        """
        self.progress.units += len(units)
        todo = iter(units)
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.concurrency, len(units))):
                group.create_task(self._work(todo))

    async def _work(self, todo: Iterable[Unit]) -> None:
        for unit in todo:
            try:
                await unit.work(self._ask)
                self._in_a_row = 0
            except TransientError as error:
                self.progress.failures[f"{unit.dataset} {unit.subject} {unit.what}"] = str(error)
                self._in_a_row += 1
                if self._in_a_row >= FAILURES_MAX:
                    raise
            self.progress.done += 1
            self._told()

    async def _ask(self, host: Host, method: str, params: Mapping[str, str | int]) -> RestReply:
        await self._recording.room()
        reply = await self._clients[host].ask(method, params)
        self._recording.keep(reply.as_record())
        if reply.refusal is not None:
            subject = next(
                (str(params[n]) for n in ("instrument_name", "index_name", "currency") if n in params), ""
            )
            self.progress.refusals[subject] = str(reply.refusal)
        self._told()
        return reply

    def _told(self) -> None:
        sent = sum(client.requests for client in self._clients.values())
        self.progress.requests = self._requests_before + sent
        self._tell(self.progress)
