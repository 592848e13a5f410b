"""What `lake status` says of what is missing: time is counted once, however many rows tell of it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa

from lake.delta import Table
from lake.schema import TABLES
from lake.views import connect
from quality.gaps import gaps_by_cause
from tests.store.ticks import new_root

START = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)


def _gap(start: int, end: int, **values: Any) -> dict[str, Any]:
    row = {"venue": "deribit", "stream": "deribit", "cause": "disconnect", "healed": False}
    times = {"start_ts": START + dt.timedelta(seconds=start), "end_ts": START + dt.timedelta(seconds=end)}
    return dict.fromkeys(TABLES["gaps"].names) | row | times | values


def test_rows_of_one_outage_are_not_added_up(tmp_path: Path) -> None:
    root, spec = new_root(tmp_path), TABLES["gaps"]
    huge = 2**63 - 2
    rows = [
        *(_gap(0, 10, connection=number) for number in (1, 2, 3)),
        _gap(2, 5, connection=1, instrument="BTC-PERPETUAL"),
        _gap(8, 12, connection=4),
        _gap(12, 13, connection=1),
        _gap(20, 21, connection=1, healed=True),
        _gap(20, 21, connection=1),  # told before it was healed
        *(_gap(0, 1, cause="trade_seq", records_lost=huge, instrument=name) for name in ("A", "B", "C")),
    ]
    table = pa.Table.from_pylist(rows, schema=spec.arrow_schema)
    Table.open(root, spec).append(table, app="s@1", version=1, origin="i.s.1")
    with connect(root) as sql:
        lost, trades = gaps_by_cause(sql)
    assert (lost["outages"], lost["gaps"], lost["healed"], lost["seconds"]) == (2, 7, 1, 14.0)
    assert lost["records_lost"] is None
    assert (trades["outages"], trades["gaps"], trades["seconds"]) == (1, 3, 1.0)
    assert trades["records_lost"] == int(3.0 * huge)
