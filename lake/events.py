"""What a collector says about itself, in the same stream as the frames and in order with them.

Every event is one JSON object in an EVENT record of the spool; its `type` names the class here. Times are
nanoseconds since the epoch, UTC, by the recording machine's clock. A REST answer is a RESPONSE record.
"""

from __future__ import annotations

from typing import Final

import msgspec

from lake.errors import SchemaDriftError


class SessionStarted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """A collector process began to record; first event of its life.

    `open_gaps` are those that the life before left open: they are closed, or healed, by this one. `newest_trades` are
    the highest trade numbers that were seen before it, by instrument.
    """

    at_ns: int
    collector: str
    version: str
    host: str = ""
    venue: str | None = None
    unrecorded_since_ns: int | None = None
    unrecorded_cause: str | None = None
    open_gaps: list[GapOpened] = []
    newest_trades: dict[str, int] = {}


class SessionStopped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """A collector process is about to stop; nothing is recorded after this until the next start."""

    at_ns: int
    clean: bool = True


class Connected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Connection number `connection` to the venue is up."""

    connection: int
    at_ns: int
    url: str
    reason: str = ""


class Disconnected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Connection number `connection` is gone, for `reason`."""

    connection: int
    at_ns: int
    url: str
    reason: str = ""


class Subscribed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """The venue acknowledged `acknowledged` of `asked` channels; `missing` names the others."""

    connection: int
    at_ns: int
    asked: int
    acknowledged: int
    missing: list[str] = []


class GapOpened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """A gap has begun and is not over: should the process die now, this is what remains of its claim.

    The fields mean what they mean in `Gap`. `end_ns` is there where only the healing is still open: what was
    missed between `start_ns` and `end_ns` is being asked for. `first_seq` and `last_seq` are the trades missed.
    """

    start_ns: int
    cause: str
    instrument: str | None = None
    channel: str | None = None
    connection: int | None = None
    end_ns: int | None = None
    first_seq: int | None = None
    last_seq: int | None = None


class GapWithdrawn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """What was opened as a gap proved to be none, or to be part of another."""

    start_ns: int
    cause: str
    instrument: str | None = None
    channel: str | None = None
    connection: int | None = None
    first_seq: int | None = None


class GapsOpen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """All gaps that are open now; told now and then, so that nobody needs to read far back to know them.

    `newest_trades` is the highest trade number seen so far, by instrument.
    """

    at_ns: int
    gaps: list[GapOpened] = []
    newest_trades: dict[str, int] = {}


class Gap(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Nothing, or not everything, was recorded from `start_ns` to `end_ns`, both ends included.

    `None` means "all of them": every instrument, every channel, every connection of the stream. A `venue` of
    `None` is the venue of the stream. `records_lost` is exact where it is known. `healed` says that the data
    was fetched again since: what a healed gap names is taken out of every wider one of the same time.
    """

    start_ns: int
    end_ns: int
    cause: str
    venue: str | None = None
    instrument: str | None = None
    channel: str | None = None
    connection: int | None = None
    records_lost: int | None = None
    healed: bool = False
    first_seq: int | None = None
    last_seq: int | None = None


class ClockSkewed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """Our clock has gone further from the venue's than is healthy, or has come back.

    `offset_ns` is how far ours is ahead (negative: behind), the least of the last `samples`, which lie
    `spread_ns` apart; the way of a reply is in it.
    """

    at_ns: int
    offset_ns: int
    spread_ns: int
    samples: int


class ClockJumped(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag=True):
    """The recording machine's clock was set ahead by `by_ns` (negative: back), seen at `at_ns` of our steady clock."""

    at_ns: int
    by_ns: int


Event = (
    SessionStarted | SessionStopped | Connected | Disconnected | Subscribed
    | Gap | GapOpened | GapWithdrawn | GapsOpen | ClockSkewed
    | ClockJumped
)  # fmt: skip


class Response(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A REST answer as received: `body` is the venue's own JSON text, untouched."""

    url: str
    status: int
    requested_ns: int
    body: msgspec.Raw


_ENCODER: Final = msgspec.json.Encoder()
_EVENT_DECODER: Final = msgspec.json.Decoder(Event)
_RESPONSE_DECODER: Final = msgspec.json.Decoder(Response)


def encode_event(event: Event) -> bytes:
    """The payload of an EVENT record."""
    return _ENCODER.encode(event)


def decode_event(payload: bytes) -> Event:
    """The event in the payload of an EVENT record; fields that this version does not know are passed over.

    Raises:
        SchemaDriftError: the payload is no event that this version knows.
    """
    try:
        event: Event = _EVENT_DECODER.decode(payload)
        return event
    except msgspec.MsgspecError as error:
        raise SchemaDriftError(f"not an event this version knows ({error}): {payload[:200]!r}") from None


def encode_response(response: Response) -> bytes:
    """The payload of a RESPONSE record."""
    return _ENCODER.encode(response)


def decode_response(payload: bytes) -> Response:
    """The REST answer in the payload of a RESPONSE record.

    Raises:
        SchemaDriftError: the payload is not such a record.
    """
    try:
        return _RESPONSE_DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise SchemaDriftError(f"not a recorded REST answer ({error}): {payload[:200]!r}") from None
