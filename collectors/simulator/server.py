"""The simulated venue as a whole: one local port with the socket, the REST methods and a control door."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import msgspec
from aiohttp import WSMsgType, web

from collectors.simulator import rpc
from collectors.simulator.account import Account
from collectors.simulator.control import Control
from collectors.simulator.feeds import GeneratedFeed, ReplayFeed
from collectors.simulator.history import Host
from collectors.simulator.hub import Hub
from collectors.simulator.limits import BannedError, Limits, Pool
from collectors.simulator.orders import Order, read_order
from collectors.simulator.outages import HTTP_TOO_MANY_REQUESTS, Outages
from collectors.simulator.rpc import Clock, RpcError, invalid
from collectors.simulator.script import Step, load_script, play
from collectors.simulator.session import Session
from collectors.simulator.settings import SimulatorSettings
from collectors.simulator.spoil import spoil
from lake.errors import InputError

HOST: Final = "127.0.0.1"
MIN_HEARTBEAT_S: Final = 10
CONNECTIONS_PER_ADDRESS: Final = 32  # documented: HTTP and WebSocket together
SOCKET_METHODS: Final = (
    "subscribe",
    "unsubscribe",
    "unsubscribe_all",
    "set_heartbeat",
    "disable_heartbeat",
)
RATE_LIMIT_CLOSE: Final = 1008  # policy violation (RFC 6455 §7.4.1)
_ENTITY_LIMIT: Final = 16 << 20
_HALF_OPEN_POLL_S: Final = 0.02


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
        self.script: tuple[Step, ...] = ()
        if settings.script:
            self.script = load_script(settings.script, self.feed.instruments())
        self.finished = asyncio.Event()
        self.port = settings.port
        self.clock = Clock()
        self.outages = Outages()
        self.limits: dict[Host, Limits] = {
            "www": Limits(settings.rest_per_second, settings.rest_burst, settings.ban_s),
            "history": Limits(settings.history_per_second, settings.history_burst, settings.ban_s),
        }
        self.max_channels_per_call = settings.max_channels_per_call
        self._subscribes = Pool(settings.subscribe_per_second, settings.subscribe_burst)
        self._control = Control(
            self.hub,
            self.feed,
            self.outages,
            self.clock,
            restart=self._restart,
            limit_channels=self._limit_channels,
            limits=self.limits,
        )
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._askers: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()  # REST connections
        self._task: asyncio.Task[None] | None = None
        self._script_task: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None

    @property
    def ws_url(self) -> str:
        """Where the socket is."""
        return f"ws://{HOST}:{self.port}/ws/api/v2"

    @property
    def rest_url(self) -> str:
        """What `/public/<method>` is appended to."""
        return f"http://{HOST}:{self.port}/api/v2"

    @property
    def history_url(self) -> str:
        """The same for the history host."""
        return f"http://{HOST}:{self.port}/history/api/v2"

    async def __aenter__(self) -> Simulator:
        app = web.Application(client_max_size=_ENTITY_LIMIT)
        app.router.add_get("/ws/api/v2", self._socket)
        app.router.add_get("/api/v2/public/{method}", functools.partial(self._get, "www"))
        app.router.add_get("/history/api/v2/public/{method}", functools.partial(self._get, "history"))
        app.router.add_post("/control", self._ordered)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await self._open(self._runner)
        except OSError as error:
            await self._runner.cleanup()
            raise InputError(f"port {self.settings.port} cannot be opened ({error.strerror})") from None
        self.port = self._runner.addresses[0][1]
        self._task = asyncio.create_task(self._feed())
        if self.script:
            self._script_task = asyncio.create_task(self._play())
        return self

    async def _open(self, runner: web.AppRunner) -> None:
        self._site = web.TCPSite(runner, HOST, self.port)
        await self._site.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        for task in (self._script_task, self._reopening):
            if task is not None:
                task.cancel()
        self.outages.close()
        self.hub.release()
        self.hub.flush()
        for session in list(self.hub.sessions.values()):
            if session.half_open:
                session.transport.abort()  # it would not answer the close frame either
            await session.socket.close()
            self.hub.leave(session)
        if self._runner is not None:
            await self._runner.cleanup()
        if self.account is not None:
            self.account.close()
        if self._task is not None and not self._task.cancelled():
            self._task.result()  # a feed that failed must not look like one that ended

    async def _feed(self) -> None:
        await self.feed.run()
        self.finished.set()

    async def _play(self) -> None:
        await self.hub.began.wait()
        await play(self.script, self.do)

    async def wait(self) -> None:
        """Serve until feed or script fail; their end alone is no reason to stop."""
        await asyncio.gather(*(task for task in (self._task, self._script_task) if task is not None))
        await asyncio.Event().wait()

    # -- HTTP ------------------------------------------------------------------------------------

    async def _get(self, host: Host, request: web.Request) -> web.StreamResponse:
        arrived = self.clock.now_ns()
        method = request.match_info["method"]
        if not self._room(request.transport):
            return _too_many_connections()
        if request.transport is not None:
            self._askers.add(request.transport)
        try:
            self.limits[host].admit(method, request.query_string, asyncio.get_running_loop().time())
            self.outages.check(method)
            if self.outages.active("refuse"):
                return web.Response(status=self.outages.refuse_status)
            body, status = rpc.reply(self.clock, arrived, self._ask(host, method, dict(request.query))), 200
        except BannedError:
            return web.Response(status=HTTP_TOO_MANY_REQUESTS)
        except RpcError as error:
            body, status = rpc.refusal(self.clock, arrived, error), self.outages.http_status(error)
        spoiled = self.outages.spoiled(host, method)
        if spoiled is not None:
            return await spoil(request, spoiled, body)
        return web.Response(body=body, status=status, content_type="application/json")

    def _room(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether this connection, or one more, is within what one address may hold."""
        known = {*self._askers, *(session.transport for session in self.hub.sessions.values())}
        return transport in known or sum(not t.is_closing() for t in known) < CONNECTIONS_PER_ADDRESS

    def _ask(self, host: Host, method: str, params: dict[str, Any]) -> object:
        if method in SOCKET_METHODS:
            raise RpcError(rpc.WEBSOCKET_ONLY, "not_supported_by_http_transport")
        return (self.feed.methods if host == "www" else self.feed.history).call(method, params)

    # -- WebSocket -------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        refused = self.outages.connection_status()
        if refused is not None:
            error = RpcError(rpc.MAINTENANCE, "system_maintenance")
            body = rpc.refusal(self.clock, self.clock.now_ns(), error)
            there = self.outages.active("maintenance")
            return web.Response(status=refused, body=body if there else None)
        if not self._room(request.transport):
            return _too_many_connections()
        # A half-open session must not even answer pings and close frames, so nothing is automatic.
        socket = web.WebSocketResponse(compress=False, autoping=False, autoclose=False)
        await socket.prepare(request)
        transport = request.transport
        if not isinstance(transport, asyncio.Transport):
            return socket
        session = self.hub.join(socket, transport)
        try:
            async for message in socket:
                if session.half_open or session.number not in self.hub.sessions:
                    continue
                if message.type is WSMsgType.TEXT:
                    await self._answer(session, message.data)
                elif message.type is WSMsgType.PING:
                    with contextlib.suppress(ConnectionError):  # gone before it heard the answer
                        await socket.pong(message.data)
            while session.half_open and not transport.is_closing():
                await asyncio.sleep(_HALF_OPEN_POLL_S)
        finally:
            self.hub.leave(session)
        return socket

    async def _answer(self, session: Session, raw: str) -> None:
        arrived = self.clock.now_ns()
        try:
            request = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            self.hub.send(
                session, rpc.refusal(self.clock, arrived, RpcError(rpc.INVALID_REQUEST, "Invalid Request"))
            )
            return
        identity = (request["id"],) if "id" in request else ()
        params = request.get("params") or {}
        fresh: list[str] = []
        try:
            result = self._call(session, request["method"], params, fresh)
        except RpcError as error:
            if error.code == rpc.INVALID_REQUEST:
                identity = ()
            self.hub.send(session, rpc.refusal(self.clock, arrived, error, *identity))
            if error.code == rpc.TOO_MANY_REQUESTS:
                await self.hub.drop(session, RATE_LIMIT_CLOSE, error.message)
            return
        self.hub.send(session, rpc.reply(self.clock, arrived, result, *identity))
        for channel in fresh:
            self.feed.greet(session, channel)
        session.flush()

    def _call(self, session: Session, method: str, params: dict[str, Any], fresh: list[str]) -> object:
        """The result of a call over the socket; channels new to the session are added to `fresh`."""
        family, _, name = method.partition("/")
        self.outages.check(name)
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
        if not self._subscribes.take(asyncio.get_running_loop().time()):
            raise RpcError(rpc.TOO_MANY_REQUESTS, "too_many_requests")
        channels = self._channels(params)
        if len(channels) > self.max_channels_per_call:
            raise RpcError(rpc.INVALID_REQUEST, "request entity too large")
        known = self.feed.channels
        if (
            any(c.endswith(".raw") and c not in known for c in channels)
            and not self.settings.replay_everything
        ):
            raise RpcError(rpc.RAW_NEEDS_LOGIN, "raw_subscriptions_not_available_for_unauthorized")
        accepted = [c for c in channels if c in known or self.settings.replay_everything]
        accepted = self.outages.acknowledged(accepted)
        fresh += [c for c in accepted if self.hub.subscribe(session, c)]
        return sorted(accepted, reverse=True)

    # -- control ---------------------------------------------------------------------------------

    async def _ordered(self, request: web.Request) -> web.Response:
        try:
            result = await self.do(read_order(msgspec.json.decode(await request.read())))
        except (msgspec.DecodeError, InputError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(result)

    async def do(self, order: Order) -> dict[str, Any]:
        """Carry out an order; what it asked for beside the statistics.

        Raises:
            InputError: no such instrument or session, or not in a replay.
        """
        return {**self.stats(), **await self._control.do(order)}

    def _limit_channels(self, count: int) -> None:
        self.max_channels_per_call = count

    async def _restart(self, seconds: float) -> None:
        """Close the port, cut everybody off, and open the same port again later."""
        if self._reopening is not None and not self._reopening.done():
            raise InputError("the port is closed already; it opens again by itself")
        if self._site is not None and self._runner is not None:
            await self._site.stop()
            for session in self.hub.chosen(None):
                await self.hub.drop(session)
            for transport in self._askers:
                transport.close()
            self._reopening = asyncio.create_task(self._reopen(seconds, self._runner))

    async def _reopen(self, seconds: float, runner: web.AppRunner) -> None:
        await asyncio.sleep(seconds)
        await self._open(runner)

    def stats(self) -> dict[str, Any]:
        """What the simulator has done so far."""
        return {
            "sent": self.hub.sent,
            "withheld": self.hub.withheld,
            "sessions": len(self.hub.sessions),
            "channels": len(self.hub.listened),
            "finished": self.finished.is_set(),
            **self.feed.stats(),
        }


def _too_many_connections() -> web.Response:
    refused = web.Response(status=HTTP_TOO_MANY_REQUESTS)
    refused.force_close()
    return refused


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
