"""The rotation in which the venue is asked for books, and its answers on their way into the tables."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from collectors.book_sampling import BookSampler
from collectors.deribit.rest import RestClient
from collectors.simulator import SimulatorSettings
from collectors.simulator.process import start
from collectors.sink import Tape
from lake.errors import SettingsError
from lake.events import decode_response
from lake.spool import RecordKind
from tests.collectors.kit import MemorySink, run, settings


def sampler(names: set[str], tape: Tape, every_s: float = 0.001) -> BookSampler:
    return BookSampler(lambda: names, tape, every_s=every_s, depth=20)


def test_each_has_its_turn_once_a_round_and_only_what_is_recorded() -> None:
    names = {f"I{number}" for number in range(20)}
    asking = sampler(names, Tape(MemorySink()))
    rounds = [[asking.next() for _ in range(20)] for _ in range(3)]
    assert all(sorted(map(str, one)) == sorted(names) for one in rounds)
    assert rounds[0] != rounds[1]
    asking.next()
    names.clear()
    names.add("new")
    assert [asking.next() for _ in range(3)] == ["new"] * 3
    names.clear()
    assert asking.next() is None


def test_answers_are_recorded_as_they_came_and_a_refusal_ends_nothing() -> None:
    sink = MemorySink()
    with start(SimulatorSettings(instruments=10, hold=True)) as venue:
        listed = [i["instrument_name"] for i in asyncio.run(listing(venue.rest_url))]
        names = {*listed, "NO-SUCH-INSTRUMENT"}

        async def scenario() -> None:
            asking = sampler(names, Tape(sink))
            async with RestClient(settings(rest_url=venue.rest_url)) as rest:
                task = asyncio.create_task(asking.run(rest))
                await sink.until(lambda: len(sink.records) >= 2 * len(listed))
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            assert asking.asked > asking.answered >= 2 * len(listed)

        run(scenario())
    answers = [decode_response(r[0]) for r in sink.records if r[2] == RecordKind.RESPONSE]
    asked = Counter(answer.url.partition("instrument_name=")[2].partition("&")[0] for answer in answers)
    assert set(asked) == set(listed)
    assert all("depth=20" in answer.url and b'"change_id"' in bytes(answer.body) for answer in answers)


async def listing(rest_url: str) -> list[dict[str, str]]:
    import msgspec

    async with RestClient(settings(rest_url=rest_url)) as rest:
        reply = await rest.get("get_instruments", {"currency": "any", "expired": "false"})
    found: list[dict[str, str]] = msgspec.json.decode(reply.result)
    return found


def test_wrong_settings_are_told() -> None:
    with pytest.raises(SettingsError, match="book_check_levels 30: use one of 1, 5"):
        settings(book_check_levels=30)
    with pytest.raises(SettingsError, match="book_check_seconds -1"):
        settings(book_check_seconds=-1)
