"""The hourly chain: of each option the last quote at or before the hour, as it was sent."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cli import app
from lake.conform import conform
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.views import query
from pipeline.chain import ChainSettings, chain_job
from pipeline.compact import compact
from pipeline.ingest import follow
from pipeline.periodic import Periodic
from tests.pipeline.test_periodic import cover
from tests.store.rows import DAY_US

CALL, PUT, FUTURE = "BTC-25DEC26-76000-C", "BTC-25DEC26-76000-P", "BTC-PERPETUAL"
MIDNIGHT = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=DAY_US)
SECOND = dt.timedelta(seconds=1)
NOON = MIDNIGHT + 12 * 3600 * SECOND
SPEC = TABLES["quotes"]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def quote(instrument: str, ts: dt.datetime, *, late_s: float = 0.05, **values: Any) -> dict[str, Any]:
    return {"venue": "deribit", "instrument": instrument, "ts": ts, "recv_ts": ts + late_s * SECOND, **values}


def hold(root: Root, quotes: Sequence[dict[str, Any]], *, offset: int = 1) -> None:
    """Put quotes into the lake, and say that the hour around noon was recorded."""
    known = [{name: row.get(name) for name in SPEC.names} for row in quotes]
    columns = pa.table(
        {n: pa.array([r[n] for r in known], _decoded_type(n)) for n in SPEC.names if n != "unrounded"}
    )
    rows = conform(SPEC, columns)
    assert not rows.rejected.any()
    families = ["btc_perpetual" if row["instrument"] == FUTURE else "btc_option" for row in known]
    table = rows.rows.append_column("date", SPEC.dates(rows.rows["ts"])).append_column(
        "family", pa.array(families)
    )
    Table.open(root, SPEC).append(table, app="deribit@a", version=offset, origin=f"i.deribit.a.{offset}")
    cover(root, NOON - 600 * SECOND, NOON + 600 * SECOND, offset=offset)


def _decoded_type(name: str) -> pa.DataType:
    kind = SPEC.column(name).type
    return pa.float64() if pa.types.is_decimal(kind) else kind


def made(root: Root) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = query(root, "SELECT * FROM chain ORDER BY ts, instrument").to_pylist()
    return rows


def test_a_row_is_the_last_quote_at_or_before_the_hour_by_the_venues_time(root: Root) -> None:
    hold(
        root,
        [
            quote(CALL, NOON - 3 * SECOND, mark_iv=31.0),
            quote(CALL, NOON - SECOND, mark_iv=32.0, delta=0.5, underlying_price=76000.5, late_s=3.0),
            quote(CALL, NOON - 2 * SECOND, mark_iv=33.0, late_s=4.0),
            quote(CALL, NOON + SECOND / 1000, mark_iv=34.0),
            quote(PUT, NOON, mark_iv=41.0),
        ],
    )
    Periodic(root, chain_job()).run(NOON + 700 * SECOND)
    call, put = made(root)
    assert (call["instrument"], call["ts"], call["quote_ts"]) == (CALL, NOON, NOON - SECOND)
    assert (call["mark_iv"], call["delta"], call["underlying_price"]) == (32.0, 0.5, 76000.5)
    assert call["recv_ts"] == NOON + 2 * SECOND
    assert (put["quote_ts"], put["mark_iv"], put["delta"]) == (NOON, 41.0, None)
    assert (call["family"], call["date"]) == ("btc_option", MIDNIGHT.date())


def test_stale_quotes_and_what_is_no_option_have_no_row(root: Root) -> None:
    hold(root, [quote(CALL, NOON - 120 * SECOND), quote(PUT, NOON - 119 * SECOND), quote(FUTURE, NOON)])
    Periodic(root, chain_job()).run(NOON + 700 * SECOND)
    assert [row["instrument"] for row in made(root)] == [PUT]


def test_how_stale_is_a_setting(root: Root) -> None:
    hold(root, [quote(CALL, NOON - 4 * SECOND), quote(PUT, NOON - 6 * SECOND)])
    Periodic(root, chain_job(ChainSettings(quote_age_max_s=5))).run(NOON + 700 * SECOND)
    assert [row["instrument"] for row in made(root)] == [CALL]
    with pytest.raises(ValueError, match="quote_age_max_s"):
        ChainSettings(quote_age_max_s=0)


def test_a_number_finer_than_its_column_comes_back_as_sent(root: Root) -> None:
    hold(root, [quote(CALL, NOON, delta=0.123456789, mark_iv=31.25)])
    Periodic(root, chain_job()).run(NOON + 700 * SECOND)
    [row] = made(root)
    assert (row["delta"], row["mark_iv"]) == (0.123456789, 31.25)


def test_a_second_run_by_the_command_or_beside_ingest_changes_nothing(
    root: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    hold(root, [quote(CALL, NOON - SECOND), quote(PUT, NOON)])
    command = ["--root", str(root.path), "chain", "--json"]
    assert printed(capsys, *command, "--date", "2001-01-01") == []
    [day] = printed(capsys, *command)
    assert (day["table"], day["instants"], day["rows"]) == ("chain", 1, 2)
    before = made(root)
    assert printed(capsys, *command) == []
    Periodic(root, chain_job()).run_some()
    assert made(root) == before
    compact(root, days=[MIDNIGHT.date().replace(day=1)], tables=["chain"])
    assert made(root) == before
    assert not [problem for problem in _problems(root) if "chain" in problem]


def printed(capsys: pytest.CaptureFixture[str], *command: str) -> list[dict[str, Any]]:
    app(list(command), standalone_mode=False)
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return rows


def _problems(root: Root) -> list[str]:
    from quality.verify import verify

    return [told for told in verify(root).problems if "chain" in told]


def test_an_ingester_that_follows_does_its_jobs_after_every_round(root: Root) -> None:
    hold(root, [quote(CALL, NOON - SECOND)])
    reading, writing = os.pipe()
    os.close(writing)  # the leash ends at once: there is one round, the last
    try:
        follow(root, leash=reading, beside=[Periodic(root, chain_job()).run_some])
    finally:
        os.close(reading)
    assert [row["quote_ts"] for row in made(root)] == [NOON - SECOND]
