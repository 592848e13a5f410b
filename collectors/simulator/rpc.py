"""JSON-RPC envelopes and errors as the venue words them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import msgspec

VERSION: Final = "1.2.26"
INVALID_PARAMS: Final = -32602
UNKNOWN_METHOD: Final = -32601
INVALID_REQUEST: Final = -32600
UNAUTHORIZED: Final = 13009
RAW_NEEDS_LOGIN: Final = 13778
WEBSOCKET_ONLY: Final = 10030
TOO_MANY_REQUESTS: Final = 10028
SETTLEMENT: Final = 10041
MAINTENANCE: Final = 11051
_UNSET: Final = object()


@dataclass
class Clock:
    """The venue's clock as its envelopes tell it: the wall clock, `skew_ms` ahead of the truth."""

    skew_ms: int = 0

    def now_ns(self) -> int:
        """Nanoseconds since epoch UTC."""
        return time.time_ns() + self.skew_ms * 1_000_000


class RpcError(Exception):
    """An error object of the venue, with or without `data`; protocol content, so not one of the lake's."""

    def __init__(self, code: int, message: str, **data: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def body(self) -> dict[str, Any]:
        """The `error` member; key order as recorded."""
        return {"code": self.code, **({"data": self.data} if self.data else {}), "message": self.message}


def invalid(param: str, reason: str = "invalid value") -> RpcError:
    """-32602 for one parameter."""
    return RpcError(INVALID_PARAMS, "Invalid params", reason=reason, param=param)


def reply(clock: Clock, arrived_ns: int, result: object, request_id: object = _UNSET) -> bytes:
    """A result envelope; a request without id is answered without one. `arrived_ns` is of the same clock."""
    return _envelope(clock, arrived_ns, {"result": result}, request_id)


def refusal(clock: Clock, arrived_ns: int, error: RpcError, request_id: object = _UNSET) -> bytes:
    """An error envelope."""
    return _envelope(clock, arrived_ns, {"error": error.body()}, request_id)


def _envelope(clock: Clock, arrived_ns: int, content: dict[str, object], request_id: object) -> bytes:
    us_in, us_out = arrived_ns // 1000, clock.now_ns() // 1000
    head: dict[str, object] = {"jsonrpc": "2.0"}
    if request_id is not _UNSET:
        head["id"] = request_id
    tail = {"usIn": us_in, "usOut": us_out, "usDiff": us_out - us_in, "testnet": True}
    return msgspec.json.encode({**head, **content, **tail})
