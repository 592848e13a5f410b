"""Silences, from the suspicion to the row in `gaps`.

A connection on which nobody speaks is silent, whatever the venue may say. When one channel is still while others of its
connection speak, only the venue knows whether there was anything to say: for a book and a ticker it is asked. A ticker
lacks something if the quote is another than in its last frame. A book lacks nothing if the venue's change id is still
that of its last frame; if it is not, changes may have undone each other before they were told, so it lacks something
only when the levels become others between two answers. Has the channel not told of that some seconds later, it is
silent since its last frame, or since the last answer by which it lacked nothing. Other channels are judged by their
habit alone. The answers go into the stream as they came, like those of the sampler.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Final

from collectors.continuity import S_IN_NS
from collectors.deribit import wire
from collectors.deribit.book_answers import GET_ORDER_BOOK
from collectors.deribit.channels import classify
from collectors.deribit.rest import RestClient
from collectors.deribit.session import Session
from collectors.deribit.standing import Standing, quote_of, standing_of
from collectors.deribit.watch import Watch
from collectors.silence import SILENCE_MIN_S, Quiet, Silent, Still
from collectors.sink import Tape
from lake.errors import LakeError
from lake.events import Gap, GapOpened

CAUSE_SILENCE: Final = "silence"
STATUS_S: Final = 5.0
"""While something is silent or locked, the venue is asked so often whether the market is open."""
LAG_NS: Final = 5 * S_IN_NS
"""The venue's answers are ahead of its channels by up to 1.6 s (measured)."""

ASK_AGAIN_NS: Final = 30 * S_IN_NS
"""After a question that was not answered."""

_log = logging.getLogger(__name__)


class _Lacking(Enum):
    """What a channel has not brought, by the venue's answer."""

    NOTHING = auto()
    PERHAPS = auto()
    """Its book has gone on, but may be what it was."""
    SOMETHING = auto()


@dataclass(slots=True)
class _Suspect:
    """A channel that is still, and what the venue said of it."""

    still: Still
    levels: bytes | None = None
    """Of a book that may lack something."""
    ask_ns: int = 0
    """The venue is not to be asked again before."""
    behind_ns: int | None = None
    """When the venue said something that the channel has not brought."""


class SilenceClaims:
    """Judges the channels of `sessions` and claims their silences on `tape`; `over` is told of each that has ended.

    Suspects are asked about every `every_s` seconds, with `levels` of the book. `asked` counts the questions, and
    `excused` the channels that had nothing to bring.
    """

    def __init__(
        self,
        watch: Watch,
        sessions: Sequence[Session],
        tape: Tape,
        over: Callable[[Gap], None],
        *,
        levels: int,
        every_s: float,
    ) -> None:
        self.asked = 0
        self.excused = 0
        self._watch = watch
        self._sessions = sessions
        self._tape = tape
        self._over = over
        self._levels = levels
        self._every_s = every_s
        self._open: dict[tuple[int, str | None], GapOpened] = {}
        self._suspects: dict[tuple[int, str], _Suspect] = {}

    def channels(self, connection: int) -> list[str]:
        """The single channels of a connection that are silent now."""
        return [channel for number, channel in self._open if number == connection and channel is not None]

    def judge(self) -> list[str]:
        """Look at all channels; those that have been heard and are not wanted any more."""
        now_ns = self._tape.now_ns()
        resting = partial(self._watch.market.resting_ns, now_ns=now_ns)
        unwanted: list[str] = []
        for session in self._sessions:
            silence = self._watch.silence.get(session.number)
            if silence is None or not session.established.is_set():
                continue
            judged = silence.check(now_ns, resting, _is_askable)
            self.end(session.number, judged.ended)
            self._begin(session.number, judged.begun)
            self._suspect(session.number, judged.suspect, now_ns)
            gone, ended = silence.keep_only(frozenset(session.channels), now_ns)
            self.end(session.number, ended)
            unwanted += gone
        return unwanted

    def end(self, connection: int, ended: Iterable[Silent]) -> None:
        """Claim them, but not what another gap or a reason to rest has left too short to be one."""
        for silent in ended:
            gap = self._open.pop((connection, silent.channel), None)
            if gap is None:
                continue
            if silent.until_ns - gap.start_ns <= SILENCE_MIN_S * S_IN_NS:
                self._tape.holes.withdraw(gap)
                continue
            self._over(self._tape.holes.close(gap, silent.until_ns))

    def interrupted(self, connection: int, since_ns: int) -> None:
        """The connection was lost, or we stop: its silences end."""
        self._suspect(connection, [], since_ns)
        silence = self._watch.silence.get(connection)
        if silence is not None:
            self.end(connection, silence.interrupted(since_ns))

    def finish(self) -> None:
        """Nothing more will come."""
        now_ns = self._tape.now_ns()
        for connection in list(self._watch.silence):
            self.interrupted(connection, now_ns)

    def _begin(self, connection: int, begun: Iterable[Quiet]) -> None:
        for channel, since_ns in begun:
            gap = GapOpened(
                start_ns=since_ns, cause=CAUSE_SILENCE, connection=connection, channel=channel,
                instrument=classify(channel).instrument if channel else None,
            )  # fmt: skip
            self._open[connection, channel] = self._tape.holes.open(gap)

    def _suspect(self, connection: int, found: Iterable[Still], now_ns: int) -> None:
        """Keep those that are still suspects; claim those that have not brought in time what the venue spoke of."""
        before = {key: self._suspects.pop(key) for key in list(self._suspects) if key[0] == connection}
        for still in found:
            suspect = before.get((connection, still.channel))
            if suspect is None or suspect.still != still:
                suspect = _Suspect(still)
            if suspect.behind_ns is None or now_ns - suspect.behind_ns < LAG_NS:
                self._suspects[connection, still.channel] = suspect
            else:
                self._begin(connection, self._watch.silence[connection].convict(still))

    async def ask(self, rest: RestClient) -> None:
        """Ask the venue about suspects, one after the other, until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            for key, suspect in list(self._suspects.items()):
                due = suspect.behind_ns is None and suspect.ask_ns <= self._tape.now_ns()
                if (
                    due and self._suspects.get(key) is suspect
                ):  # while others were asked about, much may change
                    await self._ask_about(suspect.still.channel, rest)

    async def _ask_about(self, channel: str, rest: RestClient) -> None:
        """Ask for the instrument of `channel`; the answer settles every suspect of this instrument."""
        instrument = classify(channel).instrument or ""
        asked_ns = self._tape.now_ns()
        self.asked += 1
        try:
            reply = await rest.get(GET_ORDER_BOOK, {"instrument_name": instrument, "depth": self._levels})
            self._tape.response(reply.as_record())
            standing = standing_of(reply.result)
        except (LakeError, *wire.DECODE_ERRORS) as error:
            _log.warning("%s is still, and the venue does not say why: %s", channel, error)
            for _, suspect in self._suspects_of(instrument):
                suspect.ask_ns = self._tape.now_ns() + ASK_AGAIN_NS
            return
        for connection, suspect in self._suspects_of(instrument):
            self._settle(connection, suspect, standing, asked_ns)

    def _suspects_of(self, instrument: str) -> list[tuple[int, _Suspect]]:
        """The channels of an instrument that are suspects now, with their connections."""
        return [
            (connection, suspect)
            for (connection, channel), suspect in self._suspects.items()
            if classify(channel).instrument == instrument
        ]

    def _settle(self, connection: int, suspect: _Suspect, standing: Standing, asked_ns: int) -> None:
        """Take the venue's answer about a suspect: it lacks something, nothing, or another answer must tell."""
        channel, answered_ns = suspect.still.channel, self._tape.now_ns()
        lacking = self._lacking(suspect, standing)
        if lacking is _Lacking.SOMETHING:
            suspect.behind_ns = answered_ns
        elif lacking is _Lacking.PERHAPS and suspect.levels is None:
            suspect.levels, suspect.ask_ns = standing.levels, answered_ns + LAG_NS
        elif lacking is _Lacking.NOTHING or asked_ns >= suspect.ask_ns:
            self.excused += 1
            nothing = lacking is _Lacking.NOTHING
            self._watch.silence[connection].excuse(channel, asked_ns, lacks_nothing=nothing)
            del self._suspects[connection, channel]

    def _lacking(self, suspect: _Suspect, standing: Standing) -> _Lacking:
        """Whether the venue has gone on from what the channel brought last."""
        channel = suspect.still.channel
        if classify(channel).kind == "book":
            if standing.change_id <= self._watch.books.last(channel):
                return _Lacking.NOTHING
            moved = suspect.levels is not None and suspect.levels != standing.levels
            return _Lacking.SOMETHING if moved else _Lacking.PERHAPS
        try:
            same = standing.quote == quote_of(self._watch.tickers[channel])
        except (KeyError, *wire.DECODE_ERRORS):
            same = False  # what it brought last cannot be read
        return _Lacking.NOTHING if same else _Lacking.SOMETHING

    async def ask_status(self, rest: RestClient) -> None:
        """While something is silent, or said to be locked, ask whether the market is open, until cancelled."""
        while True:
            await asyncio.sleep(STATUS_S)
            if not self._open and not self._watch.market.locked:
                continue
            try:
                reply = await rest.get("status")
                self._tape.response(reply.as_record())
                self._watch.market.status(reply.result, self._tape.now_ns())
            except (LakeError, *wire.DECODE_ERRORS) as error:
                _log.warning("the venue does not say whether it is open: %s", error)


def _is_askable(channel: str) -> bool:
    return classify(channel).kind in ("book", "ticker")
