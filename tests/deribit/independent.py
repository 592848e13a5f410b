"""A second reading of Deribit's frames, to compare the real one with: plain dictionaries, exact decimals,
no bulk."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

FRAMES = Path(__file__).with_name("frames.jsonl")
GREEKS = ("delta", "gamma", "vega", "theta", "rho")
SAME_IN_TRADES = (
    "trade_seq", "price", "index_price", "mark_price", "contracts", "tick_direction", "liquidation",
    "block_trade_id", "block_trade_leg_count", "combo_id", "starbase_match_id", "starbase_timestamp",
)  # fmt: skip
Row = dict[str, Any]
TABLES = ("quotes", "trades", "book", "funding", "index_prices", "volatility_index", "marks")


def hand_made() -> list[tuple[str, bytes]]:
    """The frames made by hand, each with what is peculiar about it."""
    lines = [json.loads(line) for line in FRAMES.read_text().splitlines()]
    return [(line["what"], line["frame"].encode()) for line in lines]


def recorded(path: Path) -> list[bytes]:
    """The frames of a recording: bare lines, lines after a receive time, or inside an object of notes."""
    text = (
        subprocess.run(["zstd", "-dc", path], check=True, capture_output=True).stdout
        if path.suffix == ".zst"
        else path.read_bytes()
    )
    frames = []
    for line in text.splitlines():
        start = line.find(b"{")
        if b"<-" in line[:80] or b"<->" in line[:80] or line.startswith(b"configuration") or start < 0:
            continue
        frame = line[start:]
        wrapped = frame.find(b'"_msg":')
        if wrapped >= 0:
            frame = (
                frame[wrapped + len(b'"_msg":') :].rsplit(b',"_note":')[0].rstrip().removesuffix(b"}").strip()
            )
            if b"_note" in line and not frame.endswith(b"}"):
                frame += b"}"
        frames.append(frame)
    return frames


def read(frames: list[bytes]) -> tuple[dict[str, list[Row]], Counter[str], int]:
    """Rows per table, notifications that are not tabulated by class, and all frames that are not
    tabulated."""
    tables: dict[str, list[Row]] = {name: [] for name in TABLES}
    other: Counter[str] = Counter()
    control = 0
    for record, frame in enumerate(frames):
        message = json.loads(frame, parse_float=Decimal)
        if message.get("method") != "subscription":
            control += 1
            continue
        channel, data = message["params"]["channel"], message["params"]["data"]
        first, dots = channel.split(".")[0], channel.count(".")
        if first == "ticker":
            tables["quotes"].append({"record": record, **quote(data)})
        elif first == "trades":
            tables["trades"] += [{"record": record, **trade(item)} for item in data]
        elif first == "book" and dots == 2:
            tables["book"] += [{"record": record, **row} for row in book(data)]
        elif first == "perpetual":
            tables["funding"].append({"record": record, **funding(channel.split(".")[1], data)})
        elif first == "deribit_price_index":
            tables["index_prices"].append({"record": record, **of_index(data), "price": data["price"]})
        elif first == "deribit_volatility_index":
            bar = dict.fromkeys(("open", "high", "low")) | {"close": data["volatility"], "resolution": "tick"}
            tables["volatility_index"].append({"record": record, **of_index(data), **bar})
        elif first == "markprice":
            tables["marks"] += [{"record": record, **mark(item)} for item in data]
        else:
            control += 1
            names = {"book": "book_grouped", "chart": "chart.trades", "instrument": "instrument.creation"}
            other[names.get(first, first)] += 1
    return tables, other, control


def of_index(data: Row) -> Row:
    return {"instrument": data["index_name"], "ts": data["timestamp"] * 1000}


def funding(instrument: str, data: Row) -> Row:
    hourly = dict.fromkeys(("interest_1h", "interest_8h", "prev_index_price"))
    sent = {name: data[name] for name in ("interest", "index_price")}
    return {"instrument": instrument, "ts": data["timestamp"] * 1000, "type": "momentary", **hourly, **sent}


def mark(data: Row) -> Row:
    return lead(data) | {
        "mark_price": data["mark_price"],
        "mark_iv": data["iv"] * 100 if data["iv"] else None,
    }


def lead(data: Row) -> Row:
    return {"instrument": data["instrument_name"], "ts": data["timestamp"] * 1000}


def quote(data: Row) -> Row:
    row = lead(data)
    for side in ("bid", "ask"):
        there = data[f"best_{side}_amount"] != 0
        row[f"{side}_price"] = data[f"best_{side}_price"] if there else None
        row[f"{side}_size"] = data[f"best_{side}_amount"] if there else None
        row[f"{side}_iv"] = (data.get(f"{side}_iv") or None) if there else None
    row["mark_iv"] = data.get("mark_iv") or None
    for name in ("last_price", "mark_price", "index_price", "underlying_price", "underlying_index"):
        row[name] = data.get(name)
    for name in ("open_interest", "funding_8h", "current_funding"):
        row[name] = data.get(name)
    for name in GREEKS:
        row[name] = data.get("greeks", {}).get(name)
    return row


def trade(data: Row) -> Row:
    row = lead(data) | {name: data.get(name) for name in SAME_IN_TRADES}
    for name in ("trade_id", "combo_trade_id", "block_rfq_id"):
        row[name] = str(data[name]) if data.get(name) is not None else None
    return row | {"size": data["amount"], "side": data["direction"], "iv": data.get("iv") or None}


def book(data: Row) -> list[Row]:
    row = lead(data) | {"type": data["type"], "change_id": data["change_id"]}
    row["prev_change_id"] = data.get("prev_change_id")
    level: Row = {"level": 0, "side": None, "action": None, "price": None, "size": None}
    rows: list[Row] = []
    for side in ("bid", "ask"):
        for action, price, size in data[side + "s"]:
            level = {"level": len(rows), "side": side, "action": action, "price": price, "size": size}
            rows.append(row | level)
    return rows or [row | level]


def assert_same(table: pa.Table, rows: list[Row]) -> int:
    """Every field of every row is equal, numbers as decimals; the number of fields compared is returned."""
    assert table.num_rows == len(rows)
    fields = 0
    for found, wanted in zip(table.to_pylist(), rows, strict=True):
        assert set(wanted) | {"venue", "family", "recv_ts"} == set(found)
        for name, value in wanted.items():
            got = found[name]
            if isinstance(got, datetime):
                got = round(got.timestamp() * 1_000_000)
            elif isinstance(got, float):
                got = Decimal(repr(got))
            assert got == value, (name, wanted)
            fields += 1
    return fields
