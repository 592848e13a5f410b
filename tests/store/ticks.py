"""Trades made up for the tests of the store, and a way to run one step of a table in a process of its own."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lake.crashpoints import ENVIRONMENT_NAME
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES

TRADES = TABLES["trades"]
DAY = dt.date(2026, 11, 20)
MIDNIGHT = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)
REPOSITORY = Path(__file__).resolve().parents[2]


def trades(first: int, stop: int, *, family: str = "btc_option", day: dt.date = DAY) -> pa.Table:
    """Trades numbered `first` to `stop`, one a second from midnight, with their partition columns."""
    midnight = dt.datetime.combine(day, dt.time(), dt.UTC)
    rows = [
        {
            "venue": "deribit",
            "instrument": f"BTC-{number % 3}",
            "ts": midnight + dt.timedelta(seconds=number),
            "recv_ts": midnight + dt.timedelta(seconds=number, milliseconds=20),
            "trade_id": str(number),
            "price": 0.0005 * (number + 1),
            "size": 1.5,
            "side": "buy",
            "date": day,
            "family": family,
        }
        for number in range(first, stop)
    ]
    return pa.Table.from_pylist(rows, schema=TRADES.delta_schema)


def append(table: Table, first: int, stop: int, app: str = "deribit@1") -> bool:
    """Append trades as ingest does; whether they were already there."""
    origin = f"i.{app.replace('@', '.')}.{stop}"
    return table.append(trades(first, stop), app=app, version=stop, origin=origin).already_there


def compact(table: Table) -> None:
    """Put one file in the place of all that are there now."""
    files = table.files()
    pieces = [pq.read_table(table.folder / file.path, partitioning=None) for file in files]
    rows = pa.concat_tables([piece.cast(TRADES.arrow_schema) for piece in pieces])
    table.replace(files, [table.stage(files[0].partition, rows, origin="c")])


def ids(table: Table) -> list[int]:
    """Numbers of the trades in the table, sorted, with repetitions."""
    return sorted(int(str(text)) for text in table.read(["trade_id"])["trade_id"].to_pylist())


def new_root(path: Path) -> Root:
    """An empty lake."""
    return open_root(path / "lake", create=True)


def start(root: Root, code: str, crash_at: str | None = None) -> subprocess.Popen[str]:
    """Run `code`, which finds `root` and everything of this module, in its own process."""
    prelude = "import sys\nfrom pathlib import Path\nfrom tests.store.ticks import *\n"
    environment = {**os.environ, **({ENVIRONMENT_NAME: crash_at} if crash_at else {})}
    return subprocess.Popen(
        [sys.executable, "-c", f"{prelude}root = open_root(Path(sys.argv[1]))\n{code}", str(root.path)],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
