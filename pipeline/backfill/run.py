"""One run of a backfill: bring in what is recorded, plan what is lacking, ask for it, look at what came of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from collectors.transport import TransportSettings
from lake.errors import InputError, LakeError
from lake.root import Root
from lake.spool import SpoolSettings
from pipeline.backfill import candles, listing, series, trades
from pipeline.backfill.checks import TABLE_OF, Check, check, drop_repeated
from pipeline.backfill.engine import Engine, Progress
from pipeline.backfill.ledger import Ledger
from pipeline.backfill.plan import Choice, Plan, Planning
from pipeline.backfill.recording import STREAM, Recording, bring_in
from pipeline.backfill.settings import BackfillSettings

ROUNDS_MAX: Final = 5
"""A round asks for what the one before did not bring; what several did not bring is told as lacking."""
TRADES_AT_ONCE: Final = 4
"""Trades lie in days and are few: so many times more answers make one run of ingest."""
PLANNERS: Final[dict[str, Callable[[Planning], Plan]]] = {
    "candles": candles.plan,
    "funding": series.funding,
    "index": series.index,
    "volatility": series.volatility,
    "settlements": series.settlements,
    "instruments": lambda _: Plan(),
}
BARS: Final[dict[str, Callable[[Choice], object]]] = {
    "candles": candles.bars,
    "volatility": series.volatility_bars,
}
"""Datasets of bars, each with what refuses a length that the venue does not have."""


@dataclass(slots=True)
class Report:
    """What a run did and found."""

    dataset: str
    units: int = 0
    requests: int = 0
    rows: int = 0
    seconds: float = 0.0
    left: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    duplicates_dropped: int = 0
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether nothing that was wanted is lacking, other than what the venue lacks or refuses."""
        wrong = any(found.bad and found.count for found in self.checks)
        return not (self.left or self.failures or self.interrupted or wrong)

    def as_rows(self) -> list[dict[str, Any]]:
        """One row for the run."""
        return [
            {
                "dataset": self.dataset,
                "units": self.units,
                "requests": self.requests,
                "rows": self.rows,
                "seconds": round(self.seconds, 1),
                "requests/s": round(self.requests / self.seconds, 2) if self.seconds else None,
                "units left": self.left,
                "refused": len(self.refusals) + len(self.skipped),
                "failed": len(self.failures),
                "duplicates dropped": self.duplicates_dropped,
            }
        ]


@dataclass(frozen=True, slots=True)
class Job:
    """A run that can be planned without being done; InputError where the choice makes no sense for the dataset."""

    root: Root
    dataset: str
    choice: Choice
    settings: BackfillSettings
    spool: SpoolSettings
    on_progress: Callable[[Progress], None] = lambda _: None
    link: TransportSettings = field(default_factory=TransportSettings)

    def __post_init__(self) -> None:
        if self.dataset not in TABLE_OF:
            raise InputError(f"there is no dataset {self.dataset!r}; there are {', '.join(TABLE_OF)}")
        if self.choice.reread is not None and self.dataset != "trades":
            raise InputError(f"--reread is for trades alone; leave it out to backfill {self.dataset}")
        bars = BARS.get(self.dataset)
        if bars is not None:
            bars(self.choice)
        elif self.choice.resolution is not None:
            raise InputError(
                f"--resolution is for {' and '.join(BARS)}; leave it out to backfill {self.dataset}"
            )

    def planning(self, ledger: Ledger, now_ms: int) -> Planning:
        """What planners get."""
        return Planning(ledger, self.choice, self.settings, now_ms)

    async def plan(self) -> Plan:
        """What a run would ask for first; lists of instruments that are too old are asked for even so."""
        return await self._run(Progress(), dry=True)

    async def run(self) -> Report:
        """Do it.

        Raises:
            BusyError: another backfill is running on this lake.
            VenueUnavailableError: the venue cannot be reached; what was answered before is kept.
        """
        progress = Progress()
        report = Report(self.dataset)
        try:
            left = await self._run(progress, dry=False)
            report.left, report.skipped = len(left.units), left.skipped
        except asyncio.CancelledError:
            report.interrupted = True
        report.units, report.requests, report.rows = progress.done, progress.requests, progress.rows
        report.refusals, report.failures = progress.refusals, progress.failures
        report.seconds = progress.seconds
        if not report.interrupted:
            reread = None if self.choice.reread is None else [self.choice.reread]
            report.duplicates_dropped = await asyncio.to_thread(self._without_repeated, report, reread)
        return report

    def _without_repeated(self, report: Report, days: list[dt.date] | None) -> int:
        """Check what is held, and rewrite what is held twice; rows dropped."""
        dropped = drop_repeated(self.root, self.dataset, days) if days else 0
        report.checks = self._checked()
        if any(found.count for found in report.checks if found.repeated):
            dropped += drop_repeated(self.root, self.dataset)
            report.checks = self._checked()
        return dropped

    def _checked(self) -> list[Check]:
        with Ledger(self.root) as ledger:
            return check(self.planning(ledger, int(time.time() * 1000)), self.dataset)

    async def _run(self, progress: Progress, *, dry: bool) -> Plan:
        now_ms = int(time.time() * 1000)
        if self.root.stream(STREAM).is_dir():
            await asyncio.to_thread(bring_in, self.root, self.spool)
        await self._round(progress, now_ms, listing.plan)
        if self.dataset == "trades" and self.choice.reread is not None:
            plan = self._planned(now_ms, partial(trades.reread, day=self.choice.reread))
            if not dry:
                await self._ask(progress, plan)
                return Plan()
            return plan
        planner = PLANNERS.get(self.dataset)
        if planner is None:
            bounds: trades.Bounds = {}
            if dry:
                return self._both(now_ms, bounds)
            await self._round(progress, now_ms, partial(trades.survey, bounds=bounds))
            planner = partial(trades.plan, bounds=bounds)
        plan = self._planned(now_ms, planner)
        if dry:
            return plan
        for _ in range(ROUNDS_MAX):
            if not plan.units:
                break
            await self._ask(progress, plan)
            asked = {(unit.subject, unit.what) for unit in plan.units}
            plan = self._planned(now_ms, planner)
            if {(unit.subject, unit.what) for unit in plan.units} == asked:
                break
        return plan

    def _both(self, now_ms: int, bounds: trades.Bounds) -> Plan:
        """What trades need: the survey, and as many pages as are certain without it."""
        survey = self._planned(now_ms, partial(trades.survey, bounds=bounds))
        pages = self._planned(now_ms, partial(trades.plan, bounds=bounds))
        return Plan([*survey.units, *pages.units], pages.skipped)

    def _planned(self, now_ms: int, planner: Callable[[Planning], Plan]) -> Plan:
        with Ledger(self.root) as ledger:
            return planner(self.planning(ledger, now_ms))

    async def _round(self, progress: Progress, now_ms: int, planner: Callable[[Planning], Plan]) -> None:
        plan = self._planned(now_ms, planner)
        if plan.units:
            await self._ask(progress, plan)

    async def _ask(self, progress: Progress, plan: Plan) -> None:
        table = TABLE_OF[self.dataset]
        segment_mb = self.settings.segment_mb * (TRADES_AT_ONCE if table == "trades" else 1)
        recording = Recording(self.root, self.spool, int(segment_mb * 1e6))

        def told(now: Progress) -> None:
            now.rows = before + recording.counts[f"rows_{table}"]
            self.on_progress(now)

        before = progress.rows
        try:
            engine = Engine(self.settings, recording, progress, told, self.link)
            async with recording, engine:
                await engine.run(plan.units)
        except BaseExceptionGroup as group:
            first = group.exceptions[0]
            raise (first if isinstance(first, LakeError) else group) from None
        finally:
            told(progress)
