"""A simulated venue in its own process leaves things out; the lake ends up whole, and says what it lacked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.backoff import BackoffSettings
from collectors.recorder import Recorder
from collectors.simulator import Sent, SimulatorSettings, read_account
from collectors.simulator.account import frame_hash
from collectors.simulator.process import SimulatorProcess, start
from lake.events import Gap
from lake.root import Root, open_root
from lake.spool import RecordKind, SpoolSettings, SpoolWriter
from lake.views import query
from pipeline.ingest import ingest
from quality.verify import verify
from tests.collectors.kit import MemorySink, settings
from tests.system.kit import STREAM, micros
from tests.waiting import PATIENCE_S

PROBES = 6
"""Books subscribed anew just to compare; one in which nothing happened meanwhile is enough."""
Level = tuple[str, float]
INSTRUMENTS = 60
"""So many that 300 frames a second are no more than they can have: venue time is then ours."""


class Tee(MemorySink):
    """A sink that keeps what it passes on to the spool."""

    def __init__(self, spool: SpoolWriter) -> None:
        super().__init__()
        self._spool = spool

    def append(
        self, payload: bytes, *, connection: int = 0, kind: RecordKind = RecordKind.FRAME,
        recv_ns: int | None = None,
    ) -> None:  # fmt: skip
        self._spool.append(payload, connection=connection, kind=kind, recv_ns=recv_ns)
        super().append(payload, connection=connection, kind=kind, recv_ns=recv_ns)

    def flush(self, timeout_s: float | None = None) -> None:
        self._spool.flush(timeout_s)

    def gaps(self, cause: str) -> list[Gap]:
        return [gap for gap in self.events(Gap) if gap.cause == cause]

    def of_channel(self, channel: str) -> list[tuple[int, dict[str, Any]]]:
        """Receive time and data of the frames of one channel."""
        mark = f'"channel":"{channel}"'.encode()
        found = [(r[3], r[0]) for r in self.records if r[2] == RecordKind.FRAME and mark in r[0]]
        return [(at, json.loads(payload)["params"]["data"]) for at, payload in found]


@dataclass
class Stage:
    venue: SimulatorProcess
    recorder: Recorder
    sink: Tee
    root: Root

    async def order(self, action: str, **details: object) -> None:
        await asyncio.to_thread(self.venue.control, action, **details)

    async def until_recorded(self, more: int) -> None:
        """Wait for so many more records."""
        goal = len(self.sink.records) + more
        await self.sink.until(lambda: len(self.sink.records) >= goal)

    async def until_lost(self, connections: int) -> None:
        """Wait until so many losses of a connection are on record, from their beginning to their end."""
        await self.sink.until(lambda: self.lost_for_good() >= connections)

    def lost_for_good(self) -> int:
        """Losses of a connection that are on record; the trades in them are gaps of their own."""
        return sum(gap.channel is None for gap in self.sink.gaps("disconnect"))

    async def until_quiet(self) -> None:
        """Wait until the market has ended and there is nothing left to heal."""
        await asyncio.to_thread(self.venue.wait_finished, PATIENCE_S)
        size = -1
        while self.recorder.healer.waiting or size != len(self.sink.records):
            size = len(self.sink.records)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def recording(
    folder: Path, account: Path | None = None, frames: int = 0, **changes: Any
) -> AsyncIterator[Stage]:
    """A market being recorded; the lake has been filled from it, and verified, when the block has ended."""
    root = open_root(folder, create=True)
    market = SimulatorSettings(
        instruments=INSTRUMENTS, rate=300.0, seed=5, hold=True, max_frames=frames, account=account
    )
    with start(market) as venue:
        with SpoolWriter(root.stream(STREAM), SpoolSettings()) as spool:
            sink = Tee(spool)
            recorder = Recorder(settings(venue.ws_url, venue.rest_url, **changes), sink)
            running = asyncio.create_task(recorder.run())
            await sink.until(lambda: len(sink.data) >= 200)
            yield Stage(venue, recorder, sink, root)
            recorder.stop()
            await running
        await asyncio.to_thread(ingest, root)
        assert verify(root).problems == []


def run(work: Coroutine[Any, Any, Stage]) -> Stage:
    """Run a scenario to its end, within a bound."""

    async def bounded() -> Stage:
        async with asyncio.timeout(PATIENCE_S):
            return await work

    return asyncio.run(bounded())


def sent_on(account: Path, channel: str) -> list[Sent]:
    return [sent for sent in read_account(account) if sent.channel == channel and not sent.withheld]


def apply(book: dict[Level, float], rows: list[dict[str, Any]]) -> None:
    """One message of the table `book`."""
    if rows[0]["type"] == "snapshot":
        book.clear()
    for row in rows:
        if row["action"] == "delete":
            book.pop((row["side"], row["price"]), None)
        elif row["action"]:
            book[row["side"], row["price"]] = row["size"]


def messages(root: Root, instrument: str) -> list[list[dict[str, Any]]]:
    """The rows of `book`, message by message, in the order of receipt."""
    order = "ORDER BY recv_ts, change_id, level"
    found = query(root, f"SELECT * FROM book WHERE instrument = '{instrument}' {order}").to_pylist()
    grouped: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for row in found:
        grouped.setdefault((row["recv_ts"], row["change_id"]), []).append(row)
    return list(grouped.values())


def test_a_gap_in_one_book_heals_alone_and_is_on_record_to_the_microsecond(tmp_path: Path) -> None:
    name, account = "BTC-PERPETUAL", tmp_path / "account.jsonl"
    channel = f"book.{name}.100ms"

    async def scenario() -> Stage:
        async with recording(tmp_path / "lake", account) as stage:
            await stage.order("gap", instrument=name, count=3)
            await stage.sink.until(lambda: bool(stage.sink.gaps("book_break")))
            await stage.until_recorded(150)
            session = next(s for s in stage.recorder.sessions if channel in s.channels)
            for _ in range(PROBES):
                await session.resubscribe([channel])
                await stage.until_recorded(100)
        return stage

    stage = run(scenario())
    sent = sent_on(account, channel)
    at = next(i for i in range(1, len(sent)) if sent[i].prev not in (None, sent[i - 1].seq))
    received = {data["change_id"]: at_ns for at_ns, data in reversed(stage.sink.of_channel(channel))}
    snapshots = [frame for frame in sent if frame.prev is None]
    assert len(snapshots) == 2 + PROBES, "the first, the one that healed, and those asked for here"
    [gap] = stage.sink.gaps("book_break")
    assert gap.start_ns == received[sent[at - 1].seq]
    first_of = {
        data["change_id"]: t
        for t, data in reversed(stage.sink.of_channel(channel))
        if data["type"] == "snapshot"
    }
    assert gap.end_ns == first_of[snapshots[1].seq]

    [row] = query(stage.root, "SELECT * FROM gaps").to_pylist()
    assert (row["cause"], row["instrument"], row["channel"]) == ("book_break", name, channel)
    assert micros(row["start_ts"]) == gap.start_ns // 1000
    assert micros(row["end_ts"]) == (gap.end_ns + 999) // 1000

    others = [s for s in read_account(account) if s.channel and s.channel != channel and not s.withheld]
    names = [str(s.channel) for s in others if s.prev is None]
    snapshots_of_others = [name for name in names if name.startswith("book.")]
    assert len(snapshots_of_others) == len(set(snapshots_of_others)) == INSTRUMENTS - 1
    recorded = {frame_hash(frame) for frame in stage.sink.frames}
    last_n = max(s.n for s in others if s.hash in recorded)
    assert all(s.hash in recorded for s in others if s.n <= last_n)

    # Two ways to the same book: all changes since the snapshot that healed it, and a snapshot of later.
    told = messages(stage.root, name)
    starts = [i for i, rows in enumerate(told) if rows[0]["type"] == "snapshot"]
    assert len(starts) == 2 + PROBES
    compared = 0
    for begin, fresh_start, end in zip(starts[1:], starts[2:], [*starts[3:], len(told)], strict=False):
        if told[fresh_start][0]["change_id"] != told[fresh_start - 1][0]["change_id"]:
            continue  # something happened between leaving and coming back
        healed: dict[Level, float] = {}
        fresh: dict[Level, float] = {}
        for rows in told[begin:fresh_start]:
            apply(healed, rows)
        apply(fresh, told[fresh_start])
        for rows in told[fresh_start + 1 : end]:
            apply(healed, rows)
            apply(fresh, rows)
        assert healed == fresh
        assert len(healed) > 10
        compared += 1
    assert compared


def test_after_all_connections_were_cut_every_trade_is_there(tmp_path: Path) -> None:
    slow = BackoffSettings(base_s=1.0, cap_s=1.5)

    async def scenario() -> Stage:
        async with recording(
            tmp_path / "lake", frames=2400, backoff=slow, channels_per_connection=50
        ) as stage:
            for times in (1, 2):
                lost = times * len(stage.recorder.sessions)
                await stage.order("drop_all")
                await stage.until_lost(lost)
            await stage.until_quiet()
        return stage

    stage = run(scenario())
    # Whether a hole is first seen between two live trades, or filled before by the list of the absence, is chance.
    assert stage.recorder.healer.trades.answers > 0
    assert all(gap.healed and gap.records_lost == 0 for gap in stage.sink.gaps("missing_trades"))
    uneven = query(
        stage.root,
        "SELECT instrument, count(DISTINCT trade_seq) AS held, max(trade_seq) - min(trade_seq) + 1 AS due "
        "FROM trades GROUP BY instrument HAVING held <> due",
    )
    assert uneven.to_pylist() == []
    assert stage.sink.gaps("book_break") == [], "a new snapshot begins a new chain"
    counts = query(
        stage.root, "SELECT count(*) AS n, count(DISTINCT trade_id) AS ids FROM trades"
    ).to_pylist()
    assert counts[0]["ids"] <= counts[0]["n"]
