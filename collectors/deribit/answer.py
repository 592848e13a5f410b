"""One REST answer on its way to rows, and the row of `backfills` that puts on record what it spans."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit import columns, wire
from collectors.deribit.batch import Reject
from collectors.deribit.decode import Decoded
from lake.errors import SchemaDriftError

EPOCH_US: Final = 0
SUBJECTS: Final = ("instrument_name", "index_name", "currency")


class _Clock(msgspec.Struct):
    """`usIn`: when the venue received the question, µs by its own clock."""

    usIn: int | None = None  # noqa: N815 - the venue's word


_CLOCK: Final = msgspec.json.Decoder(_Clock)
_NEAR_END: Final = re.compile(rb'"usIn"\s*:\s*([0-9]{1,17})[,}\s]')
_END_BYTES: Final = 160
"""The venue writes its clock behind the result; finding it there saves reading a large answer twice."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A REST answer: which method of which host was asked, with what, the body, and when it came (ns)."""

    method: str
    params: Mapping[str, str]
    body: bytes
    recv_ns: int
    requested_ns: int
    host: str = ""

    def number(self, name: str) -> int:
        """An integer that was asked with.

        Raises:
            SchemaDriftError: the question had no such parameter, so nobody can say what the answer spans.
        """
        found = self.optional(name)
        if found is None:
            raise SchemaDriftError(f"an answer to {self.method} without {name} in the question")
        return found

    def optional(self, name: str) -> int | None:
        """An integer that was asked with; None where it was not."""
        given = self.params.get(name)
        if given is None:
            return None
        try:
            return int(given)
        except ValueError:
            raise SchemaDriftError(f"{self.method} was asked with {name}={given!r}: not a number") from None

    def time_us(self, name: str) -> int | None:
        """A time that was asked with (it travels in ms), µs since the epoch; None where it was not."""
        given = self.optional(name)
        return None if given is None else given * columns.MS_IN_US

    @property
    def subject(self) -> str | None:
        """The instrument, index or currency that was asked about; None where the question names none."""
        return next((self.params[name] for name in SUBJECTS if name in self.params), None)

    def asked_us(self) -> int:
        """When the venue received the question, µs: by its clock, where the answer tells a time that can be, else by
        ours.
        """
        told = self._told_us()
        if told is not None and wire.FIRST_MS <= told // columns.MS_IN_US < wire.END_MS:
            return told
        return self.requested_ns // columns.US_IN_NS

    def _told_us(self) -> int | None:
        near = _NEAR_END.search(self.body, max(0, len(self.body) - _END_BYTES))
        if near is not None:
            return int(near[1])
        try:
            return _CLOCK.decode(self.body).usIn
        except wire.DECODE_ERRORS:
            return None

    def unreadable(self, error: object) -> SchemaDriftError:
        """What to raise where the body is not what the method answers with."""
        return SchemaDriftError(f"not an answer to {self.method}: {error}")


@dataclass(frozen=True, slots=True)
class Span:
    """What an answer spans: times in µs since the epoch, the end excluded; numbers of trades, both included."""

    dataset: str
    instrument: str
    resolution: str | None = None
    start_us: int | None = None
    end_us: int | None = None
    start_seq: int | None = None
    end_seq: int | None = None
    cursor: str | None = None
    refusal: str | None = None


def only(name: str, rows: pa.Table, rejects: list[Reject] | None = None) -> Decoded:
    """An answer that is nothing but `rows` of table `name`."""
    rows = rows.append_column("record", pa.array(np.zeros(len(rows), np.int32)))
    return Decoded({name: rows}, rejects or [])


def recorded(found: Decoded, answer: Answer, span: Span) -> Decoded:
    """`found`, and the row of `backfills` that says what the answer spans and how many rows it gave."""
    time, text, number = columns.TIME, pa.string(), pa.int64()
    cells = {
        "venue": (columns.VENUE, text),
        "dataset": (span.dataset, text),
        "instrument": (span.instrument, text),
        "resolution": (span.resolution, text),
        "start_ts": (span.start_us, time),
        "end_ts": (span.end_us, time),
        "start_seq": (span.start_seq, number),
        "end_seq": (span.end_seq, number),
        "rows": (sum(map(len, found.tables.values())), number),
        "refusal": (span.refusal, text),
        "cursor": (span.cursor, text),
        "host": (answer.host, text),
        "recv_ts": (answer.recv_ns // columns.US_IN_NS, time),
        "record": (0, pa.int32()),
    }
    return replace(found, tables={**found.tables, "backfills": columns.one_row(cells)})


def within(found: Decoded, name: str, low: int, high: int | None, column: str) -> Decoded:
    """`found` with only the rows of table `name` whose `column` is from `low` to `high`, both included.

    What else an answer brings belongs to another question's answer: left in, it would be in the lake twice.
    """
    rows = found.tables[name]
    values = rows[column].cast(pa.int64())
    keep = pc.greater_equal(values, low)
    if high is not None:
        keep = pc.and_(keep, pc.less_equal(values, high))
    return replace(found, tables={**found.tables, name: rows.filter(keep)})
