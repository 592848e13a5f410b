"""Periodic jobs: every instant that has been ingested, once, and none before that."""

from __future__ import annotations

import datetime as dt
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lake.delta import Table
from lake.errors import BusyError, CommitUnknownError
from lake.locks import exclusive
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import SpoolSettings, SpoolWriter
from lake.spool.writer import LOCK_FILE
from lake.views import query
from pipeline.periodic import Periodic, PeriodicJob, Ran

MINUTE = dt.timedelta(minutes=1)
HOUR = 60 * MINUTE
MIDNIGHT = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def rows_of(root: Root, instants: Sequence[dt.datetime]) -> pa.Table:
    """One row for each instant."""
    del root
    rows = [
        {
            **dict.fromkeys(TABLES["chain"].required, instant),
            "venue": "deribit",
            "instrument": "BTC-27NOV26-80000-C",
        }
        for instant in instants
    ]
    known = [{name: row.get(name) for name in TABLES["chain"].names} for row in rows]
    days = [{"date": instant.date().replace(day=1), "family": "btc_option"} for instant in instants]
    return pa.Table.from_pylist(
        [{**row, **day} for row, day in zip(known, days, strict=True)], schema=TABLES["chain"].delta_schema
    )


def job(**changes: Any) -> PeriodicJob:
    terms: dict[str, Any] = {"period": HOUR, "reach": 5 * MINUTE, "settle": MINUTE / 2, "rows": rows_of}
    return PeriodicJob(table="chain", **{**terms, **changes})


def cover(
    root: Root, start: dt.datetime, end: dt.datetime, *, stream: str = "deribit@a", offset: int = 1
) -> None:
    """Say that records from `start` to `end` are in the tables."""
    row: dict[str, object] = {**dict.fromkeys(TABLES["coverage"].names, 0), "rebuilt": False}
    row |= {"venue": "deribit", "stream": stream, "first_offset": offset - 1, "end_offset": offset}
    row |= {"start_ts": start, "end_ts": end}
    table = pa.Table.from_pylist([row], schema=TABLES["coverage"].arrow_schema)
    coverage = Table.open(root, TABLES["coverage"])
    coverage.append(table, app=stream, version=offset, origin=f"i.{stream.replace('@', '.')}.{offset}")


def held(root: Root) -> list[dt.datetime]:
    return [row["ts"] for row in query(root, "SELECT ts FROM chain ORDER BY ts").to_pylist()]


def hours(*numbers: float) -> list[dt.datetime]:
    return [MIDNIGHT + number * HOUR for number in numbers]


def test_nothing_is_due_in_a_lake_without_coverage(root: Root) -> None:
    assert Periodic(root, job()).run(MIDNIGHT) == []


def test_every_recorded_instant_is_made_once_and_a_day_at_a_time(root: Root) -> None:
    cover(root, MIDNIGHT + 21.5 * HOUR, MIDNIGHT + 25.2 * HOUR)
    periodic = Periodic(root, job())
    now = MIDNIGHT + 26 * HOUR + MINUTE
    day, next_day = MIDNIGHT.date(), (MIDNIGHT + 24 * HOUR).date()
    assert periodic.run(now) == [
        Ran("chain", day, 2, hours(23)[0], 2),
        Ran("chain", next_day, 2, hours(25)[0], 2),
    ]
    assert held(root) == hours(22, 23, 24, 25)
    assert periodic.run(now) == Periodic(root, job()).run(now) == []
    assert held(root) == hours(22, 23, 24, 25)


def test_instants_are_passed_over_where_nothing_was_recorded_within_reach(root: Root) -> None:
    cover(root, MIDNIGHT + 0.5 * HOUR, MIDNIGHT + HOUR - 4 * MINUTE)
    cover(root, MIDNIGHT + 2.5 * HOUR, MIDNIGHT + 3 * HOUR - 6 * MINUTE, offset=2)
    cover(root, MIDNIGHT + 3.5 * HOUR, MIDNIGHT + 4 * HOUR, offset=3)
    Periodic(root, job()).run(MIDNIGHT + 9 * HOUR)
    assert held(root) == hours(1, 4)


def test_an_instant_waits_until_what_belongs_to_it_has_settled(root: Root) -> None:
    cover(root, MIDNIGHT - HOUR / 2, MIDNIGHT)
    periodic = Periodic(root, job())
    assert periodic.run(MIDNIGHT + 29 * dt.timedelta(seconds=1)) == []
    assert [ran.last for ran in periodic.run(MIDNIGHT + 30 * dt.timedelta(seconds=1))] == [MIDNIGHT]


@pytest.mark.parametrize("wrong", [MINUTE, -HOUR, 24 * HOUR, -24 * HOUR])
def test_while_somebody_records_the_machines_clock_is_not_asked(root: Root, wrong: dt.timedelta) -> None:
    made: list[tuple[dt.datetime, dt.datetime]] = []
    heard = MIDNIGHT

    def rows(root: Root, instants: Sequence[dt.datetime]) -> pa.Table:
        made.extend((instant, heard) for instant in instants)
        return rows_of(root, instants)

    periodic = Periodic(root, job(rows=rows))
    with exclusive(root.stream("deribit") / LOCK_FILE, "recording"):
        for minute in range(150):
            heard = MIDNIGHT - 20 * MINUTE + minute * MINUTE
            cover(root, heard - MINUTE, heard, offset=minute + 1)
            # The clock is wrong for a minute before the hour, and for a minute after it.
            off = wrong if minute in (19, 21, 80, 81, 82) else dt.timedelta(0)
            for seconds in (0, 20, 40):
                periodic.run_some(heard + off + dt.timedelta(seconds=seconds))
    assert held(root) == hours(0, 1, 2)
    assert made == [(instant, instant + MINUTE) for instant in hours(0, 1, 2)], (
        "none too early, none too late"
    )


def test_an_instant_waits_for_the_venues_own_time(root: Root) -> None:
    cover(root, MIDNIGHT - HOUR / 2, MIDNIGHT + 26 * HOUR)  # by a clock that was a day ahead
    quotes = TABLES["quotes"]
    row = dict.fromkeys(quotes.names) | {"venue": "deribit", "instrument": "BTC-PERPETUAL"}
    row |= {
        "ts": MIDNIGHT + HOUR,
        "recv_ts": MIDNIGHT + HOUR,
        "date": MIDNIGHT.date(),
        "family": "btc_perpetual",
    }
    rows = pa.Table.from_pylist([row], schema=quotes.delta_schema)
    Table.open(root, quotes).append(rows, app="deribit@a", version=1, origin="i.deribit.a.1")
    Periodic(root, job(sources=("quotes",))).run(MIDNIGHT + 27 * HOUR)
    assert held(root) == hours(0, 1)


def test_a_clock_that_is_set_back_makes_no_pause_longer(root: Root) -> None:
    cover(root, MIDNIGHT - HOUR / 2, MIDNIGHT + HOUR)
    tries = 0

    def failing(root: Root, instants: Sequence[dt.datetime]) -> pa.Table:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise CommitUnknownError("the disk is away")
        return rows_of(root, instants)

    periodic = Periodic(root, job(rows=failing))
    periodic.run_some(MIDNIGHT + 25 * HOUR)
    periodic.run_some(MIDNIGHT + 2 * HOUR)
    assert held(root) == hours(0, 1)


def test_a_clock_a_day_ahead_passes_nothing_over(root: Root) -> None:
    cover(root, MIDNIGHT - HOUR / 2, MIDNIGHT + HOUR)
    periodic = Periodic(root, job())
    periodic.run_some(MIDNIGHT + 25 * HOUR)
    cover(root, MIDNIGHT + HOUR, MIDNIGHT + 3 * HOUR + MINUTE, offset=2)
    periodic.run_some(MIDNIGHT + 3 * HOUR + MINUTE)
    assert held(root) == hours(0, 1, 2, 3)


def test_an_instant_waits_for_every_stream_whose_spool_holds_older_records(root: Root) -> None:
    cover(root, MIDNIGHT - HOUR, MIDNIGHT + HOUR)
    earlier_ns = int((MIDNIGHT - MINUTE).timestamp()) * 1_000_000_000
    with SpoolWriter(root.stream("deribit-b"), SpoolSettings()) as spool:
        spool.append(b"{}", recv_ns=earlier_ns)
        spool.flush()
        periodic = Periodic(root, job())
        periodic.run_some(MIDNIGHT + HOUR + MINUTE)
        assert held(root) == hours(-1)  # the open segment begins a minute before midnight
        stream = spool.stream
    cover(root, MIDNIGHT - MINUTE, MIDNIGHT - MINUTE, stream=stream)
    for _ in range(2):
        periodic.run_some(MIDNIGHT + HOUR + MINUTE)
    assert held(root) == hours(-1, 0, 1)


def test_a_stream_that_nobody_ingests_is_named(root: Root, caplog: pytest.LogCaptureFixture) -> None:
    cover(root, MIDNIGHT - HOUR, MIDNIGHT + HOUR)
    with SpoolWriter(root.stream("deribit-b"), SpoolSettings()) as spool:
        spool.append(b"{}", recv_ns=int(MIDNIGHT.timestamp()) * 1_000_000_000)
    periodic = Periodic(root, job())
    periodic.run(MIDNIGHT + 14 * MINUTE)
    assert not caplog.records
    for minutes in (16, 17):
        periodic.run(MIDNIGHT + minutes * MINUTE)
    [told] = caplog.records
    assert "deribit-b" in told.message
    assert "lake ingest" in told.message


def test_another_period_repeats_and_omits_nothing(root: Root) -> None:
    cover(root, MIDNIGHT + HOUR / 2, MIDNIGHT + 9 * HOUR)
    for until, period in ((2, HOUR), (4, HOUR / 2), (6, HOUR)):
        Periodic(root, job(period=period)).run(MIDNIGHT + until * HOUR + MINUTE)
    assert held(root) == hours(1, 2, 2.5, 3, 3.5, 4, 5, 6)


def test_each_day_is_told_when_it_is_done(root: Root) -> None:
    cover(root, MIDNIGHT + 22.5 * HOUR, MIDNIGHT + 25.2 * HOUR)
    told: list[Ran] = []
    assert Periodic(root, job()).run(MIDNIGHT + 26 * HOUR, on_day=told.append) == told
    assert [ran.instants for ran in told] == [1, 2]


def test_another_process_resumes_where_one_was_cut_short(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    cover(root, MIDNIGHT + HOUR / 2, MIDNIGHT + 3.2 * HOUR)
    append = Table.append

    def lost(self: Table, rows: pa.Table, **terms: Any) -> object:
        append(self, rows, **terms)
        raise CommitUnknownError("the answer was lost")

    monkeypatch.setattr(Table, "append", lost)
    with pytest.raises(CommitUnknownError):
        Periodic(root, job()).run(MIDNIGHT + 2.5 * HOUR)
    monkeypatch.setattr(Table, "append", append)
    Periodic(root, job()).run(MIDNIGHT + 4 * HOUR)
    assert held(root) == hours(1, 2, 3)


def test_single_days_can_be_asked_for_in_any_order(root: Root) -> None:
    cover(root, MIDNIGHT + 22.5 * HOUR, MIDNIGHT + 25.2 * HOUR)
    periodic = Periodic(root, job())
    periodic.run(MIDNIGHT + 26 * HOUR, days=[(MIDNIGHT + 24 * HOUR).date()])
    assert held(root) == hours(24, 25)
    periodic.run(MIDNIGHT + 26 * HOUR, days=[MIDNIGHT.date()])
    assert held(root) == hours(23, 24, 25)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CommitUnknownError("the disk is away"), "the disk is away"),
        (OSError(errno.ENOSPC, "full"), "no space left"),
    ],
)
def test_a_job_that_fails_beside_others_is_told_and_tried_again_later(
    root: Root, caplog: pytest.LogCaptureFixture, error: Exception, words: str
) -> None:
    cover(root, MIDNIGHT + HOUR / 2, MIDNIGHT + 1.2 * HOUR)
    tries = 0

    def failing(root: Root, instants: Sequence[dt.datetime]) -> pa.Table:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise error
        return rows_of(root, instants)

    periodic = Periodic(root, job(rows=failing))
    now = MIDNIGHT + 1.5 * HOUR
    for moment in (now, now + MINUTE):
        periodic.run_some(moment)
    assert tries == 1
    assert words in caplog.text
    periodic.run_some(now + 5 * MINUTE)
    assert held(root) == hours(1)


def test_two_processes_never_run_the_same_job_at_once(root: Root) -> None:
    cover(root, MIDNIGHT + HOUR / 2, MIDNIGHT + 1.2 * HOUR)
    with exclusive(root.locks / "periodic-chain.lock", "making chain"), pytest.raises(BusyError):
        Periodic(root, job()).run(MIDNIGHT + 2 * HOUR)


def test_a_period_divides_a_day() -> None:
    with pytest.raises(ValueError, match="multiple"):
        job(period=7 * HOUR)
