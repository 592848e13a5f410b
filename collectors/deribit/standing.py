"""What an instrument stands at by the venue's own answer, against what a channel of it brought last.

`get_order_book` answers with the change that its book holds, and with the quote of the ticker. Its timestamp is that of
the answer (measured: fresh even for books that were never quoted), so it says nothing about either.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw, Struct

from collectors.deribit import wire


class Quote(NamedTuple):
    """Best prices and their amounts; 0 where a side is empty, which the venue also writes as null."""

    bid: float
    bid_amount: float
    ask: float
    ask_amount: float


class Standing(NamedTuple):
    """The last change of an instrument's book, 0 where it was never quoted, its best levels as JSON, and its quote."""

    change_id: int
    levels: bytes
    quote: Quote


class _Quoted(Struct, gc=False):
    best_bid_price: wire.Number
    best_bid_amount: wire.Number
    best_ask_price: wire.Number
    best_ask_amount: wire.Number

    def quote(self) -> Quote:
        return Quote(
            self.best_bid_price or 0.0,
            self.best_bid_amount or 0.0,
            self.best_ask_price or 0.0,
            self.best_ask_amount or 0.0,
        )


class _Answer(_Quoted, gc=False):
    change_id: wire.Int64
    bids: Raw
    asks: Raw


_ANSWER: Final = msgspec.json.Decoder(_Answer)
_TICKER: Final = msgspec.json.Decoder(wire.BareFrame[_Quoted])


def standing_of(result: Raw) -> Standing:
    """What the result of `get_order_book` says.

    Raises:
        wire.DECODE_ERRORS: it is none.
    """
    answer = _ANSWER.decode(result)
    return Standing(answer.change_id, bytes(answer.bids) + bytes(answer.asks), answer.quote())


def quote_of(frame: bytes) -> Quote:
    """What a notification of a ticker says.

    Raises:
        wire.DECODE_ERRORS: it is none.
    """
    return _TICKER.decode(frame).params.data.quote()
