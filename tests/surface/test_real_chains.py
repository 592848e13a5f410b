"""Chains as the venue had them: the fit is near, and sound, on a few snapshots of each recording of 2026.

`python -m bench.surface --long` fits every snapshot there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.real_chains import DAILY, MANY, Snapshot, snapshots
from pipeline.surface.fit import Smile, fit_surface
from pipeline.surface.settings import SurfaceSettings

FEW = 200


@pytest.fixture(scope="module")
def chains(real_data: Path) -> list[Snapshot]:
    return [found for file in (MANY, DAILY) for found in snapshots(real_data, every=FEW, only=file)]


def smiles(chains: list[Snapshot], source: str) -> Iterator[Smile]:
    for found in chains:
        yield from fit_surface(found.chain, SurfaceSettings(source=source))


def test_marks_are_met_within_a_seventh_of_a_point(chains: list[Snapshot]) -> None:
    found = list(smiles(chains, "mark"))
    assert len(found) > 60
    errors = [smile.errors.weighted for smile in found if smile.errors]
    assert len(errors) >= 0.98 * len(found)
    assert np.median(errors) < 0.15
    assert np.percentile(errors, 95) < 0.5


def test_most_smiles_admit_no_arbitrage(chains: list[Snapshot]) -> None:
    found = [smile for smile in smiles(chains, "mark") if smile.svi]
    assert sum(bool(smile.butterfly) for smile in found) <= 0.01 * len(found)
    assert sum(smile.calendar is not None for smile in found) <= 0.05 * len(found)


def test_fits_to_mids_pass_between_bid_and_ask(chains: list[Snapshot]) -> None:
    within = []
    for smile in smiles(chains, "mid"):
        seen = smile.observed
        if smile.svi:
            fit = 100.0 * smile.svi.volatility(seen.k, seen.years)
            within.append(np.mean((fit >= seen.bid_iv) & (fit <= seen.ask_iv)))
    assert len(within) > 50
    assert np.median(within) > 0.9


def test_mids_and_marks_tell_of_the_same_market(chains: list[Snapshot]) -> None:
    apart = [
        abs(mid.quoted.atm - mark.quoted.atm)
        for mid, mark in zip(smiles(chains, "mid"), smiles(chains, "mark"), strict=True)
        if mid.quoted and mark.quoted
    ]
    assert np.median(apart) < 0.3


def test_desk_quotes_are_those_of_a_market(chains: list[Snapshot]) -> None:
    for source in ("mark", "mid"):
        found = [smile.quoted for smile in smiles(chains, source) if smile.quoted]
        quoted = [one for one in found if np.isfinite(one.rr25)]
        assert len(quoted) > 0.9 * len(found)
        assert all(
            5.0 < one.atm < 250.0 and abs(one.rr25) < 40.0 and -2.0 < one.bf25 < 20.0 for one in quoted
        )
