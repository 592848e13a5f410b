"""The sampled channels as columns: funding, price indices, volatility indices, marks of whole chains.

column                      from                     meaning
--------------------------- ------------------------ --------------------------------------------------------
funding (one row per frame of perpetual.*, type momentary; hourly rows come by REST, see `funding_answers`)
 instrument                 the channel              the data does not repeat it
 interest                   same                     the rate of the moment for 8 h, a fraction
 index_price                same                     the index of the perpetual
index_prices (one row per frame)
 instrument                 index_name               must be the channel's own; family "index"
 price                      same                     in the index's quote currency
volatility_index (one row per frame, resolution tick)
 instrument                 index_name               must be the channel's own; family "index"
 close                      volatility               percent a year; open, high and low are for bars
marks (one row per option in the list of a frame)
 mark_price                 same                     coin for inverse options, else quote currency
 mark_iv                    iv                       sent as a fraction (0.3725), kept as percent (37.25) as in
                                                     quotes, digit for digit; 0 is the venue's "not
                                                     computable": null

Which frames are refused, and how fields that nobody knows are counted, is told in `decode`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from collectors.deribit import channels, columns, wire
from collectors.deribit.batch import Batch
from collectors.deribit.columns import Array, Floats, Instruments, floats, nothing, numbers, words
from lake.exact import to_units

FRACTION_SCALE: Final = 12
"""Decimals of a fraction that are shifted as a whole; any with more are shifted one by one."""


def tables(batch: Batch) -> dict[str, pa.Table]:
    """The rows of all sampled channels in `batch`, by table."""
    return {
        "funding": _funding(batch),
        "index_prices": _index_prices(batch),
        "volatility_index": _volatility_index(batch),
        "marks": _marks(batch),
    }


def _funding(batch: Batch) -> pa.Table:
    rows = _Rows()

    def take(record: int, params: wire.Params[wire.Perpetual]) -> None:
        named = channels.classify(params.channel).instrument or ""
        rows.add(record, batch.subject(params.channel, channels.PERPETUAL, named), params.data)

    rows.fill(batch, channels.PERPETUAL, wire.perpetual_frame.decode, take)
    null = nothing(len(rows.data))
    payload = [
        words(np.zeros(len(rows.data), np.int32), ["momentary"]),
        null,
        null,
        rows.numbers("interest"),
        rows.numbers("index_price"),
        null,
    ]
    return rows.table(batch, "funding", batch.instruments, payload)


def _index_prices(batch: Batch) -> pa.Table:
    rows = _rows_of_indices(batch, channels.PRICE_INDEX, wire.price_index_frame.decode)
    return rows.table(batch, "index_prices", batch.indices, [rows.numbers("price")])


def _volatility_index(batch: Batch) -> pa.Table:
    rows = _rows_of_indices(batch, channels.VOLATILITY_INDEX, wire.volatility_index_frame.decode)
    null = nothing(len(rows.data))
    tick = words(np.zeros(len(rows.data), np.int32), ["tick"])
    payload = [tick, null, null, null, rows.numbers("volatility")]
    return rows.table(batch, "volatility_index", batch.indices, payload)


def _rows_of_indices(batch: Batch, kind: str, decode_frame: Callable[[bytes], Any]) -> _Rows:
    """The rows of a class whose frames each speak of one index, which they name."""
    rows = _Rows()

    def take(record: int, params: wire.Params[wire.PriceIndex | wire.VolatilityIndex]) -> None:
        rows.add(record, batch.index(params.channel, kind, params.data.index_name), params.data)

    rows.fill(batch, kind, decode_frame, take)
    return rows


def _marks(batch: Batch) -> pa.Table:
    rows = _Rows()

    def take(record: int, params: wire.Params[list[wire.Mark]]) -> None:
        subjects = [
            batch.subject(params.channel, channels.MARKS, mark.instrument_name) for mark in params.data
        ]
        for code, mark in zip(subjects, params.data, strict=True):
            rows.add(record, code, mark)

    rows.fill(batch, channels.MARKS, wire.marks_frame.decode, take)
    iv = _percent(floats([mark.iv for mark in rows.data]))
    iv[iv == 0] = np.nan
    return rows.table(batch, "marks", batch.instruments, [rows.numbers("mark_price"), numbers(iv)])


class _Rows:
    """Rows of one class on their way into a table."""

    def __init__(self) -> None:
        self.records: list[int] = []
        self.codes: list[int] = []
        self.data: list[Any] = []

    def add(self, record: int, code: int, data: object) -> None:
        """Take a row of frame `record` that speaks of the instrument or index `code`."""
        self.records.append(record)
        self.codes.append(code)
        self.data.append(data)

    def fill(
        self, batch: Batch, kind: str, decode_frame: Callable[[bytes], Any], take: Callable[[int, Any], None]
    ) -> None:
        """Hand the params of all frames of a class to `take`, and look for unknown fields."""
        batch.each(kind, slice(None), decode_frame, take)
        batch.examine_some(kind, slice(None))

    def numbers(self, name: str) -> Array:
        """The column of field `name`; what is absent or null is null."""
        return numbers(floats([getattr(row, name) for row in self.data]))

    def table(self, batch: Batch, name: str, instruments: Instruments, payload: Sequence[Array]) -> pa.Table:
        ts_ms = np.array([row.timestamp for row in self.data], np.int64)
        codes, records = np.array(self.codes, np.int32), np.array(self.records, np.int32)
        return columns.table(name, instruments, codes, ts_ms, batch.recv_us, records, payload)


def _percent(fractions: Floats) -> Floats:
    """The numbers with the point two digits further right: 0.29 becomes 29.0, where a product is 28.999999999999996."""
    units, exact, _ = to_units(fractions, FRACTION_SCALE)
    found = units / 10.0 ** (FRACTION_SCALE - 2)
    for row in np.flatnonzero(~exact & ~np.isnan(fractions)).tolist():
        found[row] = float(f"{fractions[row].item()!r}e2")
    found[np.isnan(fractions)] = np.nan
    return found
