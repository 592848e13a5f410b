"""A lake small enough to be copied in parts, over and over: its recorder is a few lines, its clock is the test's."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lake.events import Gap, encode_event
from lake.reach import tables_of
from lake.root import Root, open_root
from lake.spool import RecordKind, SpoolSettings, SpoolWriter
from lake.spool.identity import CLOSED_FILE
from lake.views import query
from pipeline.ingest import IngestSettings, ingest

START_NS: Final = 1_764_500_000_000_000_000
MS: Final = 1_000_000
STREAM: Final = "deribit"
PATIENT: Final = SpoolSettings(segment_seconds=1e6, commit_interval_ms=1)
KEEP: Final = SpoolSettings(retain_hours=1e5)
ONE_SEGMENT: Final = IngestSettings(records_per_commit=1)
TRADES, INDEX, CONTROL = "trades", "index", "control"


@dataclass
class Clock:
    """Moves by a millisecond a look."""

    now_ns: int = START_NS

    def __call__(self) -> int:
        self.now_ns += MS
        return self.now_ns


@dataclass
class SmallLake:
    """`sent` holds the receive time of every trade and index price recorded so far, by trade id or price."""

    root: Root
    clock: Clock = field(default_factory=Clock)
    sent: dict[str, int] = field(default_factory=dict)

    def record(self, *kinds: str, crash: bool = False) -> None:
        """One life of a recorder: what it missed since the last, then a frame of each of `kinds`, in one segment."""
        with SpoolWriter(
            self.root.stream(STREAM), PATIENT, clock_ns=self.clock, ask_tables=tables_of(self.root)
        ) as spool:
            now_ns = self.clock()
            if spool.previous:
                gap = Gap(start_ns=spool.previous.last_recv_ns, end_ns=now_ns, cause="crashed")
                spool.append(encode_event(gap), kind=RecordKind.EVENT, recv_ns=now_ns)
            for kind in kinds:
                now_ns = self.clock()
                spool.append(self._frame(kind, now_ns), recv_ns=now_ns)
        if crash:
            (self.root.stream(STREAM) / CLOSED_FILE).unlink()

    def ingest(self) -> None:
        ingest(self.root, ONE_SEGMENT, KEEP)

    def expire(self, keep: int) -> None:
        """All but the newest `keep` segments are gone, as after their retention."""
        for path in sorted(self.root.stream(STREAM).glob("*.seg"))[:-keep]:
            path.unlink()

    def unaccounted(self) -> list[str]:
        """What was sent and is neither once in its table nor in an interval of `gaps`."""
        held = query(
            self.root,
            "SELECT trade_id AS id, count(*) AS n FROM trades GROUP BY ALL UNION ALL "
            "SELECT price::BIGINT::VARCHAR, count(*) FROM index_prices GROUP BY ALL",
        ).to_pylist()
        counts = {row["id"]: row["n"] for row in held}
        spans = query(
            self.root, "SELECT epoch_us(start_ts) AS a, epoch_us(end_ts) AS b FROM gaps"
        ).to_pylist()
        wrong = [f"{one} is there {n} times" for one, n in counts.items() if n != 1]
        for one, at_ns in self.sent.items():
            at_us = at_ns // 1000
            if one not in counts and not any(span["a"] <= at_us <= span["b"] for span in spans):
                wrong.append(f"{one} is neither there nor in a gap")
        return wrong

    def copied(self, folder: Path) -> SmallLake:
        """The same lake elsewhere, whole, with a clock and a memory of its own."""
        shutil.copytree(self.root.path, folder)
        return SmallLake(open_root(folder), Clock(self.clock.now_ns), dict(self.sent))

    def _frame(self, kind: str, at_ns: int) -> bytes:
        if kind == CONTROL:
            return b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}'
        number = len(self.sent) + 1000
        self.sent[str(number)] = at_ns
        ms = at_ns // MS
        if kind == INDEX:
            data: object = {"timestamp": ms, "price": float(number), "index_name": "btc_usd"}
            channel = "deribit_price_index.btc_usd"
        else:
            channel = "trades.future.any.100ms"
            data = [
                {
                    "trade_seq": number, "trade_id": str(number), "timestamp": ms, "tick_direction": 0,
                    "price": 60000.0, "mark_price": 60000.0, "instrument_name": "BTC-PERPETUAL",
                    "index_price": 60000.0, "direction": "buy", "contracts": 1.0, "amount": 10.0,
                }
            ]  # fmt: skip
        params = {"channel": channel, "data": data}
        return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params}).encode()


def small_lake(folder: Path) -> SmallLake:
    """A new one."""
    return SmallLake(open_root(folder, create=True))
