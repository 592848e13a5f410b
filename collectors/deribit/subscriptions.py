"""What one connection is to be subscribed to, what the venue acknowledges of it, and what it lacks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from collectors.deribit.asking import SUBSCRIBE, UNSUBSCRIBE, Asker
from collectors.deribit.channels import classify
from collectors.sink import Tape
from lake.errors import TerminalError
from lake.events import Gap, GapOpened, Subscribed

CAUSE_REFUSED: Final = "not_subscribed"

_log = logging.getLogger(__name__)


class Subscriptions:
    """The channels of connection `number`. Not acknowledged and still wanted, a channel with a table is a gap.

    `on_refused` is handed each such gap when it is over.
    """

    def __init__(
        self,
        number: int,
        channels: Sequence[str],
        asker: Asker,
        tape: Tape,
        *,
        on_refused: Callable[[Gap], None] | None = None,
    ) -> None:
        self.wanted = list(dict.fromkeys(channels))
        """What is wanted now; after every reconnect, it is asked for whole."""
        self.acknowledged = 0
        self.missing: list[str] = []
        self.asking = asyncio.Lock()
        """Held by whoever asks: one change of subscriptions at a time."""
        self._number = number
        self._asker = asker
        self._tape = tape
        self._on_refused = on_refused
        self._refused: dict[str, GapOpened] = {}

    def want(self, channels: Sequence[str]) -> list[str]:
        """Want `channels` as well; which of them are new."""
        wanted = set(self.wanted)
        fresh = [channel for channel in dict.fromkeys(channels) if channel not in wanted]
        self.wanted += fresh
        return fresh

    def leave(self, channels: Sequence[str]) -> list[str]:
        """Want `channels` no longer; which of them were wanted."""
        gone = set(channels).intersection(self.wanted)
        self.wanted = [channel for channel in self.wanted if channel not in gone]
        return [channel for channel in channels if channel in gone]

    async def begin(self) -> None:
        """Ask for everything that is wanted. The lock is held.

        Raises:
            VenueUnavailableError, VenueRefusedError: see `Asker.ask`.
        """
        wanted = list(self.wanted)
        acknowledged = await self._asker.ask(SUBSCRIBE, wanted)
        self.missing = []
        self._tell(wanted, acknowledged)

    async def change(self, channels: Sequence[str], *, again: bool) -> None:
        """Bring the venue's state of `channels` in line with what is wanted; `again`: by leaving them first.

        The lock is held. What the venue refuses for good is logged.

        Raises:
            VenueUnavailableError: not now.
        """
        wanted = set(self.wanted)
        leave = [channel for channel in channels if again or channel not in wanted]
        join = [channel for channel in channels if channel in wanted]
        acknowledged: set[str] = set()
        try:
            await self._asker.ask(UNSUBSCRIBE, leave)
            acknowledged = await self._asker.ask(SUBSCRIBE, join)
        except TerminalError as error:
            _log.error("connection %d: %s", self._number, error)
        self._tell(join, acknowledged)

    def lost(self, since_ns: int) -> None:
        """Everything is lacking since then: what the venue has not acknowledged is part of that."""
        self._end_refusals(self._refused, since_ns)

    def _tell(self, asked: Sequence[str], acknowledged: set[str]) -> None:
        """Write down what the venue acknowledges of all that is wanted, now that it was asked for `asked`."""
        asked_now, wanted = set(asked), set(self.wanted)
        missing = [channel for channel in asked if channel in wanted and channel not in acknowledged]
        self.missing = [c for c in self.missing if c in wanted and c not in asked_now] + missing
        self.acknowledged = len(wanted) - len(self.missing)
        if missing:
            _log.warning(
                "connection %d: the venue did not acknowledge %d of %d channels, first %s",
                self._number, len(missing), len(asked), missing[0],
            )  # fmt: skip
        subscribed = Subscribed(
            connection=self._number,
            at_ns=self._tape.now_ns(),
            asked=len(wanted),
            acknowledged=self.acknowledged,
            missing=self.missing,
        )
        self._tape.event(subscribed, self._number)
        self._note_refusals()

    def _note_refusals(self) -> None:
        """A channel that would give rows, and is wanted and not acknowledged, is a gap until it is."""
        now_ns = self._tape.now_ns()
        missing = set(self.missing)
        self._end_refusals([channel for channel in self._refused if channel not in missing], now_ns)
        for channel in self.missing:
            known = classify(channel)
            if known.tabulated and channel not in self._refused:
                gap = GapOpened(
                    start_ns=now_ns, cause=CAUSE_REFUSED, connection=self._number, channel=channel,
                    instrument=known.instrument,
                )  # fmt: skip
                self._refused[channel] = self._tape.holes.open(gap)

    def _end_refusals(self, channels: Iterable[str], end_ns: int) -> None:
        for channel in list(channels):
            gap = self._tape.holes.close(self._refused.pop(channel), end_ns)
            if self._on_refused is not None:
                self._on_refused(gap)
