"""The table `greeks`: right numbers, exactly once, whatever happens on the way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lake.delta import Table
from lake.errors import InputError
from lake.root import Root
from lake.schema import TABLES
from pipeline.compact import compact
from pipeline.derive_greeks import GreeksSettings, derive_greeks
from tests.derive_greeks import kit
from tests.pipeline.kit import KILLED, assert_table_sound, problems_of
from tests.system.kit import Forge

EVERY = GreeksSettings(quotes_every_s=0)
FORWARD = 82_000.0
CALL, PUT = "BTC-25DEC26-80000-C", "BTC-25DEC26-80000-P"
LINEAR = "BTC_USDC-25DEC26-80000-C"
NAMES = [f"BTC-25DEC26-{strike}-{side}" for strike in range(60_000, 110_000, 5_000) for side in "CP"]


def market(root: Root, *, seconds: Sequence[int] = range(0, 600, 20), version: int = 1) -> None:
    """Quotes of a chain."""
    rows = [kit.priced(name, second, FORWARD + second, 0.5) for second in seconds for name in NAMES]
    kit.append(root, "quotes", rows, version=version)


def run(root: Root, settings: GreeksSettings = EVERY, **named: Any) -> tuple[int, int]:
    """Derive; how many partitions were written and how many were up to date."""
    report = derive_greeks(root, settings, now=kit.NOW, **named)
    return len(report.written), report.unchanged


@pytest.mark.parametrize("name", [CALL, PUT, LINEAR])
def test_numbers_are_those_of_the_textbook(tmp_path: Path, name: str) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(root, "quotes", [kit.priced(name, 0, FORWARD, 0.5, delta=0.5)])
    assert run(root) == (1, 0)
    (row,) = kit.greeks_of(root).to_pylist()
    assert [float(row[column]) for column in ("bid_iv", "iv", "ask_iv")] == [48.0, 50.0, 52.0]
    assert (row["option_type"], row["strike"]) == ("put" if name == PUT else "call", 80_000.0)
    assert row["expiration_ts"] == dt.datetime(2026, 12, 25, 8, tzinfo=dt.UTC)
    assert (row["forward_source"], row["volatility_source"], row["source"]) == (
        "underlying_price", "venue", "quotes",
    )  # fmt: skip
    years = (row["expiration_ts"] - row["ts"]) / dt.timedelta(days=365)

    def value(forward: float = FORWARD, volatility: float = 0.5, time: float = years) -> float:
        return kit.black(forward, 80_000.0, time, volatility, call=name != PUT)

    up, down, here = value(FORWARD + 1), value(FORWARD - 1), value()
    assert float(row["delta"]) == pytest.approx((up - down) / 2, abs=1e-5)
    assert float(row["gamma"]) == pytest.approx(up - 2 * here + down, abs=2e-9)
    assert float(row["vega"]) == pytest.approx((value(volatility=0.505) - value(volatility=0.495)), abs=1e-3)
    assert float(row["theta"]) == pytest.approx(value(time=years - 1 / 365) - here, rel=0.01)
    assert float(row["residual_delta"]) == pytest.approx(float(row["delta"]) - 0.5, abs=1e-9)
    assert row["residual_gamma"] is None, "the venue sent no gamma"
    assert not row["final_averaging"]


def test_a_second_run_finds_nothing_to_do_and_changes_nothing(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    assert run(root) == (1, 0)
    before = kit.held(root)
    assert before[0] == 600
    assert run(root) == (0, 1)
    assert kit.held(root) == before
    assert_table_sound(root, "greeks")


def test_changed_input_is_derived_again_and_old_rows_are_gone(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    run(root)
    market(root, seconds=[1_000], version=2)
    assert run(root) == (1, 0)
    assert kit.held(root)[0] == 620
    assert run(root, GreeksSettings(quotes_every_s=0, forward_max_age_s=1)) == (1, 0), "so do settings"
    assert kit.held(root)[0] == 620
    assert_table_sound(root, "greeks")


def test_corrected_terms_are_derived_again(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(root, "quotes", [kit.priced(CALL, 0, FORWARD, 0.5)])
    run(root)
    terms = {
        "venue": "deribit", "instrument": CALL, "valid_from": kit.DAY_US, "kind": "option", "option_type": "call",
        "instrument_type": "reversed", "base_currency": "BTC", "strike": 79_000.0,
        "expiration_ts": dt.datetime(2026, 12, 25, 8, tzinfo=dt.UTC),
    }  # fmt: skip
    kit.append(root, "instruments", [terms])
    assert run(root) == (1, 0)
    assert kit.greeks_of(root)["strike"].to_pylist() == [79_000.0]
    tomorrow = {"instrument": PUT, "creation_ts": kit.DAY_US + 86_400_000_000}
    other = {"instrument": "ETH-25DEC26-3000-C"}
    kit.append(
        root,
        "instruments",
        [{**terms, **change} for change in (tomorrow, other, {"state": "open"})],
        version=2,
    )
    assert run(root) == (0, 1), "nothing of the day's own terms has changed"


def test_compaction_of_the_source_changes_nothing_and_of_greeks_does_nothing(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    for version, start in enumerate((0, 200, 400), 1):
        market(root, seconds=range(start, start + 200, 20), version=version)
    run(root)
    before = kit.held(root)
    assert {r.table for r in compact(root, now=kit.NOW).rewritten} == {"quotes"}
    assert run(root) == (0, 1)
    assert kit.held(root) == before
    forget(root)
    assert run(root) == (1, 0)
    assert kit.held(root) == before, "one sorted file or many that overlap: the same rows"


def test_ranges_and_processes_make_no_difference(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    kit.append(root, "quotes", [kit.priced("ETH-25DEC26-3000-C", 0, 3_000.0, 0.5)], version=2)
    run(root)
    before = kit.held(root)
    small = GreeksSettings(quotes_every_s=0, rows_in_memory=50, workers=2)
    forget(root)
    assert run(root, small) == (2, 0)
    assert kit.held(root) == before
    table = Table.find(root, TABLES["greeks"])
    assert table is not None
    assert len(table.files()) > 5
    assert_table_sound(root, "greeks")


def forget(root: Root) -> None:
    """Take every row out of `greeks`."""
    table = Table.open(root, TABLES["greeks"])
    by_partition: dict[Any, list[Any]] = {}
    for file in table.files():
        by_partition.setdefault(file.partition, []).append(file)
    for files in by_partition.values():
        table.supersede(files, [])


def test_of_quotes_the_last_of_each_interval_is_kept(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    assert run(root, GreeksSettings(quotes_every_s=60)) == (1, 0)
    rows = kit.greeks_of(root).to_pylist()
    assert len(rows) == 10 * len(NAMES)
    assert {row["ts"].second for row in rows} == {40}
    assert run(root, EVERY) == (1, 0)
    assert kit.held(root)[0] == 30 * len(NAMES)


STEPS = [
    "derive:before_stage",
    "derive:after_stage",
    "delta:before_commit",
    "delta:after_commit",
    "derive:after_commit",
]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_next_run_ends_the_same(tmp_path: Path, forge: Forge, step: str) -> None:
    root, other = kit.lake(tmp_path / "lake"), kit.lake(tmp_path / "other")
    for each in (root, other):
        market(each)
        run(each)
        market(each, seconds=[1_000], version=2)
    run(other)
    verb = ["--root", str(root.path), "greeks", "--every", "0s"]
    code, output = forge.lake(*verb, crash_at=step, LAKE_GREEKS_ROWS_IN_MEMORY="100")
    assert code == KILLED, output
    assert_table_sound(root, "greeks")
    assert kit.held(root)[0] in (600, 620), "the old rows or the new ones, never some of each"
    run(root, GreeksSettings(quotes_every_s=0, rows_in_memory=100))
    assert kit.held(root) == kit.held(other)
    assert_table_sound(root, "greeks")


def test_sources_share_the_table_and_replace_only_their_own_rows(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    trade = {"price": 0.1, "size": 1.0, "side": "buy", "trade_seq": 1, "trade_id": "7"}
    kit.append(root, "trades", [{**kit.quote(CALL, 30), **trade}])
    run(root)
    run(root, of="trades")
    assert kit.held(root)[0] == 601
    market(root, seconds=[1_000], version=2)
    assert run(root) == (1, 0)
    sources = kit.greeks_of(root)["source"].to_pylist()
    assert sources.count("quotes") == 620
    assert sources.count("trades") == 1


def candle(second: int, volume: float, *, resolution: str = "1m", length_s: int = 60) -> dict[str, Any]:
    """A bar whose close is Black's price at its end."""
    bar = {"resolution": resolution, "source": "venue", "open": 1.0, "high": 1.0, "low": 1.0, "cost": 1.0}
    close = kit.priced(CALL, second + length_s, FORWARD, 0.5)["mark_price"]
    return {**kit.quote(CALL, second), **bar, "close": close, "volume": volume}


def test_candles_are_priced_at_their_end_and_only_where_something_traded(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    second_day = 86_400 + 30
    rows = [kit.priced(CALL, s, FORWARD, 0.5) for s in (30, second_day)]
    kit.append(root, "quotes", rows)
    kit.append(root, "candles", [candle(0, 2.0), candle(60, 0.0), candle(86_400, 1.0)])
    assert run(root, of="candles") == (1, 0), "October is not over"
    days = [kit.DAY, kit.DAY + dt.timedelta(days=1)]
    assert run(root, of="candles", days=days) == (1, 1)
    found = kit.greeks_of(root).to_pylist()
    assert [row["resolution"] for row in found] == ["1m"] * 3
    assert [row["iv"] and float(row["iv"]) for row in found] == [
        pytest.approx(50.0, abs=1e-3),
        None,
        found[2]["iv"],
    ]
    assert found[1]["delta"] is None
    assert float(found[2]["iv"]) == pytest.approx(50.0, abs=1e-3)
    assert {f"{row['ts']:%Y-%m-%d}" for row in found} == {"2026-09-30", "2026-10-01"}


def test_every_length_of_candle_that_the_venue_has_is_priced_and_no_other(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(root, "quotes", [kit.priced(CALL, 890, FORWARD, 0.5)])
    bars = [candle(0, 1.0, resolution=name, length_s=900) for name in ("15m", "a while")]
    kit.append(root, "candles", bars)
    assert run(root, of="candles", days=[kit.DAY]) == (1, 0)
    found = {row["resolution"]: row["iv"] for row in kit.greeks_of(root).to_pylist()}
    assert float(found["15m"]) == pytest.approx(50.0, abs=1e-3)
    assert found["a while"] is None


def test_a_day_without_rows_is_done_once(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(root, "candles", [candle(86_400 * day, 1.0) for day in (1, 3)])
    days = [kit.DAY + dt.timedelta(days=day) for day in (1, 2, 3)]
    assert run(root, of="candles", days=days) == (3, 0)
    assert run(root, of="candles", days=days) == (0, 3)
    assert_table_sound(root, "greeks")


def test_open_days_wait_unless_they_are_asked_for(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    same_day = dt.datetime.combine(kit.DAY, dt.time(23, 59), dt.UTC)
    assert derive_greeks(root, EVERY, now=same_day).written == []
    assert len(derive_greeks(root, EVERY, now=same_day, days=[kit.DAY]).written) == 1
    assert derive_greeks(root, EVERY, now=kit.NOW, days=[dt.date(2020, 1, 1)]).written == []


def test_what_cannot_be_known_is_null_and_says_why(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    expiring = "BTC-30SEP26-80000-C"  # at 08:00, 28,800 s into the day
    kit.append(
        root,
        "quotes",
        [
            kit.quote("BTC-30OCT26-81000-C", 0),
            kit.quote("BTC-25DEC26-82000-C", 0, underlying_price=FORWARD),
            kit.priced(
                "BTC-25DEC26-83000-C", 0, FORWARD, 0.5, bid_price=0.9999999, ask_price=None, mark_iv=None
            ),
            kit.priced(expiring, 28_000, FORWARD, 0.5),
            kit.quote(expiring, 28_800, mark_price=0.02, underlying_price=FORWARD, mark_iv=50.0),
        ],
    )
    stranger = kit.quote("BTC-STRANGE", 0, mark_price=0.02, underlying_price=FORWARD, mark_iv=50.0)
    kit.append(root, "quotes", [stranger], version=2, of_family="btc_option")
    assert run(root) == (1, 0)
    found = {(row["instrument"], row["ts"].hour): row for row in kit.greeks_of(root).to_pylist()}
    empty, no_price, odd = (
        found[f"BTC-{name}-C", 0] for name in ("30OCT26-81000", "25DEC26-82000", "25DEC26-83000")
    )
    averaging, at_expiry, unknown = found[expiring, 7], found[expiring, 8], found["BTC-STRANGE", 0]
    numbers = ("bid_iv", "ask_iv", "iv", "delta", "gamma", "vega", "theta", "rho", "volatility_source")
    for row in (empty, no_price, at_expiry, unknown):
        assert [row[name] for name in numbers] == [None] * len(numbers)
    assert (empty["forward"], empty["undetermined"], float(no_price["forward"])) == (None, False, FORWARD)
    assert (odd["bid_iv"], odd["bid_undetermined"], odd["ask_undetermined"]) == (None, True, False)
    assert odd["volatility_source"] == "own"
    assert float(odd["delta"]) > 0
    assert averaging["final_averaging"]
    assert averaging["delta"] is not None
    assert not at_expiry["final_averaging"]
    assert at_expiry["undetermined"]
    assert (unknown["strike"], unknown["expiration_ts"], unknown["option_type"]) == (None, None, None)
    assert unknown["forward_source"] == "underlying_price"
    (told,) = problems_of(root, "greeks")
    assert "holds BTC-STRANGE, which belongs to no family, not to btc_option" in told


def test_only_tables_with_prices_of_options_are_taken(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Greeks of 'book'; there are of quotes, trades, candles"):
        derive_greeks(kit.lake(tmp_path / "lake"), of="book")
    root = kit.lake(tmp_path / "futures")
    kit.append(root, "quotes", [kit.quote("BTC-PERPETUAL", 0, mark_price=FORWARD)])
    assert run(root) == (0, 0)


def test_rows_may_only_be_superseded_in_a_derived_table_and_one_partition(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    market(root)
    run(root)
    kit.append(root, "quotes", [kit.priced("ETH-25DEC26-3000-C", 0, 3_000.0, 0.5)], version=2)
    run(root)
    quotes, greeks = (Table.open(root, TABLES[name]) for name in ("quotes", "greeks"))
    with pytest.raises(ValueError, match="must be conserved"):
        quotes.supersede(quotes.files(), [])
    with pytest.raises(ValueError, match="one partition"):
        greeks.supersede(greeks.files(), [])


@pytest.mark.parametrize(
    ("name", "value"),
    [("rows_in_memory", 0), ("workers", 0), ("quotes_every_s", -1), ("forward_max_age_s", -1)],
)
def test_settings_refuse_nonsense(name: str, value: int) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        GreeksSettings(**given)
