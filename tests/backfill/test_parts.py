"""The parts of backfilling by themselves: spans, the pace that adapts, what an answer puts on record."""

from __future__ import annotations

import asyncio
import datetime as dt
import io
import json
import re
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.deribit.answers import decode_answer
from collectors.deribit.rest import _retry_after
from collectors.pace import AdaptiveBucket
from lake.conform import conform
from lake.errors import InputError, SchemaDriftError, SettingsError
from lake.schema import TABLES
from pipeline.backfill import series, trades
from pipeline.backfill.display import progress_line
from pipeline.backfill.engine import Progress
from pipeline.backfill.ledger import NEVER_EXPIRES_MS, Listed, Recorded
from pipeline.backfill.plan import DAY_MS, Choice, Planning, strike_range, urgency
from pipeline.backfill.settings import BackfillSettings
from pipeline.backfill.spans import cut, joined, lacking, total
from tests.backfill.kit import job, lake

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)
HOST = "https://www.deribit.com/api/v2/public/"
MINUTE = 60_000
NOON = 1_766_484_000_000  # 2025-12-23 10:00 UTC


def numbers(spans: list[tuple[int, int]]) -> set[int]:
    return {n for start, end in spans for n in range(start, end)}


@given(SPANS, SPANS)
def test_spans_are_sets_of_numbers(wanted: list[tuple[int, int]], held: list[tuple[int, int]]) -> None:
    left = lacking(wanted, held)
    assert numbers(left) == numbers(wanted) - numbers(held)
    assert numbers(joined(wanted)) == numbers(wanted)
    assert total(left) == len(numbers(left))
    for spans in (left, joined(wanted)):
        assert all(a[1] < b[0] for a, b in pairwise(spans))
    pieces = list(cut(left, 7))
    assert numbers(pieces) == numbers(left)
    assert all(0 < end - start <= 7 for start, end in pieces)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def allowed(bucket: AdaptiveBucket, clock: Clock, seconds: float) -> int:
    """How many of those who ask whenever a token has come get one in so many seconds."""
    count, end_s = 0, clock.now_s + seconds
    while True:
        at_s = clock.now_s + bucket.reserve()
        if at_s > end_s:
            clock.now_s = end_s
            return count
        clock.now_s = at_s
        count += 1


def test_a_rate_without_refusals_is_used_to_the_full() -> None:
    clock = Clock()
    assert allowed(AdaptiveBucket(5.0, 5, clock_s=clock), clock, 100.0) == pytest.approx(505, abs=2)


def test_after_a_refusal_it_is_quiet_then_half_as_fast_then_slowly_faster() -> None:
    clock = Clock()
    bucket = AdaptiveBucket(20.0, 5, quiet_s=10.0, clock_s=clock)
    allowed(bucket, clock, 5.0)
    for _ in range(6):
        bucket.refused(1.0)  # those that were under way
    assert bucket.per_s == 10.0
    assert allowed(bucket, clock, 9.9) == 0
    assert allowed(bucket, clock, 5.0) == pytest.approx(50, abs=3)
    allowed(bucket, clock, 300.0)
    assert bucket.per_s == pytest.approx(19.0)  # not beyond 95 % of what was refused
    allowed(bucket, clock, 400.0)
    assert bucket.per_s == 20.0


def test_the_other_sides_word_how_long_to_wait_is_kept() -> None:
    clock = Clock()
    bucket = AdaptiveBucket(20.0, 5, quiet_s=1.0, clock_s=clock)
    bucket.refused(30.0)
    assert allowed(bucket, clock, 29.9) == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({}, 1.0), ({"Retry-After": "7"}, 7.0), ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1.0)],
)
def test_how_long_the_other_side_asks_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert _retry_after(headers) == seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "160")
    now = Progress(units=10, done=4, requests=6_000, rows=500_000)
    now.began_s -= 2_000
    with progress_line("candles") as tell:
        tell(now)
    seen = screen.getvalue()
    assert "candles" in seen
    assert "4/10" in seen
    assert "250 rows/s  3.0 requests/s" in seen


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": 33},
        {"trades_per_page": 20_000},
        {"burst": 0},
        {"history_url": "history.deribit.com"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        BackfillSettings(**wrong)


def listed(name: str, kind: str, days: float, strike: float | None = None, currency: str = "BTC") -> Listed:
    return Listed(
        name, kind, currency, 0, NEVER_EXPIRES_MS if days > 9_999 else int(NOON + days * DAY_MS), strike
    )


def planning(*items: Listed, **choice: Any) -> Planning:
    ledger: Any = SimpleNamespace(instruments=list(items))
    return Planning(ledger, Choice(**choice), BackfillSettings(), NOON)


def test_the_most_urgent_instruments_come_first() -> None:
    items = [
        listed("far", "option", 100), listed("perpetual", "future", 10_000), listed("near", "option", 2),
        listed("gone", "option", -1), listed("long gone", "option", -50), listed("future", "future", 40),
        listed("later", "option", 20), listed("later still", "option", 60),
    ]  # fmt: skip
    chosen = planning(*items).chosen(("future", "option"))
    assert [item.name for item in chosen] == [
        "perpetual", "future", "near", "later", "later still", "far", "gone", "long gone",
    ]  # fmt: skip
    assert [urgency(item, NOON) for item in chosen[2:]] == ["critical", "high", "medium", "low", "low", "low"]


def test_only_what_is_wanted_is_chosen() -> None:
    items = [
        listed("a", "option", 5, 50_000.0), listed("b", "option", 5, 70_000.0), listed("c", "option", -5, 70_000.0),
        listed("d", "option", 5, 70_000.0, "ETH"), listed("e", "future", 5),
    ]  # fmt: skip

    def names(**choice: Any) -> list[str]:
        return [item.name for item in planning(*items, **choice).chosen(("future",))]

    assert names() == ["e"]
    assert names(kinds=("option",), currencies=("BTC",), strikes=(60_000.0, 80_000.0)) == ["b", "c"]
    assert names(kinds=("option",), expired=False, currencies=("ETH",)) == ["d"]
    assert names(instruments=("c", "e")) == ["e", "c"]
    after = dt.datetime.fromtimestamp(NOON / 1000, dt.UTC) - dt.timedelta(days=1)
    assert names(kinds=("option",), start=after) == ["a", "b", "d"]  # c was gone by then
    with pytest.raises(InputError, match="no instrument zzz"):
        names(instruments=("zzz",))


@pytest.mark.parametrize(
    ("after_ms", "hour"), [(0, NOON - 3_600_000), (29_999, NOON - 3_600_000), (30_000, NOON)]
)
def test_an_hour_that_has_only_just_ended_is_left_to_a_later_run(after_ms: int, hour: int) -> None:
    ledger: Any = SimpleNamespace(
        instruments=[listed("BTC-PERPETUAL", "future", 10_000)], recorded=lambda dataset: {}
    )
    [*_, last] = series.funding(Planning(ledger, Choice(), BackfillSettings(), NOON + after_ms)).units
    asked: list[dict[str, Any]] = []

    async def ask(host: str, method: str, params: dict[str, Any]) -> None:
        asked.append(params)

    asyncio.run(last.work(ask))  # type: ignore[arg-type]
    assert [params["end_timestamp"] for params in asked] == [hour]


@pytest.mark.parametrize(
    "wrong", [{"kinds": ("swap",)}, {"instruments": ("BTC'; DROP",)}, {"strikes": (2.0, 1.0)}]
)
def test_a_choice_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Choice(**wrong)


@pytest.mark.parametrize(
    ("dataset", "choice", "words"),
    [
        ("candle", {}, "there are candles, trades, funding,"),
        ("candles", {"resolution": "7"}, "--resolution 7: use 1, 3, 5,"),
        ("volatility", {"resolution": "7"}, "--resolution 7: use 1, 60, 3600,"),
        ("trades", {"resolution": "1"}, "--resolution is for candles and volatility"),
        ("funding", {"reread": dt.date(2026, 1, 1)}, "--reread is for trades alone"),
    ],
)
def test_a_choice_that_does_not_fit_the_dataset_is_refused_before_anything_is_asked(
    tmp_path: Path, dataset: str, choice: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        job(lake(tmp_path), dataset, BackfillSettings(), **choice)


def test_days_the_wrong_way_round_are_named_as_they_were_given() -> None:
    first, end = dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2023, 1, 2, tzinfo=dt.UTC)
    with pytest.raises(InputError, match="--from 2024-01-01 is after --to 2023-01-01"):
        Choice(start=first, end=end)


@pytest.mark.parametrize("text", ["60000", "60000-", "nan-inf", "a-b", "-5-10"])
def test_what_is_no_range_of_strikes_is_refused(text: str) -> None:
    assert strike_range("0.5-60000") == (0.5, 60_000.0)
    with pytest.raises(InputError, match="--strikes"):
        strike_range(text)


def answer(method: str, params: str, result: object, asked_ms: int = NOON + 3_600_000) -> Any:
    body = {"jsonrpc": "2.0", "result": result, "usIn": asked_ms * 1000, "usOut": 0, "usDiff": 0}
    found = decode_answer(
        f"{HOST}{method}?{params}", 200, json.dumps(body).encode(), 2_000_000_000_000_000_000
    )
    assert found is not None
    for name, columns in found.tables.items():
        assert not conform(TABLES[name], columns.drop_columns(["record"])).rejected.any()
    return found


def chart(first: int, count: int, **changes: Any) -> dict[str, Any]:
    prices = [100.0 + n % 7 for n in range(count)]
    ticks = [first + n * MINUTE for n in range(count)]
    return {
        "ticks": ticks, "open": prices, "high": prices, "low": prices, "close": prices,
        "volume": [n % 2 for n in range(count)], "cost": [n * 10.0 for n in range(count)], "status": "ok", **changes,
    }  # fmt: skip


def asked(name: str) -> str:
    """The question for the ten minutes from NOON on."""
    return f"instrument_name={name}&start_timestamp={NOON - MINUTE}&end_timestamp={NOON + 9 * MINUTE}&resolution=1"


def on_record(found: Any) -> dict[str, Any]:
    rows: list[dict[str, Any]] = found.tables["backfills"].to_pylist()
    return rows[0]


def span_ms(found: Any) -> tuple[int, int]:
    row = on_record(found)
    return int(row["start_ts"].timestamp() * 1000), int(row["end_ts"].timestamp() * 1000)


def test_candles_are_those_asked_for_that_had_closed() -> None:
    params = asked("BTC-PERPETUAL")
    # The bar of the start comes too, as it does or does not, and the last is still forming.
    found = answer(
        "get_tradingview_chart_data", params, chart(NOON - MINUTE, 11), asked_ms=NOON + 9 * MINUTE + 30_000
    )
    bars = found.tables["candles"].to_pylist()
    assert [bar["ts"].timestamp() * 1000 for bar in bars] == [NOON + n * MINUTE for n in range(9)]
    assert {bar["resolution"] for bar in bars} == {"1m"}
    assert span_ms(found) == (NOON, NOON + 9 * MINUTE)
    assert on_record(found)["rows"] == 9


def test_an_answer_that_was_cut_off_spans_only_what_it_holds() -> None:
    start = NOON - 10_000 * MINUTE
    params = f"instrument_name=BTC-PERPETUAL&start_timestamp={start}&end_timestamp={NOON}&resolution=1"
    found = answer("get_tradingview_chart_data", params, chart(NOON - 5_000 * MINUTE, 5_001))
    assert span_ms(found) == (NOON - 5_000 * MINUTE, NOON + MINUTE)
    assert on_record(found)["rows"] == 5_001


def test_an_answer_without_bars_is_on_record() -> None:
    params = asked("BTC-1JAN26")
    found = answer("get_tradingview_chart_data", params, chart(NOON, 0, status="no_data"))
    assert len(found.tables["candles"]) == 0
    assert span_ms(found) == (NOON, NOON + 10 * MINUTE)
    assert on_record(found)["rows"] == 0


def test_what_may_only_not_be_published_yet_is_not_lacking() -> None:
    params = asked("BTC-PERPETUAL")
    found = answer("get_tradingview_chart_data", params, chart(NOON, 5), asked_ms=NOON + 10 * MINUTE + 1_000)
    assert span_ms(found) == (NOON, NOON + 5 * MINUTE)


@pytest.mark.parametrize(
    "broken",
    [
        chart(NOON, 3, low=[1.0]),
        chart(NOON, 2, ticks=[NOON, NOON]),
        chart(NOON, 1, ticks=["x"]),
        {"ticks": []},
        None,
    ],
)
def test_bars_that_do_not_fit_together_are_refused(broken: Any) -> None:
    params = (
        f"instrument_name=BTC-PERPETUAL&start_timestamp={NOON}&end_timestamp={NOON + MINUTE}&resolution=1"
    )
    with pytest.raises(SchemaDriftError):
        answer("get_tradingview_chart_data", params, broken)


def trade(seq: int, ms: int = NOON, **more: Any) -> dict[str, Any]:
    return {
        "trade_seq": seq, "trade_id": str(1000 + seq), "timestamp": ms, "instrument_name": "BTC-PERPETUAL",
        "price": 1.0, "amount": 10.0, "direction": "buy", **more,
    }  # fmt: skip


def test_neighbours_of_a_range_of_trades_are_left_to_their_own_answer() -> None:
    params = "instrument_name=BTC-PERPETUAL&start_seq=11&end_seq=20&count=100"
    page = {"trades": [trade(n) for n in (25, 9, 11, 20, 13, 12)], "has_more": True}
    found = answer("get_last_trades_by_instrument", params, page)
    assert sorted(row["trade_seq"] for row in found.tables["trades"].to_pylist()) == [11, 12, 13, 20]
    row = on_record(found)
    assert (row["start_seq"], row["end_seq"], row["rows"]) == (11, 20, 4)


def test_a_full_page_spans_up_to_its_newest_trade_and_another_the_whole_question() -> None:
    params = "instrument_name=BTC-PERPETUAL&start_seq=11&count=3&sorting=asc"
    full = answer("get_last_trades_by_instrument", params, {"trades": [trade(n) for n in (13, 11, 12)]})
    assert (on_record(full)["start_seq"], on_record(full)["end_seq"]) == (11, 13)
    last = answer("get_last_trades_by_instrument", params, {"trades": [trade(11)], "has_more": True})
    assert (on_record(last)["start_seq"], on_record(last)["end_seq"]) == (11, None)


def test_a_question_for_a_number_gives_no_row() -> None:
    params = "instrument_name=BTC-PERPETUAL&count=1"
    found = decode_answer(
        f"{HOST}get_last_trades_by_instrument?{params}", 200,
        json.dumps({"result": {"trades": [trade(5)], "has_more": True}}).encode(), 2_000_000_000_000_000_000,
    )  # fmt: skip
    assert found is not None
    assert found.tables == {}


def test_a_refusal_is_on_record_with_the_venues_words() -> None:
    body = {
        "error": {"code": -32602, "message": "Invalid params", "data": {"reason": "instrument not found"}}
    }
    found = decode_answer(
        f"{HOST}get_tradingview_chart_data?instrument_name=BTC-1JAN26&start_timestamp=1&end_timestamp=2&resolution=1",
        400, json.dumps(body).encode(), 2_000_000_000_000_000_000,
    )  # fmt: skip
    assert found is not None
    assert list(found.tables) == ["backfills"]
    assert on_record(found)["refusal"] == "Invalid params -32602 (instrument not found)"


def test_pages_of_settlements_form_a_chain() -> None:
    rows = [
        {"type": "settlement", "timestamp": NOON - n * 1000, "instrument_name": "BTC-PERPETUAL", "position": 10.0,
         "session_profit_loss": -0.25, "mark_price": 100.5, "index_price": 100.0, "funding": 0.001}
        for n in range(3)
    ]  # fmt: skip
    params = f"currency=BTC&type=settlement&count=1000&search_start_timestamp={NOON}"
    middle = answer("get_last_settlements_by_currency", params, {"settlements": rows, "continuation": "abc"})
    assert on_record(middle)["cursor"] == "abc"
    # The oldest millisecond may go on in the next page.
    assert on_record(middle)["start_ts"] == dt.datetime.fromtimestamp(
        (NOON - 2000) / 1000, dt.UTC
    ) + dt.timedelta(microseconds=1)
    last = answer("get_last_settlements_by_currency", params, {"settlements": rows, "continuation": None})
    assert on_record(last)["start_ts"].year == 1970
    row = last.tables["settlements"].to_pylist()[0]
    assert (row["type"], row["position"], row["session_profit_loss"], row["funding"]) == (
        "settlement", 10.0, -0.25, 0.001,
    )  # fmt: skip


def test_the_bankruptcies_of_a_session_are_read_in_both_spellings() -> None:
    row = {"type": "bankruptcy", "timestamp": NOON, "instrument_name": "BTC-PERPETUAL", "socialized": 0.0}
    rows = [{**row, "session_bankruptcy": 0.5}, {**row, "session_bankrupcy": 0.25}, row]
    params = f"currency=BTC&type=bankruptcy&count=1000&search_start_timestamp={NOON}"
    found = answer("get_last_settlements_by_currency", params, {"settlements": rows, "continuation": None})
    assert found.tables["settlements"]["session_bankruptcy"].to_pylist() == [0.5, 0.25, None]
    assert "session_bankrupcy" not in found.tables["settlements"].column_names
    # As documented, it names no instrument.
    del row["instrument_name"]
    found = answer("get_last_settlements_by_currency", params, {"settlements": [row], "continuation": None})
    [told] = found.tables["settlements"].select(["instrument", "family", "socialized"]).to_pylist()
    assert told == {"instrument": "BTC", "family": "index", "socialized": 0.0}


def test_delivery_prices_are_settlements_of_an_index() -> None:
    page = {"data": [{"date": "2025-12-22", "delivery_price": 88_000.5}], "records_total": 900}
    found = answer("get_delivery_prices", "index_name=btc_usd&offset=0&count=1", page)
    row = found.tables["settlements"].to_pylist()[0]
    assert (row["instrument"], row["type"], row["index_price"]) == ("btc_usd", "delivery_price", 88_000.5)
    assert row["ts"] == dt.datetime(2025, 12, 22, 8, tzinfo=dt.UTC)


class TwoHosts:
    """A history host that lacks some numbers and the newest, and a venue that has only the newest."""

    def __init__(self, newest: int, lacking: set[int], lag: int) -> None:
        self.has = {
            "history": set(range(1, newest + 1 - lag)) - lacking,
            "venue": set(range(newest + 1 - 3 * lag, newest + 1)) - lacking,
        }
        self.asked: list[tuple[str, int, int | None]] = []
        self.given: list[int] = []

    async def __call__(self, host: Any, method: str, params: Any) -> Any:
        first, last, count = params["start_seq"], params.get("end_seq"), params["count"]
        self.asked.append((host, first, last))
        found = sorted(n for n in self.has[host] if n >= first and (last is None or n <= last))[:count]
        self.given += found
        leaked = [n for n in (first - 1, first - 2) if n in self.has[host]][: max(0, count - len(found))]
        rows = [trade(n) for n in (*reversed(found), *leaked)]
        return SimpleNamespace(
            refusal=None, result=json.dumps({"trades": rows, "has_more": len(found) % 2 == 0})
        )


SMALL = BackfillSettings(trades_per_page=20, recent_per_page=10)


def test_what_history_does_not_have_yet_comes_from_the_venue() -> None:
    hosts = TwoHosts(newest=60, lacking=set(), lag=12)
    asyncio.run(trades._ask_page("BTC-PERPETUAL", 43, 61, SMALL, hosts))
    assert sorted(hosts.given) == list(range(43, 61))  # each once, although neighbours came along
    assert [host for host, _, _ in hosts.asked] == ["history", "venue", "venue"]


def test_a_hole_is_asked_for_once_more_and_then_left() -> None:
    hosts = TwoHosts(newest=100, lacking={15, 16}, lag=5)
    asyncio.run(trades._ask_page("BTC-PERPETUAL", 11, 29, SMALL, hosts))
    assert hosts.asked == [("history", 11, 28), ("history", 15, 16)]


def test_a_walk_ends_where_a_page_is_not_full() -> None:
    hosts = TwoHosts(newest=50, lacking={33}, lag=0)
    asyncio.run(trades._walk("BTC-1JAN26", 1, SMALL, hosts))
    assert sorted(hosts.given) == [n for n in range(1, 51) if n != 33]
    assert hosts.asked == [
        ("history", 1, None), ("history", 21, None), ("history", 42, None), ("history", 33, 33),
    ]  # fmt: skip


def test_a_number_counts_as_the_venues_hole_once_two_answers_of_history_span_it() -> None:
    def row(host: str, first: int, last: int | None) -> Recorded:
        return Recorded("X", None, None, None, first, last, 0, None, None, host, 0)

    history = "history.deribit.com/api/v2"
    rows = [
        row(history, 1, 100),
        row("www.deribit.com/api/v2", 40, 60),
        row(history, 50, 52),
        row(history, 95, None),
    ]
    assert trades.spanned_twice(rows, f"https://{history}/") == [(50, 53), (95, 101)]
