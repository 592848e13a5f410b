"""REST answers of `get_funding_rate_history`: the funding of a perpetual, hour by hour."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np
from msgspec import Raw

from collectors.deribit import columns, wire
from collectors.deribit.batch import Reject
from collectors.deribit.columns import Instruments, floats, nothing, numbers, words
from collectors.deribit.decode import Decoded
from lake.errors import InputError, SchemaDriftError, VenueRefusedError

HISTORY: Final = "get_funding_rate_history"


def newest_hour_ms(result: Raw, now_ms: int) -> int:
    """The end of the newest hour in the `result` of an answer, ms since the epoch; 0 where it has none.

    Hours that end after `now_ms` are none, and what cannot be read is left out.

    Raises:
        VenueRefusedError: the result holds no hours.
    """
    try:
        hours = wire.each(result, wire.funding_hours, wire.funding_hour).rows
        return max((hour.timestamp for hour in hours if hour.timestamp <= now_ms), default=0)
    except wire.DECODE_ERRORS as error:
        raise VenueRefusedError(f"the answer is no list of hours of funding: {error}") from None


def decode_funding(instrument: str, body: bytes, recv_ns: int) -> Decoded:
    """The hours in the body of an answer about `instrument` (a parameter of the question: the answer does not
    repeat it), received at `recv_ns`, as rows of "funding" of the type hourly.

    Raises:
        SchemaDriftError: the body is no such answer, or `instrument` no instrument's name.
    """
    instruments = Instruments()
    try:
        result = wire.reply.decode(body).result
        hours, wrong = wire.each(result, wire.funding_hours, wire.funding_hour)
        instruments.code(instrument)
        unknown: Counter[str] = Counter()
        for row in wire.rows_of_fields.decode(result) if not wrong else ():
            unknown.update(f"{HISTORY}.{name}" for name in row.keys() - wire.KNOWN["funding_rate_history"])
    except (*wire.DECODE_ERRORS, InputError) as error:
        raise SchemaDriftError(f"not an answer with the funding of {instrument!r}: {error}") from None
    rows = len(hours)
    zeros = np.zeros(rows, np.int32)
    payload = [
        words(zeros, ["hourly"]),
        numbers(floats([hour.interest_1h for hour in hours])),
        numbers(floats([hour.interest_8h for hour in hours])),
        nothing(rows),
        numbers(floats([hour.index_price for hour in hours])),
        numbers(floats([hour.prev_index_price for hour in hours])),
    ]
    ts_ms = np.array([hour.timestamp for hour in hours], np.int64)
    recv_us = np.array([recv_ns // columns.US_IN_NS], np.int64)
    table = columns.table("funding", instruments, zeros, ts_ms, recv_us, zeros, payload)
    rejects = [Reject(0, f"{len(wrong)} hours of the answer refused, first: {wrong[0]}")] if wrong else []
    return Decoded({"funding": table}, rejects, unknown_fields=unknown)
