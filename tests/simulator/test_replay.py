"""Recordings come back byte for byte, in order, once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import zstandard

from collectors.simulator import Simulator, SimulatorSettings
from collectors.simulator.replay import load
from lake.errors import InputError
from tests.simulator.support import FRAMES, Client, run

NAMES = ("ticker_option", "book_snapshot", "book_change", "trades_perpetual", "ticker_perpetual", "quote")
REPLY = b'{"jsonrpc":"2.0","id":1,"result":"ok"}'


def frame(name: str) -> bytes:
    """A hand-made frame with spaces no encoder would put: replay must keep them."""
    return (FRAMES / f"{name}.json").read_bytes().strip().replace(b',"data":', b', "data" : ', 1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same frames in each of the three formats."""
    stamped = [b'configuration: {"l2_book":[]}', b"wss://venue/ws/api/v2 <-> 1700000000.5"]
    stamped += [b'wss://venue/ws/api/v2 <- 1700000000.6: {"method":"public/subscribe"}']
    stamped += [b"1700000000.9: " + REPLY]
    stamped += [f"{1700000001 + n * 0.05}: ".encode() + frame(name) for n, name in enumerate(NAMES)]
    bare = [REPLY, *map(frame, NAMES), b""]
    wrapped = [b'{"_file":"x.json","_msg":' + frame(name) + b"}" for name in NAMES]
    paths = {kind: tmp_path / f"{kind}.txt" for kind in ("stamped", "bare", "wrapped")}
    paths["stamped"].write_bytes(zstandard.ZstdCompressor().compress(b"\n".join(stamped)))
    paths["bare"].write_bytes(b"\n".join(bare))
    paths["wrapped"].write_bytes(b"\n".join(wrapped))
    return paths


@pytest.mark.parametrize("kind", ["stamped", "bare", "wrapped"])
def test_every_format_is_read(files: dict[str, Path], kind: str) -> None:
    records = load([files[kind]])
    assert [record.payload for record in records] == [frame(name) for name in NAMES]
    assert [record.seq for record in records][1:4] == [7000, 7311, [501, 501]]
    offsets = [record.offset_s for record in records]
    assert offsets[0] == 0.0
    assert offsets == sorted(offsets)
    if kind == "stamped":
        assert offsets[-1] == pytest.approx(0.25)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with pytest.raises(InputError, match=r"x\.jsonl"):
        load([path])
    path.write_bytes(frame("quote") + b"\n{broken\n")
    with pytest.raises(InputError, match=r"x\.jsonl:2"):
        load([path])
    path.write_bytes(zstandard.ZstdCompressor().compress(frame("quote") * 50)[:-9])
    with pytest.raises(InputError, match=r"x\.jsonl"):
        load([path])


async def replayed(settings: SimulatorSettings, channels: list[str] | None = None) -> Client:
    """What one client subscribed to `channels` (all recorded ones by default) receives."""
    async with Simulator(settings) as simulator, Client(simulator.ws_url) as client:
        asked = sorted(simulator.feed.channels) if channels is None else channels
        await client.call("public/subscribe", channels=asked)
        await simulator.finished.wait()
        await client.catch_up(simulator)
        assert (await client.call("public/test"))["result"], "the server goes on"
        return client


@pytest.mark.parametrize("speed", [0.0, 10.0])
def test_frames_arrive_byte_for_byte(files: dict[str, Path], speed: float) -> None:
    paths = tuple(files[kind] for kind in ("stamped", "bare"))
    client = run(replayed(SimulatorSettings(replay=paths, replay_speed=speed)))
    assert client.notifications == [frame(name) for name in NAMES] * 2


def test_frames_nobody_subscribed_to_are_skipped(files: dict[str, Path]) -> None:
    settings = SimulatorSettings(replay=(files["bare"],), replay_speed=0.0, replay_grace_s=0.1)
    client = run(replayed(settings, ["book.BTC-PERPETUAL.100ms"]))
    assert client.notifications == [frame("book_snapshot"), frame("book_change")]


def test_everything_can_be_sent_regardless(files: dict[str, Path]) -> None:
    settings = SimulatorSettings(
        replay=(files["wrapped"],), replay_speed=0.0, replay_grace_s=0.1, replay_everything=True
    )
    client = run(replayed(settings, ["ticker.ANYTHING.100ms"]))
    assert client.notifications == [frame(name) for name in NAMES]


def test_the_pace_is_the_recorded_one(files: dict[str, Path]) -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        settings = SimulatorSettings(replay=(files["stamped"],), replay_speed=1.0)
        async with Simulator(settings) as simulator, Client(simulator.ws_url) as client:
            start = loop.time()
            await client.call("public/subscribe", channels=sorted(simulator.feed.channels))
            await client.collect(len(NAMES))
            return loop.time() - start

    assert run(scenario()) >= 0.249


def test_instruments_are_those_of_the_recording(files: dict[str, Path]) -> None:
    async def scenario() -> None:
        settings = SimulatorSettings(replay=(files["bare"],))
        async with Simulator(settings) as simulator, Client(simulator.ws_url) as client:
            rows = (await client.call("public/get_instruments", currency="any"))["result"]
            assert {row["instrument_name"] for row in rows} == {"BTC-5JAN29-45000-C", "BTC-PERPETUAL"}
            assert all(row["is_active"] for row in rows)

    run(scenario())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("deribit_2021-04-05_options_raw_ws.txt.zst", 460),
        ("deribit_2021-04-17_options_raw_ws.txt.zst", 148),
        ("deribit_2026-09-14_testnet_BTC-15SEP26-77000-C.jsonl", 68),
        ("deribit_2026-09-30_prod_tickers_first21.jsonl", 21),
    ],
)
def test_recorded_sessions_come_back_byte_for_byte(real_data: Path, name: str, count: int) -> None:
    path = real_data / "ws" / name
    raw = path.read_bytes()
    if path.suffix == ".zst":
        raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    expected = []
    for line in raw.split(b"\n"):
        start = line.find(b'{"jsonrpc"')
        if (
            start >= 0
            and b"<-" not in line[:start]
            and json.loads(line[start:]).get("method") == "subscription"
        ):
            expected.append(line[start:])
    assert len(expected) == count
    client = run(replayed(SimulatorSettings(replay=(path,), replay_speed=0.0)))
    assert client.notifications == expected
