"""A channel that is still while others speak: the venue is asked whether it had anything to say."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
from msgspec import Raw

from collectors.deribit.standing import Quote, Standing, quote_of, standing_of
from lake.events import Gap, GapOpened, decode_response
from lake.spool import RecordKind
from tests.collectors.kit import run
from tests.collectors.test_healing import BOOK, NAME, TRADES, Scene, book, frame, recording, trades

TICKER = f"ticker.{NAME}.100ms"
CHANNELS = (BOOK, TICKER, TRADES)
S = 1_000_000_000
HABIT = 40


class Clock:
    """The machine's clock, which a test can set forward."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns

    def on(self, seconds: float) -> None:
        self.ahead_ns += int(seconds * S)


def standing(change_id: int, bid: float | None, number: int = 1) -> dict[str, Any]:
    return {
        "timestamp": 1_789_344_931_096 + number, "instrument_name": NAME, "change_id": change_id,
        "best_bid_price": bid, "best_bid_amount": 10.0, "best_ask_price": 70_000.5, "best_ask_amount": 0.0,
    }  # fmt: skip


def ticker(number: int, bid: float = 70_000.0) -> bytes:
    return frame(TICKER, standing(0, bid, number))


def answer(change_id: int, bid: float | None = 70_000.0, deep: float = 1.0) -> tuple[int, bytes]:
    """Of the book; `deep` is the amount of a level below the best, which a ticker does not show."""
    levels = {"bids": [[70_000.0, 10.0], [69_000.0, deep]], "asks": []}
    return 200, json.dumps({"jsonrpc": "2.0", "result": {**standing(change_id, bid), **levels}}).encode()


async def heard(scene: Scene, *frames: bytes) -> None:
    """Push frames, and return when they are recorded and looked into."""
    await scene.peer.push(*frames)
    last = frames[-1]
    await scene.sink.until(lambda: scene.sink.data[-1:] == [last])
    scene.healer.watch.catch_up()


async def lively(scene: Scene, clock: Clock) -> None:
    """Ten frames a second of the book, whose change is HABIT after that, and of the ticker."""
    await heard(scene, book(0), ticker(0))
    for number in range(1, HABIT + 1):
        clock.on(0.1)
        await heard(scene, book(number, number - 1), ticker(number))


async def others_speak(scene: Scene, clock: Clock, seconds: int) -> None:
    """The trades go on for so long by the clock, and at every second the channels are looked at."""
    for _ in range(seconds):
        clock.on(1.0)
        newest = scene.healer.watch.trades.newest().get(NAME, 0)
        await heard(scene, trades(newest + 1))
        await judged(scene)


async def judged(scene: Scene) -> None:
    """Return after the next look at the channels."""
    silences = scene.healer.silences
    looked, judge = asyncio.Event(), silences.judge

    def once() -> list[str]:
        looked.set()
        return judge()

    with patch.object(silences, "judge", once):
        await looked.wait()


@asynccontextmanager
async def still(seconds: int, *answers: tuple[int, bytes]) -> AsyncIterator[tuple[Scene, Clock]]:
    """A book and a ticker that were lively have said nothing for so long, while the trades went on; the venue has these
    answers."""
    clock = Clock()
    async with recording(channels=CHANNELS, clock_ns=clock) as scene:
        await lively(scene, clock)
        scene.venue.rest = list(answers)
        await others_speak(scene, clock, seconds)
        yield scene, clock


def opened(scene: Scene) -> list[GapOpened]:
    return [gap for gap in scene.sink.events(GapOpened) if gap.cause == "silence"]


def test_a_book_that_has_gone_on_at_the_venue_is_silent_and_is_subscribed_anew() -> None:
    async def scenario() -> None:
        async with still(11, answer(HABIT + 5), answer(HABIT + 6, deep=2.0)) as (scene, clock):
            await scene.sink.until(lambda: scene.healer.silences.excused == 1)
            [asked] = scene.venue.rest_asked
            assert "get_order_book?instrument_name=BTC-PERPETUAL&depth=" in asked
            await others_speak(scene, clock, 6)
            await scene.sink.until(lambda: len(scene.venue.rest_asked) == 2)
            await judged(scene)
            assert opened(scene) == [], "it may be on its way"
            await others_speak(scene, clock, 6)
            await scene.sink.until(lambda: bool(opened(scene)))
            assert [gap.channel for gap in opened(scene)] == [BOOK], "the ticker says what the venue says"
            call = await scene.peer.called("public/unsubscribe")
            assert call["params"]["channels"] == [BOOK]
            await heard(scene, book(HABIT + 9))
            [gap] = scene.gaps("silence")
            assert (gap.channel, gap.instrument, gap.connection, gap.healed) == (BOOK, NAME, 3, False)
            assert gap.start_ns == scene.sink.time_of(book(HABIT, HABIT - 1))
            assert gap.end_ns == scene.sink.time_of(book(HABIT + 9))
        recorded = [decode_response(r[0]) for r in scene.sink.records if r[2] == RecordKind.RESPONSE]
        assert bytes(recorded[0].body) == answer(HABIT + 5)[1]

    run(scenario())


def test_changes_of_a_book_that_undid_each_other_are_no_silence_but_leave_a_doubt() -> None:
    async def scenario() -> None:
        async with still(11, answer(HABIT + 5), answer(HABIT + 7)) as (scene, clock):
            await scene.sink.until(lambda: scene.healer.silences.excused == 1)
            await others_speak(scene, clock, 6)
            await scene.sink.until(lambda: scene.healer.silences.excused == 2)
            await others_speak(scene, clock, 12)
            assert opened(scene) == []
            scene.venue.rest = [answer(HABIT + number, deep=float(number)) for number in range(10, 20)]
            await others_speak(scene, clock, 80)
            [gap] = opened(scene)
            assert gap.channel == BOOK
            assert gap.start_ns == scene.sink.time_of(book(HABIT, HABIT - 1)), (
                "it may have been silent all the time"
            )

    run(scenario())


def test_a_book_and_a_ticker_that_have_nothing_to_say_are_not_silent_however_long() -> None:
    async def scenario() -> None:
        async with still(10, answer(HABIT)) as (scene, clock):
            await scene.sink.until(lambda: scene.healer.silences.excused == 2)
            await others_speak(scene, clock, 9)
            assert len(scene.venue.rest_asked) == 1, "one answer for both, and patience for as long again"
            await others_speak(scene, clock, 3)
            await scene.sink.until(lambda: scene.healer.silences.excused == 4)
            scene.venue.rest = [answer(HABIT, 69_999.5)]
            await others_speak(scene, clock, 15)
            await scene.sink.until(lambda: scene.healer.silences.excused == 5)
            await others_speak(scene, clock, 6)
            await scene.sink.until(lambda: bool(opened(scene)))
            [gap] = opened(scene)
            assert gap.channel == TICKER, "whose quote has moved"
            assert gap.start_ns > scene.sink.time_of(ticker(HABIT)) + 20 * S, (
                "it agreed until it was asked last"
            )
        assert [(gap.channel, gap.start_ns) for gap in scene.gaps("silence")] == [(TICKER, gap.start_ns)]

    run(scenario())


@pytest.mark.parametrize("speaks", [book(HABIT + 5, HABIT), book(HABIT + 5)])
def test_what_was_on_its_way_is_no_silence(speaks: bytes) -> None:
    async def scenario() -> None:
        async with still(11, answer(HABIT + 5)) as (scene, clock):
            await scene.sink.until(lambda: scene.healer.silences.excused == 1)
            await heard(scene, speaks)
            await others_speak(scene, clock, 8)
            asked = scene.healer.silences.asked
        assert (asked, opened(scene), scene.sink.events(Gap)) == (1, [], [])

    run(scenario())


def test_where_the_venue_does_not_answer_it_is_asked_again() -> None:
    async def scenario() -> None:
        async with still(11, (503, b"no"), (200, b'{"result":[]}'), answer(HABIT)) as (scene, clock):
            await scene.sink.until(lambda: scene.healer.silences.asked == 1)
            await others_speak(scene, clock, 29)
            assert scene.healer.silences.asked == 1, "not again and again"
            await others_speak(scene, clock, 3)
            await scene.sink.until(lambda: scene.healer.silences.excused == 2)
        assert opened(scene) == []

    run(scenario())


def test_an_empty_side_is_the_same_as_null_and_as_nothing() -> None:
    expected = Quote(0.0, 10.0, 70_000.5, 0.0)
    for bid in (None, 0.0):
        assert quote_of(frame(TICKER, standing(0, bid))) == expected
        told = Raw(json.dumps({**standing(7, bid), "bids": [], "asks": []}).encode())
        assert standing_of(told) == Standing(7, b"[][]", expected)
