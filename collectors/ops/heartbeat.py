"""Signs of life to a monitor elsewhere, in the manner of healthchecks.io: GET the address, `/fail` for a failure.

A sign goes out only when data has become durable since the last: a collector that runs but records nothing
falls silent, and the monitor raises the alarm. Nothing that goes wrong here disturbs recording.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp

from collectors.ops.settings import HeartbeatSettings

_log = logging.getLogger(__name__)


class Heartbeat:
    """Decides when a sign of life is due, and sends it in a task of its own."""

    def __init__(self, settings: HeartbeatSettings, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock_s = clock_s
        self._due_s = clock_s()
        self._durable_records = 0
        self._sending: asyncio.Task[None] | None = None

    def tell(self, durable_records: int) -> None:
        """Send a sign of life if one is due and there is life; returns at once. In an event loop."""
        if self._settings.url is None or self._clock_s() < self._due_s:
            return
        if durable_records <= self._durable_records or (self._sending and not self._sending.done()):
            return
        self._durable_records = durable_records
        self._due_s = self._clock_s() + self._settings.interval_seconds
        self._sending = asyncio.create_task(send(self._settings))

    async def close(self) -> None:
        """Give up what is still under way."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)


async def send(settings: HeartbeatSettings, *, failed: bool = False) -> None:
    """One sign of life, or of failure; what goes wrong is logged, without the address, which is a secret."""
    if settings.url is None:
        return
    url = urlsplit(settings.url)
    if failed:
        url = url._replace(path=url.path.rstrip("/") + "/fail")
    try:
        timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url.geturl()) as reply:
            if reply.status >= 400:
                _log.warning("the heartbeat's monitor at %s answered %d", url.hostname, reply.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # Only the kind of error: its words may hold the address.
        _log.warning("the heartbeat did not reach %s: %s", url.hostname, type(error).__name__)
