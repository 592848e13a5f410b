"""REST answers as columns: which of the venue's methods are tabulated, and by what.

Whoever asks the venue by REST records the answer as it came, with its address; here the address says what the
answer is. A method that is not in `DECODERS` is kept in the spool and counted, and gives no rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pyarrow as pa

from collectors.deribit.book_answers import DEPTH_UNASKED, GET_ORDER_BOOK, decode_order_book
from collectors.deribit.decode import Decoded, Reject
from collectors.deribit.funding_answers import HISTORY, decode_funding
from collectors.deribit.instruments import RefusedInstrument, decode_instruments
from collectors.deribit.trade_answers import decode_trades

HTTP_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """A REST answer: the parameters it was asked with, its body, and when it was received (ns)."""

    params: Mapping[str, str]
    body: bytes
    recv_ns: int


def decode_answer(url: str, status: int, body: bytes, recv_ns: int) -> Decoded | None:
    """The rows of the answer that came from `url`, all with `record` 0; None where none are made of it.

    Raises:
        SchemaDriftError: the body is not what this method answers with.
        VenueRefusedError: the body is the venue's error.
    """
    parts = urlsplit(url)
    decoder = DECODERS.get(parts.path.rpartition("/")[2])
    if decoder is None or status != HTTP_OK:
        return None
    return decoder(Answer(dict(parse_qsl(parts.query)), body, recv_ns))


def only(name: str, rows: pa.Table, rejects: list[Reject] | None = None) -> Decoded:
    """An answer that is nothing but `rows` of table `name`."""
    rows = rows.append_column("record", pa.array(np.zeros(len(rows), np.int32)))
    return Decoded({name: rows}, rejects or [], Counter(), 0, Counter(), [])


def _trades(answer: Answer) -> Decoded:
    return decode_trades(answer.body, answer.recv_ns)


def _instruments(answer: Answer) -> Decoded:
    strange: list[RefusedInstrument] = []
    rows = decode_instruments(answer.body, answer.recv_ns, strange)
    told = f"{len(strange)} instruments of the listing refused, first: " if strange else ""
    return only("instruments", rows, [Reject(0, told + strange[0].reason)] if strange else None)


def _funding(answer: Answer) -> Decoded:
    return decode_funding(answer.params.get("instrument_name", ""), answer.body, answer.recv_ns)


def _book(answer: Answer) -> Decoded:
    depth = answer.params.get("depth", DEPTH_UNASKED)
    return only("book_answers", decode_order_book(answer.body, depth, answer.recv_ns))


DECODERS: Final[Mapping[str, Callable[[Answer], Decoded]]] = {
    HISTORY: _funding,
    GET_ORDER_BOOK: _book,
    "get_instruments": _instruments,
    "get_last_trades_by_instrument": _trades,
    "get_last_trades_by_instrument_and_time": _trades,
    "get_last_trades_by_currency": _trades,
    "get_last_trades_by_currency_and_time": _trades,
}
