"""Asking the venue for books now and then, so that what was rebuilt from the stream can be held against them.

One instrument at a time, each once a round, in an order that chance chooses anew for every round: a collector that
is started every day does not ask for the same ones for ever. The answers go into the stream as they came.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection

from collectors.deribit.book_answers import GET_ORDER_BOOK
from collectors.deribit.rest import RestClient
from collectors.sink import Tape
from lake.errors import LakeError

_log = logging.getLogger(__name__)


class BookSampler:
    """Asks for one book every `every_s` seconds while `run` runs; `names` gives what is being recorded.

    `asked` and `answered` may be read at any time.
    """

    def __init__(
        self, names: Callable[[], Collection[str]], tape: Tape, *, every_s: float, depth: int
    ) -> None:
        self.asked = 0
        self.answered = 0
        self._names = names
        self._tape = tape
        self._every_s = every_s
        self._depth = depth
        self._round: list[str] = []

    async def run(self, rest: RestClient) -> None:
        """Ask until cancelled. An answer that does not come is logged; its turn comes again in the next round."""
        while True:
            await asyncio.sleep(self._every_s)
            name = self.next()
            if name is None:
                continue
            self.asked += 1
            try:
                reply = await rest.get(GET_ORDER_BOOK, {"instrument_name": name, "depth": self._depth})
            except LakeError as error:
                _log.warning("the book of %s to compare with: %s", name, error)
                continue
            self._tape.response(reply.as_record())
            self.answered += 1

    def next(self) -> str | None:
        """Whose turn it is; None where nothing is recorded. What is no longer recorded has no turn."""
        recorded = self._names()
        while self._round and self._round[-1] not in recorded:
            self._round.pop()
        if not self._round:
            self._round = sorted(recorded)
            random.shuffle(self._round)
        return self._round.pop() if self._round else None
