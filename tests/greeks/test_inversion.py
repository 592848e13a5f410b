"""Implied volatility: right to the last digits where the price determines it, NaN where it does not."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.greeks import greeks, implied_volatility
from pipeline.greeks.black76 import Booleans, log_ratio
from tests.greeks.exact import Quote, encloses, price
from tests.greeks.samples import HOUR, Floats, Quotes, hostile

GRID_ERROR_MAX: Final = 1e-11
ALLOWED: Final = 4e-9
"""1e-9 for the digit of the price itself, the rest for those of price * forward, K - F and the logarithms."""
HOSTILE_PER_FAMILY: Final = 100_000
JUDGED_PER_FAMILY: Final = 150


def grid() -> tuple[Floats, Floats, Floats, Floats]:
    """Forward, strike, years, volatility: 1 h to 2 y, 5 % to 500 %, strikes within 8 standard deviations."""
    years, volatility, sigmas = np.meshgrid(
        [HOUR, 6 * HOUR, 24 * HOUR, 7 / 365, 30 / 365, 0.25, 1.0, 2.0],
        [0.05, 0.1, 0.3, 0.5, 0.8, 1.2, 2.0, 3.5, 5.0],
        [-8, -6, -4, -3, -2, -1, -0.5, -0.1, -1e-3, 0, 1e-3, 0.1, 0.5, 1, 2, 3, 4, 6, 8],
        indexing="ij",
    )
    forward = np.full(years.shape, 83502.39)
    strike = forward * np.exp(sigmas * volatility * np.sqrt(years))
    return forward.ravel(), strike.ravel(), years.ravel(), volatility.ravel()


def exact_prices(
    forward: Floats, strike: Floats, years: Floats, volatility: Floats, is_call: Booleans
) -> Floats:
    rows = zip(forward, strike, years, volatility, is_call, strict=True)
    return np.array([float(price(*row)) for row in rows])


def test_the_grid_comes_back_to_eleven_digits() -> None:
    forward, strike, years, volatility = grid()
    is_call = strike >= forward
    quoted = exact_prices(forward, strike, years, volatility, is_call)
    found = implied_volatility(quoted, forward, strike, years, is_call, inverse=False)
    assert np.max(np.abs(found - volatility)) <= GRID_ERROR_MAX
    assert np.max(np.abs(found / volatility - 1.0)) <= GRID_ERROR_MAX
    in_coin = implied_volatility(quoted / forward, forward, strike, years, is_call, inverse=True)
    assert np.max(np.abs(in_coin - volatility)) <= GRID_ERROR_MAX


def test_in_the_money_is_what_out_of_the_money_is_or_null() -> None:
    forward, strike, years, volatility = grid()
    is_call = strike < forward
    quoted = exact_prices(forward, strike, years, volatility, is_call)
    found = implied_volatility(quoted, forward, strike, years, is_call, inverse=False)
    assert np.nanmax(np.abs(found / volatility - 1.0)) <= ALLOWED
    near = np.abs(np.log(strike / forward)) <= 2.01 * volatility * np.sqrt(years)
    assert np.isfinite(found[near]).all()
    assert np.isnan(found).any()


@pytest.mark.parametrize("rate", [-0.03, 0.05])
def test_a_rate_discounts(rate: float) -> None:
    forward, strike, years, volatility = grid()
    is_call = strike >= forward
    quoted = exact_prices(forward, strike, years, volatility, is_call) * np.exp(-rate * years)
    found = implied_volatility(quoted, forward, strike, years, is_call, inverse=False, rate=rate)
    assert np.max(np.abs(found - volatility)) <= GRID_ERROR_MAX


def grossly_wrong(quotes: Quotes, found: Floats) -> int:
    """How many volatilities do not reprice, by scipy's distribution function instead of our ratios."""
    from scipy.special import log_ndtr

    with np.errstate(all="ignore"):
        value = np.where(quotes.inverse, quotes.price * quotes.forward, quotes.price)
        high, low = np.maximum(quotes.forward, quotes.strike), np.minimum(quotes.forward, quotes.strike)
        time_value = np.where(quotes.is_call == (quotes.forward > quotes.strike), value - (high - low), value)
        distance = log_ratio(high, low)
        spread = found * np.sqrt(quotes.years)
        h, t = distance / spread, spread / 2
        near = np.exp(log_ndtr(t - h))
        model = near - np.exp(distance + log_ndtr(-t - h))
        vega = np.exp(-0.5 * (t - h) ** 2) / math.sqrt(2 * math.pi) * spread
        allowed = ALLOWED * vega + 16 * (1 + h * h + t * t) * 2.0**-52 * near + 1e-307
        return int(np.count_nonzero(np.isfinite(found) & ~(np.abs(model - time_value / low) <= allowed)))


def test_none_of_a_million_hostile_quotes_gives_a_wrong_volatility() -> None:
    rng = np.random.default_rng(5)
    wrong: Counter[str] = Counter()
    given_back = 0
    for name, quotes in hostile(HOSTILE_PER_FAMILY, seed=20261121):
        found = implied_volatility(*quotes[:5], inverse=quotes.inverse)
        rows = np.flatnonzero(np.isfinite(found))
        given_back += rows.size
        assert not np.isinf(found).any()
        wrong[name] += grossly_wrong(quotes, found)
        for n in rng.choice(rows, min(JUDGED_PER_FAMILY, rows.size), replace=False):
            wrong[name] += not encloses(quotes.row(n), found[n], ALLOWED)
    assert not +wrong
    assert given_back > 0.35 * 10 * HOSTILE_PER_FAMILY  # null everywhere would be right nowhere


def test_every_price_that_determines_a_volatility_gets_one() -> None:
    rng = np.random.default_rng(2)
    count = 100_000
    spread = np.exp(rng.uniform(np.log(1e-6), np.log(8.0), count))
    sigmas = rng.uniform(-30, 30, count)
    forward = 1e4 * rng.random(count) + 1.0
    strike = forward * np.exp(np.clip(sigmas * spread, -300, 300))
    is_call = strike >= forward
    years = rng.uniform(0.1, 2.0, count)
    volatility = spread / np.sqrt(years)
    quoted = greeks(forward, strike, years, volatility, is_call).price_usd
    clear = (quoted > 1e-280) & (quoted < 0.999 * np.minimum(forward, strike))
    found = implied_volatility(quoted, forward, strike, years, is_call, inverse=False)
    assert clear.mean() > 0.9
    assert np.isfinite(found[clear]).all()
    # K is rounded, which next to the money moves ln(F/K) by more than its own last digits
    assert np.max(np.abs(found / volatility - 1.0)[clear]) < 1e-9


def test_prices_of_any_size_at_the_money_have_a_volatility() -> None:
    share = np.geomspace(1e-290, 0.99, 4000)
    found = implied_volatility(share * 50_000.0, 50_000.0, 50_000.0, 1.0, True, inverse=False)
    assert np.isfinite(found).all()
    small = share < 1e-9
    np.testing.assert_allclose(found[small], share[small] * math.sqrt(2 * math.pi), rtol=1e-12)


def test_strikes_of_any_distance_have_a_volatility() -> None:
    strike = 50_000.0 * np.geomspace(1.01, 1e290, 4000)
    found = implied_volatility(10.0, 50_000.0, strike, 1.0, True, inverse=False)
    assert np.isfinite(found).all()
    for n in range(0, 4000, 97):
        assert encloses(Quote(10.0, 50_000.0, strike[n], 1.0, True, False), found[n], ALLOWED)


anything = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
positive = st.floats(min_value=1e-6, max_value=1e6)


@settings(max_examples=600, deadline=None)
@given(
    quoted=anything | positive | st.floats(0, 2),
    forward=anything | positive,
    strike=anything | positive,
    years=anything | st.floats(1e-6, 3),
    is_call=st.booleans(),
    inverse=st.booleans(),
)
def test_any_floats_give_the_right_volatility_or_none(
    quoted: float, forward: float, strike: float, years: float, is_call: bool, inverse: bool
) -> None:
    found = float(implied_volatility(quoted, forward, strike, years, is_call, inverse=inverse))
    if not math.isnan(found):
        assert encloses(Quote(quoted, forward, strike, years, is_call, inverse), found, ALLOWED)


@settings(max_examples=300, deadline=None)
@given(
    volatility=st.floats(0.01, 8.0),
    years=st.floats(1e-5, 2.0),
    moneyness=st.floats(-3.0, 3.0),
    is_call=st.booleans(),
)
def test_what_an_exact_price_came_from_is_found_or_null(
    volatility: float, years: float, moneyness: float, is_call: bool
) -> None:
    strike = 50_000.0 * math.exp(moneyness)
    quoted = float(price(50_000.0, strike, years, volatility, is_call))
    found = float(implied_volatility(quoted, 50_000.0, strike, years, is_call, inverse=False))
    if not math.isnan(found):
        assert found == pytest.approx(volatility, rel=ALLOWED)


VALID: Final = {"price": 2000.0, "forward": 50_000.0, "strike": 52_000.0, "years": 0.1}


@pytest.mark.parametrize("argument", VALID)
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, math.nan, math.inf, -math.inf, 5e-324, 1e-310])
def test_no_volatility_from_what_is_not_a_positive_normal_number(argument: str, value: float) -> None:
    assert np.isfinite(implied_volatility(**VALID, is_call=True, inverse=False))
    assert np.isnan(implied_volatility(**{**VALID, argument: value}, is_call=True, inverse=False))


def test_no_volatility_from_a_price_of_too_few_digits_on_either_side_of_the_forward() -> None:
    assert np.isfinite(implied_volatility(1e-300, 1e20, 1e10, 1.0, False, inverse=True))
    assert np.isnan(implied_volatility(1e-310, 1e20, 1e10, 1.0, False, inverse=True))
    assert np.isfinite(implied_volatility(1e-280, 1e-20, 1e-20, 1.0, True, inverse=True))
    assert np.isnan(implied_volatility(1e-300, 1e-20, 1e-20, 1.0, True, inverse=True))


def test_the_digits_a_discount_costs_count() -> None:
    quoted = float(price(50_000.0, 50_000.0, 1.0, 9.5, True))
    assert np.isfinite(implied_volatility(quoted, 50_000.0, 50_000.0, 1.0, True, inverse=False))
    quoted *= math.exp(-600.0)
    assert np.isnan(implied_volatility(quoted, 50_000.0, 50_000.0, 1.0, True, inverse=False, rate=600.0))


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, 1e5, -1e5])
def test_no_volatility_from_a_rate_that_is_none(rate: float) -> None:
    assert np.isnan(implied_volatility(**VALID, is_call=True, inverse=False, rate=rate))


@pytest.mark.parametrize(
    ("strike", "is_call", "lower", "upper"),
    [
        (60_000.0, True, 0.0, 50_000.0),
        (40_000.0, True, 10_000.0, 50_000.0),
        (40_000.0, False, 0.0, 40_000.0),
        (60_000.0, False, 10_000.0, 60_000.0),
        (50_000.0, True, 0.0, 50_000.0),
    ],
)
def test_no_volatility_at_and_beyond_the_bounds(
    strike: float, is_call: bool, lower: float, upper: float
) -> None:
    outside = [lower, np.nextafter(lower, -1.0), lower - 1.0, upper, np.nextafter(upper, np.inf), 2 * upper]
    inside = [lower + 500.0, 0.5 * (lower + upper), 0.9 * upper]

    def found(prices: list[float]) -> Floats:
        return implied_volatility(prices, 50_000.0, strike, 0.1, is_call, inverse=False)

    assert np.isnan(found(outside)).all()
    assert np.isfinite(found(inside)).all()
    assert np.isnan(found([np.nextafter(lower, upper)])).all() or lower == 0.0
    assert np.isnan(found([np.nextafter(upper, lower)])).all()


def test_a_higher_price_is_a_higher_volatility() -> None:
    prices = np.linspace(10.0, 49_000.0, 5000)
    for strike in (30_000.0, 50_000.0, 80_000.0):
        found = implied_volatility(
            prices + max(50_000.0 - strike, 0.0), 50_000.0, strike, 0.25, True, inverse=False
        )
        found = found[np.isfinite(found)]
        assert found.size > 1000
        assert (np.diff(found) > 0).all()


def test_the_price_in_coin_is_the_price_over_the_forward() -> None:
    in_coin = implied_volatility(
        [0.02, 0.05], 64_000.0, [70_000.0, 60_000.0], 0.2, [True, False], inverse=True
    )
    in_usd = implied_volatility(
        [0.02 * 64_000.0, 0.05 * 64_000.0], 64_000.0, [70_000.0, 60_000.0], 0.2, [True, False], inverse=False
    )
    np.testing.assert_array_equal(in_coin, in_usd)


def test_mpmath_agrees_on_the_judge_itself() -> None:
    """The judge's own sum against the integral of the vega, which has no cancellation."""
    with mp.workdps(30):
        x = mp.log(mp.mpf(52_000) / 50_000)
        integral = mp.quad(lambda s: mp.exp(-(x * x) / (2 * s * s) - s * s / 8), [0, 0.05, mp.sqrt(0.1)])
        integral *= mp.sqrt(mp.mpf(52_000) * 50_000) / mp.sqrt(2 * mp.pi)
        assert abs(integral / price(50_000, 52_000, mp.mpf("0.1"), 1, True) - 1) < mp.mpf(10) ** -15
