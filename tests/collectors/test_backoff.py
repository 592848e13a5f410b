"""Waits between attempts, and the bound on calls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.backoff import Backoff, BackoffSettings
from collectors.pace import TokenBucket
from lake.errors import SettingsError

seconds = st.floats(min_value=0.001, max_value=1000.0)


@given(
    base=seconds,
    over=st.floats(1.0, 1000.0),
    factor=st.floats(1.0, 10.0),
    seed=st.integers(),
    n=st.integers(1, 60),
)
def test_every_wait_is_within_its_ceiling_and_no_ceiling_above_the_cap(
    base: float, over: float, factor: float, seed: int, n: int
) -> None:
    cap = base * over
    backoff = Backoff(BackoffSettings(base, cap, factor), random.Random(seed).uniform)
    for attempt in range(n):
        ceiling = backoff.ceiling_s
        assert ceiling == pytest.approx(min(cap, base * factor**attempt))
        assert 0.0 <= backoff.next_s() <= ceiling <= cap
    backoff.reset()
    assert backoff.ceiling_s == base


def test_waits_spread_over_the_whole_interval() -> None:
    """Full jitter: a fleet that loses its server at once must not come back as one wave."""
    draw = random.Random(7)
    backoffs = [Backoff(BackoffSettings(10.0, 10.0), draw.uniform) for _ in range(1000)]
    waits = sorted(backoff.next_s() for backoff in backoffs)
    for tenth in range(10):
        assert 60 <= sum(tenth <= wait < tenth + 1 for wait in waits) <= 140


def test_the_draw_is_the_callers() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    backoff = Backoff(BackoffSettings(1.0, 5.0, 2.0), uniform)
    assert [backoff.next_s() for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert asked == [(0.0, 1.0), (0.0, 2.0), (0.0, 4.0), (0.0, 5.0)]


@pytest.mark.parametrize(("base", "cap", "factor"), [(0.0, 1.0, 2.0), (2.0, 1.0, 2.0), (1.0, 2.0, 0.5)])
def test_half_given_settings_are_refused(base: float, cap: float, factor: float) -> None:
    with pytest.raises(SettingsError, match="backoff"):
        BackoffSettings(base, cap, factor)


@given(
    rate=st.floats(0.1, 100.0),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0.0, 5.0), min_size=1, max_size=100),
)
def test_no_window_holds_more_calls_than_burst_plus_rate(
    rate: float, burst: int, pauses: list[float]
) -> None:
    now = [0.0]
    bucket = TokenBucket(rate, burst, lambda: now[0])
    turns = []
    for pause in pauses:
        now[0] += pause
        turns.append(now[0] + bucket.reserve())
    assert turns == sorted(turns)
    for first, start in enumerate(turns):
        for last in range(first, len(turns)):
            assert last - first + 1 <= burst + rate * (turns[last] - start) + 1e-6


def test_a_burst_goes_out_at_once_and_then_the_rate_holds() -> None:
    bucket = TokenBucket(4.0, 3, lambda: 0.0)
    assert [bucket.reserve() for _ in range(6)] == [0.0, 0.0, 0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (1.0, 0)])
def test_a_bucket_that_lets_nothing_through_is_refused(rate: float, burst: int) -> None:
    with pytest.raises(SettingsError, match="call rate"):
        TokenBucket(rate, burst)
