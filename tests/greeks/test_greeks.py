"""Greeks: the derivatives of the price in the venue's units, with the venue's rules for theta."""

from __future__ import annotations

import math
from typing import Any, Final

import mpmath as mp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.greeks import (
    Greeks,
    greeks,
    in_final_averaging,
    premium_adjusted_delta,
    volatility_uncertainty,
)
from pipeline.greeks.black76 import (
    SMALL_T,
    bachelier_spread,
    normal_ratio,
    small_value_ratio,
    tail_ratio,
    value_ratio,
)
from tests.greeks.exact import cdf, price

FORWARD: Final = 83_502.39
DAY: Final = 1.0 / 365.0
CASES: Final = [
    (strike, years, volatility)
    for strike in (20_000.0, 70_000.0, FORWARD, 83_600.0, 110_000.0, 400_000.0)
    for years, volatility in (
        (DAY / 24, 0.4),
        (DAY / 2, 1.5),
        (7 * DAY, 0.05),
        (0.25, 0.6),
        (2.0, 5.0),
        (1.0, 1e-3),
    )
]


def derivative(case: tuple[float, float, float], is_call: bool, name: str) -> Any:
    """Derivative of the exact price by the forward (once or twice), the volatility or time, in 40 digits."""
    strike, years, volatility = case
    with mp.workdps(60):
        f, t, v = mp.mpf(FORWARD), mp.mpf(years), mp.mpf(volatility)
        by: dict[str, Any] = {
            "delta": lambda: mp.diff(lambda x: price(x, strike, t, v, is_call), f),
            "gamma": lambda: mp.diff(lambda x: price(x, strike, t, v, is_call), f, 2),
            "vega": lambda: mp.diff(lambda x: price(f, strike, t, x, is_call), v) / 100,
            "theta": lambda: -mp.diff(lambda x: price(f, strike, x, v, is_call), t) / 365,
        }
        return by[name]()


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_greeks_are_the_derivatives_of_the_price(case: tuple[float, float, float], is_call: bool) -> None:
    strike, years, volatility = case
    got = greeks(FORWARD, strike, years, volatility, is_call)
    value = price(FORWARD, strike, years, volatility, is_call)
    assert float(got.price_usd) == pytest.approx(float(value), rel=1e-12, abs=1e-300)
    for name in ("delta", "gamma", "vega"):
        expected = float(derivative(case, is_call, name))
        assert float(getattr(got, name)) == pytest.approx(expected, rel=1e-10, abs=1e-25), name
    decay = float(derivative(case, is_call, "theta")) * min(1.0, years * 365)
    assert float(got.theta) == pytest.approx(-min(-decay, float(value)), rel=1e-10, abs=1e-25)


@pytest.mark.parametrize("is_call", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_rho_is_strike_time_probability(case: tuple[float, float, float], is_call: bool) -> None:
    strike, years, volatility = case
    with mp.workdps(40):
        spread = mp.mpf(volatility) * mp.sqrt(years)
        d2 = mp.log(mp.mpf(FORWARD) / strike) / spread - spread / 2
        sign = 1 if is_call else -1
        expected = float(sign * strike * mp.mpf(years) * cdf(sign * d2) / 100)
    assert float(greeks(FORWARD, strike, years, volatility, is_call).rho) == pytest.approx(
        expected, rel=1e-10, abs=1e-20
    )


@pytest.mark.parametrize("volatility", [1e-3, 1e-8, 1e-12])
def test_values_of_tiny_volatilities_keep_their_digits(volatility: float) -> None:
    for strike in (FORWARD, FORWARD * (1 + 0.7 * volatility), FORWARD * (1 + 3 * volatility)):
        expected = float(price(FORWARD, strike, 1.0, volatility, True))
        assert float(greeks(FORWARD, strike, 1.0, volatility, True).price_usd) == pytest.approx(
            expected, rel=1e-12
        )


numbers = st.floats(1e-3, 1e6)


@settings(max_examples=300, deadline=None)
@given(forward=numbers, strike=numbers, years=st.floats(1e-6, 5.0), volatility=st.floats(1e-3, 20.0))
@example(forward=524290.4164979175, strike=1.6105606273631565, years=4.0, volatility=9.0)
@example(forward=1.860305649403017, strike=524290.7300693908, years=1.0, volatility=18.0)
def test_parity_and_ranges(forward: float, strike: float, years: float, volatility: float) -> None:
    call = greeks(forward, strike, years, volatility, True)
    put = greeks(forward, strike, years, volatility, False)
    scale = max(forward, strike)
    assert float(call.price_usd - put.price_usd) == pytest.approx(forward - strike, abs=4e-15 * scale)
    assert float(call.delta - put.delta) == pytest.approx(1.0, abs=1e-15)
    assert 0.0 <= call.delta <= 1.0
    assert -1.0 <= put.delta <= 0.0
    assert call.gamma == put.gamma >= 0.0
    assert call.vega == put.vega >= 0.0
    assert max(forward - strike, 0.0) <= call.price_usd <= forward
    assert max(strike - forward, 0.0) <= put.price_usd <= strike
    assert -call.price_usd <= call.theta <= 0.0
    assert -put.price_usd <= put.theta <= 0.0
    assert call.rho >= 0.0 >= put.rho


@settings(max_examples=200, deadline=None)
@given(forward=numbers, strike=numbers, years=st.floats(1e-4, 2.0), volatility=st.floats(0.01, 5.0))
def test_a_call_is_the_put_with_forward_and_strike_exchanged(
    forward: float, strike: float, years: float, volatility: float
) -> None:
    call = greeks(forward, strike, years, volatility, True)
    put = greeks(strike, forward, years, volatility, False)
    assert call.price_usd == put.price_usd
    assert float(call.vega) == pytest.approx(float(put.vega), rel=1e-12)


def test_price_grows_with_volatility_and_time_and_delta_with_the_forward() -> None:
    rising = np.linspace(0.01, 5.0, 500)
    for strike in (50_000.0, FORWARD, 120_000.0):
        for column in (
            greeks(FORWARD, strike, 0.5, rising, True).price_usd,
            greeks(FORWARD, strike, rising / 3, 0.6, False).price_usd,
            greeks(FORWARD * rising, strike, 0.5, 0.6, True).delta,
        ):
            assert (np.diff(column) >= 0).all()
            assert (np.diff(column[50:300]) > 0).all()


def test_theta_of_the_last_day_is_the_loss_until_expiry_and_never_more_than_the_price() -> None:
    """Published rows: BTC-12MAR25-65000-C had 0.4027 days left; ETH-10JUN20-270-C lost no more than it was worth."""
    full = greeks(FORWARD, FORWARD, 0.4 * DAY, 0.5, True)
    assert float(full.theta) == pytest.approx(
        -float(full.vega) * 100 * 0.5 / (2 * 0.4 * DAY) / 365 * 0.4, rel=1e-12
    )
    wing = greeks(FORWARD, 1.05 * FORWARD, DAY, 0.3, True)
    assert wing.theta == -wing.price_usd
    known = greeks(FORWARD, 1.05 * FORWARD, DAY, 0.3, True, mark_price_usd=0.9 * wing.price_usd)
    assert known.theta == -0.9 * wing.price_usd
    assert known.price_usd == wing.price_usd
    for unknown in (math.nan, 0.0):
        assert greeks(FORWARD, 1.05 * FORWARD, DAY, 0.3, True, mark_price_usd=unknown).theta == wing.theta


@pytest.mark.parametrize("rate", [-0.03, 0.05])
def test_a_rate_discounts_everything(rate: float) -> None:
    plain, discounted = (greeks(FORWARD, 90_000.0, 0.5, 0.6, False, rate=r) for r in (0.0, rate))
    factor = math.exp(-rate * 0.5)
    for name in ("delta", "gamma", "vega", "rho", "price_usd"):
        assert float(getattr(discounted, name)) == pytest.approx(float(getattr(plain, name)) * factor)
    step = 1e-5
    later, sooner = (greeks(FORWARD, 90_000.0, 0.5 + s, 0.6, False, rate=rate) for s in (-step, step))
    slope = (later.price_usd - sooner.price_usd) / (2 * step) / 365
    assert float(discounted.theta) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf])
def test_no_greeks_from_a_rate_that_is_none(rate: float) -> None:
    assert np.isnan(greeks(FORWARD, 90_000.0, 0.5, 0.6, False, rate=rate)).all()


VALID: Final = {"forward": 50_000.0, "strike": 52_000.0, "years": 0.1, "volatility": 0.6}


@pytest.mark.parametrize("argument", VALID)
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf, 5e-324, 1e-310])
def test_no_greeks_from_what_is_not_a_positive_normal_number(argument: str, value: float) -> None:
    assert np.isfinite(greeks(**VALID, is_call=True)).all()
    assert np.isnan(greeks(**{**VALID, argument: value}, is_call=True)).all()


@pytest.mark.parametrize(("years", "volatility"), [(1e10, 1e-310), (1e-20, 1e-300)])
def test_no_greeks_where_volatility_or_spread_has_lost_digits(years: float, volatility: float) -> None:
    assert np.isnan(greeks(50_000.0, 50_000.0, years, volatility, True)).all()


@settings(max_examples=500, deadline=None)
@given(
    forward=st.floats(), strike=st.floats(), years=st.floats(), volatility=st.floats(), is_call=st.booleans()
)
def test_any_floats_give_greeks_within_their_ranges_or_none(
    forward: float, strike: float, years: float, volatility: float, is_call: bool
) -> None:
    got = greeks(forward, strike, years, volatility, is_call)
    assert not np.isinf(got).any()
    for column, low, high in (
        (got.delta, 0.0 if is_call else -1.0, 1.0 if is_call else 0.0),
        (got.price_usd, 0.0, forward if is_call else strike),
    ):
        assert np.isnan(column) or low <= column <= high


@pytest.mark.parametrize("volatility", [1e-200, 1e-8, 1e-3, 70.0, 1e3, 1e30])
def test_the_limits_of_volatility(volatility: float) -> None:
    call = greeks(FORWARD, 90_000.0, 1.0, volatility, True)
    put = greeks(FORWARD, 90_000.0, 1.0, volatility, False)
    worthless = volatility < 1
    assert float(call.price_usd) == pytest.approx(0.0 if worthless else FORWARD)
    assert float(put.price_usd) == pytest.approx(90_000.0 - FORWARD if worthless else 90_000.0)
    assert float(call.delta) == pytest.approx(0.0 if worthless else 1.0)
    assert call.gamma == put.gamma == pytest.approx(0.0, abs=1e-200)


def test_premium_adjusted_delta_takes_off_the_premium_in_coin() -> None:
    got = greeks(FORWARD, [80_000.0, 90_000.0], 0.1, 0.5, [True, False])
    net = premium_adjusted_delta(got.delta, got.price_usd, FORWARD)
    np.testing.assert_allclose(net, got.delta - got.price_usd / FORWARD, rtol=1e-15)
    # the coin's own delta: d(V / F) / dF * F
    step = 0.01
    up, down = (greeks(FORWARD + s, [80_000.0, 90_000.0], 0.1, 0.5, [True, False]) for s in (step, -step))
    slope = (up.price_usd / (FORWARD + step) - down.price_usd / (FORWARD - step)) / (2 * step) * FORWARD
    np.testing.assert_allclose(net, slope, rtol=1e-6)
    assert np.isnan(premium_adjusted_delta(0.5, 10.0, [0.0, -1.0, np.nan])).all()


def test_uncertainty_is_half_a_tick_over_vega() -> None:
    vega = greeks(FORWARD, 90_000.0, 0.1, 0.5, True).vega
    got = volatility_uncertainty(0.0005, FORWARD, vega, inverse=True)
    assert float(got) == pytest.approx(0.00025 * FORWARD / float(vega) / 100)
    moved = greeks(FORWARD, 90_000.0, 0.1, 0.5 + float(got), True).price_usd
    still = greeks(FORWARD, 90_000.0, 0.1, 0.5, True).price_usd
    assert float(moved - still) == pytest.approx(0.00025 * FORWARD, rel=1e-2)
    assert float(volatility_uncertainty(5.0, FORWARD, vega, inverse=False)) == pytest.approx(
        2.5 / float(vega) / 100
    )
    assert np.isnan(volatility_uncertainty(0.0005, FORWARD, [0.0, np.nan, -1.0, 1e-320], inverse=True)).all()


def test_the_last_half_hour_is_flagged() -> None:
    minute = DAY / 1440
    got = in_final_averaging([-minute, 0.0, minute, 29 * minute, 31 * minute, np.nan])
    assert got.tolist() == [False, False, True, True, False, False]


def test_ratios_are_right_to_the_last_digits() -> None:
    """The fitted quotient against 50 digits, on the whole half-line and next to zero on both sides."""
    with mp.workdps(50), np.errstate(over="ignore"):
        for z in [0.0, 1e-9, 0.1, 0.5, 0.7, 1.0, 2.0, 3.3, 5.0, 8.0, 12.0, 20.0, 37.0, 54.0, 300.0]:
            for side in (-1, 1) if z < 30 else (-1,):
                exact = cdf(mp.mpf(side * z)) * mp.sqrt(2 * mp.pi) * mp.exp(mp.mpf(z) ** 2 / 2)
                got = normal_ratio(np.array([side * z]))[0]
                assert abs(mp.mpf(got) / exact - 1) < 1e-15 * (1 + (z * z if side > 0 else 0))
    assert tail_ratio(np.array([1e3]))[0] == pytest.approx(1e-3, rel=1e-5)


def test_the_series_meets_the_difference_it_replaces() -> None:
    h = np.array([0.0, 1e-6, 0.3, 1.0, 5.0, 20.0])
    t = np.full(h.shape, SMALL_T)
    np.testing.assert_allclose(small_value_ratio(h, t), value_ratio(h, t), rtol=1e-11)
    assert value_ratio(np.zeros(1), np.full(1, 1e-9))[0] == pytest.approx(1.0, rel=1e-15)


def test_bachelier_guess_is_good_to_four_digits() -> None:
    spread = 1.0
    for h in (0.0, 1e-3, 0.1, 1.0, 3.0, 10.0, 30.0):
        value = float(mp.npdf(h) - h * cdf(mp.mpf(-h)))
        assert bachelier_spread(np.array([h]), np.array([value]))[0] == pytest.approx(spread, rel=1e-4)


def test_greeks_are_a_named_tuple_of_new_float64_arrays() -> None:
    got = greeks([1.0, 2.0], 1.0, 1.0, 0.5, True)
    assert Greeks._fields == ("delta", "gamma", "vega", "theta", "rho", "price_usd")
    assert all(
        column.dtype == np.float64 and column.shape == (2,) and column.flags.writeable for column in got
    )
