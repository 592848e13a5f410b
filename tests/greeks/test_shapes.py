"""Arguments broadcast as numpy's do, whatever their kind and layout."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.greeks import greeks, implied_volatility
from pipeline.greeks.chunks import ROWS


def both(price: Any, forward: Any, strike: Any, years: Any, is_call: Any) -> tuple[Any, ...]:
    volatility = implied_volatility(price, forward, strike, years, is_call, inverse=False)
    return (volatility, *greeks(forward, strike, years, volatility, is_call))


def test_shapes_broadcast_like_numpys() -> None:
    price = np.linspace(3000.0, 5000.0, 6).reshape(2, 1, 3)
    strike = np.linspace(45_000.0, 55_000.0, 4).reshape(4, 1)
    results = both(price, 50_000.0, strike, [0.1, 0.2, 0.3], True)
    for column in results:
        assert column.shape == np.broadcast_shapes((2, 1, 3), (4, 1), (3,))
    alone = both(price[1, 0, 2], 50_000.0, strike[3, 0], 0.3, True)
    for column, value in zip(results, alone, strict=True):
        assert value.shape == ()
        assert isinstance(value, np.ndarray)
        assert column[1, 3, 2] == value


def test_empty_and_mismatched() -> None:
    assert all(column.shape == (0,) for column in both([], 50_000.0, 1.0, 1.0, True))
    assert both(np.empty((3, 0)), 1.0, 1.0, 1.0, True)[0].shape == (3, 0)
    with pytest.raises(ValueError, match="broadcast"):
        implied_volatility([1.0, 2.0], [1.0, 2.0, 3.0], 1.0, 1.0, True, inverse=False)


def test_layout_and_kind_do_not_matter() -> None:
    strike = np.arange(40_000.0, 60_000.0, 7.0)[:2000].reshape(40, 50)
    wide = np.repeat(strike, 2, axis=1)
    plain = both(3000.0, 50_000.0, strike, 0.25, strike > 50_000.0)
    frozen = strike.copy()
    frozen.flags.writeable = False
    variants = [
        wide[:, ::2],
        np.asfortranarray(strike),
        strike[::-1][::-1],
        frozen,
        strike.astype(np.float32),
        strike.astype(np.int64),
        strike.astype(np.uint16),
        strike.astype(">f8"),
        strike.tolist(),
        [[Decimal(value) for value in row] for row in strike.tolist()],
    ]
    for variant in variants:
        got = both(3000, 50_000, variant, 0.25, (strike > 50_000.0).astype(np.int8))
        for column, expected in zip(got, plain, strict=True):
            np.testing.assert_array_equal(column, expected)
            assert column.flags.c_contiguous
    np.testing.assert_array_equal(frozen, strike)


def test_arrow_columns_and_missing_values() -> None:
    strikes = pa.chunked_array([[48_000.0, None], [52_000.0]])
    found = implied_volatility(3000.0, 50_000.0, strikes, 0.25, True, inverse=False)
    assert np.isfinite(found).tolist() == [True, False, True]
    prices: Any = [3000.0, None]
    found = implied_volatility(prices, 50_000.0, 52_000.0, 0.25, True, inverse=False)
    assert np.isfinite(found).tolist() == [True, False]


def test_inverse_may_differ_from_row_to_row() -> None:
    found = implied_volatility([0.05, 2500.0], 50_000.0, 52_000.0, 0.25, True, inverse=[True, False])
    assert found[0] == found[1]


def test_pieces_do_not_show() -> None:
    rng = np.random.default_rng(3)
    count = 3 * ROWS + 17
    strike = rng.uniform(30_000.0, 80_000.0, count)
    whole = both(15_000.0, 50_000.0, strike, 0.25, True)
    picked = [0, 1, ROWS - 1, ROWS, 2 * ROWS - 1, count - 1]
    single = both(15_000.0, 50_000.0, strike[picked], 0.25, True)
    for column, expected in zip(whole, single, strict=True):
        np.testing.assert_allclose(column[picked], expected, rtol=1e-14)


@pytest.mark.parametrize("wrong", ["60000", 1j, "call"])
def test_what_is_not_a_number_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="real numbers"):
        implied_volatility(3000.0, wrong, 52_000.0, 0.25, True, inverse=False)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="booleans"):
        greeks(50_000.0, 52_000.0, 0.25, 0.5, wrong)  # type: ignore[arg-type]
