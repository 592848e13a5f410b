"""Collector, ingester and compactor at work together, each killed again and again: nothing is lost or doubled."""

from __future__ import annotations

import datetime
import signal
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.content import content_hash
from lake.root import Root, open_root
from lake.schema import TABLES
from lake.spool import read_segment, sealed_segments
from pipeline.compact import compact
from pipeline.decoding import OFFSET, chunks
from pipeline.ingest import ingest
from tests.pipeline.kit import MODULUS, STREAM, TICKS, Holding, assert_sound, held
from tests.system import kit
from tests.system.kit import Life
from tests.system.test_collector_kills import check_account, check_reports

COLLECTOR_KILLS = 14 * kit.ROUNDS
OTHER_KILLS = 9 * kit.ROUNDS
KILLED = -9


@dataclass
class Role:
    """One of the three: a child after the other, each killed at some moment unless it ends before."""

    name: str
    request: dict[str, object]
    longest_s: float
    kills_wanted: int
    lives: list[Life] = field(default_factory=list)
    said: str = ""
    thread: threading.Thread | None = None

    @property
    def kills(self) -> int:
        return sum(life.status == KILLED for life in self.lives)

    def begin(self, folder: Path, go_on: Callable[[], bool]) -> None:
        self.thread = threading.Thread(target=self._run, args=(folder, go_on))
        self.thread.start()

    def _run(self, folder: Path, go_on: Callable[[], bool]) -> None:
        chance = kit.rng(len(self.name))
        with kit.forge(folder / f"{self.name}.log") as forge:
            while go_on():
                self.lives.append(forge.run(self.request, kill_after_s=chance.uniform(0.05, self.longest_s)))
            self.said = forge.said()


def test_all_three_killed_at_random(tmp_path: Path) -> None:
    account = tmp_path / "account.jsonl"
    root = open_root(tmp_path / "lake", create=True)
    market = SimulatorSettings(instruments=40, rate=1200.0, seed=6, account=account)
    with start(market) as venue:
        roles = the_three(root, venue)
        stop = threading.Event()
        for role in roles:
            role.begin(tmp_path, lambda: not stop.is_set() and any(r.kills < r.kills_wanted for r in roles))
        for role in roles:
            assert role.thread is not None
            role.thread.join()
        with kit.forge(tmp_path / "last.log") as forge:
            stopped = (kit.FLOWING_COMMITS, signal.SIGTERM)
            roles[0].lives.append(forge.run({"record": recording(root, venue)}, after_commits=stopped))
    assert all(role.kills >= role.kills_wanted for role in roles)
    for role in roles:
        assert {life.status for life in role.lives} <= {0, KILLED}, role.said
    found = kit.records(root)
    check_reports(found, roles[0].lives)
    check_account(found, account)
    ingest(root)
    assert_sound(root)
    compact(root, now=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
    assert_sound(root)
    assert held(root) == each_tick_once(root)


def recording(root: Root, venue: SimulatorProcess) -> dict[str, object]:
    return {"root": str(root.path), "ws_url": venue.ws_url, "rest_url": venue.rest_url, "spool": kit.SPOOL}


def the_three(root: Root, venue: SimulatorProcess) -> list[Role]:
    lake = ["--root", str(root.path)]
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    follow = {"LAKE_INGEST_FOLLOW_SECONDS": "0.05", "LAKE_INGEST_RECORDS_PER_COMMIT": "400"}
    return [
        Role("collector", {"record": recording(root, venue)}, 0.8, COLLECTOR_KILLS),
        Role("ingester", {"verb": [*lake, "ingest", "--follow"], "environment": follow}, 1.5, OTHER_KILLS),
        Role("compactor", {"verb": [*lake, "compact", "--date", today]}, 1.2, OTHER_KILLS),
    ]


def each_tick_once(root: Root) -> Holding:
    """The whole spool decoded in one go, the first received of each natural key."""
    tables: dict[str, list[pa.Table]] = {name: [] for name in TICKS}
    segments = sealed_segments(root.stream(STREAM))
    items = (item for segment in segments for item in read_segment(segment.path))
    for chunk in chunks(items, "deribit", segments[0].stream):
        for name in TICKS:
            if name in chunk.rows:
                tables[name].append(chunk.rows[name].drop_columns([OFFSET]))
    rows: Counter[str] = Counter()
    hashes: Counter[str] = Counter()
    for name, pieces in tables.items():
        kept = first_of_each(pa.concat_tables(pieces), TABLES[name].natural_key)
        rows[name] = len(kept)
        hashes[name] = content_hash(kept) % MODULUS
    return Holding(dict(rows), dict(hashes))


def first_of_each(rows: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Without sorting or hashing of ours: rows are in the order of their receipt."""
    seen: set[tuple[object, ...]] = set()
    keep = []
    for values in zip(*(rows[column].to_pylist() for column in key), strict=True):
        keep.append(values not in seen)
        seen.add(values)
    return rows.filter(pa.array(keep))
