"""Where a collector puts what it receives, and the one clock that stamps it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from collectors.holes import Holes
from lake.events import Event, Gap, Response, encode_event, encode_response
from lake.spool import RecordKind

COLLECTOR_ITSELF: Final = 0
"""Number of "no connection" in records: events of the process and REST answers. Sessions count from 1."""

_FRAME: Final = RecordKind.FRAME  # looked up once: members of an enum are slow to reach


class Sink(Protocol):
    """Takes records, in order, without ever blocking on disk: `lake.spool.SpoolWriter` is one."""

    def append(
        self,
        payload: bytes,
        *,
        connection: int = COLLECTOR_ITSELF,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        """Take one record."""

    def extend(
        self,
        payloads: Sequence[bytes],
        *,
        connection: int = COLLECTOR_ITSELF,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        """Take records that came together, at least one: the first as of `recv_ns`, each other 1 ns later."""

    def flush(self, timeout_s: float | None = None) -> None:
        """Return when everything appended so far is durable; blocks, so never on the event loop."""


class Tape:
    """A sink with a clock: stamps each record with a strictly increasing receive time, and counts gaps.

    One tape is shared by all sessions of a collector, so that the times in events (where a gap begins and
    ends) are the very times stored with the frames. The recorder's clock is steady (`collectors.clock`).
    """

    def __init__(self, sink: Sink, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._append, self._extend = sink.append, sink.extend
        self._clock_ns = clock_ns
        self._last_ns = 0
        self.observer: Callable[[int, int, bytes], None] | None = None
        """Told receive time, connection and bytes of every frame when it has been recorded; must be quick."""
        self.gaps: Counter[str] = Counter()
        self.gaps_healed: Counter[str] = Counter()
        self.holes = Holes(self.event, self.now_ns)
        """The gaps that are open now."""

    def now_ns(self) -> int:
        """The next stamp, in ns since the epoch, UTC; later than every one before."""
        now_ns = self._clock_ns()
        if now_ns <= self._last_ns:
            now_ns = self._last_ns + 1
        self._last_ns = now_ns
        return now_ns

    def frame(self, payload: bytes, connection: int, recv_ns: int | None = None) -> int:
        """Record a frame as received, now or with the stamp drawn for it; its stamp."""
        if recv_ns is None:
            recv_ns = self.now_ns()
        self._append(payload, connection=connection, kind=_FRAME, recv_ns=recv_ns)
        if self.observer is not None:
            self.observer(recv_ns, connection, payload)
        return recv_ns

    def frames(self, payloads: Sequence[bytes], connection: int) -> int:
        """Record frames that one read brought, at least one, as received now; the stamp of the last."""
        first_ns = self.now_ns()
        self._last_ns = first_ns + len(payloads) - 1
        self._extend(payloads, connection=connection, kind=_FRAME, recv_ns=first_ns)
        if self.observer is not None:
            for recv_ns, payload in enumerate(payloads, first_ns):
                self.observer(recv_ns, connection, payload)
        return self._last_ns

    def event(self, event: Event, connection: int = COLLECTOR_ITSELF, recv_ns: int | None = None) -> None:
        """Record an event of our own, now or with the stamp drawn for it; gaps are counted by cause."""
        if isinstance(event, Gap):
            (self.gaps_healed if event.healed else self.gaps)[event.cause] += 1
        payload = encode_event(event)
        stamp = self.now_ns() if recv_ns is None else recv_ns
        self._append(payload, connection=connection, kind=RecordKind.EVENT, recv_ns=stamp)

    def response(self, response: Response) -> None:
        """Record a REST answer."""
        payload = encode_response(response)
        self._append(payload, kind=RecordKind.RESPONSE, recv_ns=self.now_ns())
