"""A chain becomes a surface: exact where the quotes are, robust where they are not, silent where there are none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipeline.surface.arbitrage import least_g
from pipeline.surface.chain import Chain
from pipeline.surface.evaluate import wing
from pipeline.surface.fit import fit_surface
from pipeline.surface.settings import SurfaceSettings
from pipeline.surface.svi import Svi
from tests.surface import kit
from tests.surface.test_arbitrage import VOGT
from tests.surface.test_chain import EXPIRY, ONE, with_values

K = np.linspace(-0.2, 0.2, 41)
WIDE = tuple(float(np.exp(k) * kit.FORWARD) for k in np.linspace(-1.4, 1.4, 41))


def test_quotes_on_known_smiles_give_them_back() -> None:
    for half_spread, source in ((None, "mark"), (1.0, "mid")):
        found = fit_surface(kit.chain(half_spread=half_spread))
        assert [smile.observed.expiry for smile in found] == [kit.us(expiry) for expiry in kit.SMILES]
        for (expiry, known), smile in zip(kit.SMILES.items(), found, strict=True):
            assert smile.svi is not None
            assert smile.errors is not None
            assert smile.method == "svi"
            assert smile.observed.source == source
            assert smile.svi.total_variance(K) == pytest.approx(known.total_variance(K), rel=1e-3)
            assert smile.errors.largest < 1e-3
            assert smile.butterfly is False
            assert smile.calendar is None
            assert smile.quoted == pytest.approx(
                wing(known.variance_at, kit.years(expiry), -1.0, 1.0), abs=1e-2
            )


def test_an_expiry_does_not_depend_on_what_else_is_in_the_chain_beyond_rounding() -> None:
    whole = {smile.observed.expiry: smile for smile in fit_surface(kit.chain())}
    (alone,) = fit_surface(kit.chain(ONE))
    together = whole[kit.us(EXPIRY)]
    assert alone.svi is not None
    assert together.svi is not None
    assert alone.svi.volatility(K, 1.0) == pytest.approx(together.svi.volatility(K, 1.0), rel=1e-4)


def test_a_capped_or_wild_quote_does_not_bend_the_smile() -> None:
    chain = kit.chain(ONE)
    chain = with_values(chain, chain.strike == 84_000, mark_iv=500.0)
    chain = with_values(
        chain, chain.strike == 76_000, mark_iv=kit.SMILES[EXPIRY].volatility(0.0, 0.07) * 100.0 + 25.0
    )
    (smile,) = fit_surface(chain)
    assert smile.svi is not None
    assert smile.svi.total_variance(K) == pytest.approx(kit.SMILES[EXPIRY].total_variance(K), rel=1e-3)
    assert smile.observed.excluded["outlier"] == 1
    assert smile.observed.excluded["capped"] == 2
    assert {76_000.0, 84_000.0}.isdisjoint(smile.observed.strike)


def test_quotes_that_disagree_everywhere_are_no_outliers() -> None:
    chain = kit.chain(ONE)
    chain = with_values(
        chain, slice(None), mark_iv=chain.mark_iv + np.resize([0.0, 0.0, 15.0, 15.0], len(chain.strike))
    )
    (smile,) = fit_surface(chain)
    assert smile.errors is not None
    assert "outlier" not in smile.observed.excluded
    assert smile.errors.weighted > 3.0


@pytest.mark.parametrize("count", [3, 4])
def test_essvi_takes_over_where_strikes_are_too_few_for_svi(count: int) -> None:
    strikes = kit.STRIKES[8 : 8 + count]
    (smile,) = fit_surface(kit.chain(ONE, strikes=strikes))
    assert smile.method == "essvi"
    assert smile.errors is not None
    assert smile.errors.largest < 0.5
    assert smile.butterfly is False


def test_essvi_takes_over_where_svi_admits_butterflies_and_costs_little() -> None:
    chain = vogts_chain()
    (svi,) = fit_surface(chain, SurfaceSettings(source="mark", fallback_error=0.0, min_delta=1e-6))
    assert svi.method == "svi"
    assert svi.butterfly is True
    (essvi,) = fit_surface(chain, SurfaceSettings(source="mark", fallback_error=100.0, min_delta=1e-6))
    assert essvi.method == "essvi"
    assert essvi.butterfly is False
    assert essvi.svi is not None
    assert least_g(essvi.svi, -1.4, 1.4) >= 0.0
    assert essvi.errors is not None
    assert svi.errors is not None
    assert essvi.errors.weighted > svi.errors.weighted


def vogts_chain() -> Chain:
    """Quotes on the smile that admits butterflies, of an expiry a year away, over all of where it does."""
    chain = kit.chain(ONE, strikes=WIDE)
    a_year = chain.ts + round(365 * 86400e6)
    k = np.log(chain.strike / kit.FORWARD)
    return dataclasses.replace(
        chain, expiry=np.full(len(k), a_year), mark_iv=100.0 * np.asarray(VOGT.volatility(k, 1.0))
    )


def test_calendar_arbitrage_is_flagged_on_the_later_expiry_with_its_place() -> None:
    first, second, third = kit.SMILES.values()
    lifted = dict(zip(kit.SMILES, (Svi(0.02, *first[1:]), second, third), strict=True))
    found = fit_surface(kit.chain(lifted))
    assert [smile.calendar is not None for smile in found] == [False, True, False]
    assert found[1].calendar is not None
    assert found[1].calendar.variance > 0.005
    assert found[1].svi is not None  # told, and not hidden


def test_expiries_without_enough_quotes_have_no_smile_and_say_why() -> None:
    chain = kit.chain()
    first, second, third = (chain.expiry == kit.us(expiry) for expiry in kit.SMILES)
    chain = with_values(chain, first, mark_iv=np.nan)
    chain = with_values(chain, second & (chain.strike != 80_000), age_s=1e5)
    empty, single, whole = fit_surface(chain)
    assert empty.failure == "no volatility"
    assert single.failure == "too few strikes"
    assert whole.failure is None
    for smile in (empty, single):
        derived = (
            smile.svi,
            smile.method,
            smile.errors,
            smile.least_g,
            smile.calendar,
            smile.quoted,
            smile.butterfly,
        )
        assert derived == (None,) * 7
    assert third.sum() == whole.quotes
    assert whole.svi is not None


def test_no_quotes_at_all_make_no_surface() -> None:
    chain = kit.chain()
    assert fit_surface(chain.take(chain.strike < 0.0)) == []


def test_smiles_that_cross_only_where_one_was_not_quoted_are_not_flagged() -> None:
    near, far = list(kit.SMILES)[:2]
    crossing = {near: Svi(0.0005, 0.05, 0.0, 0.0, 0.03), far: Svi(0.006, 0.02, 0.0, 0.0, 0.1)}
    assert crossing[near].total_variance(0.2) > crossing[far].total_variance(0.2)
    narrow = kit.chain({near: crossing[near]}, strikes=kit.STRIKES[8:13])
    _, second = fit_surface(join(narrow, kit.chain({far: crossing[far]})))
    assert second.calendar is None
    _, second = fit_surface(kit.chain(crossing))
    assert second.calendar is not None


def join(one: Chain, other: Chain) -> Chain:
    """The quotes of both."""
    names = [field.name for field in dataclasses.fields(Chain) if field.name not in ("ts", "expiry_names")]
    both: dict[str, Any] = {
        name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names
    }
    return dataclasses.replace(one, **both)
