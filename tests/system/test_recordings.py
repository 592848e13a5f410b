"""Recorded frames through a socket, the spool and the tables to SQL: field by field what the files say.

The files are decoded a second time by `tests.deribit.independent`, with exact decimals, and compared with the
answers of `SELECT * FROM …` before and after compaction.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import start
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.views import query
from pipeline.compact import compact
from tests.deribit import independent
from tests.pipeline.kit import TICKS, assert_sound, finish, lake_command, read_table
from tests.system.kit import is_notification, records
from tests.waiting import PATIENCE_S

Row = dict[str, Any]
RECORDINGS = (
    "deribit_2021-04-05_options_raw_ws.txt.zst",
    "deribit_2021-04-17_options_raw_ws.txt.zst",
    "deribit_2021-2023_single_messages.jsonl",
    "deribit_2026-09-14_testnet_BTC-15SEP26-77000-C.jsonl",
    "deribit_2026-09-30_prod_tickers_first21.jsonl",
    "deribit_2026-09_control_rpc_and_misc.jsonl",
    "deribit_nautilus_fixtures_2025-2026.jsonl",
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Collected:
    """A lake, the notifications that the venue sent into it, and the tables that these are for."""

    root: Root
    sent: list[bytes]
    tables: tuple[str, ...]


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """The frames made by hand, one of them twice."""
    folder = tmp_path_factory.mktemp("hand_made")
    frames = [frame.replace(b"\n", b" ") for _, frame in independent.hand_made()]
    frames.insert(5, frames[0])
    recording = folder / "recording.jsonl"
    recording.write_bytes(b"\n".join(frames) + b"\n")
    root = collect(folder / "lake", [recording])
    return Collected(root, list(filter(is_notification, frames)), independent.TABLES)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, real_data: Path) -> Collected:
    """Every real recording, one after the other."""
    paths = [real_data / "ws" / name for name in RECORDINGS]
    frames = [frame for path in paths for frame in independent.recorded(path)]
    root = collect(tmp_path_factory.mktemp("recorded") / "lake", paths)
    return Collected(root, list(filter(is_notification, frames)), TICKS)


def collect(folder: Path, recording: Sequence[Path]) -> Root:
    """`lake collect` until the replay is through; what is on its way then must still be recorded."""
    replay = SimulatorSettings(
        replay=tuple(recording), replay_speed=0, replay_everything=True, replay_grace_s=0.3
    )
    with start(replay) as venue:
        arguments = ("collect", "--ws-url", venue.ws_url, "--rest-url", venue.rest_url)
        collector = lake_command("--root", str(folder), *arguments)
        try:
            venue.wait_finished(PATIENCE_S)
            collector.send_signal(signal.SIGTERM)
            code, output = finish(collector)
        finally:
            collector.kill()
        assert code == 0, output
    return open_root(folder)


@pytest.fixture(params=["hand_made", "recorded"])
def collected(request: pytest.FixtureRequest) -> Collected:
    found: Collected = request.getfixturevalue(request.param)
    return found


def test_spool_holds_the_frames_byte_for_byte(collected: Collected) -> None:
    assert [record.payload for record in records(collected.root) if record.is_tick] == collected.sent


def test_tables_say_what_the_files_say_then_also_compacted(collected: Collected) -> None:
    wanted = {name: rows for name, rows in expected(collected).items() if rows}
    once = {name: without_repeats(name, rows) for name, rows in wanted.items()}
    assert len(wanted["quotes"]) > len(once["quotes"]), (
        "a ticker is repeated byte for byte in either recording"
    )
    assert tuple(wanted) == collected.tables
    for name, rows in once.items():
        assert_rows(collected.root, name, rows)
    left_out = query(collected.root, "SELECT sum(repeated) AS n FROM coverage").to_pylist()[0]["n"]
    assert left_out == sum(map(len, wanted.values())) - sum(map(len, once.values()))
    assert_sound(collected.root)
    report = compact(collected.root, now=datetime.now(UTC) + timedelta(days=1))
    assert sum(rewritten.duplicates for rewritten in report.rewritten) == 0
    for name, rows in once.items():
        assert_rows(collected.root, name, rows)
    assert_sound(collected.root)


def expected(collected: Collected) -> dict[str, list[Row]]:
    """The rows in the order of the files, each with the receive time of its frame in the spool."""
    times = [record.recv_ns // 1000 for record in records(collected.root) if record.is_tick]
    tables, _, _ = independent.read(collected.sent)
    for rows in tables.values():
        for row in rows:
            row["recv_ts"] = times[row.pop("record")]
    return tables


def without_repeats(name: str, rows: list[Row]) -> list[Row]:
    """The first of the rows with the same natural key."""
    key = [column for column in TABLES[name].natural_key if column != "venue"]
    first: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        first.setdefault(tuple(row.get(column) for column in key), row)
    return list(first.values())


def assert_rows(root: Root, name: str, wanted: list[Row]) -> None:
    """SQL gives just these rows, each field equal as a decimal, in the order of their receive times."""
    found = read_table(root, name).to_pylist()
    assert len(found) == len(wanted)
    columns = set(wanted[0])
    assert set(found[0]) == columns | {"venue", "date", "family"}
    assert {row["venue"] for row in found} == {"deribit"}
    for row in found:
        day = row["ts"].date()
        assert row["date"] == day
    plain = [{column: plainly(row[column]) for column in columns} for row in found]
    for got, want in zip(sorted(plain, key=in_order), sorted(wanted, key=in_order), strict=True):
        assert got == want


def in_order(row: Row) -> tuple[Any, ...]:
    """Receive time; where frames share a microsecond, whatever tells their rows apart."""
    return (row["recv_ts"], row["instrument"], row.get("change_id"), row.get("level"), row.get("trade_id"))


def plainly(value: object) -> object:
    """Times as microseconds and numbers as decimals, exactly."""
    if isinstance(value, datetime):
        return (value - EPOCH) // timedelta(microseconds=1)
    return Decimal(repr(value)) if isinstance(value, float) else value


def test_peculiar_values_are_there(collected: Collected) -> None:
    """The recordings hold what is hard, so that agreement on them means something."""
    quotes, book = (
        read_table(collected.root, "quotes").to_pylist(),
        read_table(collected.root, "book").to_pylist(),
    )
    assert any((row["bid_price"] is None) != (row["ask_price"] is None) for row in quotes), "one side only"
    assert any(row["mark_iv"] is None for row in quotes)
    assert not any(
        row[column] == 0 for row in quotes for column in ("bid_size", "ask_size", "bid_iv", "ask_iv")
    )
    assert any(row["level"] == 0 and row["price"] is None for row in book), "an empty book"
    assert max(row["change_id"] for row in book) > 1 << 32
    tickers = [frame for frame in collected.sent if b'"ticker.' in frame]
    assert any(b'"settlement_price"' not in frame for frame in tickers)
