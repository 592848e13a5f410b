"""`lake import --dry-run` changes nothing; `--propose` writes mappings that load and import; exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import cli
from lake.root import open_root
from lake.views import query
from pipeline.importing import import_files, read_mapping
from pipeline.importing.propose import propose_mapping
from tests.importing.kit import DUMP, DUMP_HEAD, OPTION, TRADES_HEAD, T, dump_row, mapping


def lake(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_trial_shows_the_rows_and_makes_no_lake(tmp_path: Path) -> None:
    path = written(tmp_path, "d.csv", DUMP_HEAD, dump_row(), dump_row(trade_id=112, amount=-1), dump_row())
    root, form = tmp_path / "lake", mapping(tmp_path, DUMP)
    code, out, err = lake("--root", root, "import", "--mapping", form, "--dry-run", "--json", path)
    told = json.loads(out)
    assert code == 1
    assert told["files"][0] | {"file": ""} == {
        "file": "", "table": "trades", "lines": 3, "imported before": 0, "rows": 1, "repeated": 1, "refused": 1,
    }  # fmt: skip
    assert told["refused"] == [{"column": "size", "why": "is not above 0", "rows": 1}]
    assert [row["trade_id"] for row in told["first_rows"]] == ["111"]
    assert "d.csv:3: size: -1 is not above 0; a size has no sign" in err
    assert not root.exists()
    code, out, _ = lake("--root", root, "import", "--mapping", form, "--dry-run", path)
    assert (code, "not imported: a trial" in out, root.exists()) == (1, True, False)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([dump_row()], 0),
        ([dump_row(), dump_row(trade_id=112, amount=-1)], 1),
        ([dump_row(timestamp=1720000000), dump_row(timestamp=1720000001)], 2),
        ([dump_row(iv=0.62), dump_row(trade_id=112, iv=0.55)], 2),
        ([dump_row(direction="long"), dump_row(trade_id=112, direction="short")], 2),
    ],
)
@pytest.mark.parametrize("trial", [[], ["--dry-run"]])
def test_exit_codes(tmp_path: Path, rows: list[str], code: int, trial: list[str]) -> None:
    path, form = written(tmp_path, "d.csv", DUMP_HEAD, *rows), mapping(tmp_path, DUMP)
    assert lake("--root", tmp_path / "lake", "import", "--mapping", form, *trial, path)[0] == code


FILES = {
    "tardis.csv": (TRADES_HEAD, f"deribit,BTC-PERPETUAL,{T},{T},1,buy,60000,10"),
    "deribit.csv": (
        "trade_seq,trade_id,timestamp,tick_direction,price,mark_price,iv,instrument_name,index_price,direction,amount",
        f"7,111,1720000000123,0,0.05,0.0501,62.5,{OPTION},60000,buy,1.5",
    ),
    "fractions.csv": (
        "date,instrument,id,implied_volatility,px,qty,side",
        f"2024-07-03 10:00:00,{OPTION},1,0.625,0.05,1.5,B",
        f"2024-07-03 10:00:01,{OPTION},2,0.61,0.05,1.5,S",
    ),
    "ccxt.csv": (
        "id,timestamp,datetime,symbol,side,price,amount,cost",
        "111,1709251200123,2024-03-01T00:00:00.123Z,BTC/USD:BTC,buy,60000,10,600000",
        "112,1709251200123,2024-03-01T00:00:00.123Z,BTC/USD:BTC-240329-60000-C,sell,0.05,10,0.5",
    ),
    "kaiko_BTC-29MAR24-60000-C.csv": (
        "timestamp,exchange,id,price,amount,taker_side_sell",
        "1709251200123,drbt,111,0.05,1.5,true",
    ),
    "quotes.csv": (
        "time,symbol,best_bid_price,best_bid_amount,best_ask_price,best_ask_amount,mark_iv,delta",
        f"1720000000,{OPTION},0.05,1,0.06,2,62.5,0.5",
    ),
    "book_summary.csv": (
        "instrument_name,creation_timestamp,bid_price,ask_price,mark_price,open_interest,underlying_price",
        f"{OPTION},1720000000123,0.05,0.06,0.055,10,60000",
    ),
    "instruments.csv": (
        "instrument_name,kind,option_type,strike,tick_size,contract_size,creation_timestamp,expiration_timestamp",
        f"{OPTION},option,call,60000,0.0005,1,1711699200000,1735286400000",
    ),
    "candles.csv": (
        "time,symbol,open,high,low,close,volume,cost",
        "1709251200000,BTC-PERPETUAL,60000,60010,59990,60005,1.5,90000",
    ),
    "index.csv": ("timestamp,index_name,price", "1709251200000,btc_usd,60000"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_proposed_imports_the_file(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, *FILES[name])
    code, out, err = lake("import", "--propose", path)
    assert (code, err) == (0, "")
    form = read_mapping(mapping(tmp_path, out))
    root = open_root(tmp_path / "lake", create=True)
    (done,) = import_files(root, [path], form).files
    assert (done["rows"], done["refused"]) == (len(FILES[name]) - 1, 0)
    assert query(root, f"FROM {form.table}").num_rows == done["rows"]


def test_what_a_proposal_doubts_it_says(tmp_path: Path) -> None:
    text = propose_mapping(written(tmp_path, "fractions.csv", *FILES["fractions.csv"])).text
    assert 'iv = { column = "implied_volatility", scale = "percent" }   # not sure: ' in text
    assert 'side = { column = "side", values = { B = "buy", S = "sell" } }   # not sure: ' in text


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    path = written(
        tmp_path, "t.csv", "symbol,timestamp,price,amount,side", f"{OPTION},1720000000123,0.05,1,buy"
    )
    code, out, err = lake("import", "--propose", path)
    assert (code, err) == (1, "lake: add trade_id before you import with this mapping\n")
    assert '# trade_id = "…"   # the table needs it' in out


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,b,c", "1,2,3"], "no table of the lake looks like it"),
        (["exchange,symbol,timestamp,is_snapshot,side,price"], "--tardis incremental_book_L2"),
        ([""], "no table of the lake"),
    ],
)
def test_what_cannot_be_proposed(tmp_path: Path, lines: list[str], words: str) -> None:
    code, out, err = lake("import", "--propose", written(tmp_path, "t.csv", *lines))
    assert (code, out) == (2, "")
    assert words in err
