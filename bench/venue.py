"""A sender in a process of its own: speaks just enough of the venue's protocol for a session, then sends frames.

The frames are made before the first is sent, and the receiver's CPU is all that is measured, so the cost of
making and sending them stays out of every figure.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgspec
import picows

from bench.frames import market_frames

BURST_FRAMES: Final = 50
PACE_S: Final = 0.005  # a paced sender writes what is due so often


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: so many frames of these channel kinds, per second or (rate 0) as fast as they are read.

    Only `pool` frames are made where it is given; after the last, the first follows.
    """

    frames: int
    kinds: tuple[str, ...] = ("ticker",)
    rate: float = 0.0
    pool: int | None = None

    def made(self) -> list[bytes]:
        """The frames of the pool."""
        return market_frames(min(self.frames, self.pool or self.frames), self.kinds)


def wire(payload: bytes) -> bytes:
    """An unmasked WebSocket text frame of at most 64 KiB (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    return struct.pack("!BBH", 0x81, 126, size) + payload


class _Sender(picows.WSListener):
    """Acknowledges every call; the first subscription starts the frames."""

    def __init__(self, pool: list[bytes], load: Load) -> None:
        self._pool = pool
        self._load = load
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(picows.WSCloseCode.OK)
            transport.disconnect()
        elif frame.msg_type == picows.WSMsgType.TEXT:
            call = msgspec.json.decode(frame.get_payload_as_bytes())
            subscribes = call["method"] == "public/subscribe"
            result = call["params"]["channels"] if subscribes else "ok"
            reply = {"jsonrpc": "2.0", "id": call["id"], "result": result}
            transport.send(picows.WSMsgType.TEXT, msgspec.json.encode(reply))
            if subscribes and self._task is None:
                self._task = asyncio.create_task(self._send_all(transport))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def _send_all(self, transport: picows.WSTransport) -> None:
        loop = asyncio.get_running_loop()
        rate, count, size = self._load.rate, self._load.frames, len(self._pool)
        started, sent = loop.time(), 0
        while sent < count:
            await asyncio.sleep(PACE_S if rate else 0)
            due = int((loop.time() - started) * rate) if rate else sent + BURST_FRAMES
            at = sent % size
            now = min(due - sent, count - sent, size - at)
            transport.underlying_transport.write(b"".join(self._pool[at : at + now]))
            sent += now
            await self._writable.wait()


def _serve(pipe: multiprocessing.connection.Connection, load: Load) -> None:
    """The child process: tells its port when the frames are made, serves until it is terminated."""

    async def main() -> None:
        pool = [wire(frame) for frame in load.made()]
        server = await picows.ws_create_server(lambda _: _Sender(pool, load), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def sending(load: Load) -> Iterator[str]:
    """Address of a venue that sends `load` to the first session that subscribes."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, load), daemon=True)
    child.start()
    theirs.close()  # so that a child that dies ends the wait below
    try:
        yield f"ws://127.0.0.1:{ours.recv()}/ws/api/v2"
    finally:
        child.terminate()
        child.join()
