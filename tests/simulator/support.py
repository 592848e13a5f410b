"""Tools of these tests: a market with a tape, a small client, and the shape of a JSON value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from collectors.simulator import Simulator, SimulatorSettings
from collectors.simulator.chain import build_chain
from collectors.simulator.market import Market
from collectors.simulator.orders import read_order
from tests.waiting import PATIENCE_S

START_MS = 1_795_209_600_000  # 2026-11-20 21:20:00 UTC, a Friday after the expiry
FRAMES = Path(__file__).parent / "frames"


class Everything(Collection[str]):
    """A set of channels that contains all of them."""

    def __contains__(self, channel: object) -> bool:
        return True

    def __iter__(self) -> Any:
        raise NotImplementedError

    def __len__(self) -> int:
        return 1 << 30


@dataclass
class Tape:
    """An outlet that keeps what is published: (channel, data text, seq, prev)."""

    listened: Collection[str] = field(default_factory=Everything)
    rows: list[tuple[str, str, object, int | None]] = field(default_factory=list)
    withheld: list[tuple[str, str, object, int | None]] = field(default_factory=list)

    def publish(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        self.rows.append((channel, data, seq, prev))

    def withhold(self, channel: str, data: str, seq: object, prev: int | None) -> None:
        self.withheld.append((channel, data, seq, prev))

    def data(self, kind: str) -> list[tuple[str, Any]]:
        """(channel, decoded data) of the channels that begin with `kind`."""
        return [(c, json.loads(d)) for c, d, _, _ in self.rows if c.startswith(kind)]


def make_market(
    *,
    instruments: int = 120,
    rate: float = 400.0,
    seed: int = 7,
    seconds: float = 0.0,
    start_ms: int = START_MS,
) -> tuple[Market, Tape]:
    """A market on a tape, moved on by `seconds` of its own time."""
    tape = Tape()
    specs = build_chain(instruments, start_ms)
    market = Market(specs, seed=seed, rate=rate, start_ms=start_ms, outlet=tape)
    for _ in range(int(seconds * 100)):
        market.step()
    return market, tape


class Client:
    """A JSON-RPC client that keeps every frame it receives, as bytes, in order."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._next = 0
        self.frames: list[bytes] = []
        self.notifications: list[bytes] = []
        self.close_code: int | None = None

    async def __aenter__(self) -> Client:
        self._http = aiohttp.ClientSession()
        self.socket = await self._http.ws_connect(self._url, max_msg_size=0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.socket.close()
        await self._http.close()

    async def receive(self, timeout_s: float = PATIENCE_S) -> dict[str, Any] | None:
        """The next frame decoded; None when the connection has ended."""
        message = await self.socket.receive(timeout_s)
        if message.type is not aiohttp.WSMsgType.TEXT:
            self.close_code = self.socket.close_code
            return None
        raw = message.data.encode()
        self.frames.append(raw)
        decoded: dict[str, Any] = json.loads(raw)
        if decoded.get("method") == "subscription":
            self.notifications.append(raw)
        return decoded

    async def call(self, method: str, identity: object = None, **params: object) -> dict[str, Any]:
        """The reply of a call; notifications that came before it are kept."""
        self._next += 1
        identity = self._next if identity is None else identity
        await self.socket.send_json({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
        while True:
            reply = await self.receive()
            assert reply is not None, "the connection ended before the reply"
            if "method" not in reply:
                return reply

    async def collect(self, count: int) -> None:
        """Receive until `count` notifications have come in all."""
        while len(self.notifications) < count:
            assert await self.receive() is not None, f"ended after {len(self.notifications)} of {count}"

    async def catch_up(self, simulator: Simulator) -> None:
        """Receive all that the simulator has sent by now; this must be its only client."""
        while len(self.frames) < simulator.stats()["sent"]:
            assert await self.receive() is not None, "the connection ended before all had come"


Get = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def asked(settings: SimulatorSettings) -> AsyncIterator[tuple[Simulator, Get]]:
    """A simulator and a caller of its REST methods: `get(method, host=…, status=…, **params)`."""
    async with Simulator(settings) as simulator, aiohttp.ClientSession() as http:

        async def get(method: str, host: str = "www", status: int = 200, **params: str | int) -> Any:
            url = simulator.rest_url if host == "www" else simulator.history_url
            async with http.get(f"{url}/public/{method}", params=params) as response:
                body = json.loads(await response.read())
                assert response.status == status, body
                assert {"usIn", "usOut", "usDiff", "testnet"} <= set(body)
                return body["error"] if status != 200 else body["result"]

        yield simulator, get


async def order(simulator: Simulator, action: str, **details: object) -> dict[str, Any]:
    """What the simulator answers to an order."""
    return await simulator.do(read_order({"action": action, **details}))


Shape = dict[str, set[str]]


def shape(values: Iterable[Any]) -> tuple[Shape, set[str]]:
    """Types seen at every path over the values, and the paths present in all of them."""
    types: Shape = {}
    always: set[str] | None = None
    for value in values:
        seen: Shape = {}
        _walk(value, "", seen)
        always = set(seen) if always is None else always & set(seen)
        for path, names in seen.items():
            types.setdefault(path, set()).update(names)
    return types, always or set()


def _walk(value: Any, path: str, seen: Shape) -> None:
    seen.setdefault(path, set()).add(type(value).__name__)
    if isinstance(value, dict):
        for key, inner in value.items():
            _walk(inner, f"{path}.{key}", seen)
    elif isinstance(value, list):
        for inner in value:
            _walk(inner, f"{path}[]", seen)


def hand_made(name: str) -> Any:
    """`params.data` of a frame in `frames/`."""
    return json.loads((FRAMES / f"{name}.json").read_text())["params"]["data"]


def run(coroutine: Any) -> Any:
    """Run a test's coroutine with a limit."""

    async def limited() -> Any:
        async with asyncio.timeout(PATIENCE_S):
            return await coroutine

    return asyncio.run(limited())
