"""Imported files: every row once, in the contract's words, or refused with its line and reason."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from lake.errors import InputError
from lake.root import Root, open_root
from lake.views import query
from pipeline.importing import TARDIS, import_files, read_mapping, run
from quality.verify import verify

HEAD = "exchange,symbol,timestamp,local_timestamp"
T = 1_700_000_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def gz(path: Path, *lines: str) -> Path:
    path.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    return path


def trades_file(folder: Path, count: int = 5) -> Path:
    rows = [
        f"deribit,BTC-PERPETUAL,{T + i},{T + i + 7},{1000 + i},{('buy', 'sell')[i % 2]},{36000 + i / 2},{10 * i + 10}"
        for i in range(count)
    ]
    return gz(folder / "trades.csv.gz", f"{HEAD},id,side,price,amount", *rows)


def test_trades_of_tardis(root: Root, tmp_path: Path) -> None:
    report = import_files(root, [trades_file(tmp_path)], TARDIS["trades"])
    assert report.files == [
        {
            "file": "trades.csv.gz",
            "table": "trades",
            "lines": 5,
            "imported before": 0,
            "rows": 5,
            "repeated": 0,
            "refused": 0,
        }
    ]
    rows = query(
        root,
        "SELECT venue, instrument, epoch_us(ts) AS ts, epoch_us(recv_ts) AS got, trade_id, side, price, size, "
        "trade_seq FROM trades ORDER BY ts",
    ).to_pylist()
    assert rows[1] == {
        "venue": "deribit",
        "instrument": "BTC-PERPETUAL",
        "ts": T + 1,
        "got": T + 8,
        "trade_id": "1001",
        "side": "sell",
        "price": 36000.5,
        "size": 20.0,
        "trade_seq": None,
    }
    assert verify(root).problems == []


def test_the_same_file_again_adds_nothing(root: Root, tmp_path: Path) -> None:
    path = trades_file(tmp_path)
    import_files(root, [path], TARDIS["trades"])
    (again,) = import_files(root, [path], TARDIS["trades"]).files
    assert (again["imported before"], again["rows"]) == (5, 0)
    assert query(root, "FROM trades").num_rows == 5


def test_a_mapping_that_was_corrected_brings_what_was_refused(root: Root, tmp_path: Path) -> None:
    mapping, path = tmp_path / "m.toml", tmp_path / "t.csv"
    path.write_text(
        f"i,t,id,p,q,s\nBTC-PERPETUAL,{T // 1000},1,1.5,2,buy\nBTC-PERPETUAL,{T // 1000},2,1.5,2,buy\n"
    )
    text = (
        'table = "trades"\n[columns]\ninstrument = "i"\nts = { column = "t", unit = "UNIT" }\ntrade_id = "id"\n'
        'price = "p"\nsize = "q"\nside = "s"\n[constants]\nvenue = "deribit"\n'
    )
    mapping.write_text(text.replace("UNIT", "us"))
    with pytest.raises(InputError, match='unit = "ms" would fit; all 2 rows'):
        import_files(root, [path], read_mapping(mapping))
    found = []
    for _ in range(2):
        mapping.write_text(text.replace("UNIT", "ms"))
        (done,) = import_files(root, [path], read_mapping(mapping)).files
        found.append((done["imported before"], done["rows"], done["refused"]))
    assert found == [(0, 2, 0), (2, 0, 0)]
    assert verify(root).problems == []


def test_one_file_can_fill_two_tables(root: Root, tmp_path: Path) -> None:
    named = "funding_timestamp,funding_rate,predicted_funding_rate,open_interest,last_price,index_price,mark_price"
    head = f"{HEAD},{named}"
    path = gz(tmp_path / "d.csv.gz", head, f"deribit,BTC-PERPETUAL,{T},{T},,0.0001,,5,36000,36001,36002")
    mapping = tmp_path / "index.toml"
    mapping.write_text(
        'table = "index_prices"\n[columns]\nvenue = "exchange"\nts = "timestamp"\nprice = "index_price"\n'
        '[constants]\ninstrument = "btc_usd"\n'
    )
    for form in (TARDIS["derivative_ticker"], read_mapping(mapping)):
        (done,) = import_files(root, [path], form).files
        assert (done["imported before"], done["rows"], done["refused"]) == (0, 1, 0)
    assert verify(root).problems == []


def test_options_chain_of_tardis(root: Root, tmp_path: Path) -> None:
    named = (
        "type,strike_price,expiration,open_interest,last_price,bid_price,bid_amount,bid_iv,ask_price,ask_amount,ask_iv,"
        "mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho"
    )
    head = f"{HEAD},{named}"
    lines = [
        f"deribit,XRP_USDC-29MAR24-0D625-C,{T},{T},call,0.625,{T},5,,0.05,100,61.25,,,,0.0512,62.5,XRP_USDC-29MAR24,0.6312,0.5,1.25,0.001,-0.002,0.003",
        f"deribit,BTC-29MAR24-40000-P,{T},{T},put,40000,{T},5,0.1,0.05,100,0,0.06,1,62.7501,0.0512,62.5,SYN.BTC-29MAR24,36123.456,-0.5,0.00001,10.5,-20.25,3",
    ]  # fmt: skip
    import_files(root, [gz(tmp_path / "chain.csv.gz", head, *lines)], TARDIS["options_chain"])
    put, call = query(root, "FROM quotes ORDER BY instrument").to_pylist()
    assert call["instrument"] == "XRP_USDC-29MAR24-0d625-C"
    assert (call["ask_price"], call["ask_iv"], call["bid_iv"], call["last_price"]) == (
        None,
        None,
        61.25,
        None,
    )
    assert (put["bid_iv"], put["ask_iv"], put["underlying_price"]) == (None, 62.7501, 36123.456)
    assert (call["family"], put["family"]) == ("xrp_usdc_option", "btc_option")


def test_book_messages_are_told_apart_across_batches(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "BATCH_BYTES", 128)
    levels = [
        f"deribit,BTC-PERPETUAL,{T},{T + 5},true,{side},{price},{10}"
        for side, price in [("bid", 99), ("bid", 98), ("ask", 101)]
    ]
    changes = [
        f"deribit,BTC-PERPETUAL,{T + 9},{T + 12},false,bid,{price},{amount}"
        for price, amount in [(99, 0), (97, 5)]
    ]
    path = gz(tmp_path / "book.csv.gz", f"{HEAD},is_snapshot,side,price,amount", *levels, *changes)
    import_files(root, [path], TARDIS["incremental_book_L2"])
    rows = query(
        root,
        f"SELECT type, change_id - {T} AS message, level, side, action, price FROM book ORDER BY ALL",
    ).to_pylist()
    assert [(r["type"], r["message"], r["level"], r["side"], r["action"], r["price"]) for r in rows] == [
        ("change", 12, 0, "bid", "delete", 99.0),
        ("change", 12, 1, "bid", "change", 97.0),
        ("snapshot", 5, 0, "bid", "new", 99.0),
        ("snapshot", 5, 1, "bid", "new", 98.0),
        ("snapshot", 5, 2, "ask", "new", 101.0),
    ]


def test_rows_that_do_not_fit_are_named_by_line(root: Root, tmp_path: Path) -> None:
    lines = [
        f"deribit,BTC-PERPETUAL,{T},{T},1,buy,100,10",
        f"deribit,what?,{T},{T},2,buy,100,10",
        f"deribit,BTC-PERPETUAL,{T},{T},3,unknown,100,10",
        f"deribit,BTC-PERPETUAL,{T},{T},,buy,100,10",
        f"deribit,BTC-PERPETUAL,{T},{T},5,BUY,,10",
        f"bybit-options,BTC-29MAR24-40000-C,{T},{T},6,buy,100,10",
    ]
    report = import_files(
        root, [gz(tmp_path / "t.csv.gz", f"{HEAD},id,side,price,amount", *lines)], TARDIS["trades"]
    )
    assert (report.files[0]["rows"], report.refused) == (1, 5)
    (told,) = (root.quarantine / "import").rglob("*.jsonl")
    found = {line["line"]: line["reason"] for line in map(json.loads, told.read_text().splitlines())}
    assert found[4] == "side: 'unknown' is none of buy, sell"
    assert (found[5], found[6]) == ("trade_id: null", "price: null")
    assert found[3].startswith("instrument: 'what?' cannot be read: instrument name 'what?' has none of")
    assert found[7] == "venue: 'bybit-options' is none of deribit"
    assert verify(root).problems == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ["exchange,symbol,timestamp", f"deribit,BTC-PERPETUAL,{T}"],
            "the header has no column 'local_timestamp'",
        ),
        ([f"{HEAD},id,side,price,amount", f"deribit,BTC-PERPETUAL,{T},{T},1,buy,abc,1"], "'abc'"),
        (
            [f"{HEAD},id,side,price,amount", f"deribit,BTC-PERPETUAL,{T},{T},1,buy"],
            "Expected 8 columns, got 6",
        ),
    ],
)
def test_a_file_of_another_form_is_refused_in_one_line(
    root: Root, tmp_path: Path, lines: list[str], words: str
) -> None:
    path = gz(tmp_path / "odd.csv.gz", *lines)
    with pytest.raises(InputError) as refused:
        import_files(root, [path], TARDIS["trades"])
    assert words in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_file_is_no_error(root: Root, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv.gz"
    path.write_bytes(gzip.compress(b""))
    assert import_files(root, [path], TARDIS["trades"]).files[0]["rows"] == 0


@pytest.mark.parametrize("step", ["import:after_quarantine", "import:after_rows", "delta:after_commit:2"])
def test_killed_anywhere_the_next_run_completes_it(root: Root, tmp_path: Path, step: str) -> None:
    path = trades_file(tmp_path, 50)
    code = (
        "import sys; from pathlib import Path; from lake.root import open_root; "
        "from pipeline.importing import TARDIS, import_files, run; run.BATCH_BYTES = 512; "
        "import_files(open_root(Path(sys.argv[1])), [Path(sys.argv[2])], TARDIS['trades'])"
    )
    command = [sys.executable, "-c", code, str(root.path), str(path)]
    killed = subprocess.run(command, env={**os.environ, "LAKE_CRASH_AT": step}, check=False)
    assert killed.returncode == -9
    subprocess.run(command, check=True)
    found = query(root, "SELECT count(*) AS n, count(DISTINCT trade_id) AS ids FROM trades").to_pylist()
    assert found == [{"n": 50, "ids": 50}]
    assert verify(root).problems == []


MAPPING = """
table = "trades"
[columns]
instrument = "instrument_name"
ts = { column = "t", unit = "ms" }
trade_id = "trade_id"
trade_seq = "trade_seq"
price = "p"
size = "q"
side = "direction"
iv = { column = "iv", zero_is_null = true }
index_price = "index_price"
tick_direction = "tick_direction"
[constants]
venue = "deribit"
"""


def test_a_dump_with_repeats_ends_as_its_trades(root: Root, tmp_path: Path, real_data: Path) -> None:
    path = real_data / "trades/venteng_deribit_btc_option_trades_2022-01-01.csv.zst"
    mapping = tmp_path / "dump.toml"
    mapping.write_text(MAPPING)
    (done,) = import_files(root, [path], read_mapping(mapping)).files
    assert (done["lines"], done["rows"], done["repeated"], done["refused"]) == (3719, 1350, 2369, 0)
    found = query(
        root,
        "SELECT count(*) AS n, count(DISTINCT trade_id) AS ids, count(*) FILTER (WHERE iv = 0) AS zeros FROM trades",
    )
    assert found.to_pylist() == [{"n": 1350, "ids": 1350, "zeros": 0}]
    assert verify(root).problems == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("table = 'gaps'", "cannot be imported"),
        ("table = 'backfills'", "cannot be imported; choose one of quotes, trades, candles, "),
        ("table = 'trades'\ncolumns = 3", "write a section [columns]"),
        ("table = 'trades'\nconstants = 'deribit'", "write a section [constants]"),
        ("table = 'trades'\n[columns]\nprise = 'p'", "no column 'prise'"),
        (
            "table = 'trades'\n[columns]\nprice = 'p'",
            "also needs instrument, side, size, trade_id, ts, venue",
        ),
        ("table = 'trades'\n[columns]\nts = { column = 't', unit = 'h' }", "unit 'h'"),
        ("table = 'trades'\n[columns]\nts = 3", "columns.ts"),
        ("tables = 'trades'", "unknown entry 'tables'"),
        ("table = ", "cannot be read as a mapping"),
    ],
)
def test_a_mapping_with_a_slip_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_mapping(path)
    assert words in str(refused.value)
    assert "m.toml" in str(refused.value)


def test_units_of_time(root: Root, tmp_path: Path) -> None:
    for number, (unit, cell) in enumerate(
        [
            ("s", "1700000000.25"),
            ("ms", "1700000000250"),
            ("ns", "1700000000250000999"),
            ("iso", "2023-11-14T22:13:20.25Z"),
        ]
    ):
        mapping = tmp_path / f"{unit}.toml"
        mapping.write_text(
            'table = "index_prices"\n[columns]\ninstrument = "i"\nprice = "p"\n'
            f'ts = {{ column = "t", unit = "{unit}" }}\n[constants]\nvenue = "deribit"\n'
        )
        path = tmp_path / f"{unit}.csv"
        path.write_text(f"i,p,t\nbtc_usd,{number}.5,{cell}\n")
        import_files(root, [path], read_mapping(mapping))
    times = query(root, "SELECT DISTINCT ts FROM index_prices")["ts"].cast(pa.int64()).to_pylist()
    assert times == [1_700_000_000_250_000]


@pytest.mark.parametrize(
    ("said", "cell"),
    [
        ("us", T * 1000),
        ("us", T // 1000),
        ("ms", T * 1000),
        ("ms", T // 1_000_000),
        ("s", T * 1000),
        ("ns", T),
    ],
)
def test_times_of_another_unit_are_refused(root: Root, tmp_path: Path, said: str, cell: int) -> None:
    mapping = tmp_path / "index.toml"
    mapping.write_text(
        f'table = "index_prices"\n[columns]\nprice = "p"\nts = {{ column = "t", unit = "{said}" }}\n'
        '[constants]\nvenue = "deribit"\ninstrument = "btc_usd"\n'
    )
    right = {"us": T, "ms": T // 1000, "s": T // 1_000_000, "ns": T * 1000}[said]
    path = tmp_path / "index.csv"
    path.write_text(f"p,t\n1.5,{right}\n2.5,{cell}\n")
    (done,) = import_files(root, [path], read_mapping(mapping)).files
    assert (done["rows"], done["refused"]) == (1, 1)
    (told,) = (root.quarantine / "import").rglob("*.jsonl")
    reason = json.loads(told.read_text())
    assert reason["line"] == 3
    assert reason["reason"].startswith("ts: ")
    assert reason["reason"].endswith(f"{cell} is no time between 2010 and tomorrow")
    assert reason["cure"].startswith("is the unit right? unit = ")
    spans = query(
        root, "SELECT epoch_us(start_ts) AS first, epoch_us(end_ts) AS last FROM coverage"
    ).to_pylist()
    assert spans == [{"first": T, "last": T}], "what was recorded spans only rows that there are"
    assert verify(root).problems == []
