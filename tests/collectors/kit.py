"""What the tests of collectors share: a sink in memory, quick settings, frames."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from collectors.backoff import BackoffSettings
from collectors.settings import CollectorSettings
from collectors.transport import TransportSettings
from lake.events import Event, decode_event
from lake.spool import RecordKind
from tests.waiting import PATIENCE_S

T = TypeVar("T")
E = TypeVar("E")


class MemorySink:
    """Keeps records; `until` waits for what a test expects of them."""

    def __init__(self) -> None:
        self.records: list[tuple[bytes, int, RecordKind, int]] = []
        self.flushed_at: list[int] = []
        self._news = asyncio.Event()

    def append(
        self,
        payload: bytes,
        *,
        connection: int = 0,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        assert recv_ns is not None
        self.records.append((payload, connection, kind, recv_ns))
        self._news.set()

    def extend(
        self,
        payloads: Sequence[bytes],
        *,
        connection: int = 0,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        assert recv_ns is not None
        assert payloads
        for at, payload in enumerate(payloads, recv_ns):
            self.append(payload, connection=connection, kind=kind, recv_ns=at)

    def flush(self, timeout_s: float | None = None) -> None:
        self.flushed_at.append(len(self.records))

    @property
    def frames(self) -> list[bytes]:
        return [payload for payload, _, kind, _ in self.records if kind == RecordKind.FRAME]

    @property
    def data(self) -> list[bytes]:
        return [frame for frame in self.frames if b"subscription" in frame]

    def events(self, kind: type[E]) -> list[E]:
        decoded: list[Event] = [decode_event(r[0]) for r in self.records if r[2] == RecordKind.EVENT]
        return [event for event in decoded if isinstance(event, kind)]

    def time_of(self, frame: bytes) -> int:
        [recv_ns] = [r[3] for r in self.records if r[0] == frame]
        return recv_ns

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            await self._news.wait()


def settings(
    ws_url: str = "ws://127.0.0.1:9", rest_url: str = "http://127.0.0.1:9", **changes: Any
) -> CollectorSettings:
    quick: dict[str, Any] = {
        "backoff": BackoffSettings(base_s=0.001, cap_s=0.002),
        "link": TransportSettings(connect_timeout_s=PATIENCE_S, close_timeout_s=30.0),
        "calls_per_s": 1000.0,
        "rest_per_s": 1000.0,
        "rest_burst": 100,
        "series": (),
    }
    return CollectorSettings(ws_url=ws_url, rest_url=rest_url, **{**quick, **changes})


def tick(number: int, channel: str = "ticker.BTC-PERPETUAL.100ms") -> bytes:
    """A notification that differs from every other by its number."""
    data = {"timestamp": number, "instrument_name": "BTC-PERPETUAL"}
    frame = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(frame, separators=(",", ":")).encode()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a test's coroutine to its end, within a bound."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await work

    return asyncio.run(bounded())
