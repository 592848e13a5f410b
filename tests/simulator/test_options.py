"""The venue's formulas against themselves, against differences, and against recorded tickers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.simulator.chain import parse_name
from collectors.simulator.options import YEAR_MS, greeks, implied_vol, price_usd
from lake.errors import InputError

CASES = [
    (84_222.23, 76_000.0, 0.235, 0.3825, 1),
    (84_222.23, 76_000.0, 0.235, 0.3825, -1),
    (2_700.0, 3_500.0, 0.08, 0.62, 1),
    (2_700.0, 2_650.0, 0.5, 0.55, -1),
]


@pytest.mark.parametrize(("forward", "strike", "years", "vol", "sign"), CASES)
def test_greeks_are_the_slopes_of_the_price(
    forward: float, strike: float, years: float, vol: float, sign: int
) -> None:
    value, greek = greeks(forward, strike, years, vol, sign)
    assert value == pytest.approx(price_usd(forward, strike, years, vol, sign), rel=1e-12)
    step = forward * 1e-5
    up, down = (price_usd(forward + d, strike, years, vol, sign) for d in (step, -step))
    assert greek.delta == pytest.approx((up - down) / (2 * step), rel=1e-6)
    up, down = (price_usd(forward + d, strike, years, vol, sign) for d in (forward * 1e-3, -forward * 1e-3))
    assert greek.gamma == pytest.approx((up - 2 * value + down) / (forward * 1e-3) ** 2, rel=1e-3)
    up, down = (price_usd(forward, strike, years, vol + d, sign) for d in (1e-4, -1e-4))
    assert greek.vega == pytest.approx((up - down) / 2e-4 / 100, rel=1e-5)
    later, sooner = (price_usd(forward, strike, years + d, vol, sign) for d in (1e-5, -1e-5))
    assert greek.theta == pytest.approx(-(later - sooner) / 2e-5 / 365, rel=1e-3)


def test_theta_counts_what_is_left_to_lose() -> None:
    hours = 6 / 24 / 365
    _, greek = greeks(80_000.0, 80_000.0, hours, 0.5, 1)
    _, whole_day = greeks(80_000.0, 80_000.0, 1 / 365, 0.5, 1)
    assert greek.theta == pytest.approx(whole_day.theta / 2, rel=1e-3)  # 1/sqrt(T) and T hours of it
    value, worthless = greeks(80_000.0, 95_000.0, 2 / 365, 0.5, 1)
    assert worthless.theta >= -value


@given(
    moneyness=st.floats(-1.5, 1.5),
    years=st.floats(1 / 365, 2.0),
    vol=st.floats(0.1, 2.5),
    sign=st.sampled_from([1, -1]),
)
@settings(max_examples=200, deadline=None)
def test_implied_vol_inverts_the_price(moneyness: float, years: float, vol: float, sign: int) -> None:
    forward = 50_000.0
    strike = forward * 2.718281828 ** (moneyness * vol * years**0.5 * 2)
    value = price_usd(forward, strike, years, vol, sign)
    found = implied_vol(value, forward, strike, years, sign, 0.5)
    assert found == pytest.approx(vol, abs=1e-4)


@pytest.mark.parametrize("offset", [0.0, -1.0, -500.0])
def test_a_price_under_intrinsic_has_no_vol(offset: float) -> None:
    assert implied_vol(20_000.0 + offset, 80_000.0, 60_000.0, 0.1, 1, 0.5) == 0.0


def test_no_vol_above_the_bound_and_the_cap() -> None:
    assert implied_vol(80_001.0, 80_000.0, 80_000.0, 0.1, 1, 0.5) == 0.0
    assert implied_vol(79_000.0, 80_000.0, 80_000.0, 0.1, 1, 0.5) == 5.0


def test_the_formulas_reproduce_recorded_tickers(real_data: Path) -> None:
    """Production tickers of 2026: Greeks of an option from its mark_iv and underlying_price."""
    checked = 0
    for line in (real_data / "ws" / "deribit_2026-09-30_prod_tickers_first21.jsonl").read_text().splitlines():
        data = json.loads(line)["params"]["data"]
        if "greeks" not in data:
            continue
        spec = parse_name(data["instrument_name"], now_ms=data["timestamp"])
        years = (spec.expiry_ms - data["timestamp"]) / YEAR_MS
        args = data["underlying_price"], spec.strike, years, data["mark_iv"] / 100, spec.sign
        value, greek = greeks(*args)
        assert value / data["underlying_price"] == pytest.approx(data["mark_price"], abs=1e-4)
        assert greek.delta == pytest.approx(data["greeks"]["delta"], abs=1e-4)
        assert greek.gamma == pytest.approx(data["greeks"]["gamma"], abs=5.1e-6)
        for name in ("vega", "theta", "rho"):
            assert getattr(greek, name) == pytest.approx(data["greeks"][name], rel=5e-4), name
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("name", ["BTC", "BTC-31FEB27", "BTC-1XXX27", "btc-1JAN27", "BTC-CS-1JAN27-1_2", ""])
def test_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="instrument name"):
        parse_name(name, now_ms=0)


def test_names_say_what_they_mean() -> None:
    option = parse_name("XRP_USDC-30JUN29-0d625-C", now_ms=0)
    assert (option.strike, option.sign, option.linear, option.currency) == (0.625, 1, True, "USDC")
    assert option.name == "XRP_USDC-30JUN29-0d625-C"
    future = parse_name("BTC-5DEC26", now_ms=0)
    assert datetime.fromtimestamp(future.expiry_ms / 1000, UTC) == datetime(2026, 12, 5, 8, tzinfo=UTC)
    assert parse_name("ETH_USDC", now_ms=0).kind == "spot"
