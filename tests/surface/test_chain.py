"""Which quotes a smile is fitted to: one per strike, usable, weighed by what is known of it; the rest is counted."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import numpy as np
import pytest

from pipeline.surface.chain import Chain, observations
from pipeline.surface.settings import SurfaceSettings
from tests.surface import kit

MARK = SurfaceSettings(source="mark")
EXPIRY = list(kit.SMILES)[1]
ONE = {EXPIRY: kit.SMILES[EXPIRY]}


def with_values(chain: Chain, rows: Any, **values: Any) -> Chain:
    """The chain with other values in some rows."""
    changed = {}
    for name, value in values.items():
        column = getattr(chain, name).copy()
        column[rows] = value
        changed[name] = column
    return dataclasses.replace(chain, **changed)


def row_of(chain: Chain, strike: float, *, call: bool) -> int:
    (row,) = np.flatnonzero((chain.strike == strike) & (chain.is_call == call))
    return int(row)


def test_of_a_pair_the_option_out_of_the_money_is_taken() -> None:
    chain = kit.chain(ONE)
    in_money = np.where(chain.is_call, chain.strike < kit.FORWARD, chain.strike >= kit.FORWARD)
    seen = observations(with_values(chain, in_money, mark_iv=99.0), MARK)
    assert seen.strike.tolist() == list(kit.STRIKES)
    assert seen.iv.max() < 70.0
    assert seen.excluded == {"other side of the strike": len(kit.STRIKES)}


def test_the_other_one_stands_in_where_that_cannot_be_used() -> None:
    chain = kit.chain(ONE)
    row = row_of(chain, 70_000, call=False)
    seen = observations(with_values(chain, row, mark_iv=np.nan), MARK)
    assert seen.strike.tolist() == list(kit.STRIKES)
    assert seen.excluded["no volatility"] == 1


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"mark_iv": np.nan}, "no volatility"),
        ({"mark_iv": 0.0}, "no volatility"),
        ({"mark_iv": 500.0}, "capped"),
        ({"age_s": 1801.0}, "stale"),
        ({"age_s": np.nan}, "stale"),
        ({"forward": np.nan}, "no forward"),
        ({"forward": 0.0}, "no forward"),
    ],
)
def test_what_cannot_be_used_is_left_out_and_counted(values: dict[str, float], reason: str) -> None:
    chain = kit.chain(ONE)
    rows = chain.strike == 84_000
    seen = observations(with_values(chain, rows, **values), MARK)
    assert 84_000 not in seen.strike
    assert len(seen.strike) == len(kit.STRIKES) - 1
    assert seen.excluded[reason] == 2


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"bid_iv": 60.0, "ask_iv": 50.0}, "crossed"),
        ({"bid_iv": 0.0}, "no volatility"),
        ({"ask_iv": np.nan}, "no volatility"),
        ({"ask_iv": 500.0}, "capped"),
    ],
)
def test_quotes_that_are_not_two_sided_are_left_out_of_mids(values: dict[str, float], reason: str) -> None:
    chain = kit.chain(ONE, half_spread=1.0)
    seen = observations(with_values(chain, chain.strike == 84_000, **values), SurfaceSettings())
    assert seen.source == "mid"
    assert 84_000 not in seen.strike
    assert seen.excluded[reason] == 2


def test_every_quote_is_used_or_counted_as_left_out() -> None:
    chain = kit.chain(ONE, half_spread=1.0)
    random = np.random.default_rng(3)
    for name, value in {
        "bid_iv": 0.0,
        "ask_iv": np.nan,
        "mark_iv": 500.0,
        "age_s": 1e6,
        "forward": np.nan,
    }.items():
        chain = with_values(chain, random.random(len(chain.strike)) < 0.15, **{name: value})
    for source in ("auto", "mid", "mark"):
        seen = observations(chain, SurfaceSettings(source=source))
        assert len(seen.k) + sum(seen.excluded.values()) == len(chain.strike)


def test_options_whose_price_is_mostly_tick_are_left_out() -> None:
    seen = observations(kit.chain(ONE), SurfaceSettings(source="mark", min_delta=0.1))
    d1 = -seen.k / np.sqrt(seen.variance) + np.sqrt(seen.variance) / 2.0
    assert np.abs(d1).max() <= 1.2816  # N⁻¹(0.9)
    assert seen.excluded["far from the money"] > 0


def test_auto_takes_mids_where_enough_are_quoted_around_the_forward_else_marks() -> None:
    chain = kit.chain(ONE, half_spread=1.0)
    assert observations(chain, SurfaceSettings()).source == "mid"
    few = with_values(chain, chain.strike > 72_000, bid_iv=np.nan)
    assert observations(few, SurfaceSettings()).source == "mark"
    one_side = with_values(chain, chain.strike <= kit.FORWARD, bid_iv=np.nan)
    assert (one_side.bid_iv > 0.0).sum() > 2 * SurfaceSettings().min_two_sided
    assert observations(one_side, SurfaceSettings()).source == "mark"
    assert observations(one_side, SurfaceSettings(source="mid")).source == "mid"


def test_mids_weigh_by_their_spread_and_marks_by_vega_squared() -> None:
    chain = kit.chain(ONE, half_spread=1.0)
    wide = chain.strike > kit.FORWARD
    chain = with_values(chain, wide, ask_iv=chain.ask_iv[wide] + 2.0)
    seen = observations(chain, SurfaceSettings())
    narrow = seen.strike <= kit.FORWARD
    assert seen.weight[narrow] == pytest.approx(1.0)
    assert seen.weight[~narrow] == pytest.approx(1.0 / 4.0)
    marks = observations(chain, MARK)
    d1 = -marks.k / np.sqrt(marks.variance) + np.sqrt(marks.variance) / 2.0
    assert marks.weight == pytest.approx(np.exp(-d1 * d1), rel=0.01)


def test_moneyness_is_against_the_forward_that_came_with_the_quote() -> None:
    chain = kit.chain(ONE)
    moved = chain.strike == 90_000
    chain = with_values(with_values(chain, moved, forward=79_000.0), ~moved, age_s=60.0)
    seen = observations(chain, MARK)
    place = seen.strike.tolist().index(90_000)
    assert seen.k[place] == pytest.approx(np.log(90_000 / 79_000))
    assert seen.k[place - 1] == pytest.approx(np.log(88_000 / kit.FORWARD))
    assert seen.forward == 79_000.0  # of the newest


def test_nothing_usable_gives_empty_observations() -> None:
    chain = kit.chain(ONE)
    seen = observations(with_values(chain, slice(None), mark_iv=np.nan, forward=np.nan), MARK)
    assert len(seen.k) == 0
    assert np.isnan(seen.forward)
    expired = dataclasses.replace(chain, ts=kit.us(EXPIRY + dt.timedelta(seconds=1)))
    assert observations(expired, MARK).excluded == {"expired": len(chain.strike)}
