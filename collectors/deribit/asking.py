"""The calls of one connection: asked in turn, answered or failed, and lists of channels cut to what the venue takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from collectors.deribit.rpc import REQUEST_TOO_LARGE, TOO_MANY, Calls, Control, decode_names, error_from
from collectors.pace import TokenBucket
from collectors.settings import CollectorSettings
from collectors.transport import Link
from lake.errors import VenueUnavailableError

SUBSCRIBE: Final = "public/subscribe"
UNSUBSCRIBE: Final = "public/unsubscribe"


class Asker:
    """Asks over the link of the moment, if there is one. `pace` bounds the lists and may be shared."""

    def __init__(self, settings: CollectorSettings, pace: TokenBucket) -> None:
        self._settings = settings
        self._pace = pace
        self._calls = Calls()
        self._link: Link | None = None

    def begin(self, link: Link) -> None:
        """From now on ask over `link`."""
        self._link, self._calls = link, Calls()

    def end(self, reason: str) -> None:
        """The link is gone: every call that waits fails."""
        self._link = None
        self._calls.fail_all(VenueUnavailableError(f"connection lost ({reason})"))

    def hear(self, control: Control) -> None:
        """Take a frame that is no data: a test request is answered, a reply goes to its call."""
        if control.is_test_request:
            if self._link is not None:
                self._link.send(self._calls.compose("public/test", {})[1])
        elif control.method is None:
            self._calls.settle(control)

    async def heartbeat(self) -> None:
        """Switch the venue's heartbeat on.

        Raises:
            VenueUnavailableError, VenueRefusedError: the venue does not.
        """
        reply = await self._call("public/set_heartbeat", {"interval": self._settings.heartbeat_s})
        if reply.error is not None:
            raise error_from(reply.error, f"set_heartbeat({self._settings.heartbeat_s})")

    async def ask(self, method: str, channels: Sequence[str]) -> set[str]:
        """Subscribe to or unsubscribe from `channels`, list by list; what was acknowledged.

        Raises:
            VenueUnavailableError: no reply in time, the connection ended, or the venue cannot now.
            VenueRefusedError: the venue refuses.
        """
        acknowledged: set[str] = set()
        size = self._settings.channels_per_call
        for start in range(0, len(channels), size):
            acknowledged |= await self._ask_list(method, channels[start : start + size])
        return acknowledged

    async def _ask_list(self, method: str, channels: Sequence[str]) -> set[str]:
        """One list, in halves where the venue finds it too large."""
        await self._pace.wait()
        reply = await self._call(method, {"channels": channels})
        if reply.error is None:
            return set(decode_names(reply.result))
        if reply.error.code in TOO_MANY:
            self._pace.refused(0.0)
        if reply.error.code == REQUEST_TOO_LARGE and len(channels) > 1:
            half = len(channels) // 2
            first = await self._ask_list(method, channels[:half])
            return first | await self._ask_list(method, channels[half:])
        raw = [channel for channel in channels if channel.endswith(".raw")]
        others = f" and {len(channels) - 1} more" if len(channels) > 1 else ""
        doing = f"{method.removeprefix('public/')} {raw[0] if raw else channels[0]}{others}"
        raise error_from(reply.error, doing)

    async def _call(self, method: str, params: dict[str, Any]) -> Control:
        """Call and await the reply, which may be an error."""
        if self._link is None:
            raise VenueUnavailableError(f"connection lost before {method}")
        request_id, text, future = self._calls.open(method, params)
        self._link.send(text)
        try:
            async with asyncio.timeout(self._settings.reply_timeout_s):
                return await future
        except TimeoutError:
            raise VenueUnavailableError(
                f"no reply to {method} within {self._settings.reply_timeout_s:g} s"
            ) from None
        finally:
            self._calls.forget(request_id)
