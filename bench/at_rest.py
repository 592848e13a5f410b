"""Bytes per row at rest, by table and column, and what each row costs on its way there.

    python -m bench.at_rest            the figures against the design's targets
    python -m bench.at_rest --study    other storage types and encodings of every column, in bytes per value

The day is generated (`bench.sample_day`) with the noise of the real market; sizes are of complete files.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.harness import Figure, cpu, report
from bench.sample_day import book_day, quotes_day, trades_day
from lake.conform import conform
from lake.content import content_hash
from lake.duplicates import drop_duplicates
from lake.exact import Array, decimal_array, to_units
from lake.parquet import sort_rows, write_file
from lake.schema import TABLES, UNROUNDED, TableSpec, decimal

STARBASE: Final = ("starbase_match_id", "starbase_timestamp")
"""Fields the venue added to trades in 2026; the target was set without them."""
TARGETS: Final = {"quotes": (20.0, 16.5), "trades": (10.0, 9.0), "book": (9.0, 8.0)}
STUDY_SCALES: Final = (0, 1, 2, 4, 5, 6, 8)
STUDY_ROW_GROUP_ROWS: Final = {"quotes": 15_000, "trades": 131_072, "book": 131_072}
ROUNDS: Final = 3


def days() -> dict[str, pa.Table]:
    """A decoded day of each tick table."""
    names = [name for name in TABLES["quotes"].names if name != UNROUNDED]
    return {
        "quotes": quotes_day(tuple(names)),
        "trades": trades_day(TABLES["trades"].names),
        "book": book_day(TABLES["book"].names),
    }


def column_bytes(path: Path) -> dict[str, float]:
    """Compressed bytes per row of each column of a file."""
    metadata = pq.read_metadata(path)
    sizes: dict[str, float] = {}
    for group in (metadata.row_group(i) for i in range(metadata.num_row_groups)):
        for column in (group.column(i) for i in range(group.num_columns)):
            name = column.path_in_schema
            sizes[name] = sizes.get(name, 0.0) + column.total_compressed_size / metadata.num_rows
    return sizes


def sizes_at_rest(decoded: dict[str, pa.Table]) -> list[Figure]:
    """Bytes per row of the whole file, then of each column that costs anything."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name, day in decoded.items():
            table = TABLES[name]
            rows = sort_rows(drop_duplicates(conform(table, day).rows, table)[0], table)
            path = Path(folder) / f"{name}.parquet"
            must, aim = TARGETS[name]
            total = write_file(path, rows, table, purpose="compact").size / len(rows)
            columns = column_bytes(path)
            if name == "trades":
                figures.append(Figure(f"{name}, all fields of 2026", total, "B/row"))
                total -= sum(columns[column] for column in STARBASE)
            figures.append(
                Figure(name + (" without starbase" * (name == "trades")), total, "B/row", must, aim)
            )
            figures += [
                Figure(f"  {column}", size, "B/row") for column, size in columns.items() if size > 0.03
            ]
    return figures


def costs(decoded: dict[str, pa.Table]) -> list[Figure]:
    """CPU seconds per million rows of every step between decode and disk, the best of a few rounds.

    The first round also pays for memory that the process touches for the first time; a daemon pays it once.
    """
    table = TABLES["quotes"]
    day = decoded["quotes"]
    rows = conform(table, day).rows
    by_arrival = np.argsort(np.asarray(rows["recv_ts"].combine_chunks().view(pa.int64())))
    arrived = rows.take(by_arrival)
    ordered = sort_rows(rows, table)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.parquet"
        steps: dict[str, tuple[Callable[[], object], float | None]] = {
            "conform": (lambda: conform(table, day), 0.4),
            "content_hash": (lambda: content_hash(rows), 0.25),
            "drop_duplicates": (lambda: drop_duplicates(arrived, table), None),
            "sort_rows, from order of arrival": (lambda: sort_rows(arrived, table), None),
            "write_file ingest": (lambda: write_file(path, ordered, table, purpose="ingest"), None),
            "write_file compact": (lambda: write_file(path, ordered, table, purpose="compact"), None),
            "read back": (lambda: pq.read_table(path, use_threads=False), None),
        }
        return [
            Figure(f"quotes: {name}", _best(step) / len(rows) * 1e6, "CPU-s/M rows", must)
            for name, (step, must) in steps.items()
        ]


def _best(step: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        with cpu() as clock:
            step()
        seconds.append(clock.used)
    return min(seconds)


def _alternatives(spec_table: TableSpec, name: str, array: Array) -> Iterator[tuple[str, Array, str]]:
    """Ways to store one column: label, array, Parquet encoding (DICTIONARY is the dictionary)."""
    if pa.types.is_null(array.type) or pa.types.is_dictionary(array.type):
        return
    yield "dictionary", array, "DICTIONARY"
    yield "plain", array, "PLAIN"
    if pa.types.is_string(array.type):
        yield "delta text", array, "DELTA_BYTE_ARRAY"
        return
    yield "split", array, "BYTE_STREAM_SPLIT"
    if pa.types.is_integer(array.type):
        yield "delta", array, "DELTA_BINARY_PACKED"
        if pa.types.is_timestamp(spec_table.column(name).type) and not (array.to_numpy() % 1000).any():
            yield "delta of ms", pa.array(array.to_numpy() // 1000), "DELTA_BINARY_PACKED"
        return
    for scale in STUDY_SCALES:
        units, exact, _ = to_units(np.asarray(array), scale)
        if exact.all():
            yield (
                f"delta of decimal({scale})",
                decimal_array(units, decimal(scale), None),
                "DELTA_BINARY_PACKED",
            )


def _bytes_per_value(array: Array, encoding: str, row_group_rows: int) -> float:
    buffer = io.BytesIO()
    choice = (
        {"use_dictionary": True}
        if encoding == "DICTIONARY"
        else {
            "use_dictionary": False,
            "column_encoding": {"x": encoding},
        }
    )
    pq.write_table(
        pa.table({"x": array}),
        buffer,
        compression="zstd",
        compression_level=6,
        row_group_size=row_group_rows,
        data_page_version="2.0",
        write_statistics=False,
        store_schema=False,
        store_decimal_as_integer=True,
        **choice,
    )
    return buffer.tell() / len(array)


def study(decoded: dict[str, pa.Table]) -> None:
    """Print every alternative of every column, cheapest first."""
    for name, day in decoded.items():
        day = sort_rows(day, TABLES[name])
        columns = {column: day[column].combine_chunks() for column in day.column_names}
        columns["recv_ts - ts"] = pa.array(columns["recv_ts"].to_numpy() - columns["ts"].to_numpy())
        if "underlying_price" in columns:
            basis = np.asarray(columns["underlying_price"]) - np.asarray(columns["index_price"])
            columns["underlying - index"] = pa.array(np.round(basis, 4))
        sys.stdout.write(f"\n{name}: bytes per value\n")
        for column, array in columns.items():
            label_of = (
                column if column in TABLES[name].names else "ts" if column.startswith("recv") else "delta"
            )
            found = sorted(
                (_bytes_per_value(way, encoding, STUDY_ROW_GROUP_ROWS[name]), label)
                for label, way, encoding in _alternatives(TABLES[name], label_of, array)
            )
            if found:
                ways = " · ".join(f"{label} {size:.2f}" for size, label in found)
                sys.stdout.write(f"  {column:<20}{ways}\n")


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", action="store_true", help="compare storage types and encodings")
    parser.add_argument("--long", action="store_true", help="the same: this benchmark has one form")
    decoded = days()
    if parser.parse_args().study:
        study(decoded)
    report("Bytes per row at rest", sizes_at_rest(decoded))
    report("CPU on the way to the disk", costs(decoded))


if __name__ == "__main__":
    main()
