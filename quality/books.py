"""Books rebuilt from the stream against books as the venue answered: level by level, at the very same change.

The answer says which change it holds. Where the stream passed through that change, the two must be equal to the last
digit. Where it did not (the venue sends several changes as one), nobody can say; the same holds where the stream
has a hole, or has not come that far.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final

import pyarrow as pa

from lake.books.arrays import NO_BOOK, PROVEN
from lake.books.instant import MISSING, NEVER, sides, timeline_of
from lake.books.reading import BookReader, Register
from lake.instants import MICROSECOND, to_us
from lake.root import Root
from lake.schema import TABLES
from lake.views import Connection, connect

SPEC: Final = TABLES["book_checks"]
PERIOD: Final = dt.timedelta(minutes=10)
SETTLE: Final = dt.timedelta(seconds=60)
"""Books by socket lag behind answers by up to 1.6 s (measured); this is ample."""
EQUAL, DIFFERS, UNVERIFIABLE = "equal", "differs", "unverifiable"
UNQUOTED: Final = "never quoted"
BETWEEN: Final = "the change lies between two messages of the stream"
BEHIND: Final = "the stream has not come to this change"
_CLOCKS_APART_US: Final = 10_000_000
Pairs = Sequence[tuple[float, float]]


def check_rows(root: Root, instants: Sequence[dt.datetime]) -> pa.Table:
    """Rows of `book_checks`, with partition columns, for answers received in the `PERIOD` before each instant.

    Raises:
        CorruptionError: a file of the lake cannot be read.
    """
    rows: list[dict[str, Any]] = []
    with connect(root) as sql:
        for instant in instants:
            answers = sql.query(
                "SELECT * FROM book_answers WHERE ts > $1 AND ts < $2 AND recv_ts > $3 AND recv_ts <= $4",
                [
                    instant - PERIOD - dt.timedelta(hours=1),
                    instant + dt.timedelta(hours=1),
                    instant - PERIOD,
                    instant,
                ],
            )
            rows += [check(root, sql, answer) for answer in answers.to_pylist()]
    table = pa.Table.from_pylist(rows, schema=SPEC.arrow_schema)
    table = table.append_column("date", SPEC.dates(table["ts"]))
    families = pa.array([row["family"] for row in rows], pa.string())
    return table.append_column("family", families).cast(SPEC.delta_schema)


def check(root: Root, sql: Connection, answer: dict[str, Any]) -> dict[str, Any]:
    """The row of `book_checks` (and `family`) for a row of `book_answers`."""
    asked = answer["levels"]
    theirs = (
        list(zip(answer["bid_prices"], answer["bid_sizes"], strict=True)),
        list(zip(answer["ask_prices"], answer["ask_sizes"], strict=True)),
    )
    ours, reason = _rebuilt(root, sql, answer)
    row = {name: answer[name] for name in ("venue", "instrument", "ts", "recv_ts", "change_id", "family")}
    if ours is None:
        return {**row, "levels_compared": 0, "result": UNVERIFIABLE, "reason": reason, "difference": None}
    compared = sum(len(side) for side in theirs)
    difference = next(
        (
            f"{word} {place}: {_told(our)} here, {_told(their)} at the venue"
            for word, mine, yours in zip(("bid", "ask"), ours, theirs, strict=True)
            for place, (our, their) in enumerate(zip_longest(mine[:asked], yours), start=1)
            if our != their
        ),
        None,
    )
    result = EQUAL if difference is None else DIFFERS
    return {**row, "levels_compared": compared, "result": result, "reason": None, "difference": difference}


def _rebuilt(root: Root, sql: Connection, answer: dict[str, Any]) -> tuple[tuple[Pairs, Pairs] | None, str]:
    """Bids and asks after the change that the answer holds, or why they are not known."""
    change_id, at_us = answer["change_id"], to_us(answer["ts"])
    if change_id == 0:
        return None, UNQUOTED
    reader = BookReader(root, Register())
    settle_us = SETTLE // MICROSECOND
    timeline = timeline_of(reader, sql, answer["instrument"], at_us - _CLOCKS_APART_US, at_us + settle_us)
    number = reader.register.known((answer["venue"], answer["instrument"]))
    if number is None:
        return None, NEVER
    books, reached = timeline.at_change(number, change_id)
    if books.change_id[number] == change_id:
        return sides(books, number, None), ""
    if not reached:
        return None, BEHIND
    status = books.status[number]
    return None, BETWEEN if status == PROVEN else NEVER if status == NO_BOOK else MISSING


def _told(level: tuple[float, float] | None) -> str:
    return "nothing" if level is None else f"{level[0]!r} x {level[1]!r}"


def last_checks(sql: Connection, days: int = 7) -> list[dict[str, Any]]:
    """How the checks of the last `days` came out, by result and reason: how many, the last, and the last difference."""
    answer = sql.query(
        "SELECT result, reason, count(*) AS checks, count(DISTINCT instrument) AS instruments, max(ts) AS last, "
        "arg_max(instrument || ' ' || difference, ts) AS example FROM book_checks "
        "WHERE ts > $1 GROUP BY result, reason ORDER BY checks DESC",
        [dt.datetime.now(dt.UTC) - dt.timedelta(days=days)],
    )
    return list(answer.to_pylist())
