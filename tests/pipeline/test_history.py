"""Years of the venue's real daily listings, through the universe and through the versions of instruments."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from collectors.deribit.columns import INSTRUMENTS, VENUE
from collectors.deribit.selection import Listing
from collectors.settings import CollectorSettings
from collectors.universe import CONFIRM_MS, Universe
from lake.conform import conform
from lake.delta import Table
from lake.root import open_root
from lake.schema import TABLES
from pipeline.versions import changed_versions

DAY_MS: Final = 86_400_000
SEEN_MS: Final = 20 * 3_600_000 + 1_800_000
"""Time of day of the listings, which is not told: after the last creation that one of them has (20:12)."""
EXPIRY_MS: Final = 8 * 3_600_000
GRACE_MS: Final = 300_000
ONE_IN: Final = 1 if "LAKE_TEST_WHOLE_HISTORY" in os.environ else 8
"""By default a part of the instruments goes row by row, on every day; read at import, as tests see no variables."""
COMPARED: Final = [name for name in INSTRUMENTS.names if name not in ("venue", "valid_from")]


@pytest.fixture(scope="module")
def history(real_data: Path) -> pa.Table:
    """All listings as columns of `instruments`; `valid_from` is midnight of the listing's day."""
    path = real_data / "rest" / "deribit_get_instruments_daily_2021-2025.parquet"
    if not path.exists():
        pytest.skip(f"no {path}")
    sent = pq.read_table(path)
    day = pc.cast(pc.cast(sent["snapshot_date"], pa.date32()), INSTRUMENTS.field("valid_from").type)
    made: dict[str, Any] = {"venue": pa.repeat(VENUE, len(sent)), "valid_from": day}
    for ours, theirs in (
        ("instrument", "instrument_name"),
        ("creation_ts", "creation_timestamp"),
        ("expiration_ts", "expiration_timestamp"),
    ):
        column = sent[theirs]
        made[ours] = pc.multiply(column, 1000) if ours.endswith("_ts") else column
    columns: list[Any] = [
        made.get(name, sent[name] if name in sent.column_names else None) for name in INSTRUMENTS.names
    ]
    return pa.table([c.cast(f.type) for c, f in zip(columns, INSTRUMENTS, strict=True)], schema=INSTRUMENTS)


def part_of(history: pa.Table) -> pa.Table:
    names = history["instrument"].unique()
    chosen = [name for name in names.to_pylist() if zlib.crc32(name.encode()) % ONE_IN == 0]
    return history.filter(pc.is_in(history["instrument"], pa.array(chosen)))


def days_of(listings: pa.Table) -> Iterator[tuple[int, list[Listing]]]:
    """Midnight of each day in ms since the epoch, and what was listed."""
    day = listings["valid_from"].cast(pa.int64()).to_numpy() // 1000
    expiry = (listings["expiration_ts"].cast(pa.int64()).to_numpy() // 1000).tolist()
    rows = zip(
        *(listings[name].to_pylist() for name in ("instrument", "kind", "settlement_period")), strict=True
    )
    made = [
        Listing(name, kind, expires, period or "")
        for (name, kind, period), expires in zip(rows, expiry, strict=True)
    ]
    order = np.argsort(day, kind="stable")
    starts = np.flatnonzero(np.diff(day[order], prepend=-1))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        yield int(day[order[start]]), [made[i] for i in order[start:end].tolist()]


def test_no_instrument_is_ever_missing_or_doubled(history: pa.Table) -> None:
    universe, recorded, days = Universe(CollectorSettings(), 0), set[str](), 0

    def follow(now_ms: int) -> set[str]:
        changes = universe.changes(now_ms)
        assert not recorded.intersection(changes.subscribe)
        assert len(set(changes.subscribe)) == len(changes.subscribe)
        assert recorded.issuperset(changes.drop)
        recorded.difference_update(changes.drop)
        recorded.update(changes.subscribe)
        return recorded

    listed: list[Listing] = []
    for midnight_ms, today in days_of(part_of(history)):
        # This morning's expiries have left; nothing else has.
        morning_ms = midnight_ms + EXPIRY_MS + GRACE_MS
        assert follow(morning_ms) == {
            r.instrument_name for r in listed if r.expiration_timestamp + GRACE_MS > morning_ms
        }
        listed, days = today, days + 1
        names = {listing.instrument_name for listing in listed}
        now_ms = midnight_ms + SEEN_MS
        universe.relist(listed, now_ms, now_ms)
        assert follow(now_ms) >= names
        while universe.relist_due_ms <= now_ms + CONFIRM_MS:
            now_ms = universe.relist_due_ms
            universe.relist(listed, now_ms, now_ms)
        assert follow(now_ms + GRACE_MS) == names
    assert days > 900


@pytest.fixture(scope="module")
def versions(history: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The rows that ingest would have written, day after day; here in three runs."""
    table = Table.open(
        open_root(tmp_path_factory.mktemp("history") / "lake", create=True), TABLES["instruments"]
    )
    conformed = conform(TABLES["instruments"], history)
    assert not conformed.rejected.any()
    rows = conformed.rows
    bounds = np.quantile(rows["valid_from"].cast(pa.int64()).to_numpy(), [0, 0.3, 0.7, 1])
    time_of = rows["valid_from"].cast(pa.int64()).to_numpy()
    for number, (low, high) in enumerate(zip([-1, *bounds[1:3]], bounds[1:], strict=True), start=1):
        run = rows.filter(pa.array((time_of > low) & (time_of <= high)))
        table.append(changed_versions(table, run), app="t", version=number, origin=f"i.t.{number}")
    return table.read()


def test_versions_are_the_changes_that_reading_row_by_row_finds(
    history: pa.Table, versions: pa.Table
) -> None:
    found: list[tuple[str, Any]] = []
    latest: dict[str, tuple[Any, ...]] = {}
    part = part_of(history).sort_by("valid_from")
    for moment, *terms in zip(*(part[n].to_pylist() for n in ("valid_from", *COMPARED)), strict=True):
        if latest.get(terms[0]) != tuple(terms):
            found.append((terms[0], moment))
            latest[terms[0]] = tuple(terms)
    chosen = part_of(versions)
    pairs = zip(chosen["instrument"].to_pylist(), chosen["valid_from"].to_pylist(), strict=True)
    assert sorted(pairs) == sorted(found)
    assert len(found) > len(latest) > 10_000 // ONE_IN


def test_the_days_on_which_the_venue_changed_living_instruments_are_known(versions: pa.Table) -> None:
    """The recordings lack 2022-03 to 05 and 2023-06 to 08: the instrument ids of the former and the finer tick
    sizes of the latter (2023-07-06) are first seen after the hole, on what outlived it."""
    rows = versions.sort_by([("instrument", "ascending"), ("valid_from", "ascending")])
    names, days = rows["instrument"].to_pylist(), rows["valid_from"].to_pylist()
    changes: Counter[tuple[str, str]] = Counter()
    for term in COMPARED[1:]:
        values = rows[term].to_pylist()
        for i in range(1, len(names)):
            if names[i] == names[i - 1] and values[i] != values[i - 1]:
                changes[str(days[i].date()), term] += 1
    assert changes == {
        ("2022-02-23", "counter_currency"): 854,
        ("2022-02-23", "settlement_currency"): 854,
        ("2022-06-01", "instrument_id"): 240,
        ("2022-06-01", "price_index"): 240,
        ("2022-06-03", "instrument_id"): 8,
        ("2022-06-03", "price_index"): 8,
        ("2023-01-16", "tick_size"): 14,
        ("2023-03-22", "instrument_type"): 1164,
        ("2023-09-01", "tick_size"): 420,
        ("2023-09-01", "tick_size_steps"): 428,
    }
