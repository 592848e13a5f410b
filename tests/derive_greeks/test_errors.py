"""Statistics of errors: what they say is what numpy says of all rows at once, however the rows were split."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.derive_greeks.errors import QUANTILE_ERROR, WORST, Errors

ROWS = 5_000


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Own, sent and bucket of rows, some of them unknown."""
    rng = np.random.default_rng(3)
    sent = rng.normal(size=ROWS)
    own = sent + rng.lognormal(-9, 2, ROWS) * rng.choice([-1, 0, 1], ROWS)
    own[::17], sent[::19] = np.nan, np.nan
    return own, sent, rng.integers(0, 3, ROWS)


def added(parts: int, sample: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Errors:
    total = Errors(3)
    for places in np.array_split(np.arange(ROWS), parts):
        part = Errors(3)
        own, sent, bucket = (column[places] for column in sample)
        part.add(own, sent, bucket, lambda at, places=places: [{"row": int(places[i])} for i in at])
        total.merge(part)
    return total


@pytest.mark.parametrize("parts", [1, 7, ROWS])
@pytest.mark.parametrize("buckets", [[0], [0, 1, 2]])
def test_figures_are_those_of_all_rows(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray], parts: int, buckets: list[int]
) -> None:
    own, sent, bucket = sample
    known = np.isin(bucket, buckets) & ~np.isnan(own) & ~np.isnan(sent)
    error = np.abs(own - sent)[known]
    found = added(parts, sample).figures(buckets)
    assert found["rows"] == known.sum()
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)))
    assert found["rms"] == pytest.approx(np.sqrt(np.mean(sent[known] ** 2)))
    assert found["largest"] == error.max()
    for name, share in (("median", 0.5), ("p99", 0.99)):
        exact = np.quantile(error, share, method="inverted_cdf")
        assert exact <= float(found[name] or 0) * 1.001
        assert float(found[name] or 0) <= exact * (1 + QUANTILE_ERROR) * 1.001


def test_worst_rows_are_kept_in_order_through_every_split(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    own, sent, _ = sample
    error = np.nan_to_num(np.abs(own - sent))
    expected = np.argsort(error)[::-1][:WORST].tolist()
    for parts in (1, 7):
        assert [row["row"] for _, row in added(parts, sample).worst] == expected


def test_without_rows_there_are_no_figures() -> None:
    found = Errors(2).figures([0, 1])
    assert found.pop("rows") == 0
    assert set(found.values()) == {None}
