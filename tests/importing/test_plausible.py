"""What cannot be right is refused with line and reason, the rest is stored; a file that cannot be right stops."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.errors import InputError
from lake.root import Root
from lake.views import query
from pipeline.bars import derive_bars, left_out
from quality.verify import verify
from tests.importing.kit import DUMP, OPTION, TRADES_HEAD, T, dump_row, import_dump, import_tardis, reasons

QUOTES_HEAD = "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount"
CHAIN_HEAD = (
    "exchange,symbol,timestamp,local_timestamp,bid_price,bid_amount,bid_iv,ask_price,ask_amount,ask_iv,last_price,"
    "mark_price,mark_iv,underlying_index,underlying_price,delta,gamma,vega,theta,rho,open_interest"
)


def trade(number: int, name: str, price: float | str, size: float | str, at: int = T) -> str:
    return f"deribit,{name},{at},{at},{number},buy,{price},{size}"


def test_signed_sizes_and_prices_that_cannot_be(root: Root, tmp_path: Path) -> None:
    rows = [
        trade(1, "BTC-PERPETUAL", 60000, -500),
        trade(2, "BTC-PERPETUAL", 60001, 300),
        trade(3, "BTC-29MAR24-60000-C", -0.02, 1),
        trade(4, "BTC-PERPETUAL", 0, 0),
        trade(5, "BTC-PERPETUAL", 60000, 1e300),
        trade(6, "BTC-FS-29MAR24_PERP", -12.5, 10),
        trade(7, "BTC-CS-29MAR24-60000_70000", -0.02, 1),
    ]
    (done,) = import_tardis(root, tmp_path, "trades", TRADES_HEAD, *rows).files
    assert (done["rows"], done["refused"]) == (3, 4)
    assert reasons(root) == {
        2: "size: -500 is not above 0",
        4: "price: -0.02 is not above 0",
        5: "price: 0 is not above 0",
        6: "size: 1e+300 is too large to be an amount",
    }
    derive_bars(root)
    bars = query(root, "SELECT low, volume, cost FROM bars WHERE instrument = 'BTC-PERPETUAL'").to_pylist()
    assert {(bar["low"], bar["cost"]) for bar in bars} == {(60001.0, 300.0)}
    assert query(root, "FROM bars WHERE cost < 0 OR isnan(volume) OR NOT isfinite(volume)").num_rows == 0
    assert left_out(root) == [{"instrument": "BTC-FS-29MAR24_PERP", "trades left out": 1}]
    assert verify(root).problems == []


@pytest.mark.parametrize(
    ("name", "price", "cells", "fits"),
    [
        (OPTION, 0.05, {}, True),
        (OPTION, 3000, {}, False),
        ("BTC-27DEC24-160000-P", 2.45, {"index_price": 46593.7}, True),
        ("BTC-27DEC24-160000-P", 2.45, {"index_price": ""}, True),
        ("BTC-27DEC24-60000-P", 3.5, {"index_price": 60000}, False),
        ("BTC-27DEC24-60000-P", 3000, {"index_price": ""}, False),
        ("BTC_USDC-27DEC24-60000-C", 3000, {}, True),
        ("XRP_USDC-27DEC24-0d625-C", 0.05, {"index_price": 0.6}, True),
    ],
)
def test_prices_in_coin_and_in_usd(
    root: Root, tmp_path: Path, name: str, price: float, cells: dict[str, object], fits: bool
) -> None:
    other = dump_row(trade_id=1, instrument_name="BTC-PERPETUAL", price=60000, iv="", mark_price="")
    row = dump_row(instrument_name=name, price=price, mark_price="", **cells)
    report = import_dump(root, tmp_path, other, row)
    assert report.refused == (0 if fits else 1)
    if not fits:
        assert "coins cannot be the price" in reasons(root)[3]


def test_a_file_of_prices_in_usd_stops_as_a_whole(root: Root, tmp_path: Path) -> None:
    rows = [dump_row(trade_id=number, price=3000 + number, mark_price="") for number in range(5)]
    with pytest.raises(InputError, match="not in USD; divide by the index; all 5 rows read are like that"):
        import_dump(root, tmp_path, *rows)
    assert query(root, "FROM trades").num_rows == 0


def test_fractions_are_told_from_percent(root: Root, tmp_path: Path) -> None:
    fractions = [dump_row(trade_id=number, iv=iv) for number, iv in enumerate((0.62, 0.55, 1.4, 2.1, 0.71))]
    with pytest.raises(InputError, match='write scale = "percent"'):
        import_dump(root, tmp_path, *fractions)
    text = DUMP.replace('iv = "iv"', 'iv = { column = "iv", scale = "percent" }')
    import_dump(root, tmp_path, *fractions, text=text)
    assert query(root, "SELECT iv FROM trades ORDER BY iv")["iv"].to_pylist() == [
        55.0,
        62.0,
        71.0,
        140.0,
        210.0,
    ]
    with pytest.raises(InputError, match="is the scale right"):
        import_dump(
            root, tmp_path, *(dump_row(trade_id=9 + n, iv=iv) for n, iv in enumerate((41.5, 62.5))), text=text
        )


@pytest.mark.parametrize("volatilities", [(2.5,), (2.5, 62.5, 1.2), (2.5, 2.7)])
def test_genuine_low_volatilities_stay(root: Root, tmp_path: Path, volatilities: tuple[float, ...]) -> None:
    rows = [dump_row(trade_id=number, iv=iv) for number, iv in enumerate(volatilities)]
    assert import_dump(root, tmp_path, *rows).refused == 0
    assert query(root, "SELECT iv FROM trades ORDER BY trade_id")["iv"].to_pylist() == list(volatilities)


def chain_row(name: str = "BTC-29MAR24-60000-C", **cells: object) -> str:
    usual: dict[str, object] = dict.fromkeys(CHAIN_HEAD.split(","), "") | {
        "exchange": "deribit", "symbol": name, "timestamp": T, "local_timestamp": T, "mark_price": 0.05,
        "mark_iv": 62.5, "underlying_price": 60000.5, "delta": 0.5, "gamma": 0.00001, "vega": 45.6,
    }  # fmt: skip
    return ",".join(str(value) for value in (usual | cells).values())


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"delta": 45.2}, "delta: 45.2 is beyond 1"),
        ({"delta": -0.4}, "delta: -0.4 is below 0, which no call's is"),
        ({"name": "BTC-29MAR24-60000-P", "delta": 0.4}, "delta: 0.4 is above 0, which no put's is"),
        ({"gamma": -0.1}, "gamma: -0.1 is below 0"),
        ({"vega": -3}, "vega: -3 is below 0"),
        ({"mark_iv": -5}, "mark_iv: -5 is below 0"),
        ({"mark_iv": 99999}, "mark_iv: 99999 is too large to be a volatility"),
        ({"underlying_price": -1}, "underlying_price: -1 is not above 0"),
        ({"bid_price": -0.01, "bid_amount": 1}, "bid_price: -0.01 is below 0"),
        ({"bid_price": 0.01, "bid_amount": -1}, "bid_size: -1 is below 0"),
        ({"open_interest": -1}, "open_interest: -1 is below 0"),
    ],
)
def test_quotes_that_cannot_be(root: Root, tmp_path: Path, cells: dict[str, object], words: str) -> None:
    report = import_tardis(root, tmp_path, "options_chain", CHAIN_HEAD, chain_row(), chain_row(**cells))  # type: ignore[arg-type]
    assert report.refused == 1
    assert reasons(root)[3].startswith(words)


def test_quotes_that_can_be_strange_are_kept(root: Root, tmp_path: Path) -> None:
    rows = [
        f"deribit,BTC-PERPETUAL,{T},{T},10,60000,60001,10",  # crossed
        f"deribit,BTC-PERPETUAL,{T + 1},{T + 1},0,0,60000,10",  # no ask, in the venue's words
        f"deribit,BTC-FS-29MAR24_PERP,{T + 2},{T + 2},10,0,-5,10",
    ]
    assert import_tardis(root, tmp_path, "quotes", QUOTES_HEAD, *rows).refused == 0
    found = query(root, "SELECT ask_price, ask_size, bid_price FROM quotes ORDER BY ts").to_pylist()
    assert [tuple(row.values()) for row in found] == [
        (60000.0, 10.0, 60001.0),
        (None, None, 60000.0),
        (0.0, 10.0, -5.0),
    ]


@pytest.mark.parametrize(("after_s", "fits"), [(0, True), (1800, True), (7200, False), (86400 * 30, False)])
def test_nothing_trades_after_its_expiry(root: Root, tmp_path: Path, after_s: int, fits: bool) -> None:
    expiry = 1_735_286_400_000  # 2024-12-27T08:00Z
    rows = [dump_row(), dump_row(trade_id=112, timestamp=expiry + after_s * 1000)]
    assert import_dump(root, tmp_path, *rows).refused == (0 if fits else 1)


def test_instruments_of_the_lake_say_from_when_on_there_was_one(root: Root, tmp_path: Path) -> None:
    import_instruments(root, tmp_path)
    day = 86_400_000
    rows = [
        dump_row(timestamp=1_711_699_200_000 + day),
        dump_row(trade_id=112, timestamp=1_711_699_200_000 - 3 * day),
    ]
    assert import_dump(root, tmp_path, *rows).refused == 1
    assert "is before the instrument was listed" in reasons(root)[3]


def import_instruments(root: Root, folder: Path) -> None:
    from pipeline.importing import import_files, read_mapping
    from tests.importing.kit import mapping

    text = (
        'table = "instruments"\n[columns]\ninstrument = "instrument_name"\nkind = "kind"\nstrike = "strike"\n'
        'option_type = "option_type"\ncreation_ts = { column = "creation_timestamp", unit = "ms" }\n'
        'expiration_ts = { column = "expiration_timestamp", unit = "ms" }\n[constants]\nvenue = "deribit"\n'
    )
    path = folder / "listing.csv"
    path.write_text(
        "instrument_name,kind,strike,option_type,creation_timestamp,expiration_timestamp\n"
        f"{OPTION},option,60000.0,call,1711699200000,1735286400000\n"
        f"{OPTION},option,60000.0,call,1711699200000,1735286400000\n"
        "BTC-PERPETUAL,future,,,1534167754000,32503708800000\n"
        "BTC-27DEC24-70000-C,option,7000,call,1711699200000,1735286400000\n"
        "BTC-27DEC24-80000-C,option,80000,put,1711699200000,1735286400000\n"
    )
    (done,) = import_files(root, [path], read_mapping(mapping(folder, text))).files
    assert (done["rows"], done["repeated"], done["refused"]) == (2, 1, 2)
    found = query(root, "SELECT instrument, strike FROM instruments ORDER BY instrument").to_pylist()
    assert [tuple(row.values()) for row in found] == [(OPTION, 60000.0), ("BTC-PERPETUAL", None)]
    assert verify(root).problems == []


def test_repeats_are_dropped_and_other_rows_of_the_same_id_refused(
    root: Root, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.importing.run.BATCH_BYTES", 150)
    rows = [
        dump_row(),
        dump_row(trade_id=112),
        dump_row(),
        dump_row(price=0.06),
        dump_row(liquidation="M"),
        dump_row(trade_id=112),
    ]
    (done,) = import_dump(root, tmp_path, *rows).files
    assert (done["lines"], done["rows"], done["repeated"], done["refused"]) == (6, 3, 2, 1)
    assert reasons(root) == {5: "trade_id: 111 stands in the file before, with other values"}
    sums = query(
        root, "SELECT sum(imported), sum(rows_trades), sum(repeated), sum(rejected) FROM coverage"
    ).to_pylist()
    assert list(sums[0].values()) == [6, 3, 2, 1]
    assert verify(root).problems == []
