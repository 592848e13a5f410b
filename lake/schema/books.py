"""Books at an instant: sampled from what was streamed, as the venue answers, and whether the two agree."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import INSTRUMENT, RECV_TS, VENUE
from lake.schema.spec import TableSpec, flag, long, number32, numbers, small, text, time

_LEVELS: Final = (
    numbers("bid_prices", "Prices of the bids, best first, unit as in quotes.", null=False),
    numbers("bid_sizes", "Amounts at the bids, unit as in quotes.", null=False),
    numbers("ask_prices", "Prices of the asks, best first.", null=False),
    numbers("ask_sizes", "Amounts at the asks.", null=False),
)

_DEPTH: Final = (
    VENUE,
    INSTRUMENT,
    time("ts", "The instant of the sample, venue's clock, UTC.", null=False),
    time("book_ts", "The venue's time of the last message that the book holds.", null=False),
    time("book_recv_ts", "When that message last reached us, UTC, by our clock.", null=False),
    long("change_id", "change_id of that message in `book`.", null=False),
    flag("complete", "Whether the row has every level; the first sample of an hour always does.", null=False),
    *_LEVELS,
)

_ANSWER: Final = (
    VENUE,
    INSTRUMENT,
    time("ts", "The venue's time of the answer, UTC.", null=False),
    RECV_TS,
    long("change_id", "The last change that the answer holds; 0 where nothing was ever quoted.", null=False),
)

_ANSWERS: Final = (
    *_ANSWER,
    small("levels", "How many levels a side were asked for.", null=False),
    *_LEVELS,
)

_CHECKS: Final = (
    *_ANSWER,
    number32("levels_compared", "Levels compared, bids and asks together.", null=False),
    text("result", "equal, differs, or unverifiable.", null=False),
    text("reason", "Why it could not be verified."),
    text("difference", "The first level that differs: ours and the venue's."),
)

SPECS: Final = (
    TableSpec(
        name="depth",
        doc="The best levels of every book at regular instants, rebuilt from `book`. No row: no book that is certain.",
        columns=_DEPTH,
        natural_key=("venue", "instrument", "ts"),
        sort_key=("venue", "instrument", "ts"),
    ),
    TableSpec(
        name="book_answers",
        doc="Books as the venue answered when it was asked for them, a rotating sample.",
        columns=_ANSWERS,
        natural_key=("venue", "instrument", "recv_ts", "ts", "change_id", "levels"),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        period="month",
        streamed=True,
    ),
    TableSpec(
        name="book_checks",
        doc="For every row of `book_answers`: whether the book rebuilt from `book` at that change is the same.",
        columns=_CHECKS,
        natural_key=("venue", "instrument", "recv_ts"),
        sort_key=("venue", "instrument", "ts", "recv_ts"),
        period="month",
    ),
)
