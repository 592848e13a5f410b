"""The gaps that are open now, kept where a crash cannot reach them: every opening and every end goes into the stream.

A gap becomes a row when it is over. Until then it is an opening in the stream, so that the next life of the
collector can close what this one left open, and a line of `lake status`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol

from lake.events import Event, Gap, GapOpened, GapsOpen, GapWithdrawn

CAUSE_DISCONNECT: Final = "disconnect"
CAUSE_STOPPED: Final = "stopped"
CAUSE_CRASHED: Final = "crashed"
CAUSE_RESTORED: Final = "restored"
WHOLE_CONNECTION: Final = frozenset({CAUSE_DISCONNECT, CAUSE_STOPPED, CAUSE_CRASHED, CAUSE_RESTORED})
"""Causes of gaps in everything that a connection brings; of the trades in them, the venue can be asked again."""

Key = tuple[str, int | None, str | None, str | None, int, int | None]


class Write(Protocol):
    """Puts an event into the stream."""

    def __call__(self, event: Event, connection: int = 0, recv_ns: int | None = None) -> None: ...


def key_of(gap: Gap | GapOpened | GapWithdrawn) -> Key:
    """What tells one gap from another, from its opening to its end."""
    return gap.cause, gap.connection, gap.channel, gap.instrument, gap.start_ns, gap.first_seq


def is_of_connection(gap: GapOpened) -> bool:
    """Whether everything is lacking that a connection brings, until it is back."""
    return gap.cause in WHOLE_CONNECTION and gap.channel is None


class Holes:
    """Open gaps by what tells them apart. `write` puts an event into the stream, `now_ns` draws a stamp."""

    def __init__(self, write: Write, now_ns: Callable[[], int]) -> None:
        self._write = write
        self._now_ns = now_ns
        self._open: dict[Key, GapOpened] = {}

    @property
    def current(self) -> tuple[GapOpened, ...]:
        """All that are open, in the order of opening."""
        return tuple(self._open.values())

    def open(self, gap: GapOpened) -> GapOpened:
        """A gap begins."""
        self._open[key_of(gap)] = gap
        self._write(gap, gap.connection or 0)
        return gap

    def adopt(self, gaps: Iterable[GapOpened]) -> None:
        """Gaps that the stream tells of already, or is told of by the next `restate`."""
        self._open.update((key_of(gap), gap) for gap in gaps)

    def close(
        self,
        gap: GapOpened,
        end_ns: int,
        *,
        healed: bool = False,
        records_lost: int | None = None,
        told_ns: int | None = None,
    ) -> Gap:
        """A gap is over: it becomes a row. `told_ns` is the stamp to tell it at, where that is not now."""
        told = Gap(
            start_ns=gap.start_ns, end_ns=max(end_ns, gap.start_ns), cause=gap.cause, instrument=gap.instrument,
            channel=gap.channel, connection=gap.connection, records_lost=records_lost, healed=healed,
            first_seq=gap.first_seq, last_seq=gap.last_seq,
        )  # fmt: skip
        self._open.pop(key_of(gap), None)
        self._write(told, gap.connection or 0, told_ns)
        return told

    def withdraw(self, gap: GapOpened) -> None:
        """It was none, or is part of another."""
        self._open.pop(key_of(gap), None)
        withdrawn = GapWithdrawn(
            start_ns=gap.start_ns, cause=gap.cause, instrument=gap.instrument, channel=gap.channel,
            connection=gap.connection, first_seq=gap.first_seq,
        )  # fmt: skip
        self._write(withdrawn, gap.connection or 0)

    def restate(self, newest_trades: Mapping[str, int]) -> None:
        """Tell all that are open, as the place from which the stream can be understood."""
        gaps = list(self._open.values())
        self._write(GapsOpen(at_ns=self._now_ns(), gaps=gaps, newest_trades=dict(newest_trades)))
