"""Files of every kind, whatever their names say; damaged ones are told in one line and leave nothing running."""

from __future__ import annotations

import bz2
import datetime as dt
import decimal
import gzip
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from lake.errors import InputError
from lake.root import Root
from lake.views import query
from pipeline.importing import TARDIS, import_files, read_mapping
from quality.verify import verify
from tests.importing.kit import DUMP, DUMP_HEAD, OPTION, TRADES_HEAD, T, dump_row, mapping, reasons

ROW = f"deribit,BTC-PERPETUAL,{T},{T},1,buy,60000,10"
CSV = f"{TRADES_HEAD}\n{ROW}\n".encode()
BOOK_HEAD = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"


def zst(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.CSV.GZ", gzip.compress(CSV)),
        ("t.csv.Gz", gzip.compress(CSV)),
        ("t.csv", gzip.compress(CSV)),
        ("t", zst(CSV)),
        ("t.csv.ZST", zst(CSV)),
        ("t.csv.bz2", bz2.compress(CSV)),
        ("t.csv.gz", CSV),
        ("two members.gz", gzip.compress(CSV[:20]) + gzip.compress(CSV[20:])),
        ("mark.csv", b"\xef\xbb\xbf" + CSV),
        ("crlf.csv", CSV.replace(b"\n", b"\r\n")),
        ("semicolon.csv", CSV.replace(b",", b";")),
        ("tab.tsv", CSV.replace(b",", b"\t")),
        ("spaces.csv", CSV.replace(b"symbol,timestamp", b' "symbol" , timestamp ')),
        ("no end.csv", CSV.rstrip(b"\n")),
        ("blank lines.csv", b"\n\n" + CSV + b"\n\r\n\n"),
    ],
)
def test_files_of_every_kind(root: Root, tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    (done,) = import_files(root, [path], TARDIS["trades"]).files
    assert (done["rows"], done["refused"]) == (1, 0)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(CSV * 50)[:-20], "the compressed file is damaged or was cut short"),
        (zst(CSV * 50)[:-4], "the compressed file is damaged or was cut short"),
        (CSV.decode().encode("utf-16"), "no text in UTF-8"),
        (b"PK\x03\x04" + CSV, "a zip archive; unpack it first"),
        (CSV.replace(b"\n", b"\r"), "lines end in CR alone"),
        (CSV.replace(b"symbol", b"s\xfcmbol"), "no UTF-8; save the file as UTF-8"),
        (CSV.replace(b"symbol", b"name"), "no column 'symbol'"),
        (CSV.replace(b",id,", b",number,"), "no column 'id'"),
        (
            TRADES_HEAD.replace("id", "id,id").encode() + b"\n" + ROW.encode(),
            "2 columns 'id'; which is meant",
        ),
        (b"PAR1" + bytes(40), "cannot be read as parquet file"),
        (b"ARROW1" + bytes(40), "cannot be read as arrow file"),
    ],
)
def test_files_that_cannot_be_read(root: Root, tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as refused:
        import_files(root, [path], TARDIS["trades"])
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", gzip.compress(b""), TRADES_HEAD.encode(), f"{TRADES_HEAD}\n\n".encode()]
)
def test_nothing_in_a_file_is_no_error(root: Root, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(content)
    assert import_files(root, [path], TARDIS["trades"]).files[0]["rows"] == 0
    assert verify(root).problems == []


def test_rows_that_are_none_are_refused_by_their_line(root: Root, tmp_path: Path) -> None:
    lines = [
        TRADES_HEAD,
        ROW,
        "",
        "deribit,BTC-PERPETUAL,1",
        ROW.replace(",1,buy", ",2,b\u00fcy"),
        ROW.replace(",1,", ",3,"),
        ",,,,,,,",
    ]
    path = tmp_path / "t.csv"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    (done,) = import_files(root, [path], TARDIS["trades"]).files
    assert (done["lines"], done["rows"], done["refused"]) == (6, 2, 2)
    assert reasons(root) == {4: "line: Expected 8 columns, got 3", 5: "side: 'b\u00fcy' is no UTF-8"}
    assert verify(root).problems == []


def test_a_file_cut_short_leaves_no_thread_behind(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(CSV * 20_000)[:-100])
    code = (
        "import sys, threading; from pathlib import Path; from lake.root import open_root; "
        "from lake.errors import InputError; from pipeline.importing import TARDIS, import_files\n"
        "try: import_files(open_root(Path(sys.argv[1]), create=True), [Path(sys.argv[2])], TARDIS['trades'])\n"
        "except InputError as error: print(error)\n"
        "assert threading.active_count() == 1"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lake"), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "damaged or was cut short" in done.stdout
    assert done.stderr == ""


def typed_table() -> pa.Table:
    at = dt.datetime(2024, 7, 3, 10, 0, 0, 123456)
    return pa.table(
        {
            "instrument_name": pa.array([OPTION] * 3).dictionary_encode(),
            "timestamp": pa.array([at, at.replace(hour=11), at.replace(hour=12)], pa.timestamp("ns")),
            "trade_id": pa.array([111, 112, 113], pa.int64()),
            "trade_seq": pa.array([7.0, None, float("nan")], pa.float64()),
            "price": pa.array([decimal.Decimal("0.0500"), decimal.Decimal("0.0505"), decimal.Decimal("-1")]),
            "amount": pa.array([1.5, 0.1, 1.0], pa.float32()),
            "direction": pa.array(["buy", "sell", "buy"], pa.large_string()),
            "iv": pa.array([62.5, float("nan"), None], pa.float64()),
            "mark_price": pa.nulls(3),
            "index_price": pa.array([60000, 60001, 60002], pa.int32()),
            "liquidation": pa.array([None, "T", None], pa.string()),
        }
    )


@pytest.mark.parametrize("kind", ["parquet", "arrow", "feather", "stream"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_typed_files(root: Root, tmp_path: Path, kind: str, zone: str | None) -> None:
    table, path = typed_table(), tmp_path / f"t.{kind}"
    if zone is not None:
        table = table.set_column(1, "timestamp", table["timestamp"].cast(pa.timestamp("us", tz=zone)))
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, path)
    else:
        opened = pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream
        with opened(path, table.schema) as writer:
            writer.write_table(table)
    (done,) = import_files(root, [path], read_mapping(mapping(tmp_path, DUMP))).files
    assert (done["lines"], done["rows"], done["refused"]) == (3, 2, 1)
    assert reasons(root) == {3: "price: -1.0000 is not above 0"}
    found = query(
        root,
        "SELECT trade_id, trade_seq, price, size, iv, liquidation, epoch_us(ts) % 1000000 AS us FROM trades",
    )
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("111", 7, 0.05, 1.5, 62.5, None, 123456),
        ("112", None, 0.0505, 0.1, None, "T", 123456),
    ]
    assert verify(root).problems == []


def test_a_chain_of_ones_own(root: Root, tmp_path: Path) -> None:
    path = tmp_path / "chain.parquet"
    at = dt.datetime(2024, 7, 3, 10, tzinfo=dt.UTC)
    names = [OPTION, "BTC-PERPETUAL", "BTC-27DEC24-60000-P"]
    columns = {
        "symbol": names,
        "time": [at] * 3,
        "bid": [0.05, 1.0, 0.0],
        "iv": [0.625, None, 0.61],
        "delta": [0.5, 0.0, -0.5],
    }
    pq.write_table(pa.table(columns), path)
    text = (
        'table = "chain"\n[columns]\ninstrument = "symbol"\nts = "time"\nbid_price = "bid"\n'
        'mark_iv = { column = "iv", scale = "percent" }\ndelta = "delta"\n[constants]\nvenue = "deribit"\n'
    )
    form = read_mapping(mapping(tmp_path, text))
    assert [import_files(root, [path], form).files[0]["rows"] for _ in range(2)] == [2, 0]
    found = query(
        root, "SELECT instrument, bid_price, mark_iv, quote_ts = ts AS same FROM chain ORDER BY ALL"
    ).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (OPTION, 0.05, 62.5, True),
        ("BTC-27DEC24-60000-P", None, 61.0, True),
    ]
    assert verify(root).problems == []


@pytest.mark.parametrize("batch_bytes", [128, 300, 1 << 20])
def test_interleaved_books_are_put_together(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int
) -> None:
    monkeypatch.setattr("pipeline.importing.run.BATCH_BYTES", batch_bytes)
    said = [
        ("BTC-PERPETUAL", 1, 5, "true", "bid", 99, 1),
        ("ETH-PERPETUAL", 1, 5, "true", "bid", 9, 1),
        ("BTC-PERPETUAL", 1, 5, "true", "ask", 101, 1),
        ("ETH-PERPETUAL", 1, 5, "true", "ask", 11, 1),
        ("BTC-PERPETUAL", 2, 6, "false", "bid", 98, 1),
        ("ETH-PERPETUAL", 2, 6, "false", "bid", 8, 0),
        ("BTC-PERPETUAL", 3, 6, "false", "bid", 97, 1),  # another message in the same µs
        ("BTC-PERPETUAL", 2, 6, "false", "ask", 102, 1),
        ("BTC-PERPETUAL", 3, 6, "true", "bid", 96, 1),  # and a snapshot
        ("ETH-PERPETUAL", 2, 6, "false", "ask", 12, 1),
        ("BTC-PERPETUAL", 3, 7, "false", "bid", 95, 1),
    ]
    rows = [
        f"deribit,{name},{T + ts},{T + got},{whole},{side},{price},{size}"
        for name, ts, got, whole, side, price, size in said
    ]
    for name, lines in (("all", rows), ("btc", [row for row in rows if "BTC" in row])):
        path = tmp_path / f"{name}.csv"
        path.write_text("\n".join([BOOK_HEAD, *lines]) + "\n")
        import_files(root, [path], TARDIS["incremental_book_L2"])
        found = query(
            root,
            f"SELECT DISTINCT instrument[:3] AS coin, change_id - {T} AS id, type, level, price FROM book ORDER BY ALL",
        )
        assert [tuple(row.values()) for row in found.to_pylist()] == [
            ("BTC", 5, "snapshot", 0, 99.0),
            ("BTC", 5, "snapshot", 1, 101.0),
            ("BTC", 6, "change", 0, 98.0),
            ("BTC", 6, "change", 1, 102.0),
            ("BTC", 7, "change", 0, 97.0),
            ("BTC", 8, "snapshot", 0, 96.0),
            ("BTC", 9, "change", 0, 95.0),
            ("ETH", 5, "snapshot", 0, 9.0),
            ("ETH", 5, "snapshot", 1, 11.0),
            ("ETH", 6, "change", 0, 8.0),
            ("ETH", 6, "change", 1, 12.0),
        ]
    assert verify(root).problems == []


def test_real_files_of_tardis(root: Root, real_data: Path) -> None:
    books = real_data / "tardis/deribit_incremental_book_L2_BTC-PERPETUAL.csv"
    chain = real_data / "tardis/deribit_options_chain_2024-01-01_OPTIONS_head3.csv"
    for form, path in (("incremental_book_L2", books), ("options_chain", chain)):
        (done,) = import_files(root, [path], TARDIS[form]).files
        assert (done["refused"], done["rows"]) == (0, done["lines"])
    with pytest.raises(InputError, match="'bitmex' is none of deribit"):
        import_files(root, [real_data / "tardis/bitmex_trades_XBTUSD.csv"], TARDIS["trades"])
    assert verify(root).problems == []


def test_a_dump_keeps_its_own_head() -> None:
    assert len(dump_row().split(",")) == len(DUMP_HEAD.split(","))
