"""A scripted venue for tests: answers calls as told, records what it was asked, and pushes what it is given.

It runs in the test's own event loop, so that a test drives both ends step by step without sleeping.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSMsgType, web

Call = dict[str, Any]
Answer = Callable[["Peer", Call], Any]


class Peer:
    """One connected client, seen from the venue."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request
        self.calls: list[Call] = []
        self.channels: list[str] = []
        self.close_code: int | None = None
        self.gone = asyncio.Event()
        self._news = asyncio.Condition()

    async def push(self, *frames: bytes) -> None:
        for frame in frames:
            await self.socket.send_str(frame.decode("utf-8", "surrogateescape"))

    async def reply(self, call: Call, result: Any) -> None:
        await self.socket.send_json(
            {"jsonrpc": "2.0", "id": call["id"], "result": result, "usIn": 1, "usOut": 2}
        )

    async def fail(self, call: Call, code: int, message: str, *, with_id: bool = True) -> None:
        reply: Call = {"jsonrpc": "2.0", "error": {"code": code, "message": message}}
        await self.socket.send_json({**reply, "id": call["id"]} if with_id else reply)

    def reset(self) -> None:
        """Cut the connection without a close frame."""
        transport = self.request.transport
        assert transport is not None
        transport.abort()

    async def called(self, method: str, times: int = 1) -> Call:
        """Wait for the `times`-th call of `method`."""
        async with self._news:
            await self._news.wait_for(lambda: len(self._of(method)) >= times)
        return self._of(method)[times - 1]

    def _of(self, method: str) -> list[Call]:
        return [call for call in self.calls if call["method"] == method]

    async def note(self, call: Call) -> None:
        async with self._news:
            self.calls.append(call)
            self._news.notify_all()


async def answer_all(peer: Peer, call: Call) -> None:
    """The well-behaved venue."""
    results: dict[str, Any] = {
        "public/subscribe": lambda: call["params"]["channels"][::-1],
        "public/unsubscribe": lambda: call["params"]["channels"],
        "public/set_heartbeat": lambda: "ok",
        "public/test": lambda: {"version": "1.2.26"},
    }
    if call["method"] == "public/subscribe":
        peer.channels += call["params"]["channels"]
    if call["method"] == "public/unsubscribe":
        peer.channels = [c for c in peer.channels if c not in call["params"]["channels"]]
    await peer.reply(call, results[call["method"]]())


class Venue:
    """The server: `answer` decides what a call gets; `rest` holds (status, body) answers in turn."""

    def __init__(self) -> None:
        self.answer: Answer = answer_all
        self.rest: list[tuple[int, bytes]] = []
        self.rest_asked: list[str] = []
        self.upgrade_statuses: list[int] = []
        self.peers: list[Peer] = []
        self.port = 0
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/api/v2"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v2"

    async def peer(self) -> Peer:
        """The next client that connects."""
        return await self._arrived.get()

    async def on_socket(self, request: web.Request) -> web.StreamResponse:
        if self.upgrade_statuses:
            status = self.upgrade_statuses.pop(0)
            if status:
                return web.Response(status=status)
        socket = web.WebSocketResponse(compress=False, max_msg_size=0)
        await socket.prepare(request)
        peer = Peer(socket, request)
        self.peers.append(peer)
        self._arrived.put_nowait(peer)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    call = json.loads(message.data)
                    await peer.note(call)
                    await self.answer(peer, call)
        finally:
            peer.close_code = socket.close_code
            peer.gone.set()
        return socket

    async def on_rest(self, request: web.Request) -> web.Response:
        self.rest_asked.append(request.path_qs)
        status, body = self.rest.pop(0) if len(self.rest) > 1 else self.rest[0]
        return web.Response(status=status, body=body, content_type="application/json")


@asynccontextmanager
async def serving(ssl: Any = None) -> AsyncIterator[Venue]:
    """A venue on a free port of the loopback."""
    venue = Venue()
    app = web.Application()
    app.router.add_get("/ws/api/v2", venue.on_socket)
    app.router.add_get("/api/v2/public/{method}", venue.on_rest)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl)
    await site.start()
    venue.port = runner.addresses[0][1]
    try:
        yield venue
    finally:
        for peer in venue.peers:
            if not peer.gone.is_set():
                peer.reset()
        await runner.cleanup()
