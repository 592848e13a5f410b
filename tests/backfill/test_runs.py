"""Whole backfills against the simulated venue: complete, once, and told as they are."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from collectors.simulator.process import SimulatorProcess, start
from lake.errors import InputError, VenueUnavailableError
from tests.backfill.kit import (
    assert_as_told,
    assert_sound,
    command,
    environment,
    job,
    killed,
    lake,
    past,
    rows,
    run,
    settings,
    told_ms,
)
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def venue() -> Iterator[SimulatorProcess]:
    with start(past()) as running:
        yield running


TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
"""Of the whole run, also when it goes on past midnight."""


def since(days: int) -> dt.datetime:
    return TODAY - dt.timedelta(days=days)


def test_candles_are_the_venues_to_the_digit_and_its_holes_are_told_apart(
    venue: SimulatorProcess, tmp_path: Path
) -> None:
    root = lake(tmp_path)
    report = run(root, "candles", settings(venue), start=since(25))
    names = [row["instrument"] for row in rows(root, "SELECT DISTINCT instrument FROM candles")]
    assert len(names) >= 4
    held = 0
    holes = 0
    for name in names:
        end_ms = rows(root, f"SELECT epoch_ms(max(ts)) AS ms FROM candles WHERE instrument = '{name}'")[0][
            "ms"
        ]
        held += assert_as_told(root, venue, "candles", [name], end_ms)
        told = venue.control("truth", dataset="candles", instrument=name, end=end_ms)["truth"]
        holes += sum((last - first) // 60_000 + 1 for first, last in told["holes"])
    found = {check.what: check for check in report.checks}
    assert found["1m bars"].count == held
    assert found["1m bars missing: the venue has none"].count == holes > 0
    assert found["1m bars missing: not asked for yet"].count == 0
    assert found["1m bars held twice"].count == 0
    assert report.complete
    # Bars without trades are there, and are known by their volume.
    assert found["1m bars in which nothing was traded (volume 0)"].count > 0
    assert rows(root, "SELECT count(*) AS n FROM candles WHERE volume = 0 AND high != low")[0]["n"] == 0
    again = run(root, "candles", settings(venue), start=since(25), end=since(0))
    assert again.requests == 0
    assert_sound(root)


def test_a_minute_that_has_not_ended_is_not_a_candle(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    run(root, "candles", settings(venue), instruments=("BTC-PERPETUAL",), start=since(1))
    held = rows(
        root,
        "SELECT count(*) AS n, count(*) FILTER (WHERE ts + INTERVAL 1 MINUTE > recv_ts) AS early FROM candles",
    )[0]
    assert held["n"] > 0
    assert held["early"] == 0


def test_killed_again_and_again_it_ends_complete_and_wastes_little(tmp_path: Path) -> None:
    root = lake(tmp_path)
    per_s = 15.0
    limited = past(
        past_days=0, rest_per_second=per_s, history_per_second=per_s, past_futures=4, past_perpetual_trades=60
    )
    wanted = ("candles", "--instrument", "BTC-PERPETUAL", "--from", "2023-01-01", "--to", "2023-12-31")
    with start(limited) as venue:
        for after in (35, 40):
            killed(root, venue, *wanted, after=after, per_s=per_s)
        done = subprocess.run(
            [*command(root, venue, *wanted), "--json"],
            env=environment(per_s), capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["complete"]
        counted = venue.control("limits")["limits"]["www"]
        start_ms, end_ms = 1_672_531_200_000, 1_704_067_140_000
        told = venue.control(
            "truth", dataset="candles", instrument="BTC-PERPETUAL", start=start_ms, end=end_ms
        )["truth"]
        held = rows(root, "SELECT count(*) AS n, count(DISTINCT ts) AS bars FROM candles")[0]
        assert held == {"n": told["rows"], "bars": told["rows"]}
    needed = -(-(end_ms - start_ms + 60_000) // (5_000 * 60_000))
    assert counted["bans"] == counted["refused"] == 0
    asked = counted["by_method"]["get_tradingview_chart_data"]
    # Each kill may cost what was under way, 8 requests, and the answers of a moment; half of what it had asked at most.
    assert needed <= asked <= needed + 2 * (8 + 10)
    assert_sound(root)


def test_every_trade_of_every_instrument_by_its_number(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    # Pages smaller than the trades of one millisecond: numbers must carry on where times could not.
    report = run(root, "trades", settings(venue, trades_per_page=100, recent_per_page=50))
    names = [row["instrument"] for row in rows(root, "SELECT DISTINCT instrument FROM trades")]
    assert len(names) > 15
    crowded = rows(root, "SELECT max(n) AS n FROM (SELECT count(*) AS n FROM trades GROUP BY instrument, ts)")
    assert crowded[0]["n"] > 100
    assert_as_told(root, venue, "trades", names, 4_102_444_800_000)
    found = {check.what: check.count for check in report.checks}
    assert found["numbers missing: not proven to be the venue's"] == 0
    assert found["rows of trades held twice"] == 0
    assert report.complete
    again = run(root, "trades", settings(venue))
    assert again.rows == 0
    assert_sound(root)


def test_trades_of_a_day_only(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    first, end = since(5), since(4)
    run(root, "trades", settings(venue), instruments=("BTC-PERPETUAL",), start=first, end=end)
    told = venue.control(
        "truth", dataset="trades", instrument="BTC-PERPETUAL",
        start=int(first.timestamp() * 1000), end=int(end.timestamp() * 1000) - 1,
    )["truth"]  # fmt: skip
    held = rows(root, "SELECT count(*) AS n, min(ts) AS first, max(ts) AS last FROM trades")[0]
    assert held["n"] == told["rows"] > 0
    assert first <= held["first"] <= held["last"] < end


def test_reading_a_day_again_merges_the_liquidations(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    chosen = settings(venue)
    run(root, "trades", chosen, instruments=("BTC-PERPETUAL",))
    day = rows(
        root,
        "SELECT date, count(*) AS n FROM trades WHERE liquidation IS NOT NULL GROUP BY date ORDER BY n DESC",
    )[0]
    before = rows(root, f"SELECT count(*) AS n FROM trades WHERE date = '{day['date']}'")[0]["n"]
    known = rows(root, "SELECT sum(repeated) AS n FROM coverage")[0]["n"]
    report = run(root, "trades", chosen, reread=day["date"], currencies=("BTC",))
    assert report.duplicates_dropped == 0, "what is held already was left out at once"
    assert rows(root, "SELECT sum(repeated) AS n FROM coverage")[0]["n"] - known == before > 0
    held = rows(
        root,
        f"SELECT count(*) AS n, count(DISTINCT trade_id) AS ids, count(liquidation) AS told FROM trades"
        f" WHERE date = '{day['date']}' AND instrument = 'BTC-PERPETUAL'",
    )[0]
    assert held == {"n": before, "ids": before, "told": day["n"]}
    assert_sound(root)


@pytest.mark.parametrize("dataset", ["funding", "volatility", "settlements", "index"])
def test_other_series_are_complete_and_not_asked_for_twice(
    venue: SimulatorProcess, tmp_path: Path, dataset: str
) -> None:
    root = lake(tmp_path)
    report = run(root, dataset, settings(venue), currencies=("BTC",))
    assert report.complete
    assert report.rows > 0
    again = run(root, dataset, settings(venue), currencies=("BTC",))
    assert again.rows <= 1  # an hour may have ended meanwhile
    assert_sound(root)
    if dataset == "funding":
        told = venue.control(
            "truth", dataset="funding", instrument="BTC-PERPETUAL", end=told_ms(root, "funding")
        )["truth"]
        assert report.rows + again.rows == told["rows"]
    elif dataset == "volatility":
        told = venue.control("truth", dataset="volatility", currency="BTC", resolution="3600")["truth"]
        assert told["rows"] - 1 <= report.rows + again.rows <= told["rows"]
    elif dataset == "settlements":
        told = venue.control("truth", dataset="settlements", currency="BTC")["truth"]
        deliveries = venue.control("truth", dataset="deliveries", currency="BTC")["truth"]
        assert report.rows == told["rows"] + deliveries["rows"]


def test_settlements_since_midnight_of_a_day_are_complete(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    first = run(root, "settlements", settings(venue), currencies=("BTC",), start=since(5), end=since(0))
    assert first.complete
    assert first.rows > 0
    assert (
        run(root, "settlements", settings(venue), currencies=("BTC",), start=since(5), end=since(0)).requests
        == 0
    )


def test_instruments_of_both_hosts_are_listed_once_an_hour(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    everything = ("BTC", "ETH", "USDC")
    run(root, "instruments", settings(venue, currencies=everything))
    told = venue.control("truth", dataset="instruments")["truth"]["names"]
    held = {row["instrument"] for row in rows(root, "SELECT instrument FROM instruments")}
    assert set(told) <= held
    assert len(held) > len(told)
    assert run(root, "instruments", settings(venue, currencies=everything)).requests == 0
    assert run(root, "instruments", settings(venue, listing_minutes=1e-6)).requests > 0


def test_a_plan_says_what_it_takes_and_asks_for_nothing(venue: SimulatorProcess, tmp_path: Path) -> None:
    root = lake(tmp_path)
    chosen = settings(venue, rest_per_s=50.0)
    plan = asyncio.run(job(root, "candles", chosen, start=since(10), end=since(5)).plan())
    told = plan.as_rows(chosen)[0]
    assert told["requests at least"] == len(plan.units) > 0
    assert told["seconds"] == round(len(plan.units) / 50.0, 1)
    assert rows(root, "SELECT count(*) AS n FROM candles")[0]["n"] == 0


def test_an_instrument_nobody_lists_is_named(venue: SimulatorProcess, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the venue lists no instrument BTC-1JAN99"):
        run(lake(tmp_path), "candles", settings(venue), instruments=("BTC-1JAN99",))


def test_what_the_venue_refuses_for_good_is_recorded_and_not_asked_again(tmp_path: Path) -> None:
    root = lake(tmp_path)
    with start(past()) as venue:
        chosen = settings(venue)
        run(root, "instruments", chosen)
        venue.control(
            "fail", method="get_tradingview_chart_data", code=-32602, message="Invalid params", calls=1
        )
        refused = run(root, "candles", chosen, instruments=("BTC-PERPETUAL",), start=since(1), end=since(0))
        assert refused.refusals == {"BTC-PERPETUAL": "GET public/get_tradingview_chart_data: the venue refuses: "
                                    "Invalid params -32602"}  # fmt: skip
        again = run(root, "candles", chosen, instruments=("BTC-PERPETUAL",), start=since(1), end=since(0))
        assert again.requests == 0
        assert list(again.skipped) == ["BTC-PERPETUAL"]
        # Forgotten after its time:
        late = settings(venue, refusal_days=0.0)
        assert (
            run(root, "candles", late, instruments=("BTC-PERPETUAL",), start=since(1), end=since(0)).rows > 0
        )


def test_transient_errors_of_every_kind_are_waited_out(tmp_path: Path) -> None:
    root = lake(tmp_path)
    with start(past()) as venue:
        chosen = settings(venue, concurrency=1)
        run(root, "instruments", chosen)
        for code in (10028, 10041, 10047, 11051):
            venue.control("fail", method="get_tradingview_chart_data", code=code, message="later", calls=1)
        for how in ("html", "status", "truncated"):
            venue.control("spoil", how=how, method="get_tradingview_chart_data", calls=1)
        venue.control("spoil", how="status", status=429, method="get_tradingview_chart_data", calls=1)
        report = run(root, "candles", settings(venue), instruments=("BTC-PERPETUAL",), start=since(8))
        assert report.complete
        assert not report.failures
        assert report.requests > report.units


def test_a_venue_that_is_away_is_told_and_costs_nothing(tmp_path: Path) -> None:
    root = lake(tmp_path)
    with start(past()) as venue:
        chosen = settings(venue, attempts=2)
        run(root, "candles", chosen, instruments=("BTC-PERPETUAL",), start=since(8), end=since(4))
        held = rows(root, "SELECT count(*) AS n FROM candles")[0]["n"]
        venue.control("refuse", seconds=600, status=503)
        with pytest.raises(VenueUnavailableError):
            run(root, "candles", chosen, instruments=("BTC-PERPETUAL",), start=since(15))
    assert rows(root, "SELECT count(*) AS n FROM candles")[0]["n"] == held > 0
    assert_sound(root)


def test_a_rate_that_is_too_high_is_learnt_and_never_leads_to_a_ban(tmp_path: Path) -> None:
    root = lake(tmp_path)
    with start(past(past_days=200, rest_per_second=6.0, rest_burst=3.0)) as venue:
        report = run(
            root,
            "candles",
            settings(venue, rest_per_s=60.0, attempts=8),
            start=since(60),
            currencies=("BTC",),
        )
        counted = venue.control("limits")["limits"]["www"]
    assert report.complete
    assert counted["refused"] > 0
    assert counted["bans"] == 0


def test_interrupted_it_ends_tidily_and_goes_on_from_there(tmp_path: Path) -> None:
    root = lake(tmp_path)
    wanted = ("candles", "--instrument", "BTC-PERPETUAL", "--from", "2022-01-01", "--to", "2022-05-31")
    with start(past(past_days=0, past_perpetual_trades=60)) as venue:
        process = subprocess.Popen(
            command(root, venue, *wanted), env=environment(3.0), stdout=subprocess.PIPE, text=True
        )
        asked = "get_tradingview_chart_data"
        until(lambda: venue.control("limits")["limits"]["www"]["by_method"].get(asked, 0) >= 11)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 1
        assert "the same command goes on from here" in output
        before = rows(root, "SELECT count(*) AS n FROM candles")[0]["n"]
        assert before >= 9 * 5_000  # the tenth makes up for the minutes that the venue has no bar for
        done = subprocess.run(
            [*command(root, venue, *wanted), "--json"],
            env=environment(1000.0), capture_output=True, text=True, check=True, timeout=PATIENCE_S,
        )  # fmt: skip
        told = venue.control(
            "truth",
            dataset="candles",
            instrument="BTC-PERPETUAL",
            start=1_640_995_200_000,
            end=1_654_041_599_999,
        )["truth"]["rows"]
    assert before + json.loads(done.stdout)[0]["rows"] == told
    assert rows(root, "SELECT count(DISTINCT ts) AS n FROM candles")[0]["n"] == told


def test_a_part_that_is_held_does_not_hide_what_is_lacking_before_it(
    venue: SimulatorProcess, tmp_path: Path
) -> None:
    root = lake(tmp_path)
    run(root, "instruments", settings(venue))
    name = rows(
        root,
        "SELECT instrument FROM instruments WHERE kind = 'future' AND expiration_ts < now()"
        " ORDER BY expiration_ts - creation_ts DESC LIMIT 1",
    )[0]["instrument"]
    terms = rows(root, f"SELECT creation_ts, expiration_ts FROM instruments WHERE instrument = '{name}'")[0]
    middle = terms["expiration_ts"] - dt.timedelta(days=3)
    run(root, "trades", settings(venue), instruments=(name,), start=middle)
    part = rows(root, "SELECT count(*) AS n, min(ts) AS first FROM trades")[0]
    assert part["n"] > 0
    assert part["first"] >= middle
    report = run(root, "trades", settings(venue), instruments=(name,))
    assert report.rows > 0
    assert_as_told(root, venue, "trades", [name], 4_102_444_800_000)
