"""What is right is taken however it is spelled, exactly; what is unclear is refused with its line and a cure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lake.errors import InputError
from lake.root import Root
from lake.views import query
from pipeline.importing import import_files, read_mapping
from quality.verify import verify
from tests.importing.kit import DUMP, OPTION, dump_row, import_dump, mapping, reasons

NOTHING = ["", "nan", "NaN", "null", "NULL", "None", "-", "N/A", "NaT", "<NA>", " nan "]


@pytest.mark.parametrize("text", NOTHING)
def test_texts_that_mean_nothing_are_null_where_that_may_be(root: Root, tmp_path: Path, text: str) -> None:
    (done,) = import_dump(
        root, tmp_path, dump_row(iv=text, mark_price=text, liquidation=text, trade_seq=text)
    ).files
    assert (done["rows"], done["refused"]) == (1, 0)
    (row,) = query(root, "SELECT iv, mark_price, liquidation, trade_seq FROM trades").to_pylist()
    assert set(row.values()) == {None}


@pytest.mark.parametrize("text", ["nan", "None", "N/A"])
def test_where_something_must_be_they_are_refused(root: Root, tmp_path: Path, text: str) -> None:
    rows = [
        dump_row(),
        dump_row(trade_id=text),
        dump_row(trade_id=113, price=text),
        dump_row(trade_id=114, timestamp=text),
    ]
    report = import_dump(root, tmp_path, *rows)
    assert report.refused == 3
    assert reasons(root) == {
        3: f"trade_id: {text!r} says nothing, where something must be said",
        4: f"price: {text!r} says nothing, where something must be said",
        5: f"ts: {text!r} says nothing, where something must be said",
    }


def test_own_words_for_nothing_and_for_values(root: Root, tmp_path: Path) -> None:
    text = DUMP.replace(
        'side = "direction"', 'side = { column = "direction", values = { B = "buy", S = "sell" } }'
    )
    text = text.replace('iv = "iv"', 'iv = { column = "iv", null = ["-1", "unknown"] }')
    rows = [dump_row(direction="B", iv="-1"), dump_row(trade_id=112, direction="S", iv="unknown")]
    assert import_dump(root, tmp_path, *rows, text=text).refused == 0
    found = query(root, "SELECT side, iv FROM trades ORDER BY trade_id").to_pylist()
    assert found == [{"side": "buy", "iv": None}, {"side": "sell", "iv": None}]


@pytest.mark.parametrize(
    ("cell", "whole"),
    [
        ("7.0", 7),
        ("7.0e0", 7),
        ("+7", 7),
        ("7.", 7),
        ("9007199254740993", 2**53 + 1),
        ("9007199254740993.0", 2**53 + 1),
    ],
)
def test_whole_numbers_stay_exact(root: Root, tmp_path: Path, cell: str, whole: int) -> None:
    assert import_dump(root, tmp_path, dump_row(trade_seq=cell)).refused == 0
    assert query(root, "SELECT trade_seq FROM trades")["trade_seq"].to_pylist() == [whole]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"trade_seq": "7.5"}, "trade_seq: 7.5 is no whole number of 64 bits"),
        ({"trade_seq": str(2**63 - 2)}, "trade_seq: 9223372036854775806 is not between 0 and"),
        ({"trade_seq": "99999999999999999999"}, "is no whole number of 64 bits"),
        ({"trade_seq": "-1"}, "is not between 0 and"),
        ({"price": '"0,05"'}, "price: '0,05' is no number"),
        ({"price": '"1,234.5"'}, "is no number"),
        ({"price": "0x10"}, "is no number"),
        ({"price": "inf"}, "is not finite"),
        ({"price": "1e400"}, "is not finite"),
        ({"iv": "62.5%"}, "is no number"),
        ({"trade_id": "1.11e+02"}, "was a number once and lost its digits"),
        ({"direction": "unknown"}, "side: 'unknown' is none of buy, sell"),
        ({"liquidation": "yes"}, "liquidation: 'yes' is none of M, T, MT"),
    ],
)
def test_what_is_unclear_is_refused_with_its_line(
    root: Root, tmp_path: Path, cells: dict[str, str], words: str
) -> None:
    report = import_dump(root, tmp_path, dump_row(trade_id=110), dump_row(**cells))
    assert (report.files[0]["rows"], report.refused) == (1, 1)
    assert words in reasons(root)[3]
    assert verify(root).problems == []


def test_commas_come_with_their_cure(root: Root, tmp_path: Path) -> None:
    report = import_dump(
        root, tmp_path, dump_row(trade_id=110), dump_row(price='"0,05"'), dump_row(price='"1,234.5"')
    )
    assert [example.partition("; ")[2] for example in report.examples] == [
        "write a decimal point instead of the comma",
        "write numbers without separators of thousands",
    ]


def test_ids_that_became_numbers_are_what_they_were(root: Root, tmp_path: Path) -> None:
    import_dump(root, tmp_path, dump_row(trade_id="111.0"))
    assert query(root, "SELECT trade_id FROM trades")["trade_id"].to_pylist() == ["111"]


MS = 1_720_000_800_123_456  # 2024-07-03T10:00:00.123456Z


@pytest.mark.parametrize(
    ("unit", "cell", "us"),
    [
        ("s", "1720000800", MS // 1_000_000 * 1_000_000),
        ("s", "1720000800.0", MS // 1_000_000 * 1_000_000),
        ("s", "1720000800.123456", MS),
        ("s", "1720000800.123456999", MS),
        ("s", "1720000800.12299990654", MS // 1000 * 1000 - 0),
        ("ms", "1720000800123", MS // 1000 * 1000),
        ("ms", "1720000800123.0", MS // 1000 * 1000),
        ("ms", "1720000800123.456", MS),
        ("ms", "1.720000800123e12", MS // 1000 * 1000),
        ("us", "1720000800123456", MS),
        ("us", "1720000800123456.0", MS),
        ("ns", "1720000800123456789", MS),
        ("ns", "1720000800123456789.0", MS),
        ("iso", "2024-07-03T10:00:00.123456Z", MS),
        ("iso", "2024-07-03 10:00:00.123456", MS),
        ("iso", "2024-07-03T10:00:00.123456789Z", MS),
        ("iso", "2024-07-03t10:00:00.123456z", MS),
        ("iso", "2024-07-03 12:00:00.123456+02:00", MS),
        ("iso", "2024-07-03 12:00:00.123456+0200", MS),
        ("iso", "2024-07-03 19:00:00.123456+09", MS),
        ("iso", "2024-07-03 10:00:00.123456 UTC", MS),
        ("iso", "2024-07-03 10:00", MS // 1_000_000 * 1_000_000),
    ],
)
def test_times_are_exact_to_the_microsecond(
    root: Root, tmp_path: Path, unit: str, cell: str, us: int
) -> None:
    text = DUMP.replace('unit = "ms"', f'unit = "{unit}"')
    assert import_dump(root, tmp_path, dump_row(timestamp=cell), text=text).refused == 0
    assert query(root, "SELECT epoch_us(ts) AS us FROM trades")["us"].to_pylist() == [us]


@pytest.mark.parametrize(
    ("zone", "cell", "utc"),
    [
        ("UTC", "2024-07-03 10:00:00", "2024-07-03T10:00:00"),
        ("Europe/Berlin", "2024-07-03 12:00:00", "2024-07-03T10:00:00"),
        ("Europe/Berlin", "2024-01-03 12:00:00", "2024-01-03T11:00:00"),
        ("+09:00", "2024-07-03T19:00:00", "2024-07-03T10:00:00"),
        ("Asia/Tokyo", "2024-07-03T10:00:00Z", "2024-07-03T10:00:00"),
    ],
)
def test_times_without_a_zone_are_of_the_zone_that_is_said(
    root: Root, tmp_path: Path, zone: str, cell: str, utc: str
) -> None:
    text = DUMP.replace('unit = "ms"', f'zone = "{zone}"')
    assert import_dump(root, tmp_path, dump_row(timestamp=cell), text=text).refused == 0
    found = query(root, "SELECT strftime(ts AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S') AS at FROM trades")
    assert found["at"].to_pylist() == [utc]


@pytest.mark.parametrize("cell", ["2024-10-27 02:30:00", "2024-03-31 02:30:00"])
def test_an_hour_that_clocks_passed_twice_or_never_is_refused(root: Root, tmp_path: Path, cell: str) -> None:
    text = DUMP.replace('unit = "ms"', 'zone = "Europe/Berlin"')
    rows = [dump_row(timestamp="2024-07-03 12:00:00"), dump_row(trade_id=112, timestamp=cell)]
    assert import_dump(root, tmp_path, *rows, text=text).refused == 1
    assert "falls into a change of clocks" in reasons(root)[3]


@pytest.mark.parametrize(
    "cell", ["2024-02-30 10:00:00", "2024-07-03 25:00:00", "03/07/2024 10:00", "2024-07-03 10:00:00+99:00"]
)
def test_what_is_no_time_is_refused(root: Root, tmp_path: Path, cell: str) -> None:
    text = DUMP.replace('unit = "ms"', 'unit = "iso"')
    rows = [dump_row(timestamp="2024-07-03 12:00:00"), dump_row(trade_id=112, timestamp=cell)]
    assert import_dump(root, tmp_path, *rows, text=text).refused == 1
    assert reasons(root)[3] == f"ts: {cell!r} is no time"


@pytest.mark.parametrize(
    ("scale", "cell", "iv"),
    [("percent", "0.416", 41.6), ("percent", "0.6234", 62.34), ("fraction", "6250", 62.5)],
)
def test_scales_are_exact(root: Root, tmp_path: Path, scale: str, cell: str, iv: float) -> None:
    text = DUMP.replace('iv = "iv"', f'iv = {{ column = "iv", scale = "{scale}" }}')
    import_dump(root, tmp_path, dump_row(iv=cell), text=text)
    assert query(root, "SELECT iv FROM trades")["iv"].to_pylist() == [iv]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ('side = { column = "direction", scale = 2 }', "scale is for numbers"),
        ('iv = { column = "iv", scale = "percents" }', "neither a number"),
        ('iv = { column = "iv", scale = 0 }', "neither a number"),
        ('iv = { column = "iv", zone = "UTC" }', "zone is for times"),
        ('ts = { column = "timestamp", zone = "Mars/Base" }', "zone 'Mars/Base' is none"),
        ('ts = { column = "timestamp", unit = "ms", zone = "UTC" }', "zone is for times in text"),
        ('iv = { column = "iv", null = 3 }', "null is a list of texts"),
        ('side = { column = "direction", values = ["B"] }', "values says what texts stand for"),
        ('iv = { column = "iv", factor = 3 }', "unknown word 'factor'"),
    ],
)
def test_words_out_of_place_are_told(tmp_path: Path, said: str, words: str) -> None:
    name = said.split()[0]
    lines = [line for line in DUMP.splitlines() if not line.startswith(f"{name} =")]
    at = lines.index("[columns]") + 1
    with pytest.raises(InputError, match=words):
        read_mapping(mapping(tmp_path, "\n".join([*lines[:at], said, *lines[at:]])))


def test_a_lower_case_name_is_the_venues(root: Root, tmp_path: Path) -> None:
    import_dump(root, tmp_path, dump_row(instrument_name=OPTION.lower()))
    assert query(root, "SELECT instrument FROM trades")["instrument"].to_pylist() == [OPTION]


def test_other_words_in_a_mapping_make_another_stream_and_the_same_make_none(
    root: Root, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\n".join(
            [
                "instrument_name,timestamp,trade_id,price,amount,direction",
                f"{OPTION},1720000000123,1,0.05,1,buy",
            ]
        )
    )
    lines = [
        line
        for line in DUMP.splitlines()
        if line.split(" ")[0] not in ("iv", "mark_price", "index_price", "liquidation", "trade_seq")
    ]
    form = read_mapping(mapping(tmp_path, "\n".join(lines)))
    assert [import_files(root, [path], form).files[0]["rows"] for _ in range(2)] == [1, 0]
    assert json.dumps(verify(root).problems) == "[]"
