"""How an ingester is doing: sums over its rounds, told by a beat after every commit and round."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from lake.beats import INGEST, Beat, IngestFigures, State, beat_path, read_beat, write_beat
from lake.errors import RootError
from lake.root import Root
from pipeline.decoding import Chunk

NS_PER_S: Final = 1e9
ROWS: Final = "rows_"

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Sums:
    """One stream's, since the process began; `committed_ns` also from the process before."""

    rounds: int = 0
    failed_rounds: int = 0
    last_error: str | None = None
    committed_offset: int = 0
    committed_ns: int | None = None
    decode_lag_s: float | None = None
    commit_lag_s: float | None = None
    counts: Counter[str] = field(default_factory=Counter)
    frames: Counter[str] = field(default_factory=Counter)
    frame_bytes: Counter[str] = field(default_factory=Counter)

    def figures(self) -> IngestFigures:
        return IngestFigures(
            rounds=self.rounds,
            failed_rounds=self.failed_rounds,
            last_error=self.last_error,
            committed_offset=self.committed_offset,
            committed_ns=self.committed_ns,
            decode_lag_s=self.decode_lag_s,
            commit_lag_s=self.commit_lag_s,
            quarantined_records=self.counts["rejected"],
            rows={k.removeprefix(ROWS): n for k, n in self.counts.items() if k.startswith(ROWS)},
            frames=dict(self.frames),
            frame_bytes=dict(self.frame_bytes),
        )


class Progress:
    """The sums of one process that ingests on and on; it tells only of streams whose lock it has held."""

    def __init__(self, root: Root, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._run = root.run
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._sums: dict[str, _Sums] = {}

    @contextmanager
    def round(self, name: str) -> Iterator[None]:
        """One round over stream `name`, whose lock is held; an error is told and goes on its way."""
        sums = self._sums.get(name)
        if sums is None:
            previous = read_beat(beat_path(self._run, INGEST, name))
            known_ns = previous.ingest.committed_ns if previous and previous.ingest else None
            sums = self._sums[name] = _Sums(committed_ns=known_ns)
        try:
            yield
        except Exception as error:
            sums.failed_rounds += 1
            sums.last_error = str(error) or type(error).__name__
            raise
        else:
            sums.rounds += 1
            sums.last_error = None
        finally:
            self._tell(name, "running")

    def committed(self, name: str, chunk: Chunk, decoded_ns: int) -> None:
        """`chunk`, which had been decoded at `decoded_ns`, is in all tables."""
        sums = self._sums[name]
        sums.committed_offset = chunk.end_offset
        sums.committed_ns = chunk.end_ns
        sums.decode_lag_s = (decoded_ns - chunk.end_ns) / NS_PER_S
        sums.commit_lag_s = (self._clock_ns() - chunk.end_ns) / NS_PER_S
        sums.counts.update(chunk.counts)
        sums.frames.update(chunk.class_frames)
        sums.frame_bytes.update(chunk.class_bytes)
        self._tell(name, "running")

    def close(self, error: BaseException | None = None) -> None:
        """The process ends, with `error` if there is one."""
        for name in self._sums:
            if error is None:
                self._tell(name, "stopped")
            else:
                self._tell(name, "failed", str(error) or type(error).__name__)

    def _tell(self, name: str, state: State, reason: str = "") -> None:
        beat = Beat(
            stream=name,
            state=state,
            began_ns=self._began_ns,
            at_ns=self._clock_ns(),
            reason=reason,
            ingest=self._sums[name].figures(),
        )
        try:
            write_beat(beat_path(self._run, INGEST, name), beat)
        except (OSError, RootError) as error:
            _log.warning("a beat could not be written: %s", error)  # a full disk, say; the tables matter more
