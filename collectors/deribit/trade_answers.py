"""REST answers of trades: the same trades as in notifications, asked for by instrument."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from msgspec import Raw, Struct

from collectors.deribit import channels, wire
from collectors.deribit.decode import Decoded, decode
from lake.errors import SchemaDriftError

METHOD: Final = "get_last_trades_by_instrument"
ANSWERS: Final = "/get_last_trades_by_"
"""What the address of every method has in it that answers with trades in this form."""


class _Result(Struct, gc=False):
    trades: Raw


class _Numbered(Struct, gc=False):
    trade_seq: int
    instrument_name: str


class _NumberedResult(Struct, gc=False):
    trades: list[_Numbered]


_RESULT: Final = msgspec.json.Decoder(_Result)
_NUMBERED: Final = msgspec.json.Decoder(_NumberedResult)
_HEAD: Final = (
    b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
    + channels.all_trades().encode()
    + b'","data":'
)


def sequence_numbers(result: Raw, instrument: str) -> list[int]:
    """The `trade_seq` of every trade of `instrument` in the `result` of an answer, in its order.

    Raises:
        msgspec.DecodeError: the result holds no trades.
    """
    return [
        trade.trade_seq for trade in _NUMBERED.decode(result).trades if trade.instrument_name == instrument
    ]


def decode_trades(body: bytes, recv_ns: int) -> Decoded:
    """The trades in the body of an answer received at `recv_ns`, as if a notification had brought them.

    Raises:
        SchemaDriftError: the body is no answer with trades.
    """
    try:
        trades = _RESULT.decode(wire.reply.decode(body).result).trades
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"not an answer with trades: {error}") from None
    frame = _HEAD + bytes(trades) + b"}}"
    return decode([frame], np.array([recv_ns], np.int64), np.zeros(1, np.uint16))
