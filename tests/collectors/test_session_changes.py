"""Adding and dropping channels over a living connection: what is asked, and what a reconnect asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from collectors.deribit.session import CHANGE_ATTEMPTS, Session
from collectors.pace import TokenBucket
from collectors.sink import Tape
from lake.events import Gap, GapOpened, Subscribed
from tests.collectors.kit import MemorySink, run, settings
from tests.collectors.venue import Call, Peer, Venue, answer_all, serving

A, B, C = "ticker.A.100ms", "ticker.B.100ms", "ticker.C.100ms"


@asynccontextmanager
async def recording(venue: Venue, **changes: Any) -> AsyncIterator[tuple[Session, MemorySink]]:
    sink = MemorySink()
    chosen = settings(venue.ws_url, **changes)
    session = Session(7, [A, B], chosen, Tape(sink), pace=TokenBucket(1000.0, 1000))
    running = asyncio.create_task(session.run())
    try:
        await session.established.wait()
        yield session, sink
    finally:
        session.stop()
        await running


async def calls(peer: Peer) -> list[tuple[str, list[str]]]:
    return [
        (call["method"].removeprefix("public/"), call["params"]["channels"])
        for call in peer.calls
        if "subscribe" in call["method"]
    ]


def test_channels_are_added_and_dropped_in_place_and_a_reconnect_asks_for_what_is_wanted_now() -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue) as (session, sink):
            peer = await venue.peer()
            await session.add([B, C, C])
            await session.drop([A, "ticker.never.100ms"])
            assert (await calls(peer))[1:] == [("subscribe", [C]), ("unsubscribe", [A])]
            assert session.channels == [B, C]
            assert [(e.asked, e.acknowledged) for e in sink.events(Subscribed)] == [(2, 2), (3, 3), (2, 2)]
            peer.reset()
            again = await venue.peer()
            await again.called("public/subscribe")
            assert (await calls(again)) == [("subscribe", [B, C])]

    run(scenario())


def test_a_resubscription_leaves_first_and_takes_only_what_is_wanted() -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue) as (session, _):
            peer = await venue.peer()
            await session.resubscribe([A])
            assert (await calls(peer))[1:] == [("unsubscribe", [A]), ("subscribe", [A])]

    run(scenario())


def test_changes_without_a_connection_wait_for_the_next_one() -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue) as (session, sink):
            peer = await venue.peer()
            venue.upgrade_statuses = [503]
            peer.reset()
            while session.established.is_set():
                await asyncio.sleep(0)
            await session.add([C])
            await session.drop([A])
            again = await venue.peer()
            await sink.until(lambda: len(sink.events(Subscribed)) == 2)
            assert (await calls(again)) == [("subscribe", [B, C])]

    run(scenario())


def test_changes_during_the_first_list_are_asked_for_after_it() -> None:
    async def scenario() -> None:
        async def answer(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe" and not peer.channels:
                await go.wait()
            await answer_all(peer, call)

        go = asyncio.Event()
        async with serving() as venue, recording(venue) as (session, sink):
            first = await venue.peer()
            venue.answer = answer
            first.reset()
            peer = await venue.peer()
            await peer.called("public/subscribe")
            changes = [asyncio.create_task(session.add([C])), asyncio.create_task(session.drop([A, C]))]
            await asyncio.sleep(0)
            go.set()
            await asyncio.gather(*changes)
            assert set(peer.channels) == {B} == set(session.channels)
            assert sink.events(Subscribed)[-1].asked == 1

    run(scenario())


def test_what_the_venue_does_not_acknowledge_is_missing_until_dropped() -> None:
    async def scenario() -> None:
        async def unknown(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe":
                await peer.reply(call, [c for c in call["params"]["channels"] if c != C])
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = unknown
            async with recording(venue) as (session, sink):
                await session.add([C])
                assert (session.missing, session.acknowledged) == ([C], 2)
                assert sink.events(Subscribed)[-1].missing == [C]
                [opened] = sink.events(GapOpened)
                assert (opened.cause, opened.channel, opened.connection) == (
                    "not_subscribed",
                    C,
                    session.number,
                )
                assert sink.events(Gap) == []
                await session.drop([C])
                [gap] = sink.events(Gap)
                assert (gap.start_ns, gap.channel, gap.healed) == (opened.start_ns, C, False)
                assert (session.missing, session.acknowledged) == ([], 2)

    run(scenario())


@pytest.mark.parametrize(("refusals", "connects"), [(CHANGE_ATTEMPTS - 1, 1), (CHANGE_ATTEMPTS, 2)])
def test_a_settlement_is_waited_out_on_the_connection_but_not_for_ever(refusals: int, connects: int) -> None:
    async def scenario() -> None:
        left = [refusals]

        async def locked(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe" and left[0]:
                left[0] -= 1
                await peer.fail(call, 10041, "settlement_in_progress")
            else:
                await answer_all(peer, call)

        async with serving() as venue, recording(venue) as (session, sink):
            venue.answer = locked
            await session.add([C])
            await sink.until(lambda: sink.events(Subscribed)[-1].asked == 3)
            assert session.connects == connects
            assert set(venue.peers[-1].channels) == {A, B, C}

    run(scenario())


def test_a_refused_addition_harms_nothing_else() -> None:
    async def scenario() -> None:
        async def refuse(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe" and C in call["params"]["channels"]:
                await peer.fail(call, -32602, "Invalid params")
            else:
                await answer_all(peer, call)

        async with serving() as venue, recording(venue) as (session, _):
            venue.answer = refuse
            await session.add([C])
            assert (session.connects, session.missing) == (1, [C])

    run(scenario())
