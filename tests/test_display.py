"""Tables for people: whole numbers at every width, and nothing of a cell taken for markup."""

from __future__ import annotations

import datetime
import io
import re

import pytest
from rich.console import Console

from lake.display import as_tables, show

TS = datetime.datetime(2026, 11, 20, 10, 0, 0, 123456, tzinfo=datetime.UTC)


def rows(number: int) -> list[dict[str, object]]:
    return [
        {
            "instrument": f"BTC-27NOV26-{60 + i}000-C",
            "ts": TS,
            "partition_of_the_table": "date=2026-11-20/family=btc_option",
            **{f"underlying_price_{j}": 81_234.5678 + i for j in range(8)},
            "nothing": None,
        }
        for i in range(number)
    ]


def printed(given: list[dict[str, object]], width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width, markup=False).print(*as_tables(given, "numbers", width))
    return text.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 160, 400])
@pytest.mark.parametrize("number", [2, 9])
def test_numbers_and_times_are_whole_at_every_width(width: int, number: int) -> None:
    text = printed(rows(number), width)
    assert max(map(len, text.splitlines())) <= width
    assert text.count("2026-11-20 10:00:00.123456") == number
    for i in range(number):
        assert len(re.findall(rf"(?<!\S){81234 + i:,}\.5678(?!\S)", text)) == 8
    assert text.count("numbers") == 1


def test_few_wide_rows_are_turned_on_their_side_and_many_are_cut_into_numbered_parts() -> None:
    assert "instrument   BTC-27NOV26-60000-C" in re.sub(r" {3,}", "   ", printed(rows(2), 90))
    cut = printed(rows(9), 80)
    assert cut.count("#") == cut.count(" 9 ") > 1


def test_cells_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"text": "[/b] [red]x[/red] :smile:", "list": ["bold", "/b"]}])
    assert '[/b] [red]x[/red] :smile:   ["bold", "/b"]' in capsys.readouterr().out
