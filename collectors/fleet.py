"""The connections of a collector, and which instrument is recorded over which of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

from collectors.deribit.channels import classify
from collectors.deribit.selection import deal, instrument_channels
from collectors.deribit.session import Session
from collectors.settings import CollectorSettings
from collectors.universe import Changes

_log = logging.getLogger(__name__)


class Fleet:
    """`deal` the first instruments, `start`, `apply` changes while running, and `stop`.

    `open_session` makes a session from its number (from 1 up) and its channels, not running yet. `ended` is
    set when a session has ended without being asked to. `waiting` are instruments for which no connection
    has room.
    """

    def __init__(
        self, settings: CollectorSettings, open_session: Callable[[int, list[str]], Session]
    ) -> None:
        self.sessions: list[Session] = []
        self.waiting: dict[str, None] = {}
        self.ended = asyncio.Event()
        self._settings = settings
        self._open_session = open_session
        self._place: dict[str, Session] = {}
        self._running: list[asyncio.Task[None]] = []

    def deal(self, names: Sequence[str], shared: Sequence[str]) -> None:
        """Make as many sessions as it takes and deal `names` to them; `shared` channels ride on the first.

        Raises:
            SettingsError: more channels than the connections may carry.
        """
        for number, hand in enumerate(deal(names, shared, self._settings), start=1):
            first = list(shared) if number == 1 else []
            session = self._open_session(number, first + self._channels(hand))
            self.sessions.append(session)
            self._place.update(dict.fromkeys(hand, session))

    def start(self) -> None:
        """Begin to record."""
        for session in self.sessions:
            self._run(session)

    async def apply(self, changes: Changes) -> None:
        """Leave and begin with instruments; returns when the venue has answered, or is to be asked later."""
        leave: dict[Session, list[str]] = {}
        for name in changes.drop:
            self.waiting.pop(name, None)
            session = self._place.pop(name, None)
            if session is not None:
                leave.setdefault(session, []).append(name)
        await asyncio.gather(*(session.drop(self._channels(names)) for session, names in leave.items()))
        self.waiting.update(dict.fromkeys(changes.subscribe))
        await asyncio.gather(*self._take_waiting())
        if self.waiting:
            _log.error(
                "%d instruments are not recorded, first %s: all %d connections are full; raise "
                "channels_per_connection or connections_max, or record less",
                len(self.waiting), next(iter(self.waiting)), len(self.sessions),
            )  # fmt: skip

    async def share(self, channels: Sequence[str]) -> None:
        """Begin with more channels of many instruments, on the first connection."""
        await self.sessions[0].add(channels)

    async def ask_again(self, names: Collection[str] | None = None) -> None:
        """Ask once more for what the venue has not acknowledged, of the instruments `names` or of all."""
        for session in self.sessions:
            missing = [c for c in session.missing if names is None or classify(c).instrument in names]
            await session.resubscribe(missing)

    async def stop(self) -> None:
        """Close every connection.

        Raises:
            LakeError: why a session ended by itself.
        """
        for session in self.sessions:
            session.stop()
        for end in await asyncio.gather(*self._running, return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    def _take_waiting(self) -> list[Awaitable[None]]:
        """Deal what waits to the sessions with most headroom, opening new ones when all are full."""
        load = {session: len(session.channels) for session in self.sessions}
        taken: dict[Session, list[str]] = {}
        for name in list(self.waiting):
            session = min(load, key=load.__getitem__)
            channels = len(instrument_channels(name, self._settings))
            if load[session] + channels > self._settings.channels_per_connection:
                if len(self.sessions) >= self._settings.connections_max:
                    break
                session = self._open_session(len(self.sessions) + 1, [])
                self.sessions.append(session)
                self._run(session)
            load[session] = load.get(session, 0) + channels
            taken.setdefault(session, []).append(name)
            self._place[name] = session
            del self.waiting[name]
        return [session.add(self._channels(names)) for session, names in taken.items()]

    def _run(self, session: Session) -> None:
        task = asyncio.create_task(session.run())
        task.add_done_callback(lambda _: self.ended.set())
        self._running.append(task)

    def _channels(self, names: Sequence[str]) -> list[str]:
        return [channel for name in names for channel in instrument_channels(name, self._settings)]
