"""Every fault on command: what a client notices, and what the account says about it."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from collectors.simulator import Sent, Simulator, SimulatorSettings, read_account
from collectors.simulator.account import frame_hash
from collectors.simulator.feeds import GeneratedFeed
from collectors.simulator.orders import ORDERS, read_order
from lake.errors import InputError
from tests.simulator.support import START_MS, Client, order, run

BUSY = SimulatorSettings(instruments=6, rate=400.0)
QUIET = SimulatorSettings(instruments=6, rate=100.0, hold=True, start_ms=START_MS)
PERPETUAL = "BTC-PERPETUAL"
BOOK = f"book.{PERPETUAL}.100ms"
TICKER = f"ticker.{PERPETUAL}.100ms"
TRADES = f"trades.{PERPETUAL}.100ms"
ALL_TRADES = "trades.any.any.100ms"


@asynccontextmanager
async def venue(settings: SimulatorSettings = BUSY) -> AsyncIterator[tuple[Simulator, Client]]:
    async with Simulator(settings) as simulator, Client(simulator.ws_url) as client:
        yield simulator, client


async def rest(simulator: Simulator, method: str, **params: str | int) -> tuple[int, Any]:
    """Status and body of a REST call over a connection of its own."""
    url = f"{simulator.rest_url}/public/{method}"
    async with aiohttp.ClientSession() as http, http.get(url, params=params) as response:
        raw = await response.read()
        return response.status, json.loads(raw) if raw else None


async def connect(simulator: Simulator) -> None:
    """Open a socket and close it again."""
    async with aiohttp.ClientSession() as http, http.ws_connect(simulator.ws_url):
        pass


async def until_closed(client: Client) -> int | None:
    while await client.receive() is not None:
        pass
    return client.close_code


def data(client: Client, channel: str) -> list[Any]:
    """The data of a channel's notifications in the order of arrival."""
    decoded = [json.loads(raw)["params"] for raw in client.notifications]
    return [params["data"] for params in decoded if params["channel"] == channel]


async def collect(client: Client, channel: str, count: int) -> list[Any]:
    while len(found := data(client, channel)) < count:
        assert await client.receive() is not None
    return found


def sent_to(path: Path, session: int = 1) -> tuple[list[Sent], list[Sent]]:
    """(handed over, withheld) of a session."""
    lines = [line for line in read_account(path) if line.session == session]
    return [x for x in lines if not x.withheld], [x for x in lines if x.withheld]


def assert_account_is_exact(path: Path, client: Client, session: int = 1) -> list[Sent]:
    """What arrived is what was handed over, frame for frame; gives what was withheld."""
    handed, withheld = sent_to(path, session)
    assert [line.hash for line in handed] == [frame_hash(frame) for frame in client.frames]
    assert all(x.payload is not None and frame_hash(x.payload.encode()) == x.hash for x in withheld)
    return withheld


# -- connections ---------------------------------------------------------------------------------


def test_one_session_can_be_dropped_with_a_close_code() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, first), Client(simulator.ws_url) as second:
            await first.call("public/subscribe", channels=[TICKER])
            await second.call("public/subscribe", channels=[TICKER])
            await order(simulator, "drop", session=1, code=1013, reason="try again")
            assert await until_closed(first) == 1013
            await collect(second, TICKER, 3)
            assert [s["session"] for s in (await order(simulator, "sessions"))["sessions"]] == [2]
            with pytest.raises(InputError, match="session 1 is not connected; connected now: 2"):
                await order(simulator, "drop", session=1)

    run(scenario())


def test_a_reset_loses_nothing_that_the_account_calls_sent(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"

    async def scenario() -> Client:
        async with venue(SimulatorSettings(instruments=40, rate=4_000.0, account=path)) as (
            simulator,
            client,
        ):
            channels = [c for c in simulator.feed.channels if c.startswith(("ticker", "book"))]
            await client.call("public/subscribe", channels=channels)
            await client.collect(500)
            await order(simulator, "drop")
            assert await until_closed(client) == 1006
            assert isinstance(client.socket.exception(), aiohttp.ClientConnectionError | ConnectionResetError)
            return client

    assert assert_account_is_exact(path, run(scenario())) == []


def test_a_half_open_connection_says_and_answers_nothing(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"
    settings = replace(BUSY, account=path, heartbeat_second_s=0.005)

    async def scenario() -> Client:
        async with venue(settings) as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK])
            await collect(client, BOOK, 2)
            await order(simulator, "half_open", session=1)
            await client.catch_up(simulator)
            before = len(client.frames)
            await client.socket.send_json({"jsonrpc": "2.0", "id": 9, "method": "public/test"})
            await client.socket.ping()
            with pytest.raises(TimeoutError):
                await client.receive(0.3)
            assert len(client.frames) == before
            assert simulator.stats()["sessions"] == 1
            client.socket._response.close()  # the client gives up without a handshake
            while simulator.stats()["sessions"]:
                await asyncio.sleep(0.01)
            return client

    withheld = assert_account_is_exact(path, run(scenario()))
    assert {line.channel for line in withheld} == {BOOK}, "no heartbeat, no answer, no pong"
    chain = [line for line in read_account(path) if line.channel == BOOK]
    assert all(b.prev == a.seq for a, b in itertools.pairwise(chain))


def test_a_half_open_connection_may_come_back() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK])
            await order(simulator, "half_open", seconds=60)
            while simulator.stats()["withheld"] < 2:
                await asyncio.sleep(0.01)
            await client.catch_up(simulator)
            await order(simulator, "half_open", seconds=0)
            seen = len(data(client, BOOK))
            books = await collect(client, BOOK, seen + 2)
            assert books[seen]["prev_change_id"] != books[seen - 1]["change_id"]

    run(scenario())


def test_a_throttled_session_gets_everything_late_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"
    limit = 20_000

    async def scenario() -> Client:
        async with venue(replace(BUSY, instruments=20, rate=1_000.0, account=path)) as (simulator, client):
            channels = [c for c in simulator.feed.channels if c.startswith(("ticker", "book"))]
            await client.call("public/subscribe", channels=channels)
            await client.collect(len(channels) // 2)
            await order(simulator, "slow", session=1, bytes_per_second=limit)
            start, before = time.monotonic(), len(client.frames)
            while time.monotonic() < start + 0.6:
                await client.receive()
            got = sum(len(frame) for frame in client.frames[before:])
            assert got <= limit * (time.monotonic() - start) + 60_000
            [session] = (await order(simulator, "sessions"))["sessions"]
            assert session["backlog"] > 0
            await order(simulator, "slow", session=1, bytes_per_second=0)
            await order(simulator, "channel_limit", count=1)
            assert "error" in await client.call("public/subscribe", channels=["a", "b"])
            await order(simulator, "drop")
            await until_closed(client)
            return client

    assert assert_account_is_exact(path, run(scenario())) == []


def test_frames_a_throttled_session_never_got_are_withheld(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"

    async def scenario() -> Client:
        async with venue(replace(BUSY, account=path)) as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK, TICKER])
            await client.collect(4)
            await order(simulator, "slow", bytes_per_second=500)
            while (await order(simulator, "sessions"))["sessions"][0]["backlog"] < 5:
                await asyncio.sleep(0.02)
            await order(simulator, "drop")
            await until_closed(client)
            return client

    withheld = assert_account_is_exact(path, run(scenario()))
    assert len(withheld) >= 5
    chain = [line for line in read_account(path) if line.channel == BOOK]
    assert all(b.prev == a.seq for a, b in itertools.pairwise(chain))


def test_a_throttled_session_too_far_behind_is_cut_off() -> None:
    async def scenario() -> None:
        async with venue(replace(BUSY, max_pending_bytes=5_000)) as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK, TICKER])
            await order(simulator, "slow", bytes_per_second=100)
            assert await until_closed(client) == 1006

    run(scenario())


def test_one_subscribe_call_too_many_ends_its_session_and_the_pool_fills_again() -> None:
    async def scenario() -> None:
        market = replace(BUSY, subscribe_per_second=4.0, subscribe_burst=3.0)
        async with Simulator(market) as simulator:
            for _ in range(2):
                async with Client(simulator.ws_url) as client:
                    answers = [await client.call("public/subscribe", channels=[BOOK]) for _ in range(3)]
                    assert all("result" in answer for answer in answers)
                    while "result" in answers[-1]:
                        answers.append(await client.call("public/subscribe", channels=[TICKER]))
                    assert answers[-1]["error"]["code"] == 10028
                    assert await until_closed(client) == 1008
                await asyncio.sleep(3 / 4.0)  # so long the venue's pool takes

    run(scenario())


# -- notifications -------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["gap", "silence", "lose"])
def test_what_is_kept_back_is_on_record(tmp_path: Path, action: str) -> None:
    path = tmp_path / "account.jsonl"

    async def scenario() -> Client:
        async with venue(replace(BUSY, account=path)) as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK])
            await collect(client, BOOK, 3)
            match action:
                case "gap":
                    await order(simulator, "gap", instrument=PERPETUAL, count=3)
                case "lose":
                    await order(simulator, "lose", channel="book.*", count=3)
                case _:
                    await order(simulator, "silence")
            while simulator.stats()["withheld"] < 3:
                await asyncio.sleep(0.01)
            await order(simulator, "speak")
            books = await collect(client, BOOK, len(data(client, BOOK)) + 4)
            broken = [b for a, b in itertools.pairwise(books) if b["prev_change_id"] != a["change_id"]]
            assert len(broken) == 1
            await order(simulator, "drop")
            await until_closed(client)
            return client

    withheld = assert_account_is_exact(path, run(scenario()))
    assert len(withheld) >= 3
    assert action == "silence" or len(withheld) == 3
    chain = [line for line in read_account(path) if line.channel == BOOK]
    assert all(b.prev == a.seq for a, b in itertools.pairwise(chain)), "with the withheld, nothing is missing"


def test_a_forgotten_subscription_says_nothing_until_it_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"

    async def scenario() -> Client:
        async with venue(replace(BUSY, account=path)) as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK, TICKER])
            await collect(client, BOOK, 3)
            await order(simulator, "forget", channel="book.*")
            told = len(data(client, BOOK))
            await collect(client, TICKER, len(data(client, TICKER)) + 20)
            assert len(data(client, BOOK)) <= told + 1, "one may have been on its way"
            assert simulator.stats()["withheld"] >= 3
            again = await client.call("public/subscribe", channels=[BOOK])
            assert again["result"] == [BOOK], "it is subscribed already, and that changes nothing"
            await client.call("public/unsubscribe", channels=[BOOK])
            told = len(data(client, BOOK))
            await client.call("public/subscribe", channels=[BOOK])
            anew = (await collect(client, BOOK, told + 3))[told:]
            assert [b["type"] for b in anew[:3]] == ["snapshot", "change", "change"]
            await order(simulator, "drop")
            await until_closed(client)
            return client

    assert len(assert_account_is_exact(path, run(scenario()))) >= 3


def test_missing_trades_are_told_to_nobody_but_rest(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"

    async def scenario() -> None:
        async with venue(replace(BUSY, account=path)) as (simulator, client):
            await client.call("public/subscribe", channels=[TRADES, ALL_TRADES])
            await collect(client, TRADES, 2)
            await order(simulator, "miss_trades", instrument=PERPETUAL, count=3)
            while data(client, TRADES)[-1][0]["trade_seq"] - data(client, TRADES)[0][0]["trade_seq"] < 10:
                await collect(client, TRADES, len(data(client, TRADES)) + 1)
            told = [trade["trade_seq"] for batch in data(client, TRADES) for trade in batch]
            missing = sorted(set(range(told[0], told[-1] + 1)) - set(told))
            assert len(missing) == 3
            assert missing == list(range(missing[0], missing[0] + 3))
            await client.catch_up(simulator)
            everywhere = [t for batch in data(client, ALL_TRADES) for t in batch]
            assert not {t["trade_seq"] for t in everywhere if t["instrument_name"] == PERPETUAL} & set(
                missing
            )
            _, healed = await rest(
                simulator, "get_last_trades_by_instrument", instrument_name=PERPETUAL,
                start_seq=missing[0], end_seq=missing[-1], count=100,
            )  # fmt: skip
            assert sorted(t["trade_seq"] for t in healed["result"]["trades"]) == missing
            assert healed["result"]["has_more"] is False
            await order(simulator, "flush_account")
            _, withheld = sent_to(path)
            for channel in (TRADES, ALL_TRADES):
                texts = [x.payload for x in withheld if x.channel == channel]
                kept = [t for text in texts for t in json.loads(text or "")["params"]["data"]]
                assert sorted(kept, key=lambda t: t["trade_seq"]) == sorted(
                    healed["result"]["trades"], key=lambda t: t["trade_seq"]
                )

    run(scenario())


def test_duplicate_and_reordered_frames(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"

    async def scenario() -> Client:
        async with venue(replace(BUSY, account=path)) as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK])
            await collect(client, BOOK, 2)
            await order(simulator, "duplicate", channel=BOOK, count=2)
            books = await collect(client, BOOK, len(data(client, BOOK)) + 6)
            ids = [book["change_id"] for book in books]
            assert len(ids) - len(set(ids)) == 2
            assert ids == sorted(ids)
            await order(simulator, "reorder", channel="book.*")
            seen = len(data(client, BOOK))
            ids = [book["change_id"] for book in (await collect(client, BOOK, seen + 5))]
            swapped = [a for a, b in itertools.pairwise(ids) if b < a]
            assert len(swapped) == 1
            assert sorted(set(ids)) == [b["change_id"] for b in _chain(data(client, BOOK))]
            await order(simulator, "drop")
            await until_closed(client)
            return client

    assert assert_account_is_exact(path, run(scenario())) == []


def _chain(books: list[Any]) -> list[Any]:
    """Book messages, each once, in the order of their links."""
    following = {book.get("prev_change_id"): book for book in books}
    found, at = [], None
    while at in following:
        found.append(following[at])
        at = following[at]["change_id"]
    return found


def test_a_held_back_frame_without_a_successor_is_sent_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"
    settings = replace(QUIET, account=path, hold=False)

    async def scenario() -> None:
        async with venue(settings) as (simulator, client):
            await client.call("public/subscribe", channels=["instrument.state.any.any"])
            await order(simulator, "reorder", channel="instrument.state.*")
            await order(simulator, "state", instrument=PERPETUAL, state="halted")

    run(scenario())
    states = [line for line in read_account(path) if line.channel == "instrument.state.any.any"]
    assert len(states) == 1


def test_garbage_may_hit_one_session_only() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, first), Client(simulator.ws_url) as second:
            await first.call("public/test")
            await second.call("public/test")
            await order(simulator, "garbage", session=2, text="{nothing")
            with pytest.raises(json.JSONDecodeError):
                await second.receive()
            await first.call("public/test")
            assert len(first.frames) == 2

    run(scenario())


# -- calls ---------------------------------------------------------------------------------------


def test_the_limit_of_a_subscribe_call_can_be_lowered() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await order(simulator, "channel_limit", count=1)
            refused = await client.call("public/subscribe", channels=[BOOK, TICKER])
            assert refused["error"]["code"] == -32600
            await order(simulator, "channel_limit", count=2)
            assert len((await client.call("public/subscribe", channels=[BOOK, TICKER]))["result"]) == 2

    run(scenario())


def test_a_partial_acknowledgement_leaves_channels_out_without_a_word() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await order(simulator, "partial", channels=["book.*"], calls=1)
            assert (await client.call("public/subscribe", channels=["quote.X"]))["result"] == []
            assert (await client.call("public/subscribe", channels=[BOOK, TICKER]))["result"] == [TICKER]
            await client.collect(5)
            assert data(client, BOOK) == []
            assert (await client.call("public/subscribe", channels=[BOOK]))["result"] == [BOOK]

    run(scenario())


def test_chosen_calls_fail_as_told() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await order(simulator, "fail", method="public/subscribe", calls=2)
            for _ in range(2):
                refused = await client.call("public/subscribe", channels=[BOOK])
                assert refused["error"]["code"] == 13778
            assert (await client.call("public/subscribe", channels=[BOOK]))["result"] == [BOOK]
            await order(simulator, "fail", method="get_*", code=10040, message="retry")
            status, body = await rest(simulator, "get_instruments", currency="any")
            assert (status, body["error"]) == (400, {"code": 10040, "message": "retry"})
            assert (await rest(simulator, "get_instruments", currency="any"))[0] == 200

    run(scenario())


async def until_well(simulator: Simulator) -> None:
    while (await rest(simulator, "get_instruments", currency="any"))[0] != 200:
        await asyncio.sleep(0.02)


def test_a_rate_limit_answers_10028_and_ends_the_session() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await order(simulator, "rate_limit", seconds=60)
            status, body = await rest(simulator, "get_instruments", currency="any")
            assert (status, body["error"]["code"]) == (429, 10028)
            refused = await client.call("public/subscribe", channels=[BOOK])
            assert refused["error"] == {"code": 10028, "message": "too_many_requests"}
            assert await until_closed(client) == 1008
            await order(simulator, "rate_limit", seconds=0)
            await until_well(simulator)
            async with Client(simulator.ws_url) as again:
                assert (await again.call("public/subscribe", channels=[BOOK]))["result"] == [BOOK]

    run(scenario())


def test_a_settlement_locks_calls_and_says_so() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await client.call("public/subscribe", channels=["platform_state"])
            await collect(client, "platform_state", 1)
            await order(simulator, "settlement", seconds=60)
            assert (await client.call("public/subscribe", channels=[BOOK]))["error"]["code"] == 10041
            assert (await rest(simulator, "get_order_book", instrument_name=PERPETUAL))[0] == 400
            assert (await client.call("public/status"))["result"]["locked"] == "true"
            told = [state["locked"] for state in data(client, "platform_state")]
            assert told[0] is False
            assert True in told
            await order(simulator, "settlement", seconds=0)
            while data(client, "platform_state")[-1]["locked"]:
                await collect(client, "platform_state", len(data(client, "platform_state")) + 1)
            assert (await client.call("public/status"))["result"]["locked"] == "false"
            assert (await client.call("public/subscribe", channels=[BOOK]))["result"] == [BOOK]

    run(scenario())


def test_maintenance_is_announced_closes_all_and_refuses_everybody() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await client.call("public/subscribe", channels=["platform_state"])
            await order(simulator, "maintenance", seconds=60)
            assert await until_closed(client) == 1001
            assert data(client, "platform_state")[-1] == {"maintenance": True}
            status, body = await rest(simulator, "get_time")
            assert (status, body["error"]["code"]) == (503, 11051)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await connect(simulator)
            assert refused.value.status == 503
            await order(simulator, "maintenance", seconds=0)
            await until_well(simulator)
            async with Client(simulator.ws_url) as again:
                assert "result" in await again.call("public/test")

    run(scenario())


def test_new_connections_are_refused_while_living_ones_go_on() -> None:
    async def scenario() -> None:
        async with venue(QUIET) as (simulator, client):
            await order(simulator, "refuse", seconds=60, status=429)
            assert (await rest(simulator, "get_time"))[0] == 429
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await connect(simulator)
            assert refused.value.status == 429
            assert "result" in await client.call("public/test")
            await order(simulator, "refuse", seconds=0)
            await until_well(simulator)

    run(scenario())


def test_a_restart_closes_the_port_and_forgets_nothing() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK])
            before = (await order(simulator, "book", instrument=PERPETUAL))["change_id"]
            await order(simulator, "restart", seconds=3.0)
            with pytest.raises(InputError, match="closed already"):
                await order(simulator, "restart")
            assert await until_closed(client) == 1006
            with pytest.raises(aiohttp.ClientConnectorError):
                await rest(simulator, "get_time")
            port = simulator.port
            while True:
                try:
                    await rest(simulator, "get_time")
                    break
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.02)
            assert simulator.port == port
            async with Client(simulator.ws_url) as again:
                await again.call("public/subscribe", channels=[BOOK])
                [snapshot] = (await collect(again, BOOK, 1))[:1]
                assert snapshot["change_id"] > before

    run(scenario())


# -- market, clock, truth ------------------------------------------------------------------------


def test_a_skewed_clock_shows_in_timestamps_and_replies() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            await client.call("public/subscribe", channels=[TICKER])
            for skew in (-60_000, 90_000, 0):
                await order(simulator, "skew", ms=skew)
                reply = await client.call("public/get_time")
                now = time.time() * 1000
                assert reply["usOut"] / 1000 - now == pytest.approx(skew, abs=5_000)
                assert reply["usOut"] >= reply["usIn"]
                assert reply["result"] - now == pytest.approx(skew, abs=5_000)
                seen = len(data(client, TICKER))
                tickers = await collect(client, TICKER, seen + 2)
                assert tickers[-1]["timestamp"] - now == pytest.approx(skew, abs=5_000)

    run(scenario())


def test_the_true_book_is_what_its_messages_build() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            await client.call("public/subscribe", channels=[BOOK])
            await collect(client, BOOK, 8)
            truth = await order(simulator, "book", instrument=PERPETUAL)
            while data(client, BOOK)[-1]["change_id"] < truth["change_id"]:
                await client.receive()
            sides: dict[str, dict[float, float]] = {"bids": {}, "asks": {}}
            for message in data(client, BOOK):
                if message["change_id"] <= truth["change_id"]:
                    for side, levels in sides.items():
                        for action, price, amount in message[side]:
                            levels.pop(price, None)
                            if action != "delete":
                                levels[price] = amount
            assert truth["bids"] == [[p, sides["bids"][p]] for p in sorted(sides["bids"], reverse=True)]
            assert truth["asks"] == [[p, sides["asks"][p]] for p in sorted(sides["asks"])]
            assert isinstance(simulator.feed, GeneratedFeed)
            assert truth["timestamp"] <= simulator.feed.market.now_ms
            with pytest.raises(InputError, match="BTC-NOPE"):
                await order(simulator, "book", instrument="BTC-NOPE")

    run(scenario())


# -- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"action": "explode"}, "no action 'explode'; give one of stats, "),
        ({}, "no action None"),
        (["drop"], "no action None"),
        ({"action": "gap"}, "gap: .*`instrument`.*; it takes instrument, count"),
        ({"action": "gap", "instrument": "X", "count": 0}, "gap: .*>= 1"),
        ({"action": "drop", "code": 1006}, "never travels"),
        ({"action": "drop", "reason": "x"}, "give both or none"),
        ({"action": "speak", "loud": True}, "speak: .*`loud`; it takes no parameters"),
        ({"action": "slow"}, "bytes_per_second"),
        ({"action": "restart", "seconds": -1}, "restart: "),
    ],
)
def test_a_wrong_order_is_told_with_its_cure(fields: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        read_order(fields)


def test_every_order_says_what_it_does() -> None:
    assert all(kind.__doc__ for kind in ORDERS.values())


def test_orders_that_a_replay_cannot_follow_are_refused(tmp_path: Path) -> None:
    recording = tmp_path / "recording.jsonl"
    frame = {"method": "subscription", "params": {"channel": TICKER, "data": {"timestamp": START_MS}}}
    recording.write_text(json.dumps(frame) + "\n")

    async def scenario() -> None:
        async with Simulator(SimulatorSettings(replay=(recording,))) as simulator:
            for action, details in (
                ("miss_trades", {"instrument": PERPETUAL}),
                ("skew", {"ms": 1}),
                ("book", {"instrument": PERPETUAL}),
            ):
                with pytest.raises(InputError, match="a replay"):
                    await order(simulator, action, **details)
            async with Client(simulator.ws_url) as client:
                await order(simulator, "duplicate", channel=TICKER)
                await client.call("public/subscribe", channels=[TICKER])
                await client.collect(2)

    run(scenario())
