"""What a picture shows is what was quoted and fitted: no more, no less."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np

from pipeline.surface import pictures
from pipeline.surface.evaluate import Wing
from pipeline.surface.fit import fit_surface
from pipeline.surface.history import ConstantMaturity
from tests.surface import kit

CHAIN = kit.chain(half_spread=1.0)
SMILES = fit_surface(CHAIN)


def test_each_expiry_has_a_panel_with_its_quotes_and_its_fit() -> None:
    figure = pictures.smiles_figure(SMILES, "title")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left").partition(" ")[0] for axes in panels] == ["06", "27", "26"]
    for axes, smile in zip(panels, SMILES, strict=True):
        _, fit, dots = axes.lines
        assert np.asarray(dots.get_ydata()).tolist() == smile.observed.iv.tolist()
        low, high = smile.observed.strike[[0, -1]] / 1000.0
        x = np.asarray(fit.get_xdata())
        assert math.isclose(x[0], low, rel_tol=1e-9)  # the fit is not drawn beyond the strikes
        assert math.isclose(x[-1], high, rel_tol=1e-9)
        (spreads,) = axes.collections
        assert len(spreads.get_paths()) == len(smile.observed.k)
        text = axes.texts[0].get_text()
        assert smile.quoted is not None
        assert f"ATM {smile.quoted.atm:.1f}" in text
        assert "SVI on mid" in text
        assert "!" not in text


def test_flags_are_written_on_the_picture() -> None:
    first, second, third = kit.SMILES.values()
    lifted = dict(zip(kit.SMILES, (first._replace(a=0.02), second, third), strict=True))
    figure = pictures.smiles_figure(fit_surface(kit.chain(lifted)), "title")
    assert ["calendar!" in axes.texts[0].get_text() for axes in figure.axes if axes.axison] == [
        False,
        True,
        False,
    ]


def test_many_expiries_are_thinned_evenly_first_and_last_kept() -> None:
    expiries = [kit.NOON + dt.timedelta(days=7 * number) for number in range(1, 21)]
    smile = list(kit.SMILES.values())[2]
    figure = pictures.smiles_figure(fit_surface(kit.chain(dict.fromkeys(expiries, smile))), "title")
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert len(titles) == pictures.MAX_PANELS
    assert titles[0].startswith("09 Mar 26")
    assert titles[-1].startswith("20 Jul 26")


def test_the_map_is_blank_where_no_strike_was_fitted() -> None:
    surface = pictures.surface_of(CHAIN.ts, SMILES)
    figure = pictures.heatmap_figure(surface, SMILES, "title")
    mesh = figure.axes[0].collections[0]
    values = np.ma.filled(np.ma.asarray(mesh.get_array()).astype(float), np.nan)
    near, far = values[0], values[-1]
    assert np.isnan(near).any()
    assert np.isfinite(far).sum() > np.isfinite(near).sum()
    quoted = np.concatenate([smile.observed.iv for smile in SMILES])
    assert np.nanmin(values) >= quoted.min() - 1.0
    assert np.nanmax(values) <= quoted.max() + 1.0


def test_one_expiry_makes_no_map_and_no_error() -> None:
    one = SMILES[:1]
    figure = pictures.heatmap_figure(pictures.surface_of(CHAIN.ts, one), one, "title")
    assert not figure.axes[0].collections


def test_no_line_is_drawn_across_a_hole_or_for_a_maturity_without_values() -> None:
    hours = [0, 1, 2, 3, 30, 31, 32]
    series = [
        ConstantMaturity(kit.NOON + dt.timedelta(hours=hour), days, Wing(value, value, value))
        for hour in hours
        for days, value in ((30.0, 40.0 + hour), (999.0, math.nan))
    ]
    figure = pictures.series_figure(series, "title")
    assert len(figure.axes) == 3
    for axes in figure.axes:
        lines = [line for line in axes.lines if line.get_label() == "30 days"]
        assert len(lines) == 1
        y = np.asarray(lines[0].get_ydata(), float)
        assert np.flatnonzero(np.isnan(y)).tolist() == [4]
        assert y[np.isfinite(y)].tolist() == [40.0 + hour for hour in hours]
        assert not [line for line in axes.lines if line.get_label() == "999 days"]
