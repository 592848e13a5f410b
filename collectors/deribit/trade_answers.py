"""REST answers of trades: the same trades as in notifications, asked for by sequence number or by time."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from msgspec import Raw, Struct

from collectors.deribit import channels, wire
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
    timestamp: int


class _NumberedResult(Struct, gc=False):
    trades: list[TradeNumber]


_ANSWER: Final = msgspec.json.Decoder(wire.Success[_Result])
_NUMBERED: Final = msgspec.json.Decoder(_NumberedResult)
_NOTIFIED: Final = msgspec.json.Decoder(wire.BareFrame[list[TradeNumber]])
TRADES_MARK: Final = b'"channel":"trades.'
"""What a notification of trades has in it."""
_HEAD: Final = (
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
    + channels.all_trades().encode()
    + b'","data":'
)


def trade_numbers(result: Raw) -> list[TradeNumber]:
    """Every trade in the `result` of an answer, in its order.

    Raises:
        VenueRefusedError: the result holds no trades.
    """
    try:
        return _NUMBERED.decode(result).trades
    except wire.DECODE_ERRORS as error:
        raise VenueRefusedError(f"the answer is no list of trades: {error}") from None


def notified_trades(frame: bytes) -> list[TradeNumber]:
    """Every trade in a notification of trades, in its order.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _NOTIFIED.decode(frame).params.data


def decode_trades(body: bytes, recv_ns: int) -> Decoded:
    """The trades in the body of an answer received at `recv_ns`, as if a notification had brought them.

    Raises:
        SchemaDriftError: the body is no answer with trades.
    """
    try:
        trades = _ANSWER.decode(body).result.trades
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"not an answer with trades: {error}") from None
    frame = _HEAD + bytes(trades) + b"}}"
    return decode([frame], np.array([recv_ns], np.int64), np.zeros(1, np.uint16))
