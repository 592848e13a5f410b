"""Columns that many tables share, mostly their first, and what makes rows of them the same."""

from __future__ import annotations

from typing import Final

from lake.schema.spec import ColumnSpec, repeated_time, text, time

VENUE: Final = text("venue", "Exchange, lower case: deribit.", null=False)
INSTRUMENT: Final = text("instrument", "The venue's own name of the instrument.", null=False)
TS: Final = time("ts", "The venue's time of the event, UTC.", null=False)
EVENT: Final = (VENUE, INSTRUMENT, TS)

_RECV_DOC: Final = "When it reached us, UTC, by our clock."
RECV_TS: Final = time("recv_ts", _RECV_DOC, null=False)
SHARED_RECV_TS: Final = repeated_time("recv_ts", _RECV_DOC, null=False)
"""Of tables that get many rows out of one message."""


def as_sent(columns: tuple[ColumnSpec, ...]) -> tuple[str, ...]:
    """The natural key of rows without a key of the venue's: only what it said twice in the same words is the same."""
    return tuple(column.name for column in columns if column.name != "recv_ts")
