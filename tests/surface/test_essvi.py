"""eSSVI: known parameters come back, and no surface that it gives admits arbitrage, whatever was observed."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from pipeline.surface.arbitrage import crossing, least_g
from pipeline.surface.essvi import Essvi, Observed, fit_essvi

K = np.linspace(-0.4, 0.4, 17)
KNOWN = [Essvi(0.004, -0.2, 0.06), Essvi(0.012, -0.25, 0.12), Essvi(0.05, -0.3, 0.25)]


def observed(smiles: list[Essvi], k: np.ndarray = K, noise: float = 0.0, seed: int = 1) -> list[Observed]:
    random = np.random.default_rng(seed)
    return [
        Observed(
            k, s.as_svi().total_variance(k) * (1.0 + noise * random.normal(size=len(k))), np.ones(len(k))
        )
        for s in smiles
    ]


def test_known_smiles_come_back() -> None:
    for known, found in zip(KNOWN, fit_essvi(observed(KNOWN)), strict=True):
        assert found == pytest.approx(known, rel=2e-3, abs=1e-4)


def test_as_svi_is_the_same_smile() -> None:
    theta, rho, psi = KNOWN[1]
    formula = (theta + rho * psi * K + np.sqrt((psi * K + theta * rho) ** 2 + theta**2 * (1 - rho**2))) / 2
    assert KNOWN[1].as_svi().total_variance(K) == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_no_arbitrage_whatever_was_observed(seed: int) -> None:
    backwards = observed([KNOWN[2], KNOWN[0], KNOWN[1], KNOWN[0]], noise=0.3, seed=seed)
    found = [smile for smile in fit_essvi(backwards) if smile]
    assert len(found) == len(backwards)
    for smile in found:
        assert least_g(smile.as_svi(), -1.5, 1.5) > -1e-9
    for near, far in pairwise(found):
        assert crossing(near.as_svi(), far.as_svi(), -3.0, 3.0) is None


def test_three_strikes_are_enough_and_two_are_not() -> None:
    few = observed([KNOWN[0]], np.array([-0.1, 0.0, 0.1]))
    (found,) = fit_essvi(few)
    assert found is not None
    assert found.as_svi().total_variance(few[0].k) == pytest.approx(few[0].w, rel=1e-3)
    assert fit_essvi(observed([KNOWN[0]], np.array([-0.1, 0.0]))) == [None]


def test_an_expiry_that_cannot_be_fitted_is_passed_over() -> None:
    first, _, last = observed(KNOWN)
    found = fit_essvi([first, Observed(K[:2], first.w[:2], first.weight[:2]), last])
    assert [smile is None for smile in found] == [False, True, False]
