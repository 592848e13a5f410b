"""A scripted venue that leaves things out: what the collector asks for again, and what it says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from collectors.deribit.rest import RestClient
from collectors.deribit.session import Session
from collectors.healing import Healer
from collectors.pace import TokenBucket
from collectors.sink import Tape
from collectors.trade_healing import HealingPace
from lake.events import ClockSkewed, Gap, GapOpened, GapsOpen, GapWithdrawn, decode_response
from lake.spool import RecordKind
from tests.collectors.kit import MemorySink, run, settings, tick
from tests.collectors.venue import Answer, Call, Peer, Venue, answer_all, serving

NAME = "BTC-PERPETUAL"
BOOK, TRADES = f"book.{NAME}.100ms", "trades.any.any.100ms"
QUICK = HealingPace(
    tick_s=0.005, resync_retry_s=0.02, trades_patience_s=0.0, trades_retry_s=0.01, trades_attempts=2
)


def frame(channel: str, data: Any) -> bytes:
    message = {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}
    return json.dumps(message, separators=(",", ":")).encode()


def book(change_id: int, prev: int | None = None) -> bytes:
    data = {"type": "snapshot" if prev is None else "change", "change_id": change_id, "instrument_name": NAME}
    return frame(BOOK, data if prev is None else {**data, "prev_change_id": prev})


def trade(seq: int) -> dict[str, Any]:
    return {"trade_seq": seq, "instrument_name": NAME, "timestamp": 1_789_344_931_096 + seq}


def trades(*seqs: int) -> bytes:
    return frame(TRADES, [trade(seq) for seq in seqs])


def answer(*seqs: int) -> tuple[int, bytes]:
    result = {"trades": [trade(seq) for seq in seqs], "has_more": False}
    return 200, json.dumps({"jsonrpc": "2.0", "result": result}).encode()


@dataclass
class Scene:
    venue: Venue
    peer: Peer
    sink: MemorySink
    healer: Healer

    def gaps(self, cause: str) -> list[Gap]:
        return [gap for gap in self.sink.events(Gap) if gap.cause == cause]


@asynccontextmanager
async def recording(
    pace: HealingPace = QUICK,
    venues_answer: Answer = answer_all,
    channels: Sequence[str] = (BOOK, TRADES),
    clock_ns: Callable[[], int] = time.time_ns,
) -> AsyncIterator[Scene]:
    async with serving() as venue:
        venue.answer = venues_answer
        venue.rest = [answer()]
        sink = MemorySink()
        tape, chosen = Tape(sink, clock_ns), settings(venue.ws_url, venue.rest_url)
        sessions: list[Session] = []
        healer = Healer(sessions, chosen, tape, pace=pace)
        session = Session(3, list(channels), chosen, tape, pace=TokenBucket(1000.0, 1000), listener=healer)
        sessions.append(session)
        async with RestClient(chosen) as rest:
            tasks = [asyncio.create_task(session.run()), asyncio.create_task(healer.run(rest))]
            await session.established.wait()
            try:
                yield Scene(venue, await venue.peer(), sink, healer)
            finally:
                session.stop()
                await tasks[0]
                tasks[1].cancel()
                await asyncio.gather(tasks[1], return_exceptions=True)
                healer.finish()


def test_a_broken_book_is_subscribed_anew_until_its_snapshot_comes() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            await scene.peer.push(book(10), book(11, 10), book(13, 12), book(14, 13))
            for times in (1, 2):
                call = await scene.peer.called("public/unsubscribe", times)
                assert call["params"]["channels"] == [BOOK]
                await scene.peer.called("public/subscribe", 1 + times)
            await scene.peer.push(book(20), book(21, 20))
            await scene.sink.until(lambda: bool(scene.gaps("book_break")))
            [gap] = scene.gaps("book_break")
            assert (gap.instrument, gap.channel, gap.connection) == (NAME, BOOK, 3)
            assert gap.start_ns == scene.sink.time_of(book(11, 10))
            assert gap.end_ns == scene.sink.time_of(book(20))
            assert scene.healer.resyncs >= 2
        assert len(scene.gaps("book_break")) == 1

    run(scenario())


def test_changes_in_another_order_are_no_gap() -> None:
    async def scenario() -> None:
        async with recording(HealingPace(tick_s=0.5)) as scene:
            await scene.peer.push(book(10), book(12, 11), book(11, 10), book(13, 12), trades(1), trades(3))
            await scene.sink.until(lambda: bool(scene.sink.events(GapWithdrawn)))
        assert scene.gaps("book_break") == []
        assert [gap.start_ns for gap in scene.sink.events(GapOpened) if gap.cause == "book_break"] == [
            scene.sink.time_of(book(10))
        ]

    run(scenario())


def test_a_book_that_stays_broken_is_claimed_to_the_end() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            await scene.peer.push(book(10), book(13, 12))
            await scene.peer.called("public/unsubscribe")
        [gap] = scene.gaps("book_break")
        assert gap.start_ns == scene.sink.time_of(book(10))
        assert gap.end_ns > scene.sink.time_of(book(13, 12))

    run(scenario())


def test_missing_trades_are_fetched_and_the_answer_recorded() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            scene.venue.rest = [answer(8, 6, 5, 7, 9)]
            await scene.peer.push(trades(4), trades(5), trades(8))
            await scene.sink.until(lambda: bool(scene.gaps("missing_trades")))
            [gap] = scene.gaps("missing_trades")
            assert (gap.healed, gap.records_lost, gap.instrument, gap.channel) == (True, 0, NAME, TRADES)
            assert gap.start_ns == scene.sink.time_of(trades(5))
            assert gap.end_ns == scene.sink.time_of(trades(8))
            [asked] = scene.venue.rest_asked
            assert "start_seq=6&end_seq=7&count=1000" in asked
            [recorded] = [r[0] for r in scene.sink.records if r[2] == RecordKind.RESPONSE]
            assert bytes(decode_response(recorded).body) == answer(8, 6, 5, 7, 9)[1]

    run(scenario())


def test_trades_of_a_channel_that_was_refused_for_a_while_are_listed() -> None:
    refusals = [True]

    async def refuse_once(peer: Peer, call: Call) -> None:
        if call["method"] == "public/subscribe" and TRADES in call["params"]["channels"] and refusals:
            refusals.pop()
            await peer.reply(call, [channel for channel in call["params"]["channels"] if channel != TRADES])
        else:
            await answer_all(peer, call)

    async def scenario() -> None:
        async with recording(venues_answer=refuse_once) as scene:
            await scene.sink.until(lambda: any(gap.healed for gap in scene.gaps("not_subscribed")))
            refused, healed = scene.gaps("not_subscribed")
            assert (refused.channel, refused.healed) == (TRADES, False)
            assert (healed.channel, healed.start_ns, healed.end_ns) == (
                TRADES,
                refused.start_ns,
                refused.end_ns,
            )
            assert any("get_last_trades_by_currency_and_time" in url for url in scene.venue.rest_asked)

    run(scenario())


def test_trades_the_venue_does_not_have_are_counted_as_lost_after_some_answers() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            scene.venue.rest = [(503, b"maintenance"), answer(6), answer()]
            await scene.peer.push(trades(5), trades(10))
            await scene.sink.until(lambda: bool(scene.gaps("missing_trades")))
            [gap] = scene.gaps("missing_trades")
            assert (gap.healed, gap.records_lost) == (False, 3)
            assert "start_seq=7&end_seq=9" in scene.venue.rest_asked[-1]

    run(scenario())


def test_a_refused_question_ends_the_case_and_swapped_trades_are_none() -> None:
    async def scenario() -> None:
        async with recording(HealingPace(tick_s=0.005, trades_patience_s=0.05)) as scene:
            refusal = {"jsonrpc": "2.0", "error": {"code": -32602, "message": "Invalid params"}}
            scene.venue.rest = [(400, json.dumps(refusal).encode())]
            await scene.peer.push(trades(1), trades(3, 2, 4, 4), trades(6))
            await scene.sink.until(lambda: bool(scene.gaps("missing_trades")))
        [gap] = scene.gaps("missing_trades")
        assert (gap.healed, gap.records_lost) == (False, 1)
        assert gap.start_ns == scene.sink.time_of(trades(3, 2, 4, 4))

    run(scenario())


def test_how_far_the_trades_have_come_is_told_for_what_has_not_long_expired() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            old = {**trade(7), "instrument_name": "BTC-27DEC24-90000-C"}
            await scene.peer.push(trades(4), frame(TRADES, [old]))
            await scene.sink.until(lambda: len(scene.sink.data) == 2)
            scene.healer.watch.catch_up()
            scene.healer.restate()
            [told] = scene.sink.events(GapsOpen)
            assert (told.newest_trades, told.gaps) == ({NAME: 4}, [])

    run(scenario())


def test_garbage_and_foreign_shapes_disturb_nothing_and_a_wrong_clock_is_noted() -> None:
    async def scenario() -> None:
        async with recording() as scene:
            sent_us = time.time_ns() // 1000 + 60_000_000
            reply = {"jsonrpc": "2.0", "id": 900, "result": "ok", "usIn": sent_us, "usOut": sent_us}
            turned = {"params": {"data": [trade(2)], "channel": TRADES}, "method": "subscription"}
            odd = [b"{", frame(BOOK, [1]), frame(TRADES, {}), tick(1, BOOK), json.dumps(turned).encode()]
            await scene.peer.push(trades(1), *odd, json.dumps(reply).encode(), trades(3))
            await scene.sink.until(lambda: bool(scene.sink.events(ClockSkewed)))
            [skewed] = scene.sink.events(ClockSkewed)
            assert -60_000_000_000 < skewed.offset_ns < -59_000_000_000
        assert scene.gaps("missing_trades") == []
        assert scene.healer.watch.unreadable >= 4

    run(scenario())
