"""Comparison with the venue's answers: what is equal, what differs, and what nobody can say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from collectors.deribit.answers import decode_answer
from lake.books import book_at
from lake.books.arrays import Rows
from lake.books.instant import MISSING, NEVER
from lake.books.reading import BookReader
from lake.datafile import DataFile
from lake.errors import InputError, SchemaDriftError
from lake.instants import from_us
from lake.root import Root
from lake.views import query
from pipeline.depth import DepthRows, DepthSettings
from quality import books
from quality.books import check_rows
from tests.books.kit import append, lake_of

NAME = "BTC-25DEC26-76000-C"
START_MS = 1_790_726_401_000
URL = "https://www.deribit.com/api/v2/public/get_order_book"
Level = tuple[str, float, float]


def frame(ms: int, change_id: int, prev: int | None, bids: list[Level], asks: list[Level]) -> bytes:
    data: dict[str, Any] = {
        "timestamp": START_MS + ms, "type": "snapshot" if prev is None else "change", "change_id": change_id,
        "instrument_name": NAME, "bids": bids, "asks": asks,
    }  # fmt: skip
    if prev is not None:
        data["prev_change_id"] = prev
    return notification(f"book.{NAME}.100ms", data)


def notification(channel: str, data: dict[str, Any]) -> bytes:
    return json.dumps(
        {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}},
        separators=(",", ":"),
    ).encode()


def ticker(ms: int) -> bytes:
    data = {
        "timestamp": START_MS + ms, "instrument_name": NAME, "index_price": 1.0, "mark_price": 1.0,
        "best_ask_price": 0.0, "best_bid_price": 0.0, "best_ask_amount": 0.0, "best_bid_amount": 0.0,
    }  # fmt: skip
    return notification(f"ticker.{NAME}.100ms", data)


FRAMES = (
    frame(0, 10, None, [("new", 0.5, 1.0), ("new", 0.4, 2.0)], [("new", 0.6, 3.0)]),
    frame(1000, 20, 10, [("change", 0.5, 1.5)], []),
    frame(2000, 30, 20, [("delete", 0.4, 0.0)], [("new", 0.7, 4.0)]),
    ticker(9000),
)
AFTER_20 = ([[0.5, 1.5], [0.4, 2.0]], [[0.6, 3.0]])
AFTER_30 = ([[0.5, 1.5]], [[0.6, 3.0], [0.7, 4.0]])


def answer(ms: int, change_id: int, sides: tuple[Any, Any], depth: int = 20) -> tuple[str, bytes, int]:
    result = {
        "timestamp": START_MS + ms, "instrument_name": NAME, "change_id": change_id, "state": "open",
        "bids": sides[0], "asks": sides[1],
    }  # fmt: skip
    body = json.dumps(
        {"jsonrpc": "2.0", "result": result, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False}
    )
    return f"{URL}?instrument_name={NAME}&depth={depth}", body.encode(), (START_MS + ms + 5) * 1_000_000


def checked(root: Root, *answers: tuple[str, bytes, int]) -> list[dict[str, Any]]:
    for version, (url, body, recv_ns) in enumerate(answers, start=1):
        decoded = decode_answer(url, 200, body, recv_ns)
        assert decoded is not None
        append(root, "book_answers", decoded.tables["book_answers"], version=version)
    first = from_us(START_MS // 600_000 * 600_000_000)
    rows: list[dict[str, Any]] = check_rows(root, [first, first + books.PERIOD]).to_pylist()
    return sorted(rows, key=lambda row: row["ts"])


def test_the_same_change_is_compared_to_the_last_digit(tmp_path: Path) -> None:
    root = lake_of(tmp_path / "lake", FRAMES)
    found = checked(
        root,
        answer(1100, 20, AFTER_20),
        answer(1200, 20, ([[0.5, 1.5]], [[0.6, 3.0]]), depth=1),
        answer(1300, 20, ([[0.5, 1.5], [0.4, 2.0000000001]], [[0.6, 3.0]])),
        answer(1400, 20, ([[0.5, 1.5], [0.4, 2.0], [0.3, 1.0]], [[0.6, 3.0]])),
        answer(2100, 30, AFTER_30),
    )
    assert [row["result"] for row in found] == ["equal", "equal", "differs", "differs", "equal"]
    assert found[2]["difference"] == "bid 2: 0.4 x 2.0 here, 0.4 x 2.0000000001 at the venue"
    assert found[3]["difference"] == "bid 3: nothing here, 0.3 x 1.0 at the venue"
    assert [row["levels_compared"] for row in found] == [3, 2, 3, 4, 3]


def test_a_book_is_built_on_a_snapshot_of_days_before_and_every_row_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day_ms = 86_400_000
    frames = [
        FRAMES[0],
        frame(day_ms, 20, 10, [("change", 0.5, 1.5)], []),
        frame(3 * day_ms, 30, 20, [("delete", 0.4, 0.0)], [("new", 0.7, 4.0)]),
        ticker(3 * day_ms + 7000),
    ]
    root = lake_of(tmp_path / "lake", frames)
    spans: list[tuple[int, int]] = []
    read = BookReader.rows

    def rows(
        reader: BookReader, files: Sequence[DataFile], start_us: int, stop_us: int, instrument: str | None
    ) -> Rows:
        spans.append((start_us, stop_us))
        return read(reader, files, start_us, stop_us, instrument)

    monkeypatch.setattr(BookReader, "rows", rows)
    book = book_at(root, NAME, from_us((START_MS + 3 * day_ms + 500) * 1000))
    assert book.reason is None
    assert [[list(level) for level in side] for side in (book.bids, book.asks)] == list(AFTER_30)
    assert len(spans) > 3
    assert all(later[0] == earlier[1] for later, earlier in pairwise(spans))


def test_what_cannot_be_verified_is_told_with_its_reason(tmp_path: Path) -> None:
    frames = [*FRAMES, frame(5000, 60, 50, [], [("new", 0.9, 1.0)])]
    found = checked(
        lake_of(tmp_path / "lake", frames),
        answer(500, 5, AFTER_20),
        answer(1500, 25, AFTER_20),
        answer(2500, 40, AFTER_30),
        answer(5500, 60, AFTER_30),
        answer(6000, 70, AFTER_30),
        answer(6500, 0, ([], [])),
    )
    assert {row["result"] for row in found} == {"unverifiable"}
    reasons = [row["reason"] for row in found]
    assert reasons == [NEVER, books.BETWEEN, MISSING, MISSING, books.BEHIND, books.UNQUOTED]


def test_a_change_that_was_corrupted_is_found(tmp_path: Path) -> None:
    frames = list(FRAMES)
    frames[1] = frames[1].replace(b'["change",0.5,1.5]', b'["change",0.5,2.5]')
    assert frames[1] != FRAMES[1]
    [found] = checked(lake_of(tmp_path / "lake", frames), answer(2100, 30, AFTER_30))
    assert (found["result"], found["difference"]) == (
        "differs",
        "bid 1: 0.5 x 2.5 here, 0.5 x 1.5 at the venue",
    )


def test_an_answer_that_is_no_book_is_refused() -> None:
    url, body, recv_ns = answer(0, 1, AFTER_20)
    for wrong in (b"{}", body.replace(b'"bids"', b'"bid"'), body.replace(b"0.5", b'"0.5"')):
        with pytest.raises(SchemaDriftError, match="not an answer with a book"):
            decode_answer(url, 200, wrong, recv_ns)


def test_a_quiet_book_is_known_only_while_something_is_heard_and_no_gap_lies_between(tmp_path: Path) -> None:
    at = from_us((START_MS + 4000) * 1000)
    heard, unheard = (
        lake_of(tmp_path / name, list(FRAMES)[: 3 + more]) for name, more in (("a", 1), ("b", 0))
    )
    assert book_at(heard, NAME, at).bids == ((0.5, 1.5),)
    assert book_at(heard, NAME, at, levels=1).asks == ((0.6, 3.0),)
    assert "nothing was heard" in str(book_at(unheard, NAME, at).reason)
    between = from_us((START_MS + 1500) * 1000)
    assert book_at(unheard, NAME, between).bids == ((0.5, 1.5), (0.4, 2.0))
    assert book_at(unheard, NAME, from_us((START_MS - 1) * 1000)).reason is not None
    with pytest.raises(InputError, match="no book of BTC-PERPETUAL"):
        book_at(heard, "BTC-PERPETUAL", at)


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "connection", "channel", "known"),
    [
        (3000, 5000, 1, None, False),  # began after the book's last message
        (3000, 5000, 1, f"book.{NAME}.100ms", False),
        (3000, 5000, 1, f"ticker.{NAME}.100ms", True),
        (1000, 5000, 1, None, True),  # the message came while that connection was out: over another one
        (1000, 5000, None, None, False),  # records were dropped until later
        (1000, 1500, None, None, True),
        (30_000, 40_000, 1, None, True),
    ],
)
def test_which_gaps_concern_a_quiet_book(
    tmp_path: Path, start_ms: int, end_ms: int, connection: int | None, channel: str | None, known: bool
) -> None:
    root = lake_of(tmp_path / "lake", FRAMES)
    gap = {
        "venue": "deribit", "stream": "deribit@1", "connection": connection, "channel": channel,
        "instrument": NAME if channel else None, "start_ts": from_us((START_MS + start_ms) * 1000),
        "end_ts": from_us((START_MS + end_ms) * 1000), "cause": "disconnect", "healed": False, "records_lost": None,
    }  # fmt: skip
    add_gap(root, gap)
    at = from_us((START_MS + 4000) * 1000)
    assert (book_at(root, NAME, at).reason is None) == known
    rows = DepthRows(DepthSettings(every_seconds=1))(root, [at])
    assert len(rows) == int(known)
    # Where the next message names the one before, nothing can have happened between, gap or not.
    assert book_at(root, NAME, from_us((START_MS + 1500) * 1000)).reason is None


def add_gap(root: Root, gap: dict[str, Any]) -> None:
    import pyarrow as pa

    from lake.delta import Table
    from lake.schema import TABLES

    rows = pa.Table.from_pylist([gap], schema=TABLES["gaps"].arrow_schema)
    Table.open(root, TABLES["gaps"]).append(rows, app="test", version=1, origin="i.test.1")


def test_answers_and_samples_are_sql_lists(tmp_path: Path) -> None:
    root = lake_of(tmp_path / "lake", FRAMES)
    checked(root, answer(1100, 20, AFTER_20))
    [row] = query(root, "SELECT bid_prices[1] AS best, len(bid_prices) AS n FROM book_answers").to_pylist()
    assert row == {"best": 0.5, "n": 2}
