"""Reading a surface at any strike, delta and expiry: consistent with itself, and silent outside."""

from __future__ import annotations

import datetime as dt
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import InputError
from pipeline.surface.essvi import Essvi
from pipeline.surface.evaluate import Expiry, Surface, log_moneyness_of_delta
from pipeline.surface.svi import Svi
from tests.surface import kit

WIDE = (-3.0, 3.0)
EXPIRIES = [kit.us(expiry) for expiry in kit.SMILES]
FORWARDS = (80_000.0, 80_500.0, 82_000.0)
SURFACE = Surface(
    kit.us(kit.NOON),
    [
        Expiry(ts, forward, *WIDE, smile)
        for ts, forward, smile in zip(EXPIRIES, FORWARDS, kit.SMILES.values(), strict=True)
    ],
)
YEARS = [kit.years(expiry) for expiry in kit.SMILES]
FIRST, LAST = EXPIRIES[0], EXPIRIES[-1]
DELTAS = st.floats(0.001, 0.999)


@settings(max_examples=200, deadline=None)
@given(DELTAS, st.integers(FIRST, LAST), st.booleans())
def test_strike_and_delta_are_each_others_inverse(size: float, expiry: int, is_call: bool) -> None:
    wanted = size if is_call else size - 1.0
    strike = SURFACE.strike_of_delta(wanted, expiry)
    assert SURFACE.delta(strike, expiry, is_call=is_call) == pytest.approx(wanted, abs=1e-9)


def test_delta_is_blacks() -> None:
    strike, expiry = 90_000.0, EXPIRIES[1]
    deviation = float(SURFACE.volatility(strike, expiry)) / 100.0 * math.sqrt(YEARS[1])
    d1 = math.log(FORWARDS[1] / strike) / deviation + deviation / 2.0
    assert SURFACE.delta(strike, expiry, is_call=True) == pytest.approx(NormalDist().cdf(d1), abs=1e-12)
    assert SURFACE.delta(strike, expiry, is_call=False) == pytest.approx(
        NormalDist().cdf(d1) - 1.0, abs=1e-12
    )


def test_at_an_expiry_the_surface_is_its_smile() -> None:
    for place, (moment, smile) in enumerate(kit.SMILES.items()):
        strikes = np.array(kit.STRIKES)
        expected = 100.0 * smile.volatility(np.log(strikes / FORWARDS[place]), kit.years(moment))
        assert SURFACE.volatility(strikes, EXPIRIES[place]) == pytest.approx(expected, rel=1e-12)
        assert SURFACE.forward(EXPIRIES[place]) == pytest.approx(FORWARDS[place], rel=1e-12)


def test_between_expiries_total_variance_is_linear_at_the_same_moneyness() -> None:
    near, far = SURFACE.expiries[1:]
    expiry = near.ts + (far.ts - near.ts) // 4
    years = YEARS[1] + (YEARS[2] - YEARS[1]) / 4.0
    forward = SURFACE.forward(expiry)
    assert forward == pytest.approx(near.forward**0.75 * far.forward**0.25, rel=1e-9)
    for k in (-0.3, 0.0, 0.2):
        variance = (float(SURFACE.volatility(forward * math.exp(k), expiry)) / 100.0) ** 2 * years
        expected = 0.75 * near.smile.variance_at(k) + 0.25 * far.smile.variance_at(k)
        assert variance == pytest.approx(expected, rel=1e-6)


@given(st.integers(FIRST, LAST), st.integers(FIRST, LAST), st.floats(-0.4, 0.4))
@settings(max_examples=100, deadline=None)
def test_variance_never_falls_with_time(one: int, other: int, k: float) -> None:
    def variance(expiry: int) -> float:
        volatility = float(SURFACE.volatility(SURFACE.forward(expiry) * math.exp(k), expiry))
        return volatility**2 * (expiry - SURFACE.ts)

    near, far = sorted((one, other))
    assert variance(near) <= variance(far) * (1.0 + 1e-9)


@pytest.mark.parametrize("expiry", [FIRST - 1, LAST + 1])
def test_before_the_first_and_after_the_last_expiry_there_is_nothing(expiry: int) -> None:
    assert np.isnan(SURFACE.volatility(kit.STRIKES, expiry)).all()
    assert math.isnan(SURFACE.forward(expiry))
    assert math.isnan(SURFACE.strike_of_delta(0.25, expiry))
    assert math.isnan(SURFACE.delta(80_000.0, expiry, is_call=True))
    assert all(map(math.isnan, SURFACE.wing(expiry)))


@pytest.mark.parametrize("strike", [0.0, -1.0, np.nan, np.inf])
def test_a_strike_that_is_none_has_no_volatility(strike: float) -> None:
    assert np.isnan(SURFACE.volatility(strike, EXPIRIES[0]))
    assert math.isnan(SURFACE.delta(strike, EXPIRIES[0], is_call=True))


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, 2.0, math.nan])
def test_a_delta_that_no_option_has_is_refused(delta: float) -> None:
    with pytest.raises(InputError, match="no option has a delta"):
        SURFACE.strike_of_delta(delta, EXPIRIES[0])


def test_a_smile_without_positive_variance_gives_no_delta() -> None:
    bad = Svi(-0.05, 0.1, 0.0, 0.0, 0.1)
    assert math.isnan(log_moneyness_of_delta(bad.variance_at, 0.5, *WIDE))
    one = Surface(0, [Expiry(1, 100.0, *WIDE, bad)])
    assert np.isnan(one.volatility(100.0, 1))
    assert all(map(math.isnan, one.wing(1)))


def test_desk_quotes_are_the_volatilities_at_those_deltas() -> None:
    expiry = EXPIRIES[2]
    call, put = (
        float(SURFACE.volatility(SURFACE.strike_of_delta(delta, expiry), expiry)) for delta in (0.25, -0.25)
    )
    atm = float(SURFACE.volatility(SURFACE.forward(expiry), expiry))
    assert SURFACE.wing(expiry) == pytest.approx((atm, call - put, (call + put) / 2.0 - atm), abs=1e-9)
    assert SURFACE.wing(expiry).rr25 < 0.0 < SURFACE.wing(expiry).bf25


def test_a_symmetric_smile_has_a_risk_reversal_near_nothing_and_a_flat_one_none() -> None:
    half_a_year = round(365 * 86400e6) // 2
    flat = Surface(0, [Expiry(half_a_year, 100.0, *WIDE, Svi(0.125, 0.0, 0.0, 0.0, 0.1))])
    assert flat.wing(half_a_year) == pytest.approx((50.0, 0.0, 0.0), abs=1e-9)
    symmetric = Surface(0, [Expiry(half_a_year, 100.0, *WIDE, Essvi(0.0025, 0.0, 0.03).as_svi())])
    assert abs(symmetric.wing(half_a_year).rr25) < 0.2 * symmetric.wing(half_a_year).bf25


def test_constant_maturity_is_read_at_that_many_days() -> None:
    days = (EXPIRIES[1] - SURFACE.ts) / 86400e6
    assert SURFACE.constant_maturity(days) == pytest.approx(SURFACE.wing(EXPIRIES[1]), abs=1e-9)
    assert math.isnan(SURFACE.constant_maturity(1000.0).atm)


def test_expiries_may_come_in_any_order_but_each_once() -> None:
    turned = Surface(SURFACE.ts, SURFACE.expiries[::-1])
    moment = EXPIRIES[0] + dt.timedelta(days=3) // dt.timedelta(microseconds=1)
    assert turned.volatility(81_000.0, moment) == SURFACE.volatility(81_000.0, moment)
    with pytest.raises(InputError, match="one smile per expiry"):
        Surface(SURFACE.ts, [SURFACE.expiries[0], SURFACE.expiries[0]])


NARROW = Surface(SURFACE.ts, [expiry._replace(k_low=-0.02, k_high=0.03) for expiry in SURFACE.expiries])


def test_beyond_the_strikes_that_were_fitted_there_is_nothing() -> None:
    for expiry in (EXPIRIES[0], (EXPIRIES[1] + EXPIRIES[2]) // 2):
        forward = NARROW.forward(expiry)
        inside, outside = forward * math.exp(0.029), forward * math.exp(0.031)
        assert NARROW.volatility(inside, expiry) == SURFACE.volatility(inside, expiry)
        assert np.isnan(NARROW.volatility(outside, expiry))
        assert math.isnan(NARROW.delta(outside, expiry, is_call=True))
        assert math.isnan(NARROW.strike_of_delta(0.01, expiry))
        assert math.isfinite(NARROW.wing(expiry).atm)
    assert math.isnan(NARROW.wing(EXPIRIES[2]).rr25)
    assert math.isnan(NARROW.wing(EXPIRIES[2]).bf25)


def test_between_expiries_the_strikes_fitted_widen_evenly() -> None:
    near, far = SURFACE.expiries[1:]
    surface = Surface(SURFACE.ts, [near._replace(k_high=0.1), far._replace(k_high=0.3)])
    middle = (near.ts + far.ts) // 2
    forward = surface.forward(middle)
    assert np.isfinite(surface.volatility(forward * math.exp(0.199), middle))
    assert np.isnan(surface.volatility(forward * math.exp(0.201), middle))


def test_who_wants_to_may_extrapolate() -> None:
    beyond = Surface(NARROW.ts, NARROW.expiries, extrapolate=True)
    assert beyond.wing(EXPIRIES[2]) == pytest.approx(SURFACE.wing(EXPIRIES[2]), abs=1e-9)
    assert beyond.volatility(150_000.0, EXPIRIES[2]) == SURFACE.volatility(150_000.0, EXPIRIES[2])


def test_a_steep_wing_beyond_the_strikes_makes_no_wild_desk_quote() -> None:
    steep = Svi(-0.0022719723, 0.6717538659, 0.9853672193, 0.1273025797, 0.0218269223)  # fitted to |k| < 0.09
    ts = round(1.64 * 86400e6)
    wing = Surface(0, [Expiry(ts, 80_000.0, -0.0888, 0.0634, steep)]).wing(ts)
    assert wing.atm == pytest.approx(22.5, abs=0.1)
    assert abs(wing.rr25) < 5.0
    assert abs(wing.bf25) < 5.0
