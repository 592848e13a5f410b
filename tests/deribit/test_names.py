"""Names read as the listings say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import duckdb
import pytest

from collectors.deribit import channels
from collectors.deribit.names import Name, family, parse_name
from lake.errors import InputError

DEC25 = 1_764_921_600_000_000  # 2025-12-05 08:00 UTC
DEC26 = 1_798_185_600_000_000  # 2026-12-25 08:00 UTC
MAR27 = 1_806_048_000_000_000  # 2027-03-26 08:00 UTC


@pytest.mark.parametrize(
    ("name", "meaning", "its_family"),
    [
        ("BTC-PERPETUAL", Name("future", "BTC", None), "btc_perpetual"),
        ("ETH-PERPETUAL", Name("future", "ETH", None), "eth_perpetual"),
        ("BTC_USDC-PERPETUAL", Name("future", "BTC", "USDC"), "perpetual"),
        ("NVDA_USDC-PERPETUAL", Name("future", "NVDA", "USDC"), "perpetual"),
        ("1000PEPE_USDC-PERPETUAL", Name("future", "1000PEPE", "USDC"), "perpetual"),
        ("BTC-5DEC25", Name("future", "BTC", None, DEC25), "future"),
        ("BTC_USDC-25DEC26", Name("future", "BTC", "USDC", DEC26), "future"),
        ("BTC-5DEC25-90000-C", Name("option", "BTC", None, DEC25, 90000.0, "call"), "btc_option"),
        ("ETH_USDC-5DEC25-3000-P", Name("option", "ETH", "USDC", DEC25, 3000.0, "put"), "eth_usdc_option"),
        ("XRP_USDC-5DEC25-0d625-C", Name("option", "XRP", "USDC", DEC25, 0.625, "call"), "xrp_usdc_option"),
        ("BTC_USDC", Name("spot", "BTC", "USDC"), "spot"),
        ("BTC-FS-25DEC26_PERP", Name("future_combo", "BTC", None, DEC26), "combo"),
        ("BTC-FS-26MAR27_25DEC26", Name("future_combo", "BTC", None, DEC26), "combo"),
        ("BTC-CS-25DEC26-70000_75000", Name("option_combo", "BTC", None, DEC26), "combo"),
        ("BTC-CSR12-25DEC26-70000_75000", Name("option_combo", "BTC", None, DEC26), "combo"),
        ("BTC-STRD-25DEC26-63000", Name("option_combo", "BTC", None, DEC26), "combo"),
        ("BTC-CCAL-26MAR27_25DEC26-63000", Name("option_combo", "BTC", None, DEC26), "combo"),
        ("XRP_USDC-PS-25DEC26-0d6_0d625", Name("option_combo", "XRP", "USDC", DEC26), "combo"),
    ],
)
def test_every_form_is_read(name: str, meaning: Name, its_family: str) -> None:
    assert parse_name(name) == meaning
    assert family(name) == its_family


@pytest.mark.parametrize(
    "name",
    [
        *("", "BTC", "btc-PERPETUAL", "BTC_USDC_X", "BTC-PERPETUAL\n"),
        *("BTC-05DEC25", "BTC-5Dec25", "BTC-31FEB25", "BTC-٣DEC25"),
        *("BTC-5DEC25-90000", "BTC-5DEC25-90000-X", "BTC-5DEC25-9.5-C", "BTC-5DEC25-d5-C"),
        *("BTC-FS-PERP", "BTC-CS-70000_75000"),
    ],
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=re.escape(repr(name))):
        parse_name(name)


def test_every_option_name_of_2016_to_2023_is_read(real_data: Path) -> None:
    archive = real_data / "rest" / "huenique_deribit_instrument_names.csv.zst"
    names = subprocess.run(
        ["zstd", "-dc", archive], check=True, capture_output=True, text=True
    ).stdout.split()
    assert len(names) == 61_083
    assert {parse_name(name).kind for name in names} == {"option"}
    assert {family(name) for name in names} == {"btc_option"}


def test_names_agree_with_the_listings_of_2021_to_2025(real_data: Path) -> None:
    listings = real_data / "rest" / "deribit_get_instruments_daily_2021-2025.parquet"
    rows = (
        duckdb.connect()
        .execute(
            "select distinct instrument_name, kind, strike, option_type, expiration_timestamp, base_currency"
            f" from '{listings}'"
        )
        .fetchall()
    )
    assert len(rows) > 100_000
    for name, kind, strike, option_type, expiration_ms, base in rows:
        parsed = parse_name(name)
        assert (parsed.kind, parsed.strike, parsed.option_type, parsed.base) == (
            kind,
            strike,
            option_type,
            base,
        ), name
        expiry = 32_503_708_800_000_000 if parsed.perpetual else parsed.expiry
        assert expiry == expiration_ms * 1000, name
        assert re.fullmatch("[a-z0-9_]+", family(name))


SCHEMA_KINDS = (
    "ticker", "book", "trades", "perpetual", "deribit_price_index", "deribit_volatility_index",
    "markprice.options",
)  # fmt: skip


@pytest.mark.parametrize(
    ("channel", "kind", "instrument"),
    [
        (channels.ticker("BTC-PERPETUAL"), "ticker", "BTC-PERPETUAL"),
        (channels.book("XRP_USDC-30JUN23-0d625-C", "raw"), "book", "XRP_USDC-30JUN23-0d625-C"),
        (channels.trades("BTC-PERPETUAL", "agg2"), "trades", "BTC-PERPETUAL"),
        (channels.all_trades(), "trades", None),
        (channels.all_trades("option", "BTC", "raw"), "trades", None),
        (channels.creations(), "instrument.creation", None),
        (channels.states("option"), "instrument.state", None),
        ("book.BTC-PERPETUAL.none.10.100ms", "book_grouped", None),
        ("chart.trades.BTC-PERPETUAL.1", "chart.trades", None),
        ("quote.BTC-PERPETUAL", "quote", None),
        (channels.perpetual("BTC-PERPETUAL"), "perpetual", "BTC-PERPETUAL"),
        (channels.price_index("btc_usd"), "deribit_price_index", None),
        (channels.volatility_index("btc_usd"), "deribit_volatility_index", None),
        (channels.marks("sol_usdc"), "markprice.options", None),
        ("perpetual.BTC-PERPETUAL", "perpetual_unknown_form", None),
        ("markprice.futures.btc_usd", "markprice", None),
        ("deribit_price_index", "deribit_price_index_unknown_form", None),
        ("platform_state", "platform_state", None),
        ("platform_state.public_methods_state", "platform_state", None),
        ("ticker", "ticker_unknown_form", None),
        ("", "", None),
    ],
)
def test_channels_are_sorted(channel: str, kind: str, instrument: str | None) -> None:
    found = channels.classify(channel)
    assert (found.kind, found.instrument) == (kind, instrument)
    assert found.tabulated == (kind in SCHEMA_KINDS)
