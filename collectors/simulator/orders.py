"""What a simulated venue can be told to do: the faults, the events of a market, and questions about the truth.

An order is an object with `action` and the parameters of that action; the same through `POST /control`,
`SimulatorProcess.control` and a script.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from lake.errors import InputError

GARBAGE: Final = '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERP'
_RESERVED_CLOSE_CODES: Final = (1004, 1005, 1006, 1015)  # RFC 6455 §7.4.1: never in a close frame
_DAY_S: Final = 86_400.0

Seconds = Annotated[float, msgspec.Meta(ge=0, le=_DAY_S)]
Count = Annotated[int, msgspec.Meta(ge=1)]
CloseCode = Annotated[int, msgspec.Meta(ge=1000, le=4999)]
Status = Annotated[int, msgspec.Meta(ge=400, le=599)]
Name = Annotated[str, msgspec.Meta(min_length=1)]


class Order(msgspec.Struct, forbid_unknown_fields=True, tag_field="action"):
    """One order; its class names the action."""


class Stats(Order, tag="stats"):
    """Only report."""


class FlushAccount(Order, tag="flush_account"):
    """Make the account complete up to now."""


class Sessions(Order, tag="sessions"):
    """Who is connected: number, count of channels, and what is wrong with the connection."""


class BookTruth(Order, tag="book"):
    """Every level of a book, its `change_id` and the venue's time, now."""

    instrument: Name


class Drop(Order, tag="drop"):
    """End one session or all: a close frame with `code` and `reason`, or a TCP reset without a code."""

    session: int | None = None
    code: CloseCode | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.code in _RESERVED_CLOSE_CODES:
            raise ValueError(f"close code {self.code} never travels; leave `code` out for an abrupt end")
        if self.reason and self.code is None:
            raise ValueError("a `reason` travels with a `code`; give both or none")


class DropAll(Order, tag="drop_all"):
    """Reset every connection."""


class HalfOpen(Order, tag="half_open"):
    """The connection stands and nothing comes any more, heartbeats included; for good without `seconds`."""

    session: int | None = None
    seconds: Seconds | None = None


class Slow(Order, tag="slow"):
    """Throttle the socket of one session or all; 0 lifts it."""

    bytes_per_second: Annotated[float, msgspec.Meta(ge=0)]
    session: int | None = None


class Silence(Order, tag="silence"):
    """Every frame for everybody is withheld, until `speak`."""


class Speak(Order, tag="speak"):
    """End a silence."""


class Garbage(Order, tag="garbage"):
    """Send `text` as a frame."""

    session: int | None = None
    text: str = GARBAGE


class Lose(Order, tag="lose"):
    """Withhold the next `count` notifications of channels like `channel`."""

    channel: Name = "*"
    count: Count = 1


class Forget(Order, tag="forget"):
    """Say nothing more on channels like `channel` of one session or all, until they are subscribed anew."""

    channel: Name
    session: int | None = None


class Duplicate(Order, tag="duplicate"):
    """Send the next `count` notifications of channels like `channel` twice."""

    channel: Name = "*"
    count: Count = 1


class Reorder(Order, tag="reorder"):
    """Send the next `count` notifications of channels like `channel` each after its successor."""

    channel: Name = "*"
    count: Count = 1


class Gap(Order, tag="gap"):
    """Withhold the next `count` changes of one book while its chain goes on."""

    instrument: Name
    count: Count = 1


class MissTrades(Order, tag="miss_trades"):
    """Tell nobody about the next `count` trades of an instrument; `trade_seq` and REST count them."""

    instrument: Name
    count: Count = 1


class ChannelLimit(Order, tag="channel_limit"):
    """Refuse subscribe calls with more than `count` channels with -32600 from now on."""

    count: Count


class Partial(Order, tag="partial"):
    """Leave channels like these out of the result of the next `calls` subscribe calls that name some."""

    channels: Annotated[list[Name], msgspec.Meta(min_length=1)]
    calls: Count = 1


class Fail(Order, tag="fail"):
    """Refuse the next `calls` calls of methods like `method`, each `every`-th of them, with an error of the venue."""

    method: Name = "*"
    code: int = 13778
    message: Name = "raw_subscriptions_not_available_for_unauthorized"
    calls: Count = 1
    every: Count = 1


class Spoil(Order, tag="spoil"):
    """Answer the next `calls` REST calls of methods like `method` with what is no answer.

    `how`: `html` (a page with `status`), `status` (only that), `truncated` (half of the body), `timeout`
    (nothing for `seconds`, then the connection ends). Only each `every`-th such call is spoiled; `retry_after`
    adds the header to `html` and `status`.
    """

    how: Literal["html", "status", "truncated", "timeout"]
    method: Name = "*"
    host: Literal["www", "history", "*"] = "*"
    calls: Count = 1
    every: Count = 1
    status: Status = 502
    seconds: Seconds = 30.0
    retry_after: Annotated[int, msgspec.Meta(ge=0)] | None = None


class LimitsTold(Order, tag="limits"):
    """Answer how each host's request limits were used so far; `reset` begins the counts anew afterwards."""

    reset: bool = False


class Truth(Order, tag="truth"):
    """Answer what the venue's history holds of one thing: rows, their hash, the venue's own holes."""

    dataset: Literal["candles", "trades", "funding", "volatility", "deliveries", "settlements", "instruments"]
    instrument: Name | None = None
    currency: Name | None = None
    resolution: Name = "1"
    start: int = 0
    end: int | None = None


class RateLimit(Order, tag="rate_limit"):
    """For a time: any call over a socket gets 10028 and ends the session, REST gets HTTP 429."""

    seconds: Seconds = 5.0


class Settlement(Order, tag="settlement"):
    """For a time: calls get 10041 and `platform_state` says locked."""

    seconds: Seconds = 5.0


class Maintenance(Order, tag="maintenance"):
    """Announce maintenance, close every session, and refuse everybody with 11051 and HTTP 503 for a time."""

    seconds: Seconds = 5.0


class Refuse(Order, tag="refuse"):
    """Refuse new connections and REST with an HTTP status for a time; living sessions go on."""

    seconds: Seconds = 5.0
    status: Status = 503


class Restart(Order, tag="restart"):
    """Close the port and reset every connection; open the same port again later. Nothing is forgotten."""

    seconds: Seconds = 1.0


class Skew(Order, tag="skew"):
    """Put the venue's clock (timestamps and usOut) `ms` ahead of the truth; negative: behind."""

    ms: int


class State(Order, tag="state"):
    """Move an instrument to another life-cycle state and tell `instrument.state`."""

    instrument: Name
    state: Name


class List(Order, tag="list"):
    """List a new instrument by name and tell `instrument.creation` and `instrument.state`."""

    instrument: Name


class Expire(Order, tag="expire"):
    """End the life of an instrument now and tell `instrument.state`."""

    instrument: Name


ORDERS: Final[dict[str, type[Order]]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        Stats, FlushAccount, Sessions, BookTruth, Drop, DropAll, HalfOpen, Slow, Silence, Speak, Garbage, Lose,
        Forget, Duplicate, Reorder, Gap, MissTrades, ChannelLimit, Partial, Fail, RateLimit, Settlement, Maintenance,
        Refuse, Restart, Spoil, LimitsTold, Truth, Skew, State, List, Expire,
    )
}  # fmt: skip


def read_order(fields: Any) -> Order:
    """An order from decoded JSON or TOML.

    Raises:
        InputError: no such action, or its parameters do not fit; the message says what does.
    """
    action = fields.get("action") if isinstance(fields, dict) else None
    kind = ORDERS.get(action) if isinstance(action, str) else None
    if kind is None:
        raise InputError(f"no action {action!r}; give one of {', '.join(ORDERS)}")
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        takes = ", ".join(kind.__struct_fields__) or "no parameters"
        raise InputError(f"{action}: {error}; it takes {takes}") from None
