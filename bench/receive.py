"""What receiving costs: CPU seconds per million frames of 760 bytes, for each WebSocket library.

A server process writes the frames to the loopback, many to a write, so that the figure is the library's and
not that of one wake-up and system call per frame; the last rows send each frame by itself to show that cost.
The transport is measured with an empty callback, on the collector's real path (stamp, append to a sink that
only counts, mark of a notification), and under TLS where the `openssl` command is there.

    python -m bench.receive [--frames N] [--long]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import shutil
import ssl
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import picows

from bench.harness import Figure, cpu, report
from collectors.deribit.rpc import is_notification
from collectors.sink import Tape
from collectors.transport import TRANSPORTS, OnFrames, TransportSettings
from lake.spool import RecordKind

FRAME_BYTES = 760
BURST_FRAMES = 50
FRAMES, FRAMES_LONG = 100_000, 400_000


def make_frame() -> bytes:
    """A ticker-like notification of `FRAME_BYTES` bytes."""
    params = {"channel": "ticker.BTC-27MAR27-90000-C.100ms", "data": {"pad": ""}}
    message = {"jsonrpc": "2.0", "method": "subscription", "params": params}
    bare = len(json.dumps(message, separators=(",", ":")))
    params["data"] = {"pad": "x" * (FRAME_BYTES - bare)}
    return json.dumps(message, separators=(",", ":")).encode()


class _Blaster(picows.WSListener):
    """Answers "frames burst" by so many frames, `burst` to a write, no faster than they are read; closes."""

    def __init__(self) -> None:
        self._writable = asyncio.Event()
        self._writable.set()
        self._task: asyncio.Task[None] | None = None

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type == picows.WSMsgType.TEXT:
            self._task = asyncio.create_task(
                self._blast(transport, *map(int, frame.get_payload_as_bytes().split()))
            )
        elif frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def _blast(self, transport: picows.WSTransport, frames: int, burst: int) -> None:
        payload = make_frame()
        chunk = (struct.pack("!BBH", 0x81, 126, len(payload)) + payload) * burst
        for _ in range(0, frames, burst):
            transport.underlying_transport.write(chunk)
            await asyncio.sleep(0)
            await self._writable.wait()
        transport.send_close(picows.WSCloseCode.OK)


def serve(pipe: multiprocessing.connection.Connection, certificate: tuple[str, str] | None) -> None:
    """The server process: tells its port, serves until it is terminated."""

    async def main() -> None:
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
        server = await picows.ws_create_server(lambda _: _Blaster(), "127.0.0.1", 0, ssl=context)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class _CountingSink:
    """Appends nowhere."""

    def __init__(self) -> None:
        self.records = 0

    def append(
        self,
        payload: bytes,
        *,
        connection: int = 0,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        del payload, connection, kind, recv_ns
        self.records += 1

    def extend(
        self,
        payloads: Sequence[bytes],
        *,
        connection: int = 0,
        kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:
        del connection, kind, recv_ns
        self.records += len(payloads)

    def flush(self, timeout_s: float | None = None) -> None:
        del timeout_s


def _ignore(_: list[bytes]) -> None:
    return


def _session_path() -> OnFrames:
    tape = Tape(_CountingSink())

    def on_frames(payloads: list[bytes]) -> None:
        if not all(map(is_notification, payloads)):
            raise AssertionError(payloads)
        tape.frames(payloads, 1)

    return on_frames


async def receive(
    transport: str,
    url: str,
    on_frames: OnFrames,
    order: tuple[int, int],
    ca_file: Path | None,
) -> float:
    """CPU seconds to receive the frames of `order` (frames, frames to a write)."""
    link = await TRANSPORTS[transport](url, on_frames, TransportSettings(ca_file=ca_file))
    with cpu() as clock:
        link.send(b"%d %d" % order)
        await link.wait_closed()
    return clock.used


def make_certificate(folder: Path) -> tuple[str, str] | None:
    """Files of a certificate for 127.0.0.1 and its key; None without the `openssl` command."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    options = "-x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([openssl, "req", *options.split(), *names], check=True, capture_output=True)
    return cert, key


def measure(
    title: str,
    on_frames: OnFrames,
    order: tuple[int, int],
    certificate: tuple[str, str] | None = None,
) -> list[Figure]:
    """One figure for each library."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, certificate), daemon=True
    )
    server.start()
    theirs.close()
    figures = []
    try:
        scheme = "wss" if certificate else "ws"
        ca_file = Path(certificate[0]) if certificate else None
        url = f"{scheme}://127.0.0.1:{ours.recv()}/"
        for transport in TRANSPORTS:
            used = asyncio.run(receive(transport, url, on_frames, order, ca_file))
            figures.append(Figure(f"{title}, {transport}", used / order[0] * 1e6, "CPU-s/M frames"))
    finally:
        server.terminate()
        server.join()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="CPU cost of receiving, by WebSocket library")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--long", action="store_true", help=f"{FRAMES_LONG:,} frames instead of {FRAMES:,}")
    options = parser.parse_args()
    frames = options.frames or (FRAMES_LONG if options.long else FRAMES)
    figures = measure("transport alone", _ignore, (frames, BURST_FRAMES))
    figures += measure("stamp, append, classify", _session_path(), (frames, BURST_FRAMES))
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        if certificate is not None:
            figures += measure("transport alone, TLS", _ignore, (frames, BURST_FRAMES), certificate)
    figures += measure("each frame by itself", _ignore, (frames, 1))
    report("Receiving, by WebSocket library", figures)


if __name__ == "__main__":
    main()
