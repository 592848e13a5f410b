"""What the sampled series cost beside the tickers: on the wire, in decoding, at rest; and the hourly chain.

    python -m bench.sampled

A market of a thousand instruments lives for some minutes of its own time, and everything it says on a class of
channels is counted, decoded, and written as compaction would. `marks` is measured with the rest, so that its price
can be held against the tickers', which tell the same.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from bench.frames import INSTRUMENTS, START_MS
from bench.harness import Figure, cpu, report
from collectors.deribit import channels
from collectors.deribit.decode import decode
from collectors.simulator.chain import build_chain
from collectors.simulator.frames import notification
from collectors.simulator.market import Market
from lake.conform import conform
from lake.delta import Table
from lake.parquet import sort_rows, write_file
from lake.root import open_root
from lake.schema import TABLES
from pipeline.chain import ChainSettings, chain_rows

SECONDS: Final = 60
SECONDS_LONG: Final = 600
STEPS_PER_S: Final = 100
FRAMES_PER_S: Final = 1_500.0
"""About what a thousand instruments say in a quiet hour: each ticker once a second, and what the books cause."""
DAY_S: Final = 86_400
SERIES: Final = {
    "quotes": "ticker",
    "marks": channels.MARKS,
    "funding": channels.PERPETUAL,
    "index_prices": channels.PRICE_INDEX,
    "volatility_index": channels.VOLATILITY_INDEX,
}


class _Listened:
    """The channels listened to: all of `SERIES`, funding once a second."""

    def __contains__(self, channel: object) -> bool:
        kind = channels.classify(str(channel)).kind
        return kind in SERIES.values() and not (
            kind == channels.PERPETUAL and str(channel).endswith(".100ms")
        )


class _Outlet:
    """Keeps what the market publishes, by class of channel."""

    def __init__(self) -> None:
        self.listened = _Listened()
        self.frames: dict[str, list[bytes]] = {kind: [] for kind in SERIES.values()}

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        del seq, prev
        self.frames[channels.classify(channel).kind].append(notification(channel, data).encode())


def live(seconds: int) -> dict[str, list[bytes]]:
    """What the market says in `seconds` of its time, by table."""
    outlet = _Outlet()
    specs = build_chain(INSTRUMENTS, START_MS)
    market = Market(specs, seed=1, rate=FRAMES_PER_S, start_ms=START_MS, outlet=outlet)  # type: ignore[arg-type]
    while market.now_ms < START_MS + seconds * 1000:
        market.step()
    return {table: outlet.frames[kind] for table, kind in SERIES.items()}


def decoded(frames: list[bytes], table: str) -> tuple[pa.Table, float]:
    """The rows of the frames with their partition family, and the CPU seconds it took."""
    recv_ns = START_MS * 1_000_000 + np.arange(len(frames), dtype=np.int64) * 1000
    with cpu() as clock:
        found = decode(frames, recv_ns, np.zeros(len(frames), np.uint16))
    if found.rejects:
        raise ValueError(found.rejects[0].reason)
    return found.tables[table], clock.used


def series_figures(
    table: str, frames: list[bytes], rows: pa.Table, used: float, seconds: int
) -> list[Figure]:
    """What one series costs a second on the wire, a row in decoding, and a day at rest."""
    spec = TABLES[table]
    fitted = sort_rows(conform(spec, rows.drop_columns(["record"])).rows, spec)
    with tempfile.TemporaryDirectory() as folder:
        size = write_file(Path(folder) / "f.parquet", fitted, spec, purpose="compact").size / len(fitted)
    a_second = len(rows) / seconds
    return [
        Figure(f"{table}: frames", len(frames) / seconds, "a second"),
        Figure(f"{table}: wire", sum(map(len, frames)) / seconds / 1e3, "kB a second"),
        Figure(f"{table}: rows", a_second, "a second"),
        Figure(f"{table}: decoding", used / len(rows) * 1e6, "CPU-s/M rows"),
        Figure(f"{table}: at rest", size, "B/row"),
        Figure(f"{table}: a day at rest", size * a_second * DAY_S / 1e6, "MB"),
    ]


def chain_figures(rows: pa.Table, seconds: int) -> list[Figure]:
    """What it costs to find the last quote of every option."""
    spec = TABLES["quotes"]
    fitted = conform(spec, rows.drop_columns(["record"])).rows
    full = fitted.append_column("date", spec.dates(fitted["ts"])).append_column(
        "family", rows["family"].cast(pa.string())
    )
    end = dt.datetime.fromtimestamp(START_MS / 1000 + seconds, dt.UTC)
    age = dt.timedelta(seconds=ChainSettings().quote_age_max_s)
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        Table.open(root, spec).append(full, app="bench", version=1, origin="i.bench.1")
        job = partial(chain_rows, root, [end], quote_age_max=age)
        job()
        with cpu() as clock:
            made = job()
    return [
        Figure(f"chain: rows of an hour, from {len(full):,} quotes", len(made), "rows"),
        Figure("chain: an hour", clock.used, "CPU-s"),
    ]


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{SECONDS_LONG} seconds instead of {SECONDS}")
    seconds = SECONDS_LONG if parser.parse_args().long else SECONDS
    figures: list[Figure] = []
    days: dict[str, float] = {}
    lived = live(seconds)
    quotes, _ = decoded(lived["quotes"], "quotes")
    for table, frames in lived.items():
        rows, used = decoded(frames, table)
        found = series_figures(table, frames, rows, used, seconds)
        days[table] = found[-1].value
        figures += found
    figures.append(Figure("marks beside quotes, bytes at rest", days["marks"] / days["quotes"], "times"))
    report(f"{seconds} s of {INSTRUMENTS:,} instruments", figures + chain_figures(quotes, seconds))


if __name__ == "__main__":
    main()
