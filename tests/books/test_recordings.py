"""The books of real recordings, rebuilt from the tables, against dictionaries fed with the recorded frames."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from lake.books import book_at
from lake.instants import from_us, to_us
from pipeline.depth import DepthRows, DepthSettings
from tests.books.kit import in_dictionaries, lake_of
from tests.deribit import independent
from tests.system.kit import is_notification

RECORDINGS = (
    "deribit_2021-04-05_options_raw_ws.txt.zst",
    "deribit_2021-04-17_options_raw_ws.txt.zst",
    "deribit_2026-09-14_testnet_BTC-15SEP26-77000-C.jsonl",
)
INSTANTS = 2


def test_every_recorded_book_is_rebuilt_at_any_instant(tmp_path: Path, real_data: Path) -> None:
    chance = random.Random(3)
    messages = sampled = rebuilt = 0
    for name in RECORDINGS:
        frames = [f for f in independent.recorded(real_data / "ws" / name) if is_wanted(f)]
        root = lake_of(tmp_path / name, frames)
        books = [d for d in map(data_of, frames) if "change_id" in d]
        messages += len(books)
        times = [d["timestamp"] for d in books]
        # The job takes its samples at given instants; here every third second of the recording is one.
        seconds = [from_us(ms * 1000) for ms in range(min(times) // 1000 * 1000, max(times) + 2000, 3000)]
        for row in DepthRows(DepthSettings(every_seconds=1))(root, seconds).to_pylist():
            naive = in_dictionaries(books, row["instrument"], to_us(row["ts"]) // 1000)
            assert naive is not None
            bids, asks = naive.sides()
            assert list(zip(row["bid_prices"], row["bid_sizes"], strict=True)) == list(bids)[:20]
            assert list(zip(row["ask_prices"], row["ask_sizes"], strict=True)) == list(asks)[:20]
            assert row["change_id"] == naive.change_id
            sampled += 1
        for instrument in sorted({d["instrument_name"] for d in books}):
            for _ in range(INSTANTS):
                ms = chance.randint(min(times), max(times))
                naive = in_dictionaries(books, instrument, ms)
                found = book_at(root, instrument, from_us(ms * 1000), levels=None)
                assert (naive is None) <= (found.reason is not None)
                if naive is not None and found.reason is None:
                    assert (found.bids, found.asks) == naive.sides()
                    rebuilt += 1
    assert messages > 250
    assert sampled > 300
    assert rebuilt > 20, (
        "of most books nothing was heard after they had spoken last, in recordings of seconds"
    )


def is_wanted(frame: bytes) -> bool:
    """Whether the frame is of a ticker or of a full book."""
    if not is_notification(frame):
        return False
    channel: str = json.loads(frame)["params"]["channel"]
    return channel.startswith("ticker.") or (channel.startswith("book.") and channel.count(".") == 2)


def data_of(frame: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(frame)["params"]["data"]
    return found
