"""From an answer to rows: into a spool stream of its own, and by ingest into the tables, exactly once.

The stream is sealed in segments of bounded size; ingest takes them one by one, beside the asking. Whatever happens
to the process, an answer that was durable is not asked again, and its rows are in the tables once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import Counter
from types import TracebackType
from typing import Final, Self

from lake.errors import BusyError, TransientError
from lake.events import Response, encode_response
from lake.reach import tables_of
from lake.root import Root
from lake.spool import RecordKind, SpoolSettings, SpoolWriter
from pipeline.ingest import IngestSettings, ingest

STREAM: Final = "deribit-backfill"
COMMIT_MS: Final = 100.0
COMMIT_BYTES: Final = 4 << 20
PENDING_BYTES_MAX: Final = 64 << 20
"""Answers not durable yet; asking waits beyond that, so that the spool never has to drop one."""
BEHIND_MAX: Final = 8
"""Sealed segments that ingest has not taken yet; asking waits beyond that."""
RETRY_S: Final = 1.0
PATIENCE_S: Final = 120.0
"""How long another process may be ingesting the stream."""
_ONE_SEGMENT: Final = IngestSettings(records_per_commit=1)

log = logging.getLogger(__name__)


def bring_in(root: Root, spool: SpoolSettings, patience_s: float = PATIENCE_S) -> Counter[str]:
    """Ingest what the stream holds, segment by segment; what was counted.

    Raises:
        BusyError: another process is at it, for instance the daemon's ingester, for longer than the patience.
    """
    deadline_s = time.monotonic() + patience_s
    counts: Counter[str] = Counter()
    while True:
        report = ingest(root, _ONE_SEGMENT, spool, streams=[STREAM])
        counts += report.counts
        if not report.busy_streams:
            return counts
        if time.monotonic() > deadline_s:
            raise BusyError(
                f"stream {STREAM} is being ingested by another process; try again when it is done"
            )
        time.sleep(RETRY_S)


class Recording:
    """Keeps answers while the context lasts; when it ends, all of them are in the tables.

    Raises:
        BusyError: another backfill is running on this lake.
    """

    def __init__(self, root: Root, spool: SpoolSettings, segment_bytes: int) -> None:
        self._root = root
        self._spool = dataclasses.replace(
            spool,
            commit_interval_ms=COMMIT_MS,
            commit_bytes=COMMIT_BYTES,
            pending_bytes_max=4 * PENDING_BYTES_MAX,
        )
        self._segment_bytes = segment_bytes
        self._bytes = 0
        self._waiting = 0
        self._due = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._ending = False
        self.counts: Counter[str] = Counter()
        """What ingest has counted so far."""

    async def __aenter__(self) -> Self:
        quarantine = self._root.quarantine / "spool"
        self._writer = await asyncio.to_thread(
            SpoolWriter,
            self._root.stream(STREAM),
            self._spool,
            quarantine=quarantine,
            ask_tables=tables_of(self._root),
        )
        self._ingesting = asyncio.create_task(self._ingest_on())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not cancelled: a thread that ingests goes on regardless, and would be in the way of the last round.
        self._ending = True
        self._due.set()
        try:
            await self._ingesting
        finally:
            await asyncio.to_thread(self._writer.close)
        await self._bring_in()

    def keep(self, answer: Response) -> None:
        """Record an answer; returns at once."""
        payload = encode_response(answer)
        self._writer.append(payload, kind=RecordKind.RESPONSE)
        self._bytes += len(payload)
        if self._bytes >= self._segment_bytes:
            self._writer.rotate()
            self._bytes = 0
            self._waiting += 1
            self._due.set()
            if self._waiting > BEHIND_MAX:
                self._room.clear()

    async def room(self) -> None:
        """Return when another answer may be asked for.

        Raises:
            LakeError: answers can no longer be brought into the tables.
        """
        await self._room.wait()
        if self._ingesting.done():
            self._ingesting.result()
        while self._writer.stats.pending_bytes > PENDING_BYTES_MAX:
            await asyncio.to_thread(self._writer.flush)

    async def _ingest_on(self) -> None:
        try:
            while True:
                await self._due.wait()
                if self._ending:
                    return
                self._due.clear()
                self._waiting = 0
                await asyncio.to_thread(self._writer.flush)
                try:
                    await self._bring_in()
                except TransientError as error:
                    log.warning("ingest will try again: %s", error)
                    await asyncio.sleep(RETRY_S)
                    self._due.set()
                    continue
                self._room.set()
        finally:
            self._room.set()

    async def _bring_in(self) -> None:
        self.counts += await asyncio.to_thread(bring_in, self._root, self._spool)
