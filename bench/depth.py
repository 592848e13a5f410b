"""Samples of the order books: CPU seconds per million rows of `book`, and of one book rebuilt at an instant.

    python -m bench.depth [--long]

A market of books, each with a snapshot of 30 levels a side and a change of some levels every second, is put into
tables minute by minute, with a quote of each instrument a second, as ingest does. Then the product's own job takes
its samples, first from the tables alone, as a process does that has just begun, then going on from what it keeps.
"""

from __future__ import annotations

import argparse
import datetime as dt
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from bench.harness import Figure, cpu, peak_rss_mb, report
from bench.sample_day import DAY_START_S
from lake.books import book_at
from lake.conform import conform
from lake.delta import Table
from lake.instants import from_us
from lake.parquet import sort_by
from lake.root import Root, open_root
from lake.schema import TABLES
from pipeline.depth import DepthRows, DepthSettings

BOOKS, BOOKS_LONG = 400, 1700
MINUTES: Final = 11
MINUTE_S: Final = 60
SNAPSHOT_LEVELS: Final = 30
SAMPLE_S: Final = 300
REBUILT: Final = 20
FAMILY: Final = "btc_option"


def names(count: int) -> list[str]:
    """So many instruments."""
    return [f"BTC-25DEC26-{10_000 + 500 * number}-C" for number in range(count)]


def minute(rng: np.random.Generator, books: int, number: int) -> pa.Table:
    """The rows of `book` of one minute, in storage types without partition columns."""
    seconds = np.arange(number * MINUTE_S, (number + 1) * MINUTE_S)
    book = np.tile(np.arange(books), MINUTE_S)
    second = np.repeat(seconds, books)
    levels = np.where(second == 0, 2 * SNAPSHOT_LEVELS, rng.geometric(0.4, len(book)).clip(1, 12))
    message = np.repeat(np.arange(len(book)), levels)
    level = np.arange(len(message)) - np.repeat(np.cumsum(levels) - levels, levels)
    first = second[message] == 0
    bid = np.where(first, level < SNAPSHOT_LEVELS, rng.random(len(message)) < 0.5)
    away = np.where(first, level % SNAPSHOT_LEVELS, rng.geometric(0.15, len(message))) + 1
    gone = ~first & (rng.random(len(message)) < 0.3)
    ts = (DAY_START_S + second[message]) * 1_000_000 + book[message] % 1000 * 1000
    columns = {
        "venue": coded(np.zeros(len(message), np.int32), ["deribit"]),
        "instrument": coded(book[message], names(books)),
        "ts": ts,
        "recv_ts": ts + 9_000,
        "type": coded(first, ["change", "snapshot"]),
        "change_id": (second * books + book)[message] + 1,
        "prev_change_id": pa.array(((second - 1) * books + book)[message] + 1, mask=first),
        "level": level,
        "side": coded(bid, ["ask", "bid"]),
        "action": coded(np.where(gone, 2, np.where(first, 0, 1)), ["new", "change", "delete"]),
        "price": np.round(np.where(bid, 0.1 - away * 0.0005, 0.1 + away * 0.0005), 4),
        "size": np.where(gone, 0.0, rng.integers(1, 500, len(message)) / 10),
    }
    return conform(TABLES["book"], pa.table(columns)).rows


def coded(codes: np.ndarray, words: list[str]) -> pa.Array:
    """A column of words."""
    return pa.DictionaryArray.from_arrays(codes.astype(np.int32), words)


def quotes(books: int, number: int) -> pa.Table:
    """A quote of every instrument each second of one minute."""
    count = books * MINUTE_S
    ts = (DAY_START_S + number * MINUTE_S + np.repeat(np.arange(MINUTE_S), books)) * 1_000_000
    columns = {
        "venue": coded(np.zeros(count, np.int32), ["deribit"]),
        "instrument": coded(np.tile(np.arange(books), MINUTE_S), names(books)),
        "ts": ts,
        "recv_ts": ts + 9_000,
    }
    return conform(TABLES["quotes"], pa.table(columns)).rows


def fill(root: Root, books: int) -> int:
    """A lake of `MINUTES` of the market; how many rows of `book` it has between two samples."""
    rng = np.random.default_rng(7)
    between = 0
    for number in range(MINUTES):
        for name, rows in (("book", minute(rng, books, number)), ("quotes", quotes(books, number))):
            spec = TABLES[name]
            rows = rows.append_column("date", spec.dates(rows["ts"]))
            rows = rows.append_column("family", pa.array([FAMILY] * len(rows), pa.string()))
            rows = sort_by(rows, spec.partition_columns + spec.sort_key)
            Table.open(root, spec).append(
                rows, app="bench", version=number + 1, origin=f"i.bench.{number + 1}"
            )
            if name == "book" and SAMPLE_S <= number * MINUTE_S < 2 * SAMPLE_S:
                between += len(rows)
    return between


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--long", action="store_true", help=f"{BOOKS_LONG} books instead of {BOOKS}")
    books = BOOKS_LONG if parser.parse_args().long else BOOKS
    instants = [from_us((DAY_START_S + SAMPLE_S * number) * 1_000_000) for number in (1, 2)]
    with tempfile.TemporaryDirectory() as folder:
        root = open_root(Path(folder) / "lake", create=True)
        rows = fill(root, books)
        job = DepthRows(DepthSettings())
        with cpu() as begun:
            made = [job(root, instants[:1])]
        with cpu() as kept:
            made.append(job(root, instants[1:]))
        with cpu() as single:
            for name in names(books)[:REBUILT]:
                found = book_at(root, name, instants[1] - dt.timedelta(seconds=17))
                assert found.reason is None
    assert [len(table) for table in made] == [books, books]
    unit = "CPU-s/M rows"
    report(
        f"Samples of {books:,} books, {rows:,} rows of `book` between two of them",
        [
            Figure("a sample, going on from the last", kept.used / rows * 1e6, unit),
            Figure("  of one core, at one sample in 5 minutes", kept.used / SAMPLE_S * 100, "%"),
            Figure("the first sample of a process", begun.used / rows * 1e6, unit),
            Figure("one book at any instant (tables opened anew)", single.used / REBUILT * 1e3, "CPU-ms"),
            Figure("peak memory", peak_rss_mb(), "MB"),
        ],
    )


if __name__ == "__main__":
    main()
