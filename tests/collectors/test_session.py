"""One session against a scripted venue: what it asks, what it records, what it claims."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from collectors.backoff import Backoff, BackoffSettings
from collectors.deribit.session import Session
from collectors.pace import TokenBucket
from collectors.sink import Tape
from lake.errors import VenueRefusedError
from lake.events import Connected, Disconnected, Gap, Subscribed
from tests.collectors.kit import MemorySink, run, settings, tick
from tests.collectors.venue import Call, Peer, Venue, answer_all, serving

CHANNELS = ["ticker.BTC-PERPETUAL.100ms", "book.BTC-PERPETUAL.100ms"]
TEST_REQUEST = b'{"params":{"type":"test_request"},"method":"heartbeat","jsonrpc":"2.0"}'


def make_session(venue: Venue, sink: MemorySink, channels: list[str], **changes: Any) -> Session:
    return Session(7, channels, settings(venue.ws_url, **changes), Tape(sink), pace=TokenBucket(1000.0, 1000))


@asynccontextmanager
async def recording(
    venue: Venue, channels: list[str] = CHANNELS, **changes: Any
) -> AsyncIterator[tuple[Session, MemorySink]]:
    """A session that runs during the block and must stop cleanly after it."""
    sink = MemorySink()
    session = make_session(venue, sink, channels, **changes)
    running = asyncio.create_task(session.run())
    try:
        yield session, sink
    finally:
        session.stop()
        await running


@pytest.mark.parametrize("transport", ["picows", "websockets"])
def test_every_frame_is_recorded_once_in_order_and_a_stop_closes_with_1000(transport: str) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            async with recording(venue, transport=transport) as (session, sink):
                peer = await venue.peer()
                await session.established.wait()
                sent = [tick(number) for number in range(500)]
                await peer.push(*sent)
                await sink.until(lambda: len(sink.data) >= 500)
            assert sink.data == sent
            assert len(sink.frames) == 502  # the two replies are recorded as well
            assert {record[1] for record in sink.records} == {7}
            stamps = [record[3] for record in sink.records]
            assert stamps == sorted(set(stamps))
            await peer.gone.wait()
            assert peer.close_code == 1000
            assert [event.reason for event in sink.events(Disconnected)] == ["stopped"]
            assert sink.events(Gap) == []

    run(scenario())


def test_what_arrives_while_closing_is_still_recorded() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            async with recording(venue) as (session, sink):
                peer = await venue.peer()
                await session.established.wait()
                session.stop()
                await peer.push(*[tick(number) for number in range(50)])
            assert len(sink.data) == 50

    run(scenario())


def test_channels_the_venue_drops_without_a_word_are_reported_missing() -> None:
    async def scenario() -> None:
        async def drop_books(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe":
                await peer.reply(call, [c for c in call["params"]["channels"] if c.startswith("ticker")])
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = drop_books
            async with recording(venue) as (session, sink):
                await session.established.wait()
            [event] = sink.events(Subscribed)
            assert (event.connection, event.asked, event.acknowledged) == (7, 2, 1)
            assert event.missing == ["book.BTC-PERPETUAL.100ms"]

    run(scenario())


def test_long_lists_are_split_and_halved_again_where_the_venue_says_too_large() -> None:
    async def scenario() -> None:
        async def at_most_40(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe" and len(call["params"]["channels"]) > 40:
                await peer.fail(call, -32600, "request entity too large", with_id=False)
            else:
                await answer_all(peer, call)

        channels = [f"ticker.X{number}.100ms" for number in range(230)]
        async with serving() as venue:
            venue.answer = at_most_40
            async with recording(venue, channels, channels_per_call=100) as (session, sink):
                await session.established.wait()
            [peer] = venue.peers
            assert sorted(peer.channels) == sorted(channels)
            asked = [len(c["params"]["channels"]) for c in peer.calls if c["method"] == "public/subscribe"]
            assert max(asked) == 100
            assert sink.events(Subscribed)[0].missing == []

    run(scenario())


@pytest.mark.parametrize(("code", "says"), [(13778, "100ms"), (-32602, "book.BTC-PERPETUAL.raw")])
def test_a_refusal_ends_the_session_with_one_line_naming_channel_and_cure(code: int, says: str) -> None:
    async def scenario() -> None:
        async def refuse(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe":
                await peer.fail(call, code, "no")
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = refuse
            session = make_session(venue, MemorySink(), ["ticker.A.100ms", "book.BTC-PERPETUAL.raw"])
            with pytest.raises(VenueRefusedError, match=says) as caught:
                await session.run()
            assert "book.BTC-PERPETUAL.raw" in str(caught.value)
            assert "\n" not in str(caught.value)

    run(scenario())


@pytest.mark.parametrize("transport", ["picows", "websockets"])
def test_a_test_request_is_answered_at_once(transport: str) -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue, transport=transport) as (session, sink):
            peer = await venue.peer()
            await session.established.wait()
            for times in (1, 2, 3):
                await peer.push(TEST_REQUEST)
                await peer.called("public/test", times)
            assert sink.frames.count(TEST_REQUEST) == 3

    run(scenario())


def test_data_and_control_that_one_read_brings_are_recorded_in_order_and_heard() -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue) as (session, sink):
            peer = await venue.peer()
            await session.established.wait()
            mixed = [tick(1), TEST_REQUEST, tick(2)]
            before = session.frames
            session._on_frames(mixed)
            session._on_frames([tick(3), tick(4)])
            assert session.frames == before + 5
            assert sink.frames[-5:] == [*mixed, tick(3), tick(4)]
            stamps = [record[3] for record in sink.records]
            assert stamps == sorted(set(stamps))
            await peer.called("public/test")

    run(scenario())


def test_a_test_request_before_the_subscription_is_complete_is_answered() -> None:
    async def scenario() -> None:
        async def never_subscribes(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe":
                await peer.push(TEST_REQUEST)
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = never_subscribes
            async with recording(venue):
                await (await venue.peer()).called("public/test")

    run(scenario())


@pytest.mark.parametrize("transport", ["picows", "websockets"])
def test_a_loss_in_mid_stream_loses_nothing_received_and_states_the_exact_gap(transport: str) -> None:
    async def scenario() -> None:
        async with serving() as venue:
            async with recording(venue, transport=transport) as (session, sink):
                first = await venue.peer()
                await session.established.wait()
                await first.push(*[tick(number) for number in range(100)])
                await sink.until(lambda: tick(99) in sink.frames)
                first.reset()
                second = await venue.peer()
                await second.called("public/subscribe")
                await sink.until(lambda: len(sink.events(Subscribed)) == 2)
                assert sink.events(Gap) == []  # open until data flows again
                await second.push(*[tick(number) for number in range(100, 150)])
                await sink.until(lambda: tick(149) in sink.frames)
            assert sink.data == [tick(number) for number in range(150)]
            [gap] = sink.events(Gap)
            assert (gap.start_ns, gap.end_ns) == (sink.time_of(tick(99)), sink.time_of(tick(100)))
            assert (gap.cause, gap.connection) == ("disconnect", 7)
            assert session.connects == 2
            assert sink.events(Disconnected)[0].reason.startswith("1006")

    run(scenario())


def test_several_failed_attempts_make_one_gap() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            async with recording(venue) as (session, sink):
                peer = await venue.peer()
                await session.established.wait()
                await peer.push(tick(1))
                await sink.until(lambda: tick(1) in sink.frames)
                venue.upgrade_statuses = [503, 429, 502, 0]
                peer.reset()
                peer = await venue.peer()
                await sink.until(lambda: len(sink.events(Subscribed)) == 2)
                await peer.push(tick(2))
                await sink.until(lambda: bool(sink.events(Gap)))
            [gap] = sink.events(Gap)
            assert (gap.start_ns, gap.end_ns) == (sink.time_of(tick(1)), sink.time_of(tick(2)))
            assert len(sink.events(Connected)) == 2

    run(scenario())


def test_a_gap_still_open_at_the_stop_is_written_down() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            async with recording(venue) as (session, sink):
                peer = await venue.peer()
                await session.established.wait()
                await peer.push(tick(1))
                await sink.until(lambda: tick(1) in sink.frames)
                venue.upgrade_statuses = [503] * 10_000
                peer.reset()
                await peer.gone.wait()
                await sink.until(lambda: bool(sink.events(Disconnected)))
            [gap] = sink.events(Gap)
            assert gap.start_ns == sink.time_of(tick(1))
            assert gap.end_ns > sink.records[-2][3]

    run(scenario())


def test_a_venue_unreachable_from_the_start_is_a_gap_from_the_start() -> None:
    async def scenario() -> None:
        async with serving() as venue:
            venue.upgrade_statuses = [503, 503, 0]
            async with recording(venue) as (session, sink):
                peer = await venue.peer()
                await session.established.wait()
                await peer.push(tick(1))
                await sink.until(lambda: bool(sink.events(Gap)))
            [gap] = sink.events(Gap)
            assert gap.start_ns < sink.records[0][3]
            assert gap.end_ns == sink.time_of(tick(1))

    run(scenario())


def test_a_silent_connection_is_replaced() -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue, silence_max_s=0.2) as (_, sink):
            await venue.peer()
            await venue.peer()
            assert "no frame for 0.2 s" in sink.events(Disconnected)[0].reason

    run(scenario())


def test_a_call_without_reply_ends_the_connection_and_the_session_comes_back() -> None:
    async def scenario() -> None:
        async def mute(peer: Peer, call: Call) -> None:
            venue.answer = answer_all

        async with serving() as venue:
            venue.answer = mute
            async with recording(venue, reply_timeout_s=2.0) as (session, sink):
                await session.established.wait()
            assert session.connects == 2
            assert "no reply to public/set_heartbeat" in sink.events(Disconnected)[0].reason

    run(scenario())


@pytest.mark.parametrize("transport", ["picows", "websockets"])
@pytest.mark.parametrize(("code", "reason"), [(4000, "heartbeat close"), (1001, "restart"), (1012, "")])
def test_the_code_and_reason_of_the_venues_close_are_recorded(transport: str, code: int, reason: str) -> None:
    async def scenario() -> None:
        async with serving() as venue, recording(venue, transport=transport) as (session, sink):
            peer = await venue.peer()
            await session.established.wait()
            await peer.push(tick(1))
            await peer.socket.close(code=code, message=reason.encode())
            await sink.until(lambda: bool(sink.events(Disconnected)))
            assert sink.events(Disconnected)[0].reason == f"{code} {reason}".strip()
            assert tick(1) in sink.frames

    run(scenario())


def test_garbage_is_recorded_raw_counted_and_harms_nothing() -> None:
    async def scenario() -> None:
        garbage = [
            b"",
            b"not json",
            b"[]",
            b"null",
            b'{"id":1,"result"',
            b'{"id":99,"result":"late"}',
            b'{"method":"heartbeat","params":7}',
            b'{"id":{},"error":[]}',
            "\u00e9\u4e2d".encode(),
        ]
        async with serving() as venue, recording(venue) as (session, sink):
            peer = await venue.peer()
            await session.established.wait()
            await peer.push(*garbage, tick(1))
            await sink.until(lambda: tick(1) in sink.frames)
            assert sink.frames[-len(garbage) - 1 :] == [*garbage, tick(1)]
            assert session.unknown_frames == 8
            assert session.connects == 1

    run(scenario())


def test_too_many_requests_is_an_outage_not_an_end() -> None:
    async def scenario() -> None:
        async def busy_once(peer: Peer, call: Call) -> None:
            if call["method"] == "public/subscribe" and len(venue.peers) == 1:
                await peer.fail(call, 10028, "too_many_requests")
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = busy_once
            async with recording(venue) as (session, sink):
                await session.established.wait()
            assert session.connects == 2
            assert "10028" in sink.events(Disconnected)[0].reason

    run(scenario())


def test_a_failing_sink_ends_the_session_with_its_own_error() -> None:
    async def scenario() -> None:
        class BrokenSink(MemorySink):
            def append(self, payload: bytes, **about: Any) -> None:
                if payload == tick(1):
                    raise ZeroDivisionError("a bug")
                super().append(payload, **about)

        async with serving() as venue:
            session = make_session(venue, BrokenSink(), CHANNELS)
            running = asyncio.create_task(session.run())
            peer = await venue.peer()
            await session.established.wait()
            await peer.push(tick(1))
            with pytest.raises(ZeroDivisionError):
                await running

    run(scenario())


def test_only_a_connection_that_stayed_up_resets_the_backoff() -> None:
    async def scenario() -> None:
        now_s = [0.0]
        ceilings: list[float] = []

        def draw(low: float, high: float) -> float:
            ceilings.append(high)
            return 0.0

        async with serving() as venue:
            chosen = settings(venue.ws_url, stable_s=30.0)
            sink = MemorySink()
            session = Session(
                1,
                CHANNELS,
                chosen,
                Tape(sink),
                pace=TokenBucket(1000.0, 1000),
                backoff=Backoff(BackoffSettings(1.0, 60.0, 2.0), draw),
                clock_s=lambda: now_s[0],
            )
            running = asyncio.create_task(session.run())
            for lived_s in (1.0, 29.0, 31.0, 1.0):
                peer = await venue.peer()
                await session.established.wait()
                now_s[0] += lived_s
                lost = len(sink.events(Disconnected))
                peer.reset()
                await sink.until(lambda lost=lost: len(sink.events(Disconnected)) > lost)  # type: ignore[misc]
            await venue.peer()
            session.stop()
            await running
        assert ceilings == [1.0, 2.0, 1.0, 2.0]

    run(scenario())


def test_a_refusal_after_it_once_worked_is_waited_out() -> None:
    async def scenario() -> None:
        async def refuse_second(peer: Peer, call: Call) -> None:
            if len(venue.peers) == 2 and call["method"] == "public/subscribe":
                await peer.fail(call, -32602, "Invalid params")
            else:
                await answer_all(peer, call)

        async with serving() as venue:
            venue.answer = refuse_second
            async with recording(venue) as (session, sink):
                peer = await venue.peer()
                await session.established.wait()
                peer.reset()
                await sink.until(lambda: len(sink.events(Subscribed)) == 2)
            assert session.connects == 3

    run(scenario())
