"""Our numbers against the venue's: on recorded rows within the bounds, and wrong ones are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pytest
from typer.testing import CliRunner, Result

from cli import app
from lake.errors import InputError
from lake.root import Root
from lake.views import query
from pipeline.derive_greeks import Comparison, GreeksSettings, derive_greeks, sql_greeks, validate_greeks
from pipeline.derive_greeks.settings import ValidateSettings
from tests.derive_greeks import kit
from tests.derive_greeks.test_job import FORWARD

STRIKES = range(60_000, 110_000, 2_500)


def venue(root: Root, **wrong: float) -> None:
    """Quotes with Greeks as the venue sends them, of which those in `wrong` are off by that part of themselves."""
    bare = [
        kit.priced(f"BTC-25DEC26-{strike}-{side}", 0, FORWARD, 0.5) for strike in STRIKES for side in "CP"
    ]
    kit.append(root, "quotes", bare)
    rows = []
    for row, own in zip(bare, query(root, "FROM quotes_greeks", sql_greeks(root)).to_pylist(), strict=True):
        sent = {
            name: own[f"own_{name}"] * (1 + wrong.get(name, 0))
            for name in ("delta", "gamma", "vega", "theta", "rho")
        }
        ivs = {name: round(own[f"own_{name}"] * (1 + wrong.get(name, 0)), 2) for name in ("bid_iv", "ask_iv")}
        rows.append({**row, **ivs, **{name: round(number, 5) for name, number in sent.items()}})
    kit.append(root, "quotes", [{**row, "ts": row["ts"] + 1_000} for row in rows], version=2)


def test_the_venues_own_rounding_is_within_every_bound(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    venue(root)
    found = validate_greeks(root)
    assert found.problems == []
    assert found.counts["compared"] == found.counts["marks with volatility"] == 4 * len(STRIKES)
    errors = found.as_sections()["errors"]
    assert {row["measure"] for row in errors} == {
        "delta", "gamma", "vega", "theta", "rho", "bid_iv", "ask_iv", "iv",
    }  # fmt: skip
    whole = {row["measure"]: row["rows"] for row in errors if row["moneyness"] == "all"}
    parts = {
        name: sum(r["rows"] for r in errors if r["measure"] == name and r["moneyness"] != "all")
        for name in whole
    }
    assert whole == parts


@pytest.mark.parametrize("measure", ["delta", "gamma", "vega", "theta", "rho", "bid_iv", "ask_iv"])
def test_a_wrong_number_is_found_and_named(tmp_path: Path, measure: str) -> None:
    root = kit.lake(tmp_path / "lake")
    venue(root, **{measure: 1.0 if measure == "gamma" else 0.001})
    problems = validate_greeks(root).problems
    assert [text.partition(":")[0] for text in problems] == [measure]


def test_quotes_that_contradict_themselves_are_counted_and_not_judged(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    wrong: dict[str, Any] = {"delta": 0.9, "mark_iv": 60.0}
    kit.append(root, "quotes", [kit.priced("BTC-25DEC26-80000-C", 0, FORWARD, 0.5, **wrong)])
    found = validate_greeks(root)
    assert (found.counts["mark_iv contradicts mark_price"], found.counts["compared"]) == (1, 0)
    assert found.problems == [
        "100.00 % of the quotes have a mark_iv that contradicts their mark_price, the bound is 90 %",
        "0 quotes can be compared, 20 are needed",
    ]


def test_few_rows_never_pass(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    venue(root)
    needed = 4 * len(STRIKES) + 1
    found = validate_greeks(root, GreeksSettings(validate=ValidateSettings(rows_min=needed)))
    assert found.problems == [f"{needed - 1} quotes can be compared, {needed} are needed"]
    assert {row["verdict"] for row in found.as_sections()["verdicts"]} == {"too few rows"}
    half = validate_greeks(root, GreeksSettings(validate=ValidateSettings(rows_min=2 * len(STRIKES) + 1)))
    assert [text.partition(":")[0] for text in half.problems] == ["delta", "gamma", "vega", "theta", "rho"]
    assert all("rows can be compared" in text for text in half.problems)


def test_volatilities_far_from_the_venues_fail() -> None:
    found = Comparison()
    found.counts.update({"compared": 30, "marks": 30, "marks with volatility": 30})
    sent, bucket = np.full(30, 50.0), np.zeros(30, np.int64)
    for name, errors in found.errors.items():
        own = sent + 2_309.0 if name == "iv" else sent
        errors.add(own, sent, bucket, lambda places: [{} for _ in places])
    (problem,) = found.problems
    assert problem.startswith("iv: median error 2.3")
    assert problem.endswith("points against the venue's, the bound is 1")


def test_each_measure_has_a_verdict(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    venue(root, vega=0.01)
    told = {row["measure"]: row for row in validate_greeks(root).as_sections()["verdicts"]}
    assert {name: row["verdict"] for name, row in told.items()} == dict.fromkeys(told, "passes") | {
        "vega": "fails"
    }
    assert told["vega"]["rows"] == 2 * len(STRIKES)
    assert told["vega"]["rmse %"] == pytest.approx(0.99, abs=0.01)


def test_marks_without_volatility_are_a_problem_when_they_are_many(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    kit.append(root, "quotes", [kit.priced("BTC-25DEC26-80000-C", 0, FORWARD, 0.5, mark_price=0.999999999)])
    assert "0.00 % of the marks have a volatility, not 95 %" in validate_greeks(root).problems


def test_processes_and_ranges_make_no_difference(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "lake")
    venue(root)
    kit.append(root, "quotes", [kit.priced("ETH-25DEC26-3000-C", 0, 3_000.0, 0.5, delta=0.5)], version=3)
    split = validate_greeks(root, GreeksSettings(rows_in_memory=10, workers=2))
    split_sections, sections = split.as_sections(), validate_greeks(root).as_sections()
    worst, split_worst = (
        [row["error"] for row in found.pop("worst")] for found in (sections, split_sections)
    )
    assert split_worst == worst, "rows that are as bad as another may be named in its place"
    assert split_sections == sections


def test_verb_exits_by_its_findings(tmp_path: Path) -> None:
    good, bad = kit.lake(tmp_path / "good"), kit.lake(tmp_path / "bad")
    venue(good)
    venue(bad, vega=0.01)

    def lake(root: Root, *options: str) -> Result:
        return CliRunner().invoke(app, ["--root", str(root.path), "greeks", *options])

    found = lake(good, "--validate", "--json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["problems"] == []
    found = lake(bad, "--validate")
    assert found.exit_code == 1
    assert "lake: vega: RMSE" in found.stderr
    for wrong in (["--date", "2020-01-01"], ["--of", "trades"]):
        found = lake(good, "--validate", *wrong)
        assert (found.exit_code, found.stderr.count("\n")) == (2, 1)
    found = lake(good, "--date", kit.DAY.isoformat(), "--every", "0s", "--json")
    assert [row["rows"] for row in json.loads(found.stdout)] == [4 * len(STRIKES)]


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no quotes of options"):
        validate_greeks(kit.lake(tmp_path / "lake"))


def recorded_greeks(folder: Path, real_data: Path) -> Root:
    """Production rows of 2020 and 2021 with the venue's Greeks, as quotes."""
    rows = pcsv.read_csv(real_data / "greeks" / "deribit_option_greeks.csv").to_pylist()
    named = {"mark_price": "mark_price", "mark_iv": "mark_iv", "underlying_price": "underlying_price"}
    named |= {name: name for name in ("delta", "gamma", "vega", "theta", "rho")}
    quotes: list[dict[str, Any]] = []
    for row in rows:
        if row["delta"] is None or row["underlying_price"] is None:
            continue
        sides = {n: row[n] or None for side in ("bid", "ask") for n in (f"{side}_price", f"{side}_iv")}
        at = row["timestamp_ms"] * 1000
        identity = {"venue": "deribit", "instrument": row["instrument_name"], "ts": at, "recv_ts": at}
        quotes.append({**identity, **sides, **{ours: row[theirs] for ours, theirs in named.items()}})
    root = kit.lake(folder)
    kit.append_table(root, "quotes", pa.Table.from_pylist(quotes))
    return root


def test_recorded_production_rows_are_met_to_the_venues_rounding(tmp_path: Path, real_data: Path) -> None:
    root = recorded_greeks(tmp_path / "lake", real_data)
    found = validate_greeks(root)
    assert found.problems == []
    assert found.counts["compared"] > 0.95 * found.counts["all"] > 1_000
    derive_greeks(root, GreeksSettings(quotes_every_s=0))
    rows = kit.greeks_of(root)
    assert len(rows) == found.counts["all"]
    agree = {
        n: np.mean(np.asarray(rows[f"residual_{n}"].cast("float64")) == 0)
        for n in ("delta", "gamma", "vega", "rho")
    }
    assert agree["gamma"] > 0.99
    assert agree["delta"] > 0.5


def test_recorded_chains_go_the_whole_way(tmp_path: Path, real_data: Path) -> None:
    """Order books of a venue that leaves most marks stale: what agrees with itself agrees with us."""
    root = kit.chain_lake(tmp_path / "lake", real_data)
    report = derive_greeks(root, GreeksSettings(quotes_every_s=0))
    assert [(w.rows, w.source_rows, w.without_forward) for w in report.written] == [
        (964, 964, 0),
        (1924, 1924, 0),
    ]
    found = validate_greeks(root)
    assert (
        found.counts["compared"] + found.counts["mark_iv contradicts mark_price"]
        == found.counts["all"]
        == 2888
    )
    errors = {row["measure"]: row for row in found.as_sections()["errors"] if row["moneyness"] == "all"}
    assert errors["delta"]["median"] <= 2e-5
    assert errors["bid_iv"]["median"] <= 0.005
    assert errors["ask_iv"]["median"] <= 0.005
    assert found.counts["marks with volatility"] >= 0.95 * found.counts["marks"]
    view = sql_greeks(root)
    wrong_sign = """SELECT count(*) AS n FROM quotes_greeks WHERE NOT (CASE option_type
                    WHEN 'call' THEN own_delta BETWEEN 0 AND 1 ELSE own_delta BETWEEN -1 AND 0 END)"""
    assert query(root, wrong_sign, view).to_pylist() == [{"n": 0}]
    pairs = """SELECT count(*) AS n, max(abs(c.own_gamma / p.own_gamma - 1)) AS off
               FROM quotes_greeks c JOIN quotes_greeks p
               ON c.strike = p.strike AND c.expiration_ts = p.expiration_ts AND c.underlying_price = p.underlying_price
               AND c.mark_iv = p.mark_iv AND abs(epoch(c.ts) - epoch(p.ts)) < 1
               WHERE c.option_type = 'call' AND p.option_type = 'put' AND c.own_gamma > 1e-12"""
    (pair,) = query(root, pairs, view).to_pylist()
    assert pair["n"] > 50
    assert pair["off"] < 1e-3, "a second apart"
