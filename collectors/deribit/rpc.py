"""JSON-RPC with Deribit: telling control frames from data, matching replies, errors by code.

From the venue's documentation (JSON-RPC overview, errors, notifications) and recorded traffic: three shapes
share a socket, notification (`method` is "subscription"), heartbeat (`method` is "heartbeat") and reply
(`result` or `error`, usually with our `id`). The order of keys is not stable; replies come out of order.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from collectors.deribit import wire
from lake.errors import LakeError, VenueRefusedError, VenueUnavailableError

REQUEST_TOO_LARGE: Final = -32600
RAW_NEEDS_LOGIN: Final = 13778
TOO_MANY: Final = frozenset({10028, 10066})
"""Too many requests; too many at a time."""
TERMINAL_CODES: Final = frozenset(
    {-32700, -32602, -32601, REQUEST_TOO_LARGE, 10030, 11050, 13009, 13019, 13020, RAW_NEEDS_LOGIN}
)
"""Codes that a repetition cannot cure. Every other code is worth another try, later: a recorder that gives
up on a code it has never met loses more than one that keeps asking."""

_NOTIFICATION: Final = b'"method":"subscription"'
_USUAL_START: Final = b'{"jsonrpc":"2.0",' + _NOTIFICATION
_ENDS: Final = 96
"""`method` stands before or after `params`, so within so many bytes of the head or of the tail."""


class Fault(msgspec.Struct, frozen=True):
    """The `error` object of a reply; `data` says more, such as the parameter at fault."""

    code: int
    message: str = ""
    data: Any = None

    def __str__(self) -> str:
        detail = self.data if isinstance(self.data, dict) else {}
        words = [str(detail[key]) for key in ("reason", "param") if detail.get(key)]
        return f"{self.message or 'error'} {self.code}" + (f" ({', '.join(words)})" if words else "")


class Params(msgspec.Struct, frozen=True):
    """The `params` of a heartbeat."""

    type: str = ""


class Control(msgspec.Struct, frozen=True):
    """A frame that is not a notification: a reply, a heartbeat, or something unknown."""

    id: int | str | None = None
    method: str | None = None
    params: Params | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: Fault | None = None

    @property
    def is_test_request(self) -> bool:
        """The venue asks for a sign of life: `public/test` at once, or it closes the connection."""
        return self.method == "heartbeat" and self.params is not None and self.params.type == "test_request"


_CONTROL: Final = msgspec.json.Decoder(Control)
_NAMES: Final = msgspec.json.Decoder(list[str])


def is_notification(frame: bytes) -> bool:
    """Whether a frame is certainly a data notification; about 0.1 µs in the venue's usual spelling.

    Never true for a reply or heartbeat: inside a JSON string the quotes searched for would be escaped.
    False may also mean a notification written in an unusual way: decode it to know.
    """
    return (
        frame.startswith(_USUAL_START)
        or frame.find(_NOTIFICATION, 0, _ENDS) >= 0
        or frame.find(_NOTIFICATION, -_ENDS) >= 0
    )


def decode_control(frame: bytes) -> Control | None:
    """The control frame in `frame`; None when the frame is a notification after all, or not JSON-RPC."""
    try:
        control = _CONTROL.decode(frame)
    except wire.DECODE_ERRORS:
        return None
    return None if control.method == "subscription" else control


def decode_names(result: msgspec.Raw) -> list[str]:
    """The result of a subscribe call: the channels that the venue acknowledged.

    Raises:
        VenueUnavailableError: the result is something else.
    """
    try:
        return _NAMES.decode(result)
    except wire.DECODE_ERRORS as error:
        raise VenueUnavailableError(f"the venue's acknowledgement is no list of channels: {error}") from None


def error_from(fault: Fault, doing: str) -> LakeError:
    """The error to raise for `fault`, transient or terminal by its code; `doing` says what we asked for."""
    if fault.code == RAW_NEEDS_LOGIN:
        return VenueRefusedError(f"{doing}: raw channels need a login; use the 100ms channel instead")
    if fault.code in TERMINAL_CODES:
        return VenueRefusedError(f"{doing}: the venue refuses: {fault}")
    return VenueUnavailableError(f"{doing}: the venue cannot now: {fault}")


class Calls:
    """The calls of one connection that wait for their reply."""

    def __init__(self) -> None:
        self._last_id = 0
        self._waiting: dict[int | str, tuple[int, asyncio.Future[Control]]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, method: str, params: dict[str, Any]) -> tuple[int, bytes, asyncio.Future[Control]]:
        """Id and text of a new call, and the future of its reply."""
        request_id, text = self.compose(method, params)
        future: asyncio.Future[Control] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = (len(text), future)
        return request_id, text, future

    def compose(self, method: str, params: dict[str, Any]) -> tuple[int, bytes]:
        """Id and text of a call whose reply nobody waits for."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        return self._last_id, msgspec.json.encode(request)

    def settle(self, reply: Control) -> bool:
        """Give `reply` to the call it answers; False when no call waits for it (late, or never ours).

        An error without id is what the venue sends when it refused to read the request (too large), so it
        answers the longest request that waits. An id that comes back as text counts as the number.
        """
        request_id = reply.id
        if isinstance(request_id, str) and request_id.isascii() and request_id.isdigit():
            request_id = int(request_id)
        if request_id is None and reply.error is not None and self._waiting:
            request_id = max(self._waiting, key=lambda waiting: self._waiting[waiting][0])
        if request_id is None or request_id not in self._waiting:
            return False
        _, future = self._waiting.pop(request_id)
        if not future.done():
            future.set_result(reply)
        return True

    def forget(self, request_id: int) -> None:
        """Wait no longer for this reply."""
        self._waiting.pop(request_id, None)

    def fail_all(self, error: LakeError) -> None:
        """End every wait with `error`: the connection is gone."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()
