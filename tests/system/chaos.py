"""A venue that does everything wrong, and a collector that is shot now and then: the material for `tests.system.proof`.

One cycle has every fault of docs/simulator.md at least once, in an order drawn by chance; the collector is killed in
the middle of a silence, stopped, and started again. The venue's books are asked for all the while.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from collectors.simulator import SimulatorSettings
from collectors.simulator.process import SimulatorProcess, start
from lake.beats import COLLECT, beat_path, read_beat
from lake.errors import InputError
from lake.root import Root, open_root
from pipeline.ingest import ingest
from tests.conftest import REPOSITORY
from tests.system.kit import STREAM
from tests.system.proof import Case, Truth
from tests.waiting import PATIENCE_S

INSTRUMENTS: Final = 60
RATE: Final = 300.0
BREATH_S: Final = 1.2
"""Between two faults: most are over when the next comes, some are not."""
SILENT_S: Final = 12.5
FORGOTTEN_S: Final = 12.0
"""So much later than a silence, one of a single channel is claimed: the venue is asked first."""
ASK_BOOK_S: Final = 0.08
SETTINGS: Final = """
[collect]
channels_per_connection = 50
calls_per_s = 20.0
rest_per_s = 20.0
relist_seconds = 20.0
expired_grace_s = 3.0
silence_max_s = 14.0
reply_timeout_s = 4.0
stable_s = 3.0
heartbeat_s = 10
[collect.backoff]
base_s = 0.2
cap_s = 1.5
[spool]
segment_seconds = 5.0
"""


@dataclass
class Chaos:
    """A venue with an account, a lake, and the collector's life of the moment."""

    venue: SimulatorProcess
    folder: Path
    chance: random.Random
    truths: list[Truth] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    breath_s: float = BREATH_S
    _life: subprocess.Popen[bytes] | None = None
    _listed: int = 0
    _names: list[str] = field(default_factory=list)

    @property
    def root(self) -> Root:
        return open_root(self.folder / "lake", create=True)

    # -- the collector

    def begin_life(self) -> None:
        """Start `lake collect`, and wait until it records."""
        before = self.venue.control("stats")["sent"]
        config = self.folder / "lake.toml"
        config.write_text(SETTINGS)
        command = [sys.executable, "-m", "cli", "--root", str(self.folder / "lake"), "--config", str(config)]
        command += [
            "collect",
            "--no-ingest",
            "--ws-url",
            self.venue.ws_url,
            "--rest-url",
            self.venue.rest_url,
        ]
        with (self.folder / "collect.log").open("ab") as log:
            self._life = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
        deadline_s = time.monotonic() + PATIENCE_S
        while self.venue.control("stats")["sent"] < before + 400:
            assert time.monotonic() < deadline_s, "the collector does not record"
            assert self._life.poll() is None, (self.folder / "collect.log").read_text()
            time.sleep(0.05)

    def end_life(self, number: signal.Signals) -> None:
        """Stop or kill it."""
        assert self._life is not None
        self._life.send_signal(number)
        status = self._life.wait(PATIENCE_S)
        assert status == (0 if number == signal.SIGTERM else -number), (
            self.folder / "collect.log"
        ).read_text()
        self._life = None

    def settle(self) -> None:
        """Wait until nothing is open any more, and nothing was for some beats."""
        deadline_s, calm = time.monotonic() + PATIENCE_S, 0
        while calm < 3:
            assert time.monotonic() < deadline_s, f"still open: {self.open_gaps()}"
            time.sleep(1.0)
            calm = 0 if self.open_gaps() else calm + 1

    def open_gaps(self) -> list[Any]:
        beat = read_beat(beat_path(self.root.run, COLLECT, STREAM))
        return list(beat.collector.open_gaps) if beat is not None and beat.collector is not None else [None]

    # -- the venue

    def order(self, action: str, **details: object) -> None:
        self.done.append(action)
        try:
            self.venue.control(action, **details)
        except InputError as error:
            if "is closed already" not in str(error) and "not connected" not in str(error):
                raise

    def session(self) -> int:
        """One session of the moment; 0, which nobody has, where there is none."""
        found = [s["session"] for s in self.venue.control("sessions")["sessions"] if s["channels"]]
        return self.chance.choice(found) if found else 0

    def instrument(self) -> str:
        return self.chance.choice(self._names)

    def rest(self, query: str) -> Any:
        """A result by REST, asked for again where a fault befalls the answer."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(
                    f"{self.venue.rest_url}/public/{query}", timeout=PATIENCE_S
                ) as response:
                    return json.load(response)["result"]
            except (OSError, ValueError, http.client.HTTPException):
                if time.monotonic() > deadline_s:
                    raise

    def listed(self) -> list[str]:
        rows = self.rest("get_instruments?currency=any&expired=false")
        return [row["instrument_name"] for row in rows if row["kind"] in ("future", "option")]

    def new_listing(self) -> str:
        self._listed += 1
        name = f"BTC-25DEC26-{200_000 + 1_000 * self._listed}-C"
        self.order("list", instrument=name)
        return name

    def ask_books(self, ended: threading.Event) -> None:
        """Ask for the books, one after the other, until it is over."""
        chance, names = random.Random(7), self._names
        while not ended.wait(ASK_BOOK_S):
            before_ns = time.time_ns()
            try:
                told = self.venue.control("book", instrument=chance.choice(names))
            except (InputError, OSError):
                continue  # expired for good, or the port is closed
            levels = {
                (side, price): amount
                for side in ("bid", "ask")
                for price, amount in told[f"{side}s"]
                if amount
            }
            self.truths.append(
                Truth(before_ns, time.time_ns(), told["instrument"], told["change_id"], levels)
            )

    # -- faults

    def cycle(self) -> None:
        """Every fault once or more; a half-open connection, which takes longest to be found out, first."""
        steps = [getattr(self, name) for name in dir(self) if name.startswith("fault_")]
        self.chance.shuffle(steps)
        for step in sorted(steps, key=lambda step: step != self.fault_half_open):
            step()
            time.sleep(self.breath_s * self.chance.uniform(0.5, 1.5))

    def fault_order(self) -> None:
        self.order("duplicate", channel="*", count=20)
        self.order("reorder", channel="book.*", count=5)
        self.order("reorder", channel="ticker.*", count=5)
        self.order("garbage")
        self.order("garbage", text='{"jsonrpc":"2.0","method":"subscription","params":7}')

    def fault_books(self) -> None:
        self.order("gap", instrument="BTC-PERPETUAL", count=3)
        self.order("gap", instrument=self.instrument())
        self.order("lose", channel="book.*", count=4)

    def fault_trades(self) -> None:
        self.order("miss_trades", instrument="BTC-PERPETUAL", count=3)
        self.order("lose", channel="trades.*", count=2)
        self.order("reorder", channel="trades.*", count=1)

    def fault_answers(self) -> None:
        self.order("spoil", how="html", method="get_last_trades*", calls=2)
        self.order("spoil", how="truncated", method="get_*", calls=1)
        self.order("miss_trades", instrument="BTC-PERPETUAL", count=2)

    def fault_clock(self) -> None:
        self.order("skew", ms=self.chance.choice((-1500, 1500)))
        time.sleep(self.breath_s)
        self.order("skew", ms=0)

    def fault_drops(self) -> None:
        self.order("drop", session=self.session(), code=1012, reason="service restart")
        time.sleep(self.breath_s)
        self.order("drop", session=self.session())
        time.sleep(self.breath_s)
        self.order("drop_all")

    def fault_calls(self) -> None:
        self.order("partial", channels=["ticker.ETH*", "book.ETH*"])
        self.order("channel_limit", count=20)
        self.order("drop", session=self.session())
        time.sleep(self.breath_s)
        self.order("channel_limit", count=500)
        self.order("fail", method="subscribe")
        self.order("drop", session=self.session())

    def fault_limits(self) -> None:
        self.order("rate_limit", seconds=1.0)
        self.order("drop", session=self.session(), code=1008, reason="too_many_requests")

    def fault_settlement(self) -> None:
        self.order("settlement", seconds=2.0)
        self.order("gap", instrument="BTC-PERPETUAL")

    def fault_maintenance(self) -> None:
        self.order("maintenance", seconds=1.5)
        time.sleep(1.5)

    def fault_refusals(self) -> None:
        self.order("refuse", seconds=1.5)
        self.order("drop", session=self.session(), code=1001)
        time.sleep(1.5)

    def fault_restart(self) -> None:
        self.order("restart", seconds=1.0)
        time.sleep(2.5)

    def fault_listings(self) -> None:
        name = self.new_listing()
        time.sleep(self.breath_s)
        self.order("state", instrument=name, state="halted")
        time.sleep(self.breath_s)
        self.order("state", instrument=name, state="open")
        self.order("expire", instrument=name)

    def fault_slow(self) -> None:
        one = self.session()
        self.order("slow", session=one, bytes_per_second=3000)
        time.sleep(2.0)
        self.order("slow", session=one, bytes_per_second=0)

    def fault_half_open(self) -> None:
        self.order("half_open", session=self.session())

    def fault_stop(self) -> None:
        self.order("lose", channel="trades.*", count=1)
        self.order("drop_all")
        self.end_life(signal.SIGTERM)
        time.sleep(self.breath_s)
        self.begin_life()

    def fault_kill(self) -> None:
        self.order("gap", instrument="BTC-PERPETUAL", count=2)
        self.order("miss_trades", instrument="BTC-PERPETUAL", count=2)
        time.sleep(0.4)
        self.end_life(signal.SIGKILL)
        self.begin_life()

    def fault_forgotten(self) -> None:
        """A book and a ticker that were lively say nothing more while others speak, until they are subscribed anew."""
        time.sleep(4.0)
        for kind in ("book", "ticker"):
            self.order("forget", channel=f"{kind}.BTC-PERPETUAL.100ms")
        time.sleep(SILENT_S + FORGOTTEN_S)

    def fault_silence(self) -> None:
        """Everybody is still for long; every second time the collector does not live to hear the end."""
        time.sleep(6.0)  # so that the habits are known that it is against
        self.order("silence")
        time.sleep(SILENT_S)
        killed = self.chance.random() < 0.5
        if killed:
            self.end_life(signal.SIGKILL)
        self.order("speak")
        if killed:
            self.begin_life()


@contextmanager
def chaos(folder: Path, seed: int) -> Iterator[Chaos]:
    """A venue, and a first life of the collector; both are gone when the block has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    market = SimulatorSettings(
        instruments=INSTRUMENTS, rate=RATE, seed=seed, hold=True, account=folder / "account.jsonl"
    )
    with start(market) as venue:
        this = Chaos(venue, folder, random.Random(seed))
        try:
            this._names = this.listed()
            this.begin_life()
            yield this
        finally:
            if this._life is not None:
                this._life.kill()
                this._life.wait()


def run(folder: Path, *, cycles: int, seed: int, breath_s: float = BREATH_S) -> tuple[Case, list[str]]:
    """So many cycles, a calm end, and everything in the tables; the case for the proof, and the orders given."""
    with chaos(folder, seed) as this:
        this.breath_s = breath_s
        ended = threading.Event()
        asking = threading.Thread(target=this.ask_books, args=(ended,), daemon=True)
        asking.start()
        for _ in range(cycles):
            this.cycle()
        this.settle()
        newest = {name: _newest_trade(this, name) for name in this.listed()}
        time.sleep(2.0)
        ended.set()
        asking.join()
        this.end_life(signal.SIGTERM)
        this.venue.control("flush_account")
    ingest(this.root)
    known = {name: seq for name, seq in newest.items() if seq is not None}
    return Case(this.root, folder / "account.jsonl", this.truths, known), this.done


def _newest_trade(this: Chaos, name: str) -> int | None:
    found = this.rest(f"get_last_trades_by_instrument?instrument_name={name}&count=1&sorting=desc")["trades"]
    return found[0]["trade_seq"] if found else None
