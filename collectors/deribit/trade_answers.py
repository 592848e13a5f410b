"""REST answers of trades: the same trades as in notifications, asked for by sequence number or by time."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw, Struct

from collectors.deribit import channels, wire
from collectors.deribit.batch import Reject
from collectors.deribit.decode import Decoded, decode
from lake.errors import SchemaDriftError, VenueRefusedError

BY_INSTRUMENT: Final = "get_last_trades_by_instrument"
BY_INSTRUMENT_AND_TIME: Final = "get_last_trades_by_instrument_and_time"
BY_CURRENCY: Final = "get_last_trades_by_currency"
BY_TIME: Final = "get_last_trades_by_currency_and_time"

ANSWERS: Final = "/get_last_trades_by_"
"""What the address of every method has in it that answers with trades in this form."""


class _Result(Struct, gc=False):
    trades: Raw


class TradeNumber(Struct, gc=False, frozen=True):
    """What tells whether a trade is missing; `timestamp` in ms."""

    instrument_name: str
    trade_seq: int
    timestamp: wire.Milliseconds


_ANSWER: Final = msgspec.json.Decoder(wire.Success[_Result])
_RESULT: Final = msgspec.json.Decoder(_Result)
_NUMBERS: Final = msgspec.json.Decoder(list[TradeNumber])
_NUMBER: Final = msgspec.json.Decoder(TradeNumber)
_NOTIFIED: Final = msgspec.json.Decoder(wire.BareFrame[list[TradeNumber]])
TRADES_MARK: Final = b'"channel":"trades.'
"""What a notification of trades has in it."""
_HEAD: Final = (
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
    + channels.all_trades().encode()
    + b'","data":'
)


def trade_numbers(result: Raw) -> list[TradeNumber]:
    """Every trade in the `result` of an answer, in its order; one that cannot be read is left out.

    Raises:
        VenueRefusedError: the result holds no trades.
    """
    try:
        found = wire.each(_RESULT.decode(result).trades, _NUMBERS, _NUMBER).rows
        return [trade for trade in found if _can_be(trade)]
    except wire.DECODE_ERRORS as error:
        raise VenueRefusedError(f"the answer is no list of trades: {error}") from None


def notified_trades(frame: bytes) -> list[TradeNumber]:
    """Every trade in a notification of trades, in its order.

    Where a number in it cannot be, only such: ingest will refuse the whole notification, and the others have not come.

    Raises:
        msgspec.DecodeError: it is none.
    """
    found = _NOTIFIED.decode(frame).params.data
    return [trade for trade in found if not _can_be(trade)] or found


def _can_be(trade: TradeNumber) -> bool:
    return 0 <= trade.trade_seq <= wire.COUNTER_MAX


def decode_trades(body: bytes, recv_ns: int) -> Decoded:
    """The trades in the body of an answer received at `recv_ns`, as if a notification had brought them.

    Unlike in a notification, one that cannot be read leaves the others as they are.

    Raises:
        SchemaDriftError: the body is no answer with trades.
    """
    try:
        trades = _ANSWER.decode(body).result.trades
        rows = wire.raw_list.decode(trades)
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"not an answer with trades: {error}") from None
    found = _decoded([bytes(trades)], recv_ns)
    if not found.rejects:
        return found
    found = _decoded([b"[" + bytes(row) + b"]" for row in rows], recv_ns)
    zeros = pa.array(np.zeros(len(found.tables["trades"]), np.int32))
    at = found.tables["trades"].schema.get_field_index("record")
    trades_at_zero = found.tables["trades"].set_column(at, "record", zeros)
    return replace(
        found,
        tables={"trades": trades_at_zero},
        rejects=[Reject(0, reject.reason) for reject in found.rejects],
    )


def _decoded(lists: list[bytes], recv_ns: int) -> Decoded:
    """Lists of trades, each as a notification would bring it."""
    frames = [_HEAD + rows + b"}}" for rows in lists]
    return decode(frames, np.full(len(frames), recv_ns, np.int64), np.zeros(len(frames), np.uint16))
