"""Numbers are written as the venue's server writes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.simulator.frames import format_number

NUMBER = re.compile(r"[:\[,](-?\d+\.\d+(?:e-?\d+)?)(?=[,\]}])")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (77_100.0, "7.71e4"), (83_950.0, "83950.0"), (1_000_200.0, "1.0002e6"), (1_000.0, "1.0e3"),
        (100.0, "100.0"), (0.001, "0.001"), (0.0001, "0.0001"), (0.00002, "2.0e-5"), (-3.1e-06, "-3.1e-6"),
        (0.00021714, "2.1714e-4"), (0.0, "0.0"), (-0.0, "0.0"), (0.5, "0.5"), (1e22, "1.0e22"),
    ],
)  # fmt: skip
def test_the_shorter_form_wins(value: float, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_comes_back_exactly(value: float) -> None:
    assert json.loads(format_number(value)) == value


@pytest.mark.parametrize(
    "name",
    ["deribit_2026-09-14_testnet_BTC-15SEP26-77000-C.jsonl", "deribit_2026-09-30_prod_tickers_first21.jsonl"],
)
def test_recorded_numbers_are_reproduced_digit_for_digit(real_data: Path, name: str) -> None:
    texts = NUMBER.findall((real_data / "ws" / name).read_text())
    assert len(texts) > 300
    assert [text for text in texts if format_number(float(text)) != text] == []
