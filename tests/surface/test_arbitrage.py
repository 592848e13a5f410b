"""Arbitrage is found where it is known to be, and only there."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from pipeline.surface.arbitrage import crossing, durrleman, least_g
from pipeline.surface.essvi import Essvi
from pipeline.surface.svi import Svi
from tests.surface import kit

VOGT = Svi(-0.0410, 0.1331, 0.3060, 0.3586, 0.4153)
"""Axel Vogt's example, which Gatheral and Jacquier (2014, section 3) show to admit butterfly arbitrage."""


def call_prices(smile: Svi, k: np.ndarray) -> np.ndarray:
    """Undiscounted Black prices for a forward of 1, as a function of the strike exp(k)."""
    deviation = np.sqrt(smile.total_variance(k))
    d1 = -k / deviation + deviation / 2.0
    cdf = np.vectorize(NormalDist().cdf)
    return np.asarray(cdf(d1) - np.exp(k) * cdf(d1 - deviation))


def test_vogts_smile_admits_butterflies() -> None:
    assert least_g(VOGT, -1.5, 1.5) == pytest.approx(-0.0329, abs=2e-4)
    assert VOGT.total_variance(np.linspace(-1.5, 1.5, 101)).min() > 0.0
    assert least_g(VOGT, -0.5, 0.3) > 0.0  # the arbitrage is in the right wing


def test_g_has_the_sign_of_the_density_of_the_price() -> None:
    step = 1e-3
    k = np.arange(-1.5, 1.5, step)
    strike = np.exp(k)
    slope = np.gradient(call_prices(VOGT, k), strike)
    density = np.gradient(slope, strike)[5:-5]
    g = durrleman(VOGT, k)[5:-5]
    clear = np.abs(density) > 1e-4
    assert clear.sum() > 1000
    assert (np.sign(density[clear]) == np.sign(g[clear])).all()
    assert (g < 0.0).any()


def test_sound_smiles_admit_none() -> None:
    for smile in kit.SMILES.values():
        assert least_g(smile, -1.0, 1.0) > 0.0


def test_variance_that_is_not_positive_is_no_smile() -> None:
    assert least_g(Svi(-0.1, 0.1, 0.0, 0.0, 0.1), -0.5, 0.5) == -np.inf


def test_crossing_smiles_are_found_with_place_and_size() -> None:
    near, far = Essvi(0.01, 0.0, 0.30).as_svi(), Essvi(0.02, 0.0, 0.05).as_svi()
    worst = crossing(near, far, -0.5, 0.5)
    assert worst is not None
    assert abs(worst.k) == pytest.approx(0.5)
    assert worst.variance == pytest.approx(float(near.total_variance(worst.k) - far.total_variance(worst.k)))
    assert crossing(near, far, -0.01, 0.01) is None
    assert crossing(far, near, -0.01, 0.01) is not None


def test_expiries_without_common_strikes_cannot_cross() -> None:
    near, far = Essvi(0.01, 0.0, 0.30).as_svi(), Essvi(0.02, 0.0, 0.05).as_svi()
    assert crossing(near, far, 0.5, -0.5) is None
