"""Files as people own them, and what an import made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lake.root import Root
from pipeline.importing import TARDIS, ImportReport, import_files, read_mapping

T = 1_709_251_200_123_000
"""2024-03-01T00:00:00.123Z in µs."""
TRADES_HEAD = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
DUMP_HEAD = "instrument_name,timestamp,trade_id,trade_seq,price,amount,direction,iv,mark_price,index_price,liquidation"
DUMP = """
table = "trades"
[columns]
instrument = "instrument_name"
ts = { column = "timestamp", unit = "ms" }
trade_id = "trade_id"
trade_seq = "trade_seq"
price = "price"
size = "amount"
side = "direction"
iv = "iv"
mark_price = "mark_price"
index_price = "index_price"
liquidation = "liquidation"
[constants]
venue = "deribit"
"""
OPTION = "BTC-27DEC24-60000-C"


def mapping(folder: Path, text: str) -> Path:
    """A mapping file."""
    path = folder / f"map{len(list(folder.glob('map*')))}.toml"
    path.write_text(text)
    return path


def dump_row(**cells: Any) -> str:
    """A row of a trade dump; `cells` replace what it says by default."""
    usual = {
        "instrument_name": OPTION,
        "timestamp": 1720000000123,
        "trade_id": 111,
        "trade_seq": 7,
        "price": 0.05,
        "amount": 1.5,
        "direction": "buy",
        "iv": 62.5,
        "mark_price": 0.0501,
        "index_price": 60000,
        "liquidation": "",
    }
    return ",".join(str(value) for value in (usual | cells).values())


def import_dump(root: Root, folder: Path, *rows: str, text: str = DUMP) -> ImportReport:
    """Import rows of a trade dump."""
    path = folder / f"dump{len(list(folder.glob('dump*')))}.csv"
    path.write_text("\n".join([DUMP_HEAD, *rows]) + "\n")
    return import_files(root, [path], read_mapping(mapping(folder, text)))


def import_tardis(root: Root, folder: Path, form: str, head: str, *rows: str) -> ImportReport:
    """Import rows of a file of Tardis."""
    path = folder / f"{form}{len(list(folder.glob('*.csv')))}.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return import_files(root, [path], TARDIS[form])


def reasons(root: Root) -> dict[int, str]:
    """By line: why it is in quarantine."""
    files = sorted((root.quarantine / "import").rglob("*.jsonl"))
    told = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {entry["line"]: entry["reason"] for entry in told}
