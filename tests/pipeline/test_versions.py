"""Versions of instruments: what a change is, in whatever order it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest

from collectors.deribit.instruments import decode_instruments
from lake.conform import conform
from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import RecordKind, SpoolWriter
from pipeline.ingest import ingest
from pipeline.versions import changed_versions
from tests.pipeline import kit

SPEC: Final = TABLES["instruments"]
NAME: Final = "BTC-1JAN27"
SECOND_NS: Final = 1_000_000_000


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table.open(open_root(tmp_path / "lake", create=True), SPEC)


def seen(second: int, name: str = NAME, **terms: Any) -> pa.Table:
    """What a listing at `second` says of one instrument."""
    fields = {"instrument_name": name, "kind": "future", "tick_size": 0.5, "instrument_id": 7, **terms}
    return conform(SPEC, decode_instruments(json.dumps([fields]).encode(), second * SECOND_NS)).rows


def versions(table: Table, *candidates: pa.Table) -> list[tuple[int, Any, Any]]:
    """When a new version was seen, with the terms that the tests change; it is then in the table."""
    rows = changed_versions(table, pa.concat_tables(candidates))
    version = (table.committed("test") or 0) + 1
    table.append(rows, app="test", version=version, origin=f"i.test.{version}")
    return [
        (int(row["valid_from"].timestamp()), float(row["tick_size"]), row["instrument_id"])
        for row in rows.sort_by("valid_from").to_pylist()
    ]


def test_a_row_is_new_when_it_differs_from_the_one_before_it(table: Table) -> None:
    assert versions(table, seen(1), seen(2), seen(3, tick_size=2.5), seen(4, tick_size=2.5)) == [
        (1, 0.5, 7),
        (3, 2.5, 7),
    ]
    assert versions(table, seen(5, tick_size=2.5)) == []
    assert versions(table, seen(6)) == [(6, 0.5, 7)]


def test_an_id_that_flaps_and_comes_back_is_three_versions(table: Table) -> None:
    assert versions(table, seen(1), seen(2, instrument_id=8), seen(3)) == [
        (1, 0.5, 7),
        (2, 0.5, 8),
        (3, 0.5, 7),
    ]


def test_a_term_that_appears_or_vanishes_is_a_change_and_one_that_stays_away_is_none(table: Table) -> None:
    told = versions(
        table, seen(1, instrument_id=None), seen(2, instrument_id=None), seen(3), seen(4, instrument_id=None)
    )
    assert [second for second, *_ in told] == [1, 3, 4]


def test_the_order_of_telling_does_not_matter_within_a_run_or_between_collectors(table: Table) -> None:
    assert versions(table, seen(9, tick_size=2.5), seen(1)) == [(1, 0.5, 7), (9, 2.5, 7)]
    late = [seen(2), seen(8), seen(10, tick_size=2.5), seen(11, tick_size=2.5)]
    assert versions(table, *late) == []
    assert versions(table, seen(5, tick_size=9)) == [(5, 9.0, 7)]


def test_instruments_are_told_apart(table: Table) -> None:
    assert len(versions(table, seen(1), seen(1, "ETH-1JAN27"), seen(2), seen(2, "ETH-1JAN27"))) == 2


def creation(**terms: Any) -> bytes:
    data = {"instrument_name": NAME, "kind": "future", "tick_size": 0.5, "instrument_id": 7, **terms}
    params = {"channel": "instrument.creation.any.any", "data": data}
    return json.dumps(
        {"jsonrpc": "2.0", "method": "subscription", "params": params}, separators=(",", ":")
    ).encode()


def recorded(folder: Path, *records: tuple[bytes, RecordKind]) -> Root:
    root = open_root(folder, create=True)
    with SpoolWriter(root.stream(kit.STREAM)) as spool:
        for second, (payload, kind) in enumerate(records, start=1):
            spool.append(payload, kind=kind, recv_ns=second * SECOND_NS)
    return root


def listing(*rows: dict[str, Any]) -> bytes:
    body = {"jsonrpc": "2.0", "result": list(rows)}
    url = "http://venue/public/get_instruments?currency=any"
    return json.dumps({"url": url, "status": 200, "requested_ns": 1, "body": body}).encode()


def test_an_announcement_becomes_a_row_and_the_listing_that_repeats_it_none(tmp_path: Path) -> None:
    fields = json.loads(creation())["params"]["data"]
    other = {**fields, "instrument_name": "BTC-2JAN27"}
    root = recorded(
        tmp_path / "lake",
        (listing(other), RecordKind.RESPONSE),
        (creation(), RecordKind.FRAME),
        (listing(other, fields), RecordKind.RESPONSE),
        (listing({**other, "tick_size": 2.5}, fields), RecordKind.RESPONSE),
    )
    report = ingest(root)
    assert (report.counts["rejected"], report.counts["control"]) == (0, 1)
    rows = kit.read_table(root, "instruments").sort_by("valid_from").to_pylist()
    found = [(row["instrument"], int(row["valid_from"].timestamp()), float(row["tick_size"])) for row in rows]
    assert found == [("BTC-2JAN27", 1, 0.5), (NAME, 2, 0.5), ("BTC-2JAN27", 4, 2.5)]
    kit.assert_sound(root)


def test_an_announcement_that_cannot_be_read_is_kept_in_quarantine(tmp_path: Path) -> None:
    root = recorded(
        tmp_path / "lake", (creation(kind=None), RecordKind.FRAME), (creation(), RecordKind.FRAME)
    )
    report = ingest(root)
    assert (report.counts["rejected"], report.counts["control"], report.counts["frames"]) == (1, 1, 2)
    [path] = (root.quarantine / "ingest").rglob("*.jsonl")
    assert "kind" in json.loads(path.read_text())["reason"]
    assert len(kit.read_table(root, "instruments")) == 1
    kit.assert_sound(root)
