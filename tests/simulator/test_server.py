"""The protocol, spoken by a client over a real socket."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from collectors.simulator import Simulator, SimulatorSettings, read_account
from collectors.simulator.account import frame_hash
from collectors.simulator.hub import Hub
from collectors.simulator.market import Market
from collectors.simulator.server import CONNECTIONS_PER_ADDRESS
from lake.errors import InputError, SettingsError
from tests.simulator.support import START_MS, Client, run

QUIET = SimulatorSettings(instruments=40, rate=200.0, hold=True, start_ms=START_MS)


@asynccontextmanager
async def venue(settings: SimulatorSettings = QUIET) -> AsyncIterator[tuple[Simulator, Client]]:
    async with Simulator(settings) as simulator, Client(simulator.ws_url) as client:
        yield simulator, client


def test_replies_have_the_envelope_and_echo_the_id() -> None:
    async def scenario() -> None:
        async with venue() as (_, client):
            reply = await client.call("public/test", "nfm000100000001")
            assert list(reply) == ["jsonrpc", "id", "result", "usIn", "usOut", "usDiff", "testnet"]
            assert reply["id"] == "nfm000100000001"
            assert reply["usOut"] - reply["usIn"] == reply["usDiff"] >= 0
            assert (await client.call("public/get_time"))["result"] == START_MS
            assert (await client.call("public/hello", client_name="x"))["result"] == {"version": "1.2.26"}
            assert (await client.call("public/status"))["result"]["locked"] == "false"
            await client.socket.send_str('{"jsonrpc":"2.0","method":"public/test"}')
            bare = await client.receive()
            assert bare is not None
            assert "id" not in bare

    run(scenario())


def test_errors_are_worded_as_recorded() -> None:
    async def scenario() -> None:
        async with venue(SimulatorSettings(instruments=5, hold=True, max_channels_per_call=3)) as (_, client):
            small = await client.call("public/set_heartbeat", interval=5)
            assert small["error"] == {
                "code": -32602,
                "data": {"reason": "value must be >= 10", "param": "interval"},
                "message": "Invalid params",
            }
            assert (await client.call("public/nonsense"))["error"]["code"] == -32601
            assert (await client.call("private/get_positions"))["error"]["code"] == -32601
            assert (await client.call("public/get_instruments", kind="x"))["error"]["data"]["param"] == "kind"
            raw = ["ticker.BTC-PERPETUAL.100ms", "ticker.BTC-PERPETUAL.raw"]
            refused = await client.call("public/subscribe", channels=raw)
            assert refused["error"]["code"] == 13778
            assert (await client.call("public/unsubscribe", channels=raw))["result"] == [], (
                "none was subscribed"
            )
            long = await client.call("public/subscribe", channels=["a", "b", "c", "d"])
            assert long["error"] == {"code": -32600, "message": "request entity too large"}
            assert "id" not in long
            await client.socket.send_str("{garbage")
            answer = await client.receive()
            assert answer is not None
            assert answer["error"]["code"] == -32600

    run(scenario())


def test_subscribing_acknowledges_then_greets_once() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            asked = [
                "book.BTC-PERPETUAL.100ms",
                "nonsense.X",
                "ticker.BTC-PERPETUAL.100ms",
                "quote.BTC-PERPETUAL",
            ]
            reply = await client.call("public/subscribe", channels=asked)
            assert not client.notifications, "the acknowledgement comes before any data"
            assert sorted(reply["result"]) == sorted(set(asked) - {"nonsense.X"})
            await client.collect(3)
            greeted = [json.loads(raw)["params"] for raw in client.notifications[:3]]
            assert [params["channel"] for params in greeted] == [asked[0], asked[2], asked[3]]
            assert greeted[0]["data"]["type"] == "snapshot"
            again = await client.call("public/subscribe", channels=asked[:1])
            assert again["result"] == asked[:1]
            await client.collect(60)
            books = [json.loads(raw)["params"]["data"] for raw in client.notifications]
            kinds = [data["type"] for data in books if "type" in data]
            assert kinds.count("snapshot") == 1, "a repeated subscription brings no fresh snapshot"
            assert kinds.count("change") > 1
            gone = await client.call("public/unsubscribe", channels=asked)
            assert sorted(gone["result"]) == sorted(reply["result"])
            seen = len(client.notifications)
            await client.call("public/test")
            assert len(client.notifications) == seen
            assert simulator.hub.listened == {}
            await client.call("public/subscribe", channels=asked[:1])
            await client.collect(seen + 1)
            assert json.loads(client.notifications[seen])["params"]["data"]["type"] == "snapshot"

    run(scenario())


def test_one_address_holds_32_connections_sockets_and_rest_together() -> None:
    async def scenario() -> None:
        async with Simulator(QUIET) as simulator, aiohttp.ClientSession() as http:
            asked = f"{simulator.rest_url}/public/get_time"

            async def status(session: aiohttp.ClientSession) -> int:
                async with session.get(asked) as response:
                    await response.read()
                    return response.status

            assert await status(http) == 200
            sockets = [await http.ws_connect(simulator.ws_url) for _ in range(CONNECTIONS_PER_ADDRESS - 1)]
            assert await status(http) == 200, "the same connection again"
            async with aiohttp.ClientSession() as one_more:
                assert await status(one_more) == 429
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await one_more.ws_connect(simulator.ws_url)
                assert refused.value.status == 429
                await sockets.pop().close()
                while await status(one_more) != 200:
                    await asyncio.sleep(0)
            for socket in sockets:
                await socket.close()

    run(scenario())


def test_every_known_channel_can_be_subscribed() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            channels = sorted(simulator.feed.channels)
            for first in range(0, len(channels), 400):
                part = channels[first : first + 400]
                reply = await client.call("public/subscribe", channels=part)
                assert sorted(reply["result"]) == part
            await client.collect(400)
            spoken = {json.loads(raw)["params"]["channel"].split(".")[0] for raw in client.notifications}
            assert spoken >= {
                "ticker", "book", "quote", "perpetual", "platform_state", "markprice",
                "deribit_price_index", "deribit_volatility_index",
            }  # fmt: skip

    run(scenario())


def test_an_unanswered_test_request_closes_with_4000() -> None:
    async def scenario() -> None:
        settings = SimulatorSettings(instruments=3, hold=True, heartbeat_second_s=0.005)
        async with venue(settings) as (_, client):
            assert (await client.call("public/set_heartbeat", interval=10))["result"] == "ok"
            for _ in range(3):
                beat = await client.receive()
                assert beat == {"params": {"type": "test_request"}, "method": "heartbeat", "jsonrpc": "2.0"}
                await client.call("public/test")
            while await client.receive() is not None:
                pass
            assert client.close_code == 4000

    run(scenario())


def test_the_account_lists_what_arrived(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"
    settings = SimulatorSettings(instruments=40, rate=2_000.0, hold=True, max_frames=1_500, account=path)

    async def scenario() -> list[bytes]:
        async with venue(settings) as (simulator, client):
            names = simulator.feed.channels
            chosen = [
                c for c in names if c.startswith(("ticker", "book", "trades.BTC")) and ".none." not in c
            ]
            await client.call("public/subscribe", channels=sorted(chosen))
            await simulator.finished.wait()
            await client.catch_up(simulator)
            return client.frames

    frames = run(scenario())
    lines = list(read_account(path))
    assert len(lines) > 1_000
    assert [line.hash for line in lines] == [frame_hash(frame) for frame in frames]
    assert [line.n for line in lines] == list(range(len(lines)))
    for line, frame in zip(lines, frames, strict=True):
        params = json.loads(frame).get("params", {})
        assert line.channel == params.get("channel")
        if line.channel and line.channel.startswith("book."):
            assert (line.seq, line.prev) == (
                params["data"]["change_id"],
                params["data"].get("prev_change_id"),
            )
        if line.channel and line.channel.startswith("trades."):
            assert line.seq == [params["data"][0]["trade_seq"], params["data"][-1]["trade_seq"]]


def test_a_damaged_account_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "account.jsonl"
    path.write_text("{}\n")
    with pytest.raises(InputError, match=r"account\.jsonl:1"):
        list(read_account(path))


async def post(simulator: Simulator, **order: object) -> tuple[int, dict[str, Any]]:
    url = simulator.rest_url.replace("/api/v2", "/control")
    async with aiohttp.ClientSession() as http, http.post(url, json=order) as response:
        return response.status, await response.json()


async def until_garbage(client: Client) -> str:
    """The first text that is not JSON."""
    while True:
        try:
            await client.receive()
        except json.JSONDecodeError as error:
            return error.doc


def test_faults_on_demand() -> None:
    async def scenario() -> None:
        async with venue(SimulatorSettings(instruments=6, rate=200.0)) as (simulator, client):
            book = "book.BTC-PERPETUAL.100ms"
            await client.call("public/subscribe", channels=[book])
            status, stats = await post(simulator, action="stats")
            assert (status, stats["sessions"], stats["channels"]) == (200, 1, 1)
            assert (await post(simulator, action="explode"))[0] == 400
            assert (await post(simulator, action="gap", instrument="BTC-NOPE"))[0] == 400
            assert (await post(simulator, action="gap"))[0] == 400
            assert (await post(simulator))[0] == 400
            await post(simulator, action="gap", instrument="BTC-PERPETUAL")
            await client.collect(12)
            ids = [json.loads(raw)["params"]["data"] for raw in client.notifications]
            broken = sum(b["prev_change_id"] != a["change_id"] for a, b in itertools.pairwise(ids))
            assert broken == 1
            await post(simulator, action="garbage", text="{not json")
            assert "{not json" in await until_garbage(client)
            await post(simulator, action="silence")
            await client.catch_up(simulator)
            with pytest.raises(TimeoutError):
                await client.receive(0.25)
            await post(simulator, action="speak")
            await client.receive()
            await post(simulator, action="drop_all")
            while await client.receive() is not None:
                pass
            assert client.close_code == 1006

    run(scenario())


def test_state_changes_are_told() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            await client.call("public/subscribe", channels=["instrument.state.future.BTC"])
            await post(simulator, action="state", instrument="BTC-PERPETUAL", state="halted")
            await client.collect(1)
            params = json.loads(client.notifications[0])["params"]
            assert params["data"]["state"] == "halted"
            assert params["data"]["instrument_name"] == "BTC-PERPETUAL"

    run(scenario())


def test_listings_and_expiries_are_told_and_take_effect() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, client):
            name = "BTC-25DEC26-123000-C"
            await client.call(
                "public/subscribe", channels=["instrument.state.any.any", "instrument.creation.option.BTC"]
            )
            assert (await client.call("public/subscribe", channels=[f"ticker.{name}.100ms"]))["result"] == []
            assert (await post(simulator, action="list", instrument=name))[0] == 200
            assert (await post(simulator, action="list", instrument=name))[0] == 400
            assert (await post(simulator, action="list", instrument="DOGE-PERPETUAL"))[0] == 400
            await client.collect(2)
            created, opened = [json.loads(raw)["params"]["data"] for raw in client.notifications[:2]]
            listed = (await client.call("public/get_instrument", instrument_name=name))["result"]
            assert created == listed
            assert (opened["instrument_name"], opened["state"]) == (name, "open")
            known = [f"{kind}.{name}.100ms" for kind in ("book", "ticker")]
            assert sorted((await client.call("public/subscribe", channels=known))["result"]) == known
            await client.collect(4)
            ticker = json.loads(client.notifications[3])["params"]["data"]
            assert ticker["last_price"] is None
            assert "settlement_price" not in ticker
            book = json.loads(client.notifications[2])["params"]["data"]
            assert (book["change_id"], book["bids"], book["asks"]) == (0, [], []), "nobody has quoted it yet"
            await post(simulator, action="expire", instrument=name)
            await client.collect(5)
            while "inactive" not in client.notifications[-1].decode():
                await client.receive()
            assert (await client.call("public/subscribe", channels=known))["result"] == []
            gone = (await client.call("public/get_instruments", currency="BTC", expired=True))["result"]
            assert [row["instrument_name"] for row in gone].count(name) == 1
            assert (gone[0]["state"], gone[0]["is_active"]) == ("inactive", False)

    run(scenario())


class StuckTransport:
    """A socket whose reader takes one byte at a time, or nothing."""

    def __init__(self, pending: int, *, reads: bool) -> None:
        self.pending = pending
        self.reads = reads
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        """Bytes still to be read; every look lets the reader take one."""
        self.pending -= self.reads
        return 0 if self.aborted else self.pending

    def abort(self) -> None:
        self.aborted = True


def test_the_feed_waits_for_a_slow_session_and_gives_up_on_a_dead_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        hub = Hub(None, max_pending_bytes=10)
        slow = StuckTransport(15, reads=True)
        hub.join(cast(web.WebSocketResponse, None), cast(asyncio.Transport, slow))
        await hub.drained()
        assert slow.pending == 10
        assert not slow.aborted
        monkeypatch.setattr("collectors.simulator.hub.SLOW_SESSION_S", 0.0)
        dead = StuckTransport(15, reads=False)
        hub.join(cast(web.WebSocketResponse, None), cast(asyncio.Transport, dead))
        await hub.drained()
        assert dead.aborted
        assert not slow.aborted

    run(scenario())


def test_a_feed_that_fails_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Market) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr(Market, "step", broken)

    async def scenario() -> None:
        async with Simulator(SimulatorSettings(instruments=2)) as simulator:
            with pytest.raises(ZeroDivisionError):
                await simulator.wait()

    with pytest.raises(ZeroDivisionError):
        run(scenario())


def test_a_taken_port_is_refused_in_words() -> None:
    async def scenario() -> None:
        async with venue() as (simulator, _):
            with pytest.raises(InputError, match=f"port {simulator.port}"):
                await Simulator(SimulatorSettings(port=simulator.port, instruments=1)).__aenter__()

    run(scenario())


@pytest.mark.parametrize(
    "wrong",
    [{"port": 70_000}, {"instruments": 0}, {"rate": -1.0}, {"replay_speed": -1.0}, {"max_frames": -1}],
)
def test_a_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SimulatorSettings(**wrong)
