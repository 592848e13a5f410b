"""Everything around a recorder that tells others how it is doing, in one object that lives as long as it does.

Every two seconds the event loop takes the figures (if it hangs, beats stop, as they should) and hands them to
a thread of its own, which replaces the beat file and shows them: neither a slow disk nor a stopped terminal
reaches the loop. The metrics server only reads the last figures, and that only when it is asked.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from collectors.ops.figures import figures
from collectors.ops.heartbeat import Heartbeat, send
from collectors.ops.metrics import serving
from collectors.ops.settings import OpsSettings
from collectors.recorder import Recorder
from lake.beats import COLLECT, Beat, State, beat_path, read_beat, write_beat
from lake.disk import DiskWatch
from lake.root import Root
from lake.spool import SpoolWriter

BEAT_SECONDS: Final = 2.0
WRITER_PATIENCE_SECONDS: Final = 1.0
NS_PER_S: Final = 1e9

OnBeat = Callable[[Beat], None]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Rate:
    """Frames per second between two beats."""

    frames: int = 0
    at_s: float = field(default_factory=time.monotonic)

    def next(self, frames: int) -> float:
        now_s = time.monotonic()
        rate = max(0, frames - self.frames) / max(now_s - self.at_s, 1e-3)
        self.frames, self.at_s = frames, now_s
        return rate


class Operations:
    """A context manager around the whole life of the collector for `stream`; inert until `watch`.

    That it tells nothing before is on purpose: until the stream's lock is held the beat file and the signs of
    life belong to another process.
    """

    def __init__(
        self,
        root: Root,
        stream: str,
        settings: OpsSettings | None = None,
        *,
        on_beat: OnBeat | None = None,
        beat_s: float = BEAT_SECONDS,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`on_beat` gets every beat, in a thread of its own; nobody waits for it."""
        self._root = root
        self._stream = stream
        self._settings = settings or OpsSettings()
        self._beat_s = beat_s
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._path = beat_path(root.run, COLLECT, stream)
        previous = read_beat(self._path)
        samples = previous.collector.disk.samples if previous and previous.collector else ()
        self._disk = DiskWatch(root.path, samples)
        self._heartbeat = Heartbeat(self._settings.heartbeat)
        self._rate = _Rate()
        self._writer = _BeatWriter(self._path.name, self._write, on_beat)
        self._recorder: Recorder | None = None
        self._spool: SpoolWriter | None = None
        self._held = ExitStack()
        self.latest: Beat | None = None

    def __enter__(self) -> Self:
        """Serve the metrics.

        Raises:
            SettingsError: their address cannot be had.
        """
        self._held.enter_context(serving(self._settings.metrics, self._root.run, lambda: self.latest))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The last beat says how it ended; an error goes to the monitor too."""
        with self._held:
            if self._recorder is None:
                return
            try:
                if error is None:
                    self._beat("stopped")
                else:
                    self._beat("failed", str(error) or type(error).__name__)
            except OSError as second:  # the lake's folder is gone, say: `error` is what matters
                _log.warning("the last beat could not be told: %s", second)
            self._writer.close(WRITER_PATIENCE_SECONDS)
            if isinstance(error, Exception) and self._settings.heartbeat.url is not None:
                asyncio.run(send(self._settings.heartbeat, failed=True))

    def watch(self, recorder: Recorder, spool: SpoolWriter) -> None:
        """From now on tell of these two; the first beat is written at once."""
        self._recorder, self._spool = recorder, spool
        self._beat("starting")

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beat while the block runs, in the recorder's event loop."""
        beats = asyncio.create_task(self._go_on_beating())
        try:
            yield
        finally:
            beats.cancel()
            await asyncio.gather(beats, return_exceptions=True)
            await self._heartbeat.close()

    async def _go_on_beating(self) -> None:
        while True:
            try:
                beat = self._beat("running")
                if beat.collector is not None:
                    self._heartbeat.tell(beat.collector.spool.durable_records)
            except Exception:  # noqa: BLE001 - a defect in telling must not end recording
                _log.exception("a beat failed; recording goes on")
            await asyncio.sleep(self._beat_s)

    def _beat(self, state: State, reason: str = "") -> Beat:
        assert self._recorder is not None
        assert self._spool is not None
        now_ns = self._clock_ns()
        frames = sum(session.frames for session in self._recorder.sessions)
        beat = Beat(
            stream=self._stream,
            state=state,
            began_ns=self._began_ns,
            at_ns=now_ns,
            reason=reason,
            collector=figures(
                self._recorder,
                self._spool.stats,
                self._disk.figures(now_ns),
                now_ns=now_ns,
                frames_per_s=self._rate.next(frames),
            ),
        )
        self.latest = beat
        self._writer.put(beat)
        return beat

    def _write(self, beat: Beat) -> None:
        write_beat(self._path, beat)


class _BeatWriter:
    """A thread that writes and shows the newest beat; older ones that wait behind a slow disk are passed over."""

    def __init__(self, name: str, write: OnBeat, on_beat: OnBeat | None) -> None:
        self._name = name
        self._acts = [write, *([on_beat] if on_beat else [])]
        self._beats: queue.SimpleQueue[Beat | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, beat: Beat) -> None:
        """Hand over a beat; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"beats-{self._name}", daemon=True)
            self._thread.start()
        self._beats.put(beat)

    def close(self, patience_s: float) -> None:
        """Let the last beat be written, but never wait for long."""
        self._beats.put(None)
        if self._thread is not None:
            self._thread.join(patience_s)

    def _run(self) -> None:
        closing = False
        while not closing:
            beat = self._beats.get()
            while beat is not None and not self._beats.empty():
                newer = self._beats.get()
                if newer is None:
                    closing = True
                    break
                beat = newer
            if beat is None:
                return
            self._act(beat)

    def _act(self, beat: Beat) -> None:
        for act in self._acts:
            try:
                act(beat)
            except Exception as error:  # noqa: BLE001 - whatever a disk or a terminal has, recording goes on
                _log.warning("a beat could not be told: %s", error)
