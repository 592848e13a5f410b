"""The collector killed at any moment: what it had called durable is there, once, in order, and the rest is told.

The venue's account says which bytes it sent on which session. Each life of the collector must have left the
beginning of its session, without a hole, at least as far as it had reported; and for every interruption `gaps`
must name the interval between the last record before and the first frame after, no longer and no shorter.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from collectors.simulator import SimulatorSettings
from collectors.simulator.account import frame_hash
from collectors.simulator.process import SimulatorProcess, start
from lake.root import Root, open_root
from pipeline.ingest import ingest
from tests.pipeline.kit import assert_sound, expected, held, read_table
from tests.system import kit
from tests.system.kit import Forge, Life, Record

RANDOM_KILLS = 14 * kit.ROUNDS
YOUNG_S = 0.5
"""Until then a life may be killed at a moment by the clock: on a slow machine, before its first frame."""
STOPPED = (kit.FLOWING_COMMITS, signal.SIGTERM)
STEPS = (
    "spool:after_create",
    "spool:before_write",
    "spool:after_write",
    "spool:seal_before_write",
    "spool:seal_after_write",
    "spool:seal_after_fsync",
    "spool:before_rename",
    "spool:after_rename",
    "spool:after_seal",
    "spool:before_mark",
    "spool:after_fsync",
    "recovery:before_rename",  # of what the kill before this one left unsealed
    "recovery:after_rename",
)
SEEN_MORE_THAN_ONCE = frozenset({"spool:before_write", "spool:after_write", "spool:after_fsync"})
KILLED = -9


@dataclass
class Bench:
    """A venue that keeps an account, and a lake that is recorded from it life by life."""

    venue: SimulatorProcess
    forge: Forge
    folder: Path
    account: Path

    def live(
        self,
        *,
        kill_after_s: float | None = None,
        after_commits: tuple[int, signal.Signals] | None = STOPPED,
        crash_at: str | None = None,
    ) -> Life:
        order = {
            "root": str(self.folder),
            "ws_url": self.venue.ws_url,
            "rest_url": self.venue.rest_url,
            "spool": kit.SPOOL,
        }
        return self.forge.run(
            {"record": order, "crash_at": crash_at}, kill_after_s=kill_after_s, after_commits=after_commits
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    account = tmp_path / "account.jsonl"
    market = SimulatorSettings(instruments=40, rate=1200.0, seed=5, account=account)
    with start(market) as venue, kit.forge(tmp_path / "log") as forge:
        yield Bench(venue, forge, tmp_path / "lake", account)


def test_killed_at_random_moments(bench: Bench) -> None:
    chance = kit.rng(23)
    lives = []
    for _ in range(RANDOM_KILLS // 2):
        lives.append(bench.live(kill_after_s=chance.uniform(0.0, YOUNG_S), after_commits=None))
        lives.append(bench.live(after_commits=(chance.randint(1, 60), signal.SIGKILL)))
    assert {life.status for life in lives} == {KILLED}
    lives.append(bench.live())
    assert lives[-1].status == 0, bench.forge.said()
    root = check(bench, lives)
    assert len(frames_by_life(kit.records(root))) > RANDOM_KILLS // 4, (
        "most lives were too short to mean anything"
    )


def test_killed_at_every_step_of_the_spool(bench: Bench) -> None:
    chance = kit.rng(29)
    lives = []
    for step in STEPS:
        nth = chance.randint(1, 12) if step in SEEN_MORE_THAN_ONCE else 1
        lives.append(bench.live(crash_at=f"{step}:{nth}"))
        assert lives[-1].status == KILLED, f"{step}: {bench.forge.said()}"
    lives.append(bench.live())
    check(bench, lives)


def test_two_lives_in_a_row_that_end_before_they_receive_anything(bench: Bench) -> None:
    """The first has told of the gap that it was to close, the second has not come so far."""
    lives = [bench.live(after_commits=(kit.FLOWING_COMMITS, signal.SIGKILL))]
    lives += [bench.live(crash_at=f"spool:after_fsync:{commits}") for commits in (5, 1, 3, 1)]
    assert {life.status for life in lives} == {KILLED}
    lives.append(bench.live())
    check(bench, lives)


def check(bench: Bench, lives: list[Life]) -> Root:
    """Hold everything against the account: spool, gaps, tables."""
    bench.venue.stop()
    root = open_root(bench.folder)
    found = kit.records(root)
    check_reports(found, lives)
    check_account(found, bench.account)
    ingest(root)
    assert held(root) == expected(root)
    assert joined(gaps_told(root)) == joined(gaps_by_second_opinion(found))
    assert_sound(root)
    return root


def check_reports(found: list[Record], lives: list[Life]) -> None:
    """No life reported more than there is, and none went back behind what one before it had reported."""
    reported = [life.durable for life in lives if life.durable]
    assert reported == sorted(reported)
    assert len(found) >= reported[-1]


def check_account(found: list[Record], account: Path) -> None:
    """The frames of every life are the beginning of one session, byte for byte; no session serves two lives."""
    sent = kit.account_by_session(account)
    session_of = {lines[0].hash: number for number, lines in sent.items()}
    used: list[int] = []
    for frames in frames_by_life(found):
        hashes = [frame_hash(frame.payload) for frame in frames]
        number = session_of[hashes[0]]
        assert hashes == [line.hash for line in sent[number][: len(hashes)]]
        used.append(number)
    assert used == sorted(set(used))


def frames_by_life(found: list[Record]) -> list[list[Record]]:
    """The frames of each life that received any."""
    lives: list[list[Record]] = []
    for record in found:
        if record.event().get("type") == "SessionStarted":
            lives.append([])
        if record.is_frame:
            lives[-1].append(record)
    return [life for life in lives if life]


def joined(gaps: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Gaps that touch are one: one that was told to end may go on, as the frame that ended it was not durable."""
    found: list[tuple[int, int, str]] = []
    for since, until, cause in sorted(gaps):
        if found and since <= found[-1][1] and cause == found[-1][2]:
            found[-1] = (found[-1][0], max(until, found[-1][1]), cause)
        else:
            found.append((since, until, cause))
    return found


def gaps_told(root: Root) -> list[tuple[int, int, str]]:
    """Rows of `gaps` that are of a whole connection: start and end in µs, and the cause."""
    rows = [row for row in read_table(root, "gaps").to_pylist() if row["channel"] is None]
    return sorted((kit.micros(row["start_ts"]), kit.micros(row["end_ts"]), row["cause"]) for row in rows)


def gaps_by_second_opinion(found: list[Record]) -> list[tuple[int, int, str]]:
    """From the records alone: one gap from the last record of a life in which data flowed (or from the start of
    the first) to the first data of a life that has all its subscriptions."""
    gaps: list[tuple[int, int, str]] = []
    since: int | None = None
    last: Record | None = None
    subscribed = flowed = False
    began_ns = 0
    for record in found:
        kind = record.event().get("type")
        if kind == "SessionStarted":
            if last is None:
                began_ns = record.event()["at_ns"]
            else:
                since = last.recv_ns if flowed else since or began_ns
            subscribed = last is None
            flowed = False
        subscribed = subscribed or kind == "Subscribed"
        if record.is_tick and subscribed and not flowed:
            flowed = True
            if since is not None:
                gaps.append((since // 1000, -(-record.recv_ns // 1000), "crashed"))
        last = record
    return gaps
