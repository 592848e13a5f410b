"""REST answers of whole books (`get_order_book`): levels best first, and the change that they hold.

The answer carries the ticker's fields too; those come by the ticker's channel and are left out here. A book of an
instrument that was never quoted has the change_id 0 and no levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import pyarrow as pa
from msgspec import Struct

from collectors.deribit import columns, wire
from collectors.deribit.names import family
from lake.errors import InputError, SchemaDriftError

GET_ORDER_BOOK: Final = "get_order_book"
DEPTH_UNASKED: Final = 5
"""What the venue answers where no depth is asked for."""
_SHORT: Final = pa.int16()
_NUMBERS: Final = pa.list_(pa.float64())


class _Book(Struct, gc=False):
    timestamp: wire.Milliseconds
    instrument_name: str
    change_id: wire.Int64
    bids: list[tuple[float, float]]
    asks: list[tuple[float, float]]


_ANSWER: Final = msgspec.json.Decoder(wire.Success[_Book])


def decode_order_book(body: bytes, depth: int, recv_ns: int) -> pa.Table:
    """The one row of `book_answers` (with `family`) in the body of an answer that `depth` levels were asked of.

    Raises:
        SchemaDriftError: the body is no book, or its instrument has a name of no known form.
    """
    try:
        found = _ANSWER.decode(body).result
        its_family = family(found.instrument_name)
    except (*wire.DECODE_ERRORS, InputError) as error:
        raise SchemaDriftError(f"not an answer with a book: {error}") from None
    cells = {
        "venue": (columns.VENUE, pa.string()),
        "instrument": (found.instrument_name, pa.string()),
        "ts": (found.timestamp * columns.MS_IN_US, columns.TIME),
        "recv_ts": (recv_ns // columns.US_IN_NS, columns.TIME),
        "change_id": (found.change_id, pa.int64()),
        "levels": (depth, _SHORT),
        "bid_prices": (_each(found.bids, 0), _NUMBERS),
        "bid_sizes": (_each(found.bids, 1), _NUMBERS),
        "ask_prices": (_each(found.asks, 0), _NUMBERS),
        "ask_sizes": (_each(found.asks, 1), _NUMBERS),
        "family": (its_family, pa.string()),
    }
    return columns.one_row(cells)


def _each(levels: Sequence[tuple[float, float]], which: int) -> list[float]:
    return [level[which] for level in levels]
