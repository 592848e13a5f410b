"""Raw SVI: parameters that are known come back, and no fit leaves what a smile may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.surface.arbitrage import least_g
from pipeline.surface.svi import Svi, fit_svi
from tests.surface import kit

K = np.linspace(-0.5, 0.4, 25)
KNOWN = [
    *kit.SMILES.values(),
    Svi(0.02, 0.4, -0.3, 0.05, 0.12),
    Svi(-0.01, 0.2, 0.4, 0.1, 0.3),  # a may be negative, the variance not
    Svi(0.001, 0.05, 0.0, -0.05, 0.04),
    Svi(0.04, 0.3, -0.95, 0.0, 0.1),
]


@pytest.mark.parametrize("known", KNOWN)
def test_exact_observations_give_back_the_parameters(known: Svi) -> None:
    found = fit_svi(K, known.total_variance(K), np.ones_like(K))
    assert found is not None
    assert found == pytest.approx(known, rel=1e-4, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.001, 0.1),
    st.floats(0.01, 0.9),
    st.floats(-0.95, 0.95),
    st.floats(-0.2, 0.2),
    st.floats(0.04, 0.5),
)
def test_any_smile_is_matched_to_a_hundredth_of_a_point(
    a: float, b: float, rho: float, m: float, sigma: float
) -> None:
    known = Svi(a, b, rho, m, sigma)
    found = fit_svi(K, known.total_variance(K), np.ones_like(K))
    assert found is not None
    assert np.abs(found.volatility(K, 1.0) - known.volatility(K, 1.0)).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 30))
def test_no_fit_leaves_the_box_whatever_is_observed(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    k = np.sort(random.normal(0.0, 0.3, count))
    smile = fit_svi(k, random.exponential(0.05, count), random.random(count) + 0.01)
    assert smile is not None
    assert smile.b >= 0.0
    assert abs(smile.rho) <= 1.0 + 1e-12
    assert smile.b * (1.0 + abs(smile.rho)) <= 2.0 + 1e-9  # Lee's bound
    assert smile.total_variance(np.linspace(-5.0, 5.0, 401)).min() >= -1e-12


def test_noise_moves_the_smile_by_less_than_itself() -> None:
    known = kit.SMILES[next(iter(kit.SMILES))]
    noisy = known.total_variance(K) * (1.0 + np.random.default_rng(5).normal(0.0, 0.01, len(K)))
    found = fit_svi(K, noisy, np.ones_like(K))
    assert found is not None
    relative = found.total_variance(K) / known.total_variance(K) - 1.0
    assert np.sqrt((relative**2).mean()) < 0.01


def test_weight_decides_between_observations_that_contradict_each_other() -> None:
    low, high = Svi(0.01, 0.1, 0.0, 0.0, 0.1), Svi(0.03, 0.1, 0.0, 0.0, 0.1)
    k = np.concatenate([K, K])
    w = np.concatenate([low.total_variance(K), high.total_variance(K)])
    weight = np.concatenate([np.full(len(K), 1e-6), np.ones(len(K))])
    found = fit_svi(k, w, weight)
    assert found is not None
    assert found.total_variance(0.0) == pytest.approx(high.total_variance(0.0), rel=1e-3)


def test_a_start_may_be_wrong_without_harm() -> None:
    known = KNOWN[4]
    w = known.total_variance(K)
    found = fit_svi(K, w, np.ones_like(K), start=Svi(1.0, 1.0, 0.9, 40.0, 30.0))
    assert found == pytest.approx(known, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_strikes_determine_nothing(count: int) -> None:
    k = np.linspace(-0.1, 0.1, count)
    assert fit_svi(k, np.full(count, 0.02), np.ones(count)) is None
    assert fit_svi(np.repeat(k, 3), np.full(3 * count, 0.02), np.ones(3 * count)) is None


def test_a_flat_smile_is_flat() -> None:
    smile = fit_svi(K, np.full(len(K), 0.04), np.ones_like(K))
    assert smile is not None
    assert smile.volatility(K, 1.0) == pytest.approx(0.2, abs=1e-6)
    assert least_g(smile, -0.5, 0.4) > 0.99


def test_derivatives_are_those_of_the_variance() -> None:
    smile, step = KNOWN[4], 1e-4
    _, first, second = smile.derivatives(K)
    w_low, w, w_high = (smile.total_variance(K + shift) for shift in (-step, 0.0, step))
    assert first == pytest.approx((w_high - w_low) / (2.0 * step), abs=1e-6)
    assert second == pytest.approx((w_high - 2.0 * w + w_low) / step**2, abs=1e-4)
    assert [smile.variance_at(float(k)) for k in K] == pytest.approx(w, rel=1e-14)
