"""Deribit's listings as rows of instrument terms.

What is sent is kept: fields that a year's listing lacks are null (`state` before 2026, `tick_size_steps`
before 2023-07-04, `instrument_type` before 2023-03-22, `price_index` before 2022-04-27, `instrument_id`
before 2022-03-31, `counter_currency` and `settlement_currency` before 2022-02-23).

`expiration_ts` of perpetuals and spot is the venue's constant, 3000-01-01 08:00 UTC, and not null: "still
alive at t" is then one comparison for every instrument, and null is left to mean that no expiry was sent.
It does not fit nanosecond timestamps (their end is 2262): read the column in µs, as it is stored.

`tick_size_steps` is JSON text with sorted keys and no spaces, so that equal terms are equal texts. Key
instruments by name: the venue's `instrument_id` has changed for living instruments, and two have shared one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa

from collectors.deribit import columns, wire
from lake.errors import SchemaDriftError, VenueRefusedError

_RENAMED: Final = {
    "instrument": "instrument_name",
    "creation_ts": "creation_timestamp",
    "expiration_ts": "expiration_timestamp",
}
_COMPUTED: Final = ("venue", "valid_from")


@dataclass(frozen=True, slots=True)
class RefusedInstrument:
    """An entry of a listing that could not be taken: its index in the listing, and one line naming the
    field."""

    index: int
    reason: str


def decode_instruments(body: bytes, seen_ns: int, refused: list[RefusedInstrument] | None = None) -> pa.Table:
    """Decode a response of get_instruments or get_instrument, or the bare array that archives keep of it.

    seen_ns: when the terms were seen, ns since the epoch; becomes `valid_from`. Entries that do not fit are
    appended to `refused`; without such a list the first of them raises SchemaDriftError, as does a body that
    is no listing. VenueRefusedError if the response is the venue's error.
    """
    entries = _entries(body)
    taken: list[wire.Instrument] = []
    for index, entry in enumerate(entries):
        try:
            taken.append(wire.instrument.decode(entry))
        except wire.DECODE_ERRORS as error:
            if refused is None:
                raise SchemaDriftError(f"instrument {index} of the listing: {error}") from error
            refused.append(RefusedInstrument(index, str(error)))
    return _table(taken, seen_ns)


def decode_creation(frame: bytes, seen_ns: int) -> pa.Table:
    """Decode an `instrument.creation` notification, whose data is one instrument's complete terms."""
    try:
        data = wire.notification.decode(frame).params.data
        return _table([wire.instrument.decode(data)], seen_ns)
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"instrument.creation: {error}") from error


def _entries(body: bytes) -> list[msgspec.Raw]:
    try:
        if body.lstrip().startswith(b"["):
            return wire.raw_list.decode(body)
        reply = wire.reply.decode(body)
        if reply.error is not wire.NOTHING:
            raise VenueRefusedError(
                f"the venue refused the listing: {bytes(reply.error).decode(errors='replace')}"
            )
        if reply.result is wire.NOTHING:
            raise SchemaDriftError("a listing without result")
        if bytes(reply.result).lstrip().startswith(b"["):
            return wire.raw_list.decode(reply.result)
        return [reply.result]
    except wire.DECODE_ERRORS as error:
        raise SchemaDriftError(f"not a listing of instruments: {error}") from error


def _table(taken: Sequence[wire.Instrument], seen_ns: int) -> pa.Table:
    schema = columns.INSTRUMENTS
    seen = np.full(len(taken), seen_ns // columns.US_IN_NS, np.int64)
    made = {
        "venue": columns.words(np.zeros(len(taken), np.int32), [columns.VENUE]),
        "valid_from": columns.times(seen),
    }
    for column in schema:
        if column.name not in _COMPUTED:
            values = [getattr(entry, _RENAMED.get(column.name, column.name)) for entry in taken]
            if column.name == "tick_size_steps":
                values = [None if v is None else _steps_text(v) for v in values]
            elif column.type == columns.TIME:
                values = [None if v is None else v * columns.MS_IN_US for v in values]
            made[column.name] = pa.array(values, column.type)
    return pa.Table.from_arrays([made[name] for name in schema.names], schema=schema)


def _steps_text(steps: list[dict[str, float]]) -> str:
    return msgspec.json.encode(steps, order="sorted").decode()
