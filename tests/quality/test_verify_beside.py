"""A proof beside everything that writes, recorder, ingester, compaction and retention: no false alarm."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lake.delta import Table
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import SpoolSettings, SpoolWriter
from lake.tables import Tables
from pipeline.compact import CompactSettings, compact
from pipeline.ingest import IngestSettings, Kept, ingest
from quality.verify import verify
from tests.pipeline.kit import STREAM, durable_frames, record_market
from tests.system import kit

VERIFICATIONS = 12 * kit.ROUNDS
FRAMES_PER_SEGMENT = 15
AHEAD_MAX = 40
COMPACTED = ("quotes", "trades", "book", "instruments")
SMALL = SpoolSettings(commit_interval_ms=1.0, retain_hours=0.0)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return durable_frames(
        record_market(tmp_path_factory.mktemp("market") / "lake", frames=1500, instruments=20)
    )


class Beside:
    """Threads that do a thing again and again until the block ends; what they raise is raised then."""

    def __init__(self, *things: Callable[[], object]) -> None:
        self._stop = threading.Event()
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._again, args=(thing,)) for thing in things]

    def _again(self, thing: Callable[[], object]) -> None:
        try:
            while not self._stop.is_set():
                thing()
        except BaseException as error:
            self._failed.append(error)

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]


def test_every_verdict_beside_all_writers_is_that_at_rest(tmp_path: Path, frames: list[bytes]) -> None:
    root = open_root(tmp_path / "lake", create=True)
    kept = Kept(Tables(root))
    ingested = threading.Semaphore(AHEAD_MAX)
    position = 0

    with SpoolWriter(root.stream(STREAM), SMALL) as writer:

        def record() -> None:
            nonlocal position
            if not ingested.acquire(timeout=0.1):
                return
            at = position % (len(frames) - FRAMES_PER_SEGMENT)
            writer.extend(frames[at : at + FRAMES_PER_SEGMENT])
            writer.flush()
            writer.rotate()
            position += FRAMES_PER_SEGMENT

        def bring_in() -> None:
            report = ingest(root, IngestSettings(records_per_commit=30), SMALL, kept=kept)
            for _ in range(report.segments):
                ingested.release()

        with Beside(record, bring_in, lambda: _compact(root)):
            verdicts = [verify(root).problems for _ in range(VERIFICATIONS)]
    assert verdicts == [[]] * VERIFICATIONS
    ingest(root, kept=kept)
    assert verify(root).problems == []
    assert position > 0


def _compact(root: Root) -> None:
    """Rewrite, and take away at once what was replaced: half of it is retired, half deleted, while it is proven."""
    before = {name: _active(root, name) for name in COMPACTED}
    compact(root, CompactSettings(roll_up_files=3), tables=COMPACTED)
    compact(root, tables=["quotes"], days=[dt.datetime.now(dt.UTC).date()])
    for name, paths in before.items():
        for number, path in enumerate(sorted(paths - _active(root, name))):
            target = root.retired / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            (root.table(name) / path).rename(target)
            if number % 2:
                target.unlink()


def _active(root: Root, name: str) -> set[str]:
    table = Table.find(root, TABLES[name])
    return {file.path for file in table.files()} if table else set()
