"""What the lake has already: instruments, spans that answers are on record for, spans that tables hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

from collectors.deribit.names import parse_name
from lake.root import Root
from lake.views import connect
from pipeline.backfill.spans import Span

NEVER_EXPIRES_MS: Final = 32_503_708_800_000
NAMES_LISTED_MAX: Final = 500
SEQ_END: Final = 1 << 62
"""End of a span of trade numbers that reaches to the newest there was."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Terms of an instrument that matter here; times in ms, `currency` as the venue groups instruments."""

    name: str
    kind: str
    currency: str
    created_ms: int
    expires_ms: int
    strike: float | None

    @property
    def perpetual(self) -> bool:
        """A future that does not expire."""
        return self.kind == "future" and self.expires_ms >= NEVER_EXPIRES_MS


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row of `backfills`; times in µs since the epoch."""

    instrument: str
    resolution: str | None
    start_us: int | None
    end_us: int | None
    start_seq: int | None
    end_seq: int | None
    rows: int
    refusal: str | None
    cursor: str | None
    host: str
    recv_us: int


class Ledger:
    """The lake as it is at one moment; a context manager."""

    def __init__(self, root: Root) -> None:
        self._sql = connect(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sql.close()

    def recorded(self, dataset: str) -> dict[str, list[Recorded]]:
        """Answers about `dataset` that are on record, by instrument, in the order of receipt."""
        found: defaultdict[str, list[Recorded]] = defaultdict(list)
        rows = self.query(
            "SELECT instrument, resolution, epoch_us(start_ts) AS start_us, epoch_us(end_ts) AS end_us, start_seq,"  # noqa: S608 - our own words
            " end_seq, rows, refusal, cursor, host, epoch_us(recv_ts) AS recv_us FROM backfills"
            f" WHERE dataset = '{dataset}' ORDER BY backfills.recv_ts"
        )
        for row in rows:
            found[row["instrument"]].append(Recorded(**row))
        return dict(found)

    @cached_property
    def instruments(self) -> list[Listed]:
        """Every instrument that was ever listed, by its newest terms."""
        rows = self.query(
            "SELECT instrument, arg_max(kind, valid_from) AS kind,"
            " arg_max(coalesce(settlement_currency, ''), valid_from) AS currency,"
            " epoch_ms(arg_max(creation_ts, valid_from)) AS created_ms,"
            " epoch_us(arg_max(expiration_ts, valid_from)) // 1000 AS expires_ms,"
            " arg_max(strike, valid_from) AS strike FROM instruments WHERE venue = 'deribit' GROUP BY instrument"
        )
        return [
            Listed(
                row["instrument"],
                row["kind"],
                row["currency"] or _currency(row["instrument"]),
                row["created_ms"] or 0,
                NEVER_EXPIRES_MS if row["expires_ms"] is None else row["expires_ms"],
                row["strike"],
            )
            for row in rows
        ]

    def whole_months(self, resolution: str, step_us: int) -> dict[str, list[Span]]:
        """Spans of the venue's bars without a hole or a repetition, by instrument and month, in µs, as `candles`
        holds them, whoever wrote them."""
        rows = self.query(
            "SELECT instrument, date_trunc('month', date) AS month, epoch_us(min(ts)) AS first_us,"  # noqa: S608
            f" epoch_us(max(ts)) AS last_us, count(*) AS n FROM candles"
            f" WHERE resolution = '{resolution}' AND source = 'venue' GROUP BY ALL"
        )
        found: defaultdict[str, list[Span]] = defaultdict(list)
        for row in rows:
            end_us = row["last_us"] + step_us
            if end_us - row["first_us"] == row["n"] * step_us:
                found[row["instrument"]].append((row["first_us"], end_us))
        return dict(found)

    def trade_spans(self, names: Sequence[str]) -> dict[str, list[Span]]:
        """Numbers of the trades held, as spans, of each of `names` that has any."""
        if not names:
            return {}
        some = f" AND instrument IN ({sql_list(names)})" if len(names) <= NAMES_LISTED_MAX else ""
        simple = self.query(
            "SELECT instrument, min(trade_seq) AS first, max(trade_seq) AS last, count(*) AS n FROM trades"  # noqa: S608
            f" WHERE trade_seq IS NOT NULL{some} GROUP BY instrument"
        )
        found = {row["instrument"]: [(row["first"], row["last"] + 1)] for row in simple}
        for row in simple:
            if row["last"] - row["first"] + 1 != row["n"]:
                found[row["instrument"]] = self._runs(row["instrument"])
        return found

    def _runs(self, name: str) -> list[Span]:
        """Runs of consecutive numbers of one instrument's trades."""
        rows = self.query(
            "SELECT min(trade_seq) AS first, max(trade_seq) + 1 AS stop FROM ("  # noqa: S608
            "SELECT trade_seq, trade_seq - row_number() OVER (ORDER BY trade_seq) AS run FROM ("
            f"SELECT DISTINCT trade_seq FROM trades WHERE instrument = {sql_list([name])} AND trade_seq IS NOT NULL)"
            ") GROUP BY run ORDER BY first"
        )
        return [(row["first"], row["stop"]) for row in rows]

    def traded_ms(self, name: str, number: int) -> int | None:
        """When the trade with this number, or the first after it that is held, was done."""
        rows = self.query(
            "SELECT epoch_ms(min(ts)) AS ms FROM trades"  # noqa: S608
            f" WHERE instrument = {sql_list([name])} AND trade_seq >= {number}"
        )
        found: int | None = rows[0]["ms"]
        return found

    def query(self, statement: str) -> list[dict[str, Any]]:
        """Rows of a statement of our own."""
        return list(self._sql.query(statement).to_pylist())


def sql_list(names: Iterable[str]) -> str:
    """Names as SQL has them in a list."""
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)


def _currency(name: str) -> str:
    """What the venue would list an instrument under, where an old listing does not say."""
    parsed = parse_name(name)
    return parsed.quote or parsed.base


def times(rows: Iterable[Recorded], resolution: str | None = None) -> list[Span]:
    """The spans of time, µs, that answered questions are on record for."""
    return [
        (row.start_us, row.end_us)
        for row in rows
        if row.refusal is None
        and row.start_us is not None
        and row.end_us is not None
        and (resolution is None or row.resolution == resolution)
    ]


def refused(rows: Iterable[Recorded], since_us: int) -> str | None:
    """Why the venue refused for good, if it did after `since_us` and nothing better came later."""
    reason = None
    for row in rows:
        if row.recv_us >= since_us:
            reason = row.refusal
    return reason
