"""Against what the venue itself published: Greeks to its rounding, a volatility for every price that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.greeks.real_rows import (
    ROUNDING,
    SETTLED_DAYS,
    Rows,
    btc_2020,
    btc_2021,
    btc_2024,
    relative_rmse,
)

RMSE_MAX: Final = {"delta": 5e-5, "vega": 5e-5, "rho": 5e-5, "theta": 2e-4}
MEDIAN_IV_ERROR_MAX: Final = 0.003
"""Volatility points; the venue's rounding to 0.01 alone makes 0.0025."""


@pytest.fixture(params=[btc_2020, btc_2021])
def rows(request: pytest.FixtureRequest, real_data: Path) -> Rows:
    load: Rows = request.param(real_data)
    return load


@pytest.fixture
def sweeps(real_data: Path) -> list[Rows]:
    found = btc_2024(real_data)
    assert len(found) == 3
    return found


def test_greeks_are_the_venues(rows: Rows) -> None:
    ours = rows.computed()
    for name, allowed in RMSE_MAX.items():
        assert relative_rmse(ours[name], rows.sent[name]) <= allowed, name
    assert np.max(np.abs(ours["gamma"] - rows.sent["gamma"])) <= 1.02 * ROUNDING


def test_greeks_keep_their_ranges_and_pairs_share_their_gamma(rows: Rows, sweeps: list[Rows]) -> None:
    for each in (rows, *sweeps):
        delta = each.computed()["delta"]
        assert ((delta[each.is_call] >= 0) & (delta[each.is_call] <= 1)).all()
        assert ((delta[~each.is_call] >= -1) & (delta[~each.is_call] <= 0)).all()
        mirrored = Rows(each.forward, each.strike, each.years, ~each.is_call, each.sent)
        np.testing.assert_array_equal(each.computed()["gamma"], mirrored.computed()["gamma"])


@pytest.mark.parametrize("side", ["bid", "ask"])
def test_every_quote_within_the_bounds_has_a_volatility_and_no_other(
    rows: Rows, sweeps: list[Rows], side: str
) -> None:
    for each in (rows, *sweeps):
        _, ours, _ = each.quoted(side)
        np.testing.assert_array_equal(np.isfinite(ours), each.within_bounds(side))


def test_quoted_strikes_have_a_volatility(rows: Rows, sweeps: list[Rows]) -> None:
    """Of the strikes of an expiry quoted on any side of call or put, all but a few get a volatility."""
    for each in (rows, *sweeps):
        quoted: set[tuple[float, float]] = set()
        solved: set[tuple[float, float]] = set()
        keys = list(zip(np.round(each.years * 365), each.strike, strict=True))
        for side in ("bid", "ask"):
            there = np.flatnonzero(each.sent[f"best_{side}_price"] > 0)
            _, ours, _ = each.quoted(side)
            quoted |= {keys[n] for n in there}
            solved |= {keys[n] for n in there[np.isfinite(ours)]}
        assert len(quoted) > 100
        assert len(solved) >= 0.95 * len(quoted)


def test_volatilities_of_quotes_are_the_venues(rows: Rows) -> None:
    errors = np.concatenate([rows.volatility_errors(side, days=SETTLED_DAYS) for side in ("bid", "ask")])
    assert errors.size > 100
    assert np.median(errors) <= MEDIAN_IV_ERROR_MAX


def test_whole_rows_of_2024_are_the_formulas_too(sweeps: list[Rows]) -> None:
    """In these sweeps the members of many rows are minutes apart: rows whose delta and vega agree are whole."""
    for each in sweeps:
        ours = each.computed()
        off = {name: np.abs(ours[name] - each.sent[name]) for name in ours}
        whole = (off["delta"] < 1e-4) & (off["vega"] <= 2e-4 * each.sent["vega"] + 2 * ROUNDING)
        assert whole.mean() > 0.3
        assert np.max(off["gamma"][whole]) <= 1.02 * ROUNDING
        for name in ("rho", "theta"):
            scale = np.sqrt(np.mean(each.sent[name][whole] ** 2))
            assert np.median(off[name][whole]) <= 5e-5 * scale, name
