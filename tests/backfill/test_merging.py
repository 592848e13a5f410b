"""What comes twice: the row that tells more is kept, whole, and rows are accounted for."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.simulator.process import start
from lake.duplicates import drop_duplicates
from lake.events import Response
from lake.parquet import sort_rows
from lake.root import Root
from lake.schema import TABLES
from lake.spool import SpoolSettings
from pipeline.backfill import series
from pipeline.backfill.checks import drop_repeated
from pipeline.backfill.recording import Recording
from tests.backfill.kit import assert_sound, lake, past, rows, run, settings

NOON = 1_766_484_000_000
URL = "https://www.deribit.com/api/v2/public/get_last_trades_by_currency_and_time?currency=BTC&count=100"


def answer(*liquidations: str | None) -> bytes:
    """Trades numbered from 1, each with or without the word of a liquidation."""
    trades = []
    for seq, word in enumerate(liquidations, 1):
        trade: dict[str, Any] = {
            "trade_seq": seq, "trade_id": str(seq), "timestamp": NOON + seq // 3, "instrument_name": "BTC-PERPETUAL",
            "price": 100.0 + seq, "amount": 10.0, "direction": "buy",
        }  # fmt: skip
        trades.append(trade if word is None else {**trade, "liquidation": word})
    return json.dumps({"result": {"trades": trades, "has_more": False}}).encode()


def read(root: Root, *bodies: bytes) -> None:
    """Bring answers into the lake."""

    async def record() -> None:
        async with Recording(root, SpoolSettings(), 1_000_000) as recording:
            for body in bodies:
                recording.keep(Response(url=URL, status=200, requested_ns=1, body=msgspec.Raw(body)))

    asyncio.run(record())


def held(root: Root) -> list[str | None]:
    return [row["liquidation"] for row in rows(root, "SELECT liquidation FROM trades ORDER BY trade_seq")]


def test_a_liquidation_that_is_told_later_is_kept_and_stays(tmp_path: Path) -> None:
    root = lake(tmp_path)
    read(root, answer(None, None, None, None))
    read(root, answer(None, "T", None, "MT"))
    assert held(root) == [None, "T", None, "MT"]
    assert_sound(root)
    assert drop_repeated(root, "trades") == 0
    first = rows(root, "SELECT trade_seq, recv_ts FROM trades ORDER BY trade_seq")
    assert first[0]["recv_ts"] < first[1]["recv_ts"]  # where nothing more is told, the first received stays
    assert_sound(root)
    read(root, answer(None, None, None, None))  # a late answer of the host that does not tell
    assert held(root) == [None, "T", None, "MT"]
    assert_sound(root)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from([None, "M", "T"]), st.integers(0, 3)), min_size=1)
)
def test_of_equals_the_first_that_tells_is_kept_in_any_order(
    given_rows: list[tuple[int, str | None, int]],
) -> None:
    spec = TABLES["trades"]
    filled = [
        {
            "venue": "deribit", "instrument": "BTC-PERPETUAL", "ts": NOON * 1000, "recv_ts": NOON * 1000 + after,
            "trade_id": str(seq), "trade_seq": seq, "price": 1.0, "size": 1.0, "side": "buy", "liquidation": word,
        }
        for seq, word, after in given_rows
    ]  # fmt: skip
    table = pa.Table.from_pylist(
        [{name: row.get(name) for name in spec.names} for row in filled], schema=spec.arrow_schema
    )
    for candidate, in_order in ((table, False), (sort_rows(table, spec), True)):
        kept, dropped = drop_duplicates(candidate, spec, in_order=in_order)
        assert len(kept) + dropped == len(table)
        for row in kept.to_pylist():
            same = [(word is None, after) for seq, word, after in given_rows if seq == row["trade_seq"]]
            after_us = int(row["recv_ts"].timestamp() * 1_000_000 + 0.5) - NOON * 1000
            assert (row["liquidation"] is None, after_us) == min(same)
        assert len(kept) == len({seq for seq, _, _ in given_rows})


def test_a_chain_of_pages_that_was_cut_short_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = lake(tmp_path)
    whole = series._ask_settlements
    asked: list[Any] = []

    async def cut_short(
        currency: str, kind: str, upper_ms: int, until_ms: int, cursor: str | None, ask: Any
    ) -> None:
        async def twice(host: Any, method: str, params: Any) -> Any:
            if len(asked) == 2:
                raise asyncio.CancelledError
            asked.append(params)
            return await ask(host, method, params)

        await whole(currency, kind, upper_ms, until_ms, cursor, twice)

    monkeypatch.setattr(series, "PAGE_ROWS", 20)
    with start(past()) as venue:
        with monkeypatch.context() as context:
            context.setattr(series, "_ask_settlements", cut_short)
            first = run(root, "settlements", settings(venue, concurrency=1), currencies=("BTC",))
        assert not first.complete
        before = rows(root, "SELECT count(*) AS n FROM settlements")[0]["n"]
        assert before == 40
        second = run(root, "settlements", settings(venue), currencies=("BTC",))
        told = venue.control("truth", dataset="settlements", currency="BTC")["truth"]["rows"]
        days = venue.control("truth", dataset="deliveries", currency="BTC")["truth"]["rows"]
    assert second.complete
    assert before + second.rows == told + days
    assert second.duplicates_dropped == 0
    assert_sound(root)
