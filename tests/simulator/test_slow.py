"""The channels that speak once a second say what the tickers say, and only to those who have news."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from collectors.simulator.market import Market
from collectors.simulator.slow import PUBLIC_METHODS, first_frame
from tests.simulator.support import Tape, make_market

SECONDS = 12


@pytest.fixture(scope="module")
def lived() -> tuple[Market, Tape]:
    return make_market(instruments=150, rate=600.0, seconds=SECONDS)


def test_funding_at_agg2_comes_once_a_second_for_perpetuals_alone(lived: tuple[Market, Tape]) -> None:
    market, tape = lived
    perpetuals = [name for name, item in market.instruments.items() if item.spec.perpetual]
    spoken = Counter(channel for channel, _ in tape.data("perpetual.") if channel.endswith(".agg2"))
    assert spoken == {f"perpetual.{name}.agg2": SECONDS for name in perpetuals}
    assert {channel.split(".")[1] for channel, _ in tape.data("perpetual.")} == set(perpetuals)
    dated = next(n for n, i in market.instruments.items() if i.spec.kind == "future" and not i.spec.perpetual)
    assert first_frame(market, f"perpetual.{dated}.agg2") is None


def test_funding_is_that_of_the_ticker_of_the_same_moment(lived: tuple[Market, Tape]) -> None:
    _, tape = lived
    rates = {
        (channel.split(".")[1], data["timestamp"]): data["interest"]
        for channel, data in tape.data("perpetual.")
    }
    of_tickers = {
        (data["instrument_name"], data["timestamp"]): data["current_funding"]
        for _, data in tape.data("ticker.")
        if "current_funding" in data
    }
    both = rates.keys() & of_tickers.keys()
    assert len(both) > SECONDS
    assert {key: rates[key] for key in both} == {key: of_tickers[key] for key in both}


def test_marks_come_whole_at_first_and_then_where_they_changed(lived: tuple[Market, Tape]) -> None:
    market, tape = lived
    options = [
        name for name, i in market.instruments.items() if i.smile is not None and i.index.name == "btc_usd"
    ]
    first = first_frame(market, "markprice.options.btc_usd")
    assert first is not None
    assert sorted(row["instrument_name"] for row in json.loads(first[0])) == sorted(options)
    told: dict[str, tuple[float, float]] = {}
    frames = [rows for channel, rows in tape.data("markprice.") if channel.endswith(".btc_usd")]
    for rows in frames:
        assert rows
        for row in rows:
            mark = (row["mark_price"], row["iv"])
            assert told.get(row["instrument_name"]) != mark
            told[row["instrument_name"]] = mark
    assert told == {name: market.instruments[name].told_mark for name in options}
    assert sum(map(len, frames)) < len(frames) * len(options)


def test_whether_anonymous_calls_are_answered_is_told_on_subscribing(lived: tuple[Market, Tape]) -> None:
    told = first_frame(lived[0], PUBLIC_METHODS)
    assert told is not None
    assert json.loads(told[0]) == {"allow_unauthenticated_public_requests": True}
