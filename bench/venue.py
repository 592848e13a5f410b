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
    """What to send: so many frames of these channel kinds, per second or (rate 0) as fast as they are read."""

    frames: int
    kinds: tuple[str, ...] = ("ticker",)
    rate: float = 0.0


def wire(payload: bytes) -> bytes:
    """An unmasked WebSocket text frame of at most 64 KiB (RFC 6455 §5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    return struct.pack("!BBH", 0x81, 126, size) + payload


class _Sender(picows.WSListener):
    """Acknowledges every call; the first subscription starts the frames."""

    def __init__(self, frames: list[bytes], rate: float) -> None:
        self._frames = frames
        self._rate = rate
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
        started, sent, count = loop.time(), 0, len(self._frames)
        while sent < count:
            if self._rate:
                await asyncio.sleep(PACE_S)
                due = min(int((loop.time() - started) * self._rate), count)
            else:
                await asyncio.sleep(0)
                due = min(sent + BURST_FRAMES, count)
            transport.underlying_transport.write(b"".join(self._frames[sent:due]))
            sent = due
            await self._writable.wait()


def _serve(pipe: multiprocessing.connection.Connection, load: Load) -> None:
    """The child process: tells its port when the frames are made, serves until it is terminated."""

    async def main() -> None:
        frames = [wire(frame) for frame in market_frames(load.frames, load.kinds)]
        server = await picows.ws_create_server(lambda _: _Sender(frames, load.rate), "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


@contextmanager
def sending(load: Load) -> Iterator[str]:
    """Address of a venue that sends `load` to the first session that subscribes."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, load), daemon=True)
    child.start()
    try:
        yield f"ws://127.0.0.1:{ours.recv()}/ws/api/v2"
    finally:
        child.terminate()
        child.join()
