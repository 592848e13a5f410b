"""The option chain at every full hour: of each option the last quote at or before it, kept as a row of `chain`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa

from collectors.deribit.names import OPTIONS
from lake.conform import conform
from lake.errors import CorruptionError
from lake.root import Root
from lake.schema import TABLES
from lake.views import connect
from pipeline.periodic import PeriodicJob

HOUR: Final = dt.timedelta(hours=1)
SETTLE: Final = dt.timedelta(seconds=30)
"""A frame is received at most seconds after the venue's time of it."""


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The hourly snapshot of the option chain."""

    enabled: bool = True
    """Whether the ingester that follows the spool also makes the table `chain`; `lake chain` does so in any case."""

    quote_age_max_s: float = 120.0
    """A quote older than this at the full hour is none: the option has no row then. The venue repeats a quiet ticker
    every second."""

    def __post_init__(self) -> None:
        if not 0 < self.quote_age_max_s <= HOUR.total_seconds():
            raise ValueError("quote_age_max_s must be above 0 and at most 3600")


def chain_job(settings: ChainSettings | None = None) -> PeriodicJob:
    """The job that fills `chain`."""
    age = dt.timedelta(seconds=(settings or ChainSettings()).quote_age_max_s)
    return PeriodicJob(
        table="chain",
        period=HOUR,
        reach=age,
        settle=SETTLE,
        rows=partial(chain_rows, quote_age_max=age),
        sources=("quotes",),
    )


def chain_rows(root: Root, instants: Sequence[dt.datetime], *, quote_age_max: dt.timedelta) -> pa.Table:
    """The chain at each of `instants`: rows of `chain` with their partition columns.

    Raises:
        CorruptionError: a file of `quotes` cannot be read, or a quote does not fit where it came from.
    """
    spec = TABLES["chain"]
    copied = ", ".join(f'"{name}"' for name in spec.names if name in _OF_QUOTES)
    statement = (
        f"SELECT {copied}, $at AS ts, ts AS quote_ts, family FROM quotes "  # noqa: S608 - our own names
        "WHERE ts > $oldest AND ts <= $at AND date >= $first AND date <= $last AND ends_with(family, $options) "
        "QUALIFY row_number() OVER (PARTITION BY venue, instrument ORDER BY ts DESC, recv_ts DESC) = 1"
    )
    tables = [spec.delta_schema.empty_table()]
    with connect(root) as lake:
        for instant in instants:
            oldest = instant - quote_age_max
            days = {"first": oldest.date(), "last": instant.date()}
            found = lake.query(statement, {"at": instant, "oldest": oldest, **days, "options": OPTIONS})
            fitted = conform(spec, found)
            if fitted.rejected.any():
                raise CorruptionError(f"quotes at {instant}: {fitted.row_reasons[0]}; run `lake verify`")
            rows = fitted.rows.append_column("date", spec.dates(fitted.rows["ts"]))
            rows = rows.append_column("family", found["family"])
            tables.append(rows.select(spec.delta_schema.names).cast(spec.delta_schema))
    return pa.concat_tables(tables)


_OF_QUOTES: Final = {
    name
    for name in TABLES["quotes"].names
    if name not in ("ts", "unrounded", "funding_8h", "current_funding")
}
