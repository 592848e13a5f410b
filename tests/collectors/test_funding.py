"""The funding of every hour is asked for once, and again until it is there."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from collectors.deribit.rest import RestClient
from collectors.funding import FundingHours
from collectors.sink import Tape
from lake.events import decode_response
from tests.collectors.kit import MemorySink, run, settings
from tests.collectors.venue import Venue, serving

HOUR_MS = 3_600_000
NOON_MS = 1_789_732_800_000
assert NOON_MS % HOUR_MS == 0


class Clock:
    """A clock that tests set, in ms since the epoch."""

    def __init__(self) -> None:
        self.ms = NOON_MS + 10 * 60_000

    def __call__(self) -> int:
        return self.ms * 1_000_000


class Asking:
    """What a test has in hand: the asker, the venue, the clock, and where the answers go."""

    def __init__(self, venue: Venue, rest: RestClient, names: list[str]) -> None:
        self.clock = Clock()
        self.sink = MemorySink()
        self.names = names
        self.venue = venue
        self._rest = rest
        self._hours = FundingHours(lambda: self.names, Tape(self.sink, self.clock), self.clock)

    async def at(self, ms: int, *answer: int, status: int = 200) -> list[tuple[str, int, int]]:
        """Look what is due at `ms` while the venue knows the hours that end at `answer`; what was asked."""
        self.clock.ms = ms
        self.venue.rest = [(status, body(*answer) if status == 200 else refusal())]
        before = len(self.venue.rest_asked)
        await self._hours.ask_due(self._rest)
        return [question(path) for path in self.venue.rest_asked[before:]]


def question(path: str) -> tuple[str, int, int]:
    parts = urlsplit(path)
    assert parts.path.endswith("/get_funding_rate_history")
    found = {name: values[0] for name, values in parse_qs(parts.query).items()}
    return found["instrument_name"], int(found["start_timestamp"]), int(found["end_timestamp"])


def body(*ends_ms: int) -> bytes:
    rows = [
        {"timestamp": ms, "index_price": 1.0, "prev_index_price": 1.0, "interest_8h": 0.0, "interest_1h": 0.0}
        for ms in ends_ms
    ]
    return json.dumps({"jsonrpc": "2.0", "result": rows}).encode()


def refusal() -> bytes:
    return json.dumps({"jsonrpc": "2.0", "error": {"code": -32602, "message": "Invalid params"}}).encode()


@asynccontextmanager
async def asking(*names: str) -> AsyncIterator[Asking]:
    async with serving() as venue, RestClient(settings(venue.ws_url, venue.rest_url)) as rest:
        yield Asking(venue, rest, list(names))


def test_the_first_question_reaches_back_a_day_and_the_next_where_the_last_answer_ended() -> None:
    async def scenario() -> None:
        async with asking("BTC-PERPETUAL") as it:
            now = NOON_MS + 600_000
            assert await it.at(now, NOON_MS - HOUR_MS, NOON_MS) == [
                ("BTC-PERPETUAL", now - 24 * HOUR_MS, now)
            ]
            assert await it.at(NOON_MS + HOUR_MS + 19_999) == []
            due = NOON_MS + HOUR_MS + 20_000
            assert await it.at(due, NOON_MS + HOUR_MS) == [("BTC-PERPETUAL", NOON_MS, due)]
            assert await it.at(due + 60_000) == []
            recorded: list[Any] = [decode_response(record[0]) for record in it.sink.records]
            assert [bytes(answer.body) for answer in recorded] == [
                body(NOON_MS - HOUR_MS, NOON_MS),
                body(NOON_MS + HOUR_MS),
            ]

    run(scenario())


def test_an_hour_that_is_not_published_yet_is_asked_for_again_and_ever_later() -> None:
    async def scenario() -> None:
        async with asking("BTC-PERPETUAL") as it:
            await it.at(NOON_MS + 60_000, NOON_MS)
            due = NOON_MS + HOUR_MS + 20_000
            for wait in (0, 30_000, 60_000):
                due += wait
                assert await it.at(due - 1) == []
                assert await it.at(due) == [("BTC-PERPETUAL", NOON_MS, due)]
            # Nothing was published for the rest of the hour: the next one is asked for with it, as soon as it ends.
            due = NOON_MS + 2 * HOUR_MS + 20_000
            await it.at(due - 60_000)
            assert len(await it.at(due, NOON_MS + HOUR_MS, NOON_MS + 2 * HOUR_MS)) == 1
            assert await it.at(due + 30 * 60_000) == []

    run(scenario())


def test_a_refusal_costs_nobody_else_an_answer_and_is_told_once_a_round(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with asking("BTC-PERPETUAL", "X_USDC-PERPETUAL", "Y_USDC-PERPETUAL") as it:
            with caplog.at_level(logging.WARNING):
                assert len(await it.at(NOON_MS + 60_000, status=400)) == 3
            [told] = caplog.records
            assert "3 perpetuals" in told.message
            assert "BTC-PERPETUAL" in told.message
            assert it.sink.records == []
            assert len(await it.at(NOON_MS + 90_000, NOON_MS)) == 3

    run(scenario())


def test_a_perpetual_that_is_recorded_no_longer_is_not_asked_for() -> None:
    async def scenario() -> None:
        async with asking("BTC-PERPETUAL", "X_USDC-PERPETUAL") as it:
            await it.at(NOON_MS + 60_000, NOON_MS)
            it.names = ["BTC-PERPETUAL"]
            later = await it.at(NOON_MS + HOUR_MS + 60_000, NOON_MS + HOUR_MS)
            assert [name for name, _, _ in later] == ["BTC-PERPETUAL"]

    run(scenario())
