"""Greeks on read: the same numbers as in the table, by Arrow and by SQL, and nothing else becomes possible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lake.errors import QueryError
from lake.root import Root
from lake.views import connect, query
from pipeline.derive_greeks import GreeksSettings, derive_greeks, sql_greeks, with_greeks
from pipeline.derive_greeks.on_read import FIELDS, OWN
from pipeline.derive_greeks.terms import Listings
from tests.derive_greeks import kit
from tests.derive_greeks.test_job import CALL, FORWARD, LINEAR, NAMES, PUT, market
from tests.pipeline.kit import finish, lake_command

SCALE = {"bid_iv": 4, "ask_iv": 4, "iv": 4, "gamma": 9}


@pytest.fixture
def lake(tmp_path: Path) -> Root:
    """A chain of quotes, and what is no option."""
    root = kit.lake(tmp_path / "lake")
    market(root)
    others = [kit.quote("BTC-PERPETUAL", 0, mark_price=FORWARD), kit.priced(LINEAR, 0, FORWARD, 0.5)]
    kit.append(root, "quotes", others, version=2)
    return root


def test_table_arrow_and_sql_agree_to_the_last_stored_digit(lake: Root) -> None:
    derive_greeks(lake, GreeksSettings(quotes_every_s=0), now=kit.NOW)
    stored = kit.greeks_of(lake)
    with connect(lake, sql_greeks(lake)) as sql:
        quotes = sql.query("FROM quotes WHERE family LIKE '%option' ORDER BY instrument, ts")
        by_sql = sql.query("FROM quotes_greeks WHERE family LIKE '%option' ORDER BY instrument, ts")
    by_arrow = with_greeks(quotes, Listings.read(lake))
    assert by_arrow.select([f"own_{name}" for name in OWN]).equals(
        by_sql.select([f"own_{name}" for name in OWN])
    )
    for name in OWN:
        own = np.asarray(by_sql[f"own_{name}"])
        assert not np.isnan(own).any()
        rounded = np.array([float(number) for number in stored[name].to_pylist()])
        np.testing.assert_allclose(own, rounded, rtol=0, atol=0.51 * 10.0 ** -SCALE.get(name, 5))
    for name in ("option_type", "strike", "expiration_ts", "final_averaging"):
        assert by_sql[name].to_pylist() == by_arrow[name].to_pylist() == stored[name].to_pylist()


def test_what_is_no_option_has_no_greeks(lake: Root) -> None:
    (row,) = query(
        lake, "FROM quotes_greeks WHERE instrument = 'BTC-PERPETUAL'", sql_greeks(lake)
    ).to_pylist()
    assert [row[f"own_{name}"] for name in OWN] == [None] * len(OWN)
    assert (row["strike"], row["years"], row["option_type"], row["final_averaging"]) == (
        None,
        None,
        None,
        False,
    )
    assert row["mark_price"] == FORWARD


def test_conditions_on_both_kinds_of_columns(lake: Root) -> None:
    count = f"""SELECT count(*) AS n FROM quotes_greeks WHERE instrument = '{CALL}' AND date = DATE '{kit.DAY}'
                AND own_delta BETWEEN 0 AND 1 AND own_gamma > 0"""
    assert query(lake, count, sql_greeks(lake)).to_pylist() == [{"n": 30}]
    joined = f"""SELECT q.own_delta - p.own_delta AS difference FROM quotes_greeks q JOIN quotes_greeks p USING (ts)
                 WHERE q.instrument = '{CALL}' AND p.instrument = '{PUT}'"""
    found = query(lake, joined, sql_greeks(lake))["difference"].to_pylist()
    assert found == pytest.approx([1.0] * 30)


def test_function_takes_whatever_is_known(lake: Root) -> None:
    mark = kit.priced(CALL, 0, FORWARD, 0.5)["mark_price"]
    call = f"""WITH x AS (SELECT option_greeks('{CALL}', TIMESTAMPTZ '{kit.DAY} 00:00:00Z', {FORWARD}, {mark},
               NULL, NULL, NULL) AS g) SELECT g.* FROM x"""
    (row,) = query(lake, call, sql_greeks(lake)).to_pylist()
    assert list(row) == list(FIELDS)
    assert row["iv"] == pytest.approx(50.0, abs=1e-6)
    assert (row["bid_iv"], row["strike"], row["option_type"]) == (None, 80_000.0, "call")
    nulls = "SELECT g.* FROM (SELECT option_greeks(NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS g)"
    (row,) = query(lake, nulls, sql_greeks(lake)).to_pylist()
    assert {name: value for name, value in row.items() if value is not None} == {"final_averaging": False}


def test_terms_on_read_are_those_of_the_listings(lake: Root) -> None:
    terms = {
        "venue": "deribit", "instrument": CALL, "valid_from": kit.DAY_US, "kind": "option", "option_type": "call",
        "instrument_type": "reversed", "base_currency": "BTC", "strike": 79_000.0,
        "expiration_ts": kit.DAY_US + 86_400_000_000,
    }  # fmt: skip
    kit.append(lake, "instruments", [terms])
    text = f"SELECT DISTINCT strike, years * 365 > 2 AS late FROM quotes_greeks WHERE instrument = '{CALL}'"
    assert query(lake, text, sql_greeks(lake)).to_pylist() == [{"strike": 79_000.0, "late": False}]


def test_sql_with_greeks_still_only_reads(lake: Root, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    for text in (
        f"COPY (FROM quotes_greeks) TO '{target}'",
        "DROP VIEW quotes_greeks",
        "CREATE TABLE t AS FROM quotes",
    ):
        with pytest.raises(QueryError):
            query(lake, text, sql_greeks(lake))
    assert not target.exists()


def test_an_empty_lake_has_the_view_too(tmp_path: Path) -> None:
    root = kit.lake(tmp_path / "empty")
    assert len(query(root, "FROM quotes_greeks", sql_greeks(root))) == 0


def test_verb_knows_the_view_and_says_nothing_else(lake: Root) -> None:
    text = "SELECT count(own_delta) AS n FROM quotes_greeks"
    code, output = finish(lake_command("--root", str(lake.path), "sql", text, "--format", "csv"))
    assert (code, output) == (0, f'"n"\n{30 * len(NAMES) + 1}\n')


def test_missing_column_is_named() -> None:
    with pytest.raises(KeyError, match="underlying_price"):
        with_greeks(pa.table({"instrument": [CALL], "ts": [0]}))
