"""The last quote of every option as of given instants, out of the table `quotes`.

A day is read in one pass: DuckDB keeps the last tick of each option in each interval between instants, and what an
option did not tick in is carried forward here, with its age.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit.names import parse_name
from lake.instants import from_us, midnight_us
from lake.root import Root
from lake.views import connect
from pipeline.surface.chain import Chain

VENUE: Final = "deribit"
_NUMBERS: Final = ("bid_iv", "ask_iv", "mark_iv", "underlying_price")
_LAST_TICKS: Final = f"""
    WITH ticks AS (
        SELECT instrument, CAST(greatest(0, ceil((epoch_us(ts) - $first) / $step)) AS INTEGER) AS interval_number,
            arg_max(
                {{'ts': epoch_us(ts), {", ".join(f"'{name}': {name}" for name in _NUMBERS)}}},
                {{'ts': ts, 'recv_ts': recv_ts}}
            ) AS tick
        FROM quotes
        WHERE venue = '{VENUE}' AND family = $family AND date BETWEEN $from_day AND $to_day
            AND ts > make_timestamptz($after) AND ts <= make_timestamptz($last)
        GROUP BY ALL
    )
    SELECT instrument, interval_number, unnest(tick) FROM ticks ORDER BY instrument, interval_number
"""  # noqa: S608 - our own names


@dataclass(frozen=True, slots=True)
class Instants:
    """Equally spaced instants, µs since the epoch."""

    first: int
    step: int
    count: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.first + self.step * self.count, self.step))


def chains(root: Root, family: str, instants: Instants, max_age_s: float) -> Iterator[Chain]:
    """The chain of `family` at each of `instants`, all of one UTC day; none for an instant without any quote.

    Quotes from that day and from `max_age_s` before it are looked at; options that have expired are left out.
    """
    ticks = _last_ticks(root, family, instants, max_age_s)
    if not ticks.num_rows:
        return
    names = ticks["instrument"].combine_chunks().dictionary_encode()
    options = [parse_name(name) for name in names.dictionary.to_pylist()]
    # What is left without strike and type is the name of the expiry.
    expiry_names = {
        option.expiry: name.rsplit("-", 2)[0]
        for option, name in zip(options, names.dictionary.to_pylist(), strict=True)
        if option.expiry is not None
    }
    expiry = np.array([option.expiry for option in options], np.int64)
    strike = np.array([option.strike for option in options], np.float64)
    is_call = np.array([option.option_type == "call" for option in options])
    seen = ticks["ts"].to_numpy()
    columns = {name: pc.fill_null(ticks[name], np.nan).to_numpy() for name in _NUMBERS}
    row_of = _carried(
        names.indices.to_numpy(), ticks["interval_number"].to_numpy(), len(options), instants.count
    )
    for number, instant in enumerate(instants):
        rows = row_of[:, number]
        alive = np.flatnonzero((rows >= 0) & (expiry > instant))
        rows = rows[alive]
        if len(rows):
            yield Chain(
                instant,
                expiry[alive],
                strike[alive],
                is_call[alive],
                columns["underlying_price"][rows],
                columns["bid_iv"][rows],
                columns["ask_iv"][rows],
                columns["mark_iv"][rows],
                (instant - seen[rows]) / 1e6,
                expiry_names,
            )


def _last_ticks(root: Root, family: str, instants: Instants, max_age_s: float) -> pa.Table:
    last = instants.first + instants.step * (instants.count - 1)
    day = from_us(last).date()
    after = midnight_us(day) - round(max_age_s * 1e6)
    parameters = {
        "first": instants.first,
        "step": instants.step,
        "family": family,
        "from_day": from_us(after).date(),
        "to_day": day,
        "after": after,
        "last": last,
    }
    with connect(root) as connection:
        return connection.query(_LAST_TICKS, parameters)


def _carried(
    option: npt.NDArray[np.int32], interval: npt.NDArray[np.int32], options: int, instants: int
) -> npt.NDArray[np.int64]:
    """For each option and instant the number of the row that was its last by then, -1 where it had none yet.

    Rows are in the order of (option, interval), so that a later row has a higher number.
    """
    rows = np.full((options, instants), -1, np.int64)
    rows[option, interval] = np.arange(len(option))
    found: npt.NDArray[np.int64] = np.maximum.accumulate(rows, axis=1)
    return found
