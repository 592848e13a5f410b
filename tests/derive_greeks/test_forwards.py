"""Where a forward is from: the quote itself, its expiry's quotes, the future, parity; and never from later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lake.root import Root
from pipeline.derive_greeks import GreeksSettings, derive_greeks, forwards
from pipeline.derive_greeks.forwards import Series
from tests.derive_greeks import kit

CALL, PUT = "BTC-25DEC26-80000-C", "BTC-25DEC26-80000-P"
EVERY = GreeksSettings(quotes_every_s=0)
FORWARD = 82_000.0


def derived(root: Root, settings: GreeksSettings = EVERY) -> list[tuple[float | None, str | None]]:
    """Forward and its source, row by row in order of time, of the rows of CALL."""
    derive_greeks(root, settings, now=kit.NOW)
    rows = kit.greeks_of(root)
    return [
        (None if row["forward"] is None else float(row["forward"]), row["forward_source"])
        for row in rows.to_pylist()
        if row["instrument"] == CALL
    ]


def test_order_of_sources_each_where_the_one_before_is_missing(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    future = {"bid_price": 81_990.0, "ask_price": 82_030.0, "mark_price": 82_010.0}
    kit.append(
        root,
        "quotes",
        [
            kit.priced(CALL, 10, FORWARD, 0.4, sent=False),  # nothing is known yet
            kit.priced(PUT, 11, FORWARD, 0.4, sent=False),  # both sides: their minute's parity
            kit.priced(CALL, 72, FORWARD, 0.4, sent=False),
            kit.quote("BTC-25DEC26", 80, **future),  # the future knows from here
            kit.priced(CALL, 80, FORWARD, 0.4, sent=False),
            kit.priced("BTC-25DEC26-90000-C", 90, 82_020.0, 0.4),  # a neighbour of the expiry was sent one
            kit.priced(CALL, 91, FORWARD, 0.4, sent=False),
            kit.priced(CALL, 92, 82_100.0, 0.4),  # its own
            kit.quote("BTC-30OCT26", 93, mark_price=1.0),  # another expiry's future means nothing
            kit.priced("ETH-25DEC26-3000-C", 94, 3_000.0, 0.4),
            kit.priced(CALL, 95, FORWARD, 0.4, sent=False),
        ],
    )
    found = derived(root)
    assert [source for _, source in found] == [
        None, "parity", "future", "underlying_price", "underlying_price", "underlying_price",
    ]  # fmt: skip
    assert [forward for forward, _ in found][2:] == [82_010.0, 82_020.0, 82_100.0, 82_100.0]
    assert found[1][0] == pytest.approx(FORWARD, rel=1e-4)


@pytest.mark.parametrize("pair", [(CALL, PUT), ("BTC_USDC-25DEC26-80000-C", "BTC_USDC-25DEC26-80000-P")])
def test_parity_gives_the_forward_of_coin_and_of_linear_options(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    root = kit.lake(tmp_path / "lake")
    rows = [kit.priced(name, second, FORWARD, 0.4, sent=False) for second in (1, 2) for name in pair]
    kit.append(root, "quotes", rows)
    derive_greeks(root, EVERY, now=kit.NOW)
    last = kit.greeks_of(root).to_pylist()[-1]
    assert last["forward_source"] == "parity"
    # Bid and ask are 2 points around the same volatility, so their middle is off by convexity alone.
    assert float(last["forward"]) == pytest.approx(FORWARD, rel=1e-4)
    assert float(last["iv"]) == pytest.approx(40.0, abs=0.1)


def test_an_old_forward_is_none(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    rows = [
        kit.priced(CALL, 1, FORWARD, 0.4),
        *(kit.priced(CALL, s, FORWARD, 0.4, sent=False) for s in (61, 62)),
    ]
    kit.append(root, "quotes", rows)
    found = derived(root, GreeksSettings(quotes_every_s=0, forward_max_age_s=60))
    assert [source for _, source in found] == ["underlying_price", "underlying_price", None]
    assert kit.greeks_of(root)["delta"].null_count == 1


def test_crossed_and_one_sided_quotes_are_no_parity(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(
        root,
        "quotes",
        [
            kit.priced(PUT, 1, FORWARD, 0.4, sent=False, bid_price=None),
            kit.priced(CALL, 2, FORWARD, 0.4, sent=False, bid_price=0.9),
            kit.priced(CALL, 3, FORWARD, 0.4, sent=False),
        ],
    )
    assert [source for _, source in derived(root)] == [None, None]


def test_series_holds_until_it_is_too_old_and_begins_with_its_first_point() -> None:
    series = Series(np.array([10, 20]), np.array([1.0, 2.0]))
    at = series.at(np.array([9, 10, 19, 20, 25, 26]), 5)
    assert np.isnan(at).tolist() == [True, False, True, False, False, True]
    assert at[[1, 3, 4]].tolist() == [1.0, 2.0, 2.0]


@pytest.mark.parametrize("gathered", [0, 10, 1_000_000])
def test_last_of_each_bucket_however_the_rows_come(monkeypatch: pytest.MonkeyPatch, gathered: int) -> None:
    monkeypatch.setattr(forwards, "ROWS_GATHERED", gathered)
    rng = np.random.default_rng(5)
    key, ts = rng.integers(0, 3, 500), rng.permutation(500)
    value = np.where(rng.random(500) < 0.1, np.nan, rng.random(500))
    found = forwards._LastOfEach(20)
    for piece in np.array_split(np.arange(500), 7):
        found.add(key[piece], ts[piece], value[piece])
    expected: dict[tuple[int, int], tuple[int, float]] = {}
    for k, t, v in sorted(
        zip(key.tolist(), ts.tolist(), value.tolist(), strict=True), key=lambda row: row[1]
    ):
        if not np.isnan(v):
            expected[k, t // 20] = (t, v)
    kept = zip(*(column.tolist() for column in found.rows()), strict=True)
    assert list(kept) == [(k, *expected[k, bucket]) for k, bucket in sorted(expected)]


def test_trades_take_the_forward_that_quotes_of_their_expiry_had_by_then(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    mark = kit.priced(CALL, 0, FORWARD, 0.5)["mark_price"]
    kit.append(root, "quotes", [kit.priced(PUT, 10, FORWARD, 0.4), kit.priced(PUT, 30, 99_999.0, 0.4)])
    common = {"price": mark, "size": 1.0, "side": "buy", "iv": 50.0}
    trades = [
        {**kit.quote(CALL, s), **common, "trade_id": str(i), "trade_seq": i} for i, s in enumerate((5, 20))
    ]
    kit.append(root, "trades", trades)
    report = derive_greeks(root, of="trades", now=kit.NOW)
    assert [(w.rows, w.without_forward) for w in report.written] == [(2, 1)]
    first, second = kit.greeks_of(root).to_pylist()
    assert (first["trade_id"], first["forward"], first["iv"], first["delta"]) == ("0", None, None, None)
    assert (second["trade_id"], second["forward_source"], second["volatility_source"]) == (
        "1", "underlying_price", "own",
    )  # fmt: skip
    assert float(second["forward"]) == FORWARD
    assert float(second["iv"]) == pytest.approx(50.0, abs=1e-3)
    assert abs(float(second["residual_iv"])) <= 0.01
