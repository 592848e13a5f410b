"""A venue that sends what cannot be: no tracker follows it, and what is missing afterwards is still noticed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from collectors.continuity import (
    ASTRAY_MAX,
    LEAP_MAX,
    S_IN_NS,
    BookChains,
    ChainNews,
    ClockSkew,
    Hole,
    Leap,
    TradeSequences,
)
from collectors.deribit.funding_answers import decode_funding, newest_hour_ms
from collectors.deribit.selection import decode_listings, decode_open_interest
from collectors.deribit.trade_answers import decode_trades, trade_numbers
from collectors.recorder import Recorder
from lake.errors import SchemaDriftError, VenueRefusedError
from lake.events import Gap
from tests.collectors.kit import MemorySink, run, settings
from tests.collectors.test_healing import NAME, TRADES, answer, frame, recording, trade, trades
from tests.collectors.venue import serving

ABSURD = (2**63 - 2, 2**64, 2**53, 2**53 - 1, 10**15, 2**40)
NOW_NS = 1_789_344_931_096_000_000


@pytest.mark.parametrize("absurd", ABSURD)
def test_a_number_far_from_all_others_moves_nothing_and_is_told_once(absurd: int) -> None:
    tracker = TradeSequences()
    assert tracker.note("X", 100, 1) is None
    assert tracker.note("X", absurd, 2) == Leap("X", 1, 2)
    assert tracker.note("X", 101, 3) is None
    assert tracker.note("X", absurd + 1, 4) is None
    assert tracker.newest() == {"X": 101}
    assert tracker.note("X", 104, 5) == Hole("X", 102, 103, 3, 5)


def test_a_venue_that_counts_anew_is_followed() -> None:
    tracker = TradeSequences()
    tracker.note("X", 5_000_000, 1)
    assert isinstance(tracker.note("X", 1, 2), Leap)
    assert [tracker.note("X", 1 + n, 2 + n) for n in range(1, ASTRAY_MAX)] == [None] * (ASTRAY_MAX - 1)
    assert tracker.newest() == {"X": ASTRAY_MAX}
    assert tracker.note("X", ASTRAY_MAX + 2, 9) == Hole("X", ASTRAY_MAX + 1, ASTRAY_MAX + 1, 4, 9)
    assert isinstance(tracker.note("X", 3 * LEAP_MAX, 10), Leap), (
        "after it has settled, the next is told again"
    )


def test_an_absurd_first_number_is_left_again() -> None:
    tracker = TradeSequences()
    tracker.note("X", 2**53 - 1, 1)
    for n in range(ASTRAY_MAX):
        tracker.note("X", 10 + n, 2 + n)
    assert tracker.note("X", 20, 9) == Hole("X", 10 + ASTRAY_MAX, 19, 1 + ASTRAY_MAX, 9)


def test_a_book_does_not_follow_an_absurd_change() -> None:
    chains = BookChains()
    chains.snapshot("b", 1000, 1)
    assert chains.change("b", 2**62, 1000, 2) is ChainNews.BROKE
    assert chains.snapshot("b", 1010, 3) is not None
    chains.snapshot("b", 2**62, 4)
    assert chains.change("b", 1011, 1010, 5) is ChainNews.BROKE, "the snapshot was the absurd one"


def test_a_clock_that_is_wrong_once_is_no_skew_and_one_that_was_set_is() -> None:
    skew = ClockSkew()
    second, year = S_IN_NS, 365 * 86_400 * S_IN_NS
    assert skew.note(0, second // 100) is None
    assert skew.note(year, second // 100) is None
    assert skew.note(2 * second, 2 * second + second // 100) is None
    assert [skew.note(year + n, n) is None for n in range(ASTRAY_MAX)] == [True] * (ASTRAY_MAX - 1) + [False]


def test_absurd_trades_are_one_gap_and_a_real_hole_is_still_healed() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            scene.venue.rest = [answer(6)]
            strange, more, most = (
                frame(TRADES, [{**trade(6), "trade_seq": seq}]) for seq in (2**50, 2**50 + 7, 2**63 - 2)
            )
            await scene.peer.push(trades(4), trades(5), strange, more, most, trades(7))
            await scene.sink.until(lambda: bool(scene.gaps("missing_trades")))
        [gap] = scene.gaps("missing_trades")
        assert (gap.healed, gap.first_seq, gap.last_seq) == (True, 6, 6)
        [leap] = scene.gaps("implausible_sequence")
        assert (leap.instrument, leap.channel, leap.records_lost, leap.healed) == (NAME, TRADES, 0, False)
        assert (leap.start_ns, leap.end_ns) == (scene.sink.time_of(trades(5)), scene.sink.time_of(strange))
        assert all("start_seq=6&end_seq=6" in asked for asked in scene.venue.rest_asked)

    run(scenario())


GOOD = {"instrument_name": NAME, "kind": "future", "settlement_period": "perpetual", "is_active": True}
BAD: list[Any] = [
    None, 7, "x", [], {}, {"instrument_name": None, "kind": "future"}, {"instrument_name": 7, "kind": "future"},
    {**GOOD, "kind": None}, {**GOOD, "expiration_timestamp": 1e300}, {**GOOD, "instrument_name": ""},
    {**GOOD, "instrument_name": "X" * 200}, {**GOOD, "instrument_name": "a b"}, {**GOOD, "is_active": {"a": [[]]}},
]  # fmt: skip


def raw(content: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(content).encode())


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_one_bad_entry_of_a_listing_is_left_out(bad: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert [row.instrument_name for row in decode_listings(raw([bad, GOOD, bad]))] == [NAME]
    assert "get_instruments: 2 instruments refused, first: " in caplog.text
    with pytest.raises(SchemaDriftError, match="has changed its shape"):
        decode_listings(raw([bad]))


def test_recording_begins_beside_a_bad_entry() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.rest = [(200, json.dumps({"result": [{**GOOD, "instrument_name": None}, GOOD]}).encode())]
            sink = MemorySink()
            recorder = Recorder(settings(venue.ws_url, venue.rest_url), sink)
            summary = await recorder.run(0.2)
            assert summary.instruments == 1
            assert not [gap for gap in sink.events(Gap) if gap.cause == "implausible_sequence"]

    run(scenario())


def test_bad_entries_of_other_answers_are_left_out() -> None:
    summary = {"instrument_name": NAME, "open_interest": 5.0}
    assert list(decode_open_interest(raw([summary, {"instrument_name": None}, 3]))) == [NAME]
    listed = raw(
        {"trades": [trade(4), {**trade(5), "trade_seq": None}, {**trade(6), "trade_seq": 2**63}, trade(7)]}
    )
    assert [number.trade_seq for number in trade_numbers(listed)] == [4, 7]
    with pytest.raises(VenueRefusedError):
        trade_numbers(raw({"trades": [None]}))
    hour = {"timestamp": NOW_NS // 10**6, "interest_1h": 1e-6}
    later = {**hour, "timestamp": 4_000_000_000_000}
    assert (
        newest_hour_ms(raw([None, hour, later, {**hour, "timestamp": 10**15}]), NOW_NS // 10**6)
        == hour["timestamp"]
    )
    decoded = decode_funding(NAME, json.dumps({"result": [hour, None]}).encode(), NOW_NS)
    assert (len(decoded.tables["funding"]), len(decoded.rejects)) == (1, 1)


def test_bad_trades_of_an_answer_leave_the_others() -> None:
    good = {
        "timestamp": NOW_NS // 10**6, "price": 1.0, "amount": 10.0, "direction": "buy", "instrument_name": NAME,
        "trade_seq": 4, "trade_id": "4",
    }  # fmt: skip
    bad = [
        None, {**good, "trade_seq": 2**53 + 1}, {**good, "timestamp": 9_214_646_400_000}, {**good, "price": None},
        {**good, "instrument_name": "no such form"}, {**good, "trade_id": "x" * 5000}, {**good, "direction": "up"},
    ]  # fmt: skip
    body = json.dumps({"result": {"trades": [*bad, good, {**good, "trade_seq": 5}]}}).encode()
    decoded = decode_trades(body, NOW_NS)
    assert decoded.tables["trades"]["trade_seq"].to_pylist() == [4, 5]
    assert set(decoded.tables["trades"]["record"].to_pylist()) == {0}
    assert [reject.record for reject in decoded.rejects] == [0] * len(bad)


@pytest.mark.parametrize(
    "data", [None, 7, {}, {"instrument_name": None}, {"instrument_name": NAME, "state": None}]
)
@pytest.mark.parametrize(
    "channel", ["instrument.creation.any.any", "instrument.state.any.any", "platform_state"]
)
def test_announcements_of_nothing_disturb_nobody(channel: str, data: Any) -> None:
    async def scenario() -> None:
        async with recording() as scene:
            scene.venue.rest = [answer(6)]
            await scene.peer.push(frame(channel, data), trades(5), trades(7))
            await scene.sink.until(lambda: bool(scene.gaps("missing_trades")))

    run(scenario())
