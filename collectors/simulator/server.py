"""The simulated venue as a whole: one local port with the socket, the REST methods and a control door."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Literal

import msgspec
from aiohttp import WSMsgType, web

from collectors.simulator import rpc
from collectors.simulator.account import Account
from collectors.simulator.feeds import GeneratedFeed, ReplayFeed
from collectors.simulator.rpc import RpcError, invalid
from collectors.simulator.session import Hub, Session
from collectors.simulator.settings import SimulatorSettings
from lake.errors import InputError

HOST: Final = "127.0.0.1"
MIN_HEARTBEAT_S: Final = 10
SOCKET_METHODS: Final = (
    "subscribe",
    "unsubscribe",
    "unsubscribe_all",
    "set_heartbeat",
    "disable_heartbeat",
)
GARBAGE: Final = '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERP'
_ENTITY_LIMIT: Final = 16 << 20


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /control` takes.

    `drop_all` cuts every connection; `garbage` sends `text` to everybody; `silence` discards every frame
    until `speak`; `gap` swallows the next `count` changes of one book while its chain goes on; `state` moves
    an instrument to another state, `expire` ends its life, `list` adds a new one by name; `flush_account`
    makes the account complete up to now; `stats` only reports.
    """

    action: Literal[
        "drop_all", "garbage", "silence", "speak", "gap", "state", "expire", "list", "flush_account", "stats"
    ]
    instrument: str = ""
    count: int = 1
    state: str = ""
    text: str = GARBAGE


class Simulator:
    """`async with Simulator(settings) as sim:` serves until the block ends.

    `finished` is set when a replay has sent its last frame, or a market its `max_frames`; the server goes on.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.account = Account(settings.account) if settings.account else None
        self.hub = Hub(self.account, settings.max_pending_bytes)
        self.feed: GeneratedFeed | ReplayFeed = (
            ReplayFeed(settings, self.hub) if settings.replay else GeneratedFeed(settings, self.hub)
        )
        self.finished = asyncio.Event()
        self.port = settings.port
        self._runner: web.AppRunner | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def ws_url(self) -> str:
        """Where the socket is."""
        return f"ws://{HOST}:{self.port}/ws/api/v2"

    @property
    def rest_url(self) -> str:
        """What `/public/<method>` is appended to."""
        return f"http://{HOST}:{self.port}/api/v2"

    async def __aenter__(self) -> Simulator:
        app = web.Application(client_max_size=_ENTITY_LIMIT)
        app.router.add_get("/ws/api/v2", self._socket)
        app.router.add_get("/api/v2/public/{method}", self._get)
        app.router.add_post("/control", self._control)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, self.settings.port)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise InputError(f"port {self.settings.port} cannot be opened ({error.strerror})") from None
        self.port = self._runner.addresses[0][1]
        self._task = asyncio.create_task(self._feed())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self.hub.flush()
        for session in list(self.hub.sessions.values()):
            await session.socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self.account is not None:
            self.account.close()
        if self._task is not None and not self._task.cancelled():
            self._task.result()  # a feed that failed must not look like one that ended

    async def _feed(self) -> None:
        await self.feed.run()
        self.finished.set()

    async def wait(self) -> None:
        """Serve until the feed fails; its end alone is no reason to stop."""
        if self._task is not None:
            await self._task
        await asyncio.Event().wait()

    # -- HTTP ------------------------------------------------------------------------------------

    async def _get(self, request: web.Request) -> web.Response:
        arrived = time.time_ns()
        method = request.match_info["method"]
        try:
            body, status = rpc.reply(arrived, self._ask(method, dict(request.query))), 200
        except RpcError as error:
            body, status = rpc.refusal(arrived, error), 400
        return web.Response(body=body, status=status, content_type="application/json")

    def _ask(self, method: str, params: dict[str, Any]) -> object:
        if method in SOCKET_METHODS:
            raise RpcError(rpc.WEBSOCKET_ONLY, "not_supported_by_http_transport")
        return self.feed.methods.call(method, params)

    # -- WebSocket -------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return socket
        session = self.hub.join(socket, transport)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._answer(session, message.data)
        finally:
            self.hub.leave(session)
        return socket

    def _answer(self, session: Session, raw: str) -> None:
        arrived = time.time_ns()
        try:
            request = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            self.hub.send(session, rpc.refusal(arrived, RpcError(rpc.INVALID_REQUEST, "Invalid Request")))
            return
        identity = (request["id"],) if "id" in request else ()
        params = request.get("params") or {}
        fresh: list[str] = []
        try:
            result = self._call(session, request["method"], params, fresh)
        except RpcError as error:
            if error.code == rpc.INVALID_REQUEST:
                identity = ()
            self.hub.send(session, rpc.refusal(arrived, error, *identity))
            return
        self.hub.send(session, rpc.reply(arrived, result, *identity))
        for channel in fresh:
            self.feed.greet(session, channel)
        session.flush()

    def _call(self, session: Session, method: str, params: dict[str, Any], fresh: list[str]) -> object:
        """The result of a call over the socket; channels new to the session are added to `fresh`."""
        family, _, name = method.partition("/")
        if method == "public/subscribe":
            return self._subscribe(session, params, fresh)
        if method == "public/unsubscribe":
            gone = [c for c in self._channels(params) if c in session.channels]
            self.hub.unsubscribe(session, gone)
            return gone
        if method == "public/unsubscribe_all":
            self.hub.unsubscribe(session, list(session.channels))
            return "ok"
        if method == "public/set_heartbeat":
            interval = params.get("interval")
            if not isinstance(interval, int | float) or interval < MIN_HEARTBEAT_S:
                raise invalid("interval", f"value must be >= {MIN_HEARTBEAT_S}")
            session.beat(interval * self.settings.heartbeat_second_s, self.hub.send)
            return "ok"
        if method == "public/disable_heartbeat":
            session.stop_beat()
            return "ok"
        if method == "public/auth":
            raise RpcError(rpc.UNAUTHORIZED, "unauthorized", reason="invalid_credentials")
        if family != "public":
            raise RpcError(rpc.UNKNOWN_METHOD, "Method not found")
        if name == "test":
            session.test_pending = False
        return self.feed.methods.call(name, params)

    def _channels(self, params: dict[str, Any]) -> list[str]:
        channels = params.get("channels")
        if not isinstance(channels, list) or not all(isinstance(c, str) for c in channels):
            raise invalid(
                "channels", "value is required" if channels is None else "must be a list of strings"
            )
        return list(dict.fromkeys(channels))

    def _subscribe(self, session: Session, params: dict[str, Any], fresh: list[str]) -> list[str]:
        """Unknown channels are dropped without a word; one raw channel without login fails the whole call."""
        channels = self._channels(params)
        if len(channels) > self.settings.max_channels_per_call:
            raise RpcError(rpc.INVALID_REQUEST, "request entity too large")
        known = self.feed.channels
        if (
            any(c.endswith(".raw") and c not in known for c in channels)
            and not self.settings.replay_everything
        ):
            raise RpcError(rpc.RAW_NEEDS_LOGIN, "raw_subscriptions_not_available_for_unauthorized")
        accepted = [c for c in channels if c in known or self.settings.replay_everything]
        fresh += [c for c in accepted if self.hub.subscribe(session, c)]
        return sorted(accepted, reverse=True)

    # -- control ---------------------------------------------------------------------------------

    async def _control(self, request: web.Request) -> web.Response:
        try:
            result = self.control(msgspec.json.decode(await request.read(), type=Order))
        except (msgspec.DecodeError, InputError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(result)

    def control(self, order: Order) -> dict[str, Any]:
        """Do one scripted fault, or only report.

        Raises:
            InputError: no such instrument, or not in a replay.
        """
        hub = self.hub
        match order.action:
            case "drop_all":
                hub.drop_all()
            case "garbage":
                hub.publish_bytes(tuple(hub.sessions.values()), None, order.text.encode(), None, None)
                hub.flush()
            case "silence" | "speak":
                hub.silent = order.action == "silence"
            case "gap":
                self.feed.gap(order.instrument, order.count)
            case "state":
                self.feed.set_state(order.instrument, order.state)
            case "expire":
                self.feed.expire(order.instrument)
            case "list":
                self.feed.list_instrument(order.instrument)
            case "flush_account" if self.account is not None:
                self.account.flush()
        return self.stats()

    def stats(self) -> dict[str, Any]:
        """What the simulator has done so far."""
        return {
            "sent": self.hub.sent,
            "sessions": len(self.hub.sessions),
            "channels": len(self.hub.listened),
            "finished": self.finished.is_set(),
            **self.feed.stats(),
        }


async def run(settings: SimulatorSettings, on_ready: Callable[[Simulator], None] | None = None) -> None:
    """Serve a simulated venue until SIGTERM or SIGINT; `on_ready` is told once it can be reached."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Simulator(settings) as simulator:
        if on_ready is not None:
            on_ready(simulator)
        serving = asyncio.create_task(simulator.wait())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if serving.done():
            serving.result()
        serving.cancel()
