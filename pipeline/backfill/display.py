"""A backfill as a person runs and sees it: one line while it runs, a summary when it is done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from collectors.transport import TransportSettings
from lake.display import show
from lake.root import Root
from lake.spool import SpoolSettings
from pipeline.backfill.engine import Progress
from pipeline.backfill.plan import Choice
from pipeline.backfill.run import Job, Report
from pipeline.backfill.settings import BackfillSettings

NAMED_MAX: Final = 10
"""Refusals and failures that are named one by one."""
NOTHING_YET_S: Final = 1.0


def backfill_now(
    root: Root, dataset: str, choice: Choice, settings: BackfillSettings, spool: SpoolSettings, *,
    link: TransportSettings, dry_run: bool = False, as_json: bool = False,
) -> bool:  # fmt: skip
    """Run a backfill, or with `dry_run` plan it, and print what came of it; whether nothing is left to do.

    Raises:
        InputError: the choice makes no sense for the dataset.
        BusyError: another backfill is running on this lake.
        VenueUnavailableError: the venue cannot be reached; what was answered before is kept.
    """
    with progress_line(dataset) as on_progress:
        job = Job(root, dataset, choice, settings, spool, on_progress, link)
        if dry_run:
            plan = asyncio.run(job.plan())
        else:
            report = asyncio.run(job.run())
    if dry_run:
        show(plan.as_rows(settings), title="would be asked for", as_json=as_json)
        return True
    return tell(report, as_json=as_json)


@contextmanager
def progress_line(title: str) -> Iterator[Callable[[Progress], None]]:
    """A line on the terminal: units, rows and requests per second, time left. Nothing where there is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("[bold]{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[told]}"), rich.TimeElapsedColumn(), rich.TimeRemainingColumn(),
    )  # fmt: skip
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as line:
        task = line.add_task(title, total=None, told="")

        def tell(now: Progress) -> None:
            seconds = max(now.seconds, NOTHING_YET_S)
            told = f"{now.rows / seconds:,.0f} rows/s  {now.requests / seconds:,.1f} requests/s"
            line.update(task, completed=now.done, total=now.units, told=told)

        yield tell


def tell(report: Report, *, as_json: bool) -> bool:
    """Print what a run did and found; whether nothing is left to do and nothing is wrong."""
    checks = [found.as_row() for found in report.checks]
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                **report.as_rows()[0],
                "complete": report.complete,
                "interrupted": report.interrupted,
                "refusals": {**report.skipped, **report.refusals},
                "failures": report.failures,
                "checks": checks,
            }
        ]
        show(rows, as_json=True)
        return report.complete
    show(report.as_rows(), title="backfilled")
    if checks:
        show(checks, title="what is held now")
    _name("refused by the venue for good", {**report.skipped, **report.refusals})
    _name("not answered; run the same again", report.failures)
    if report.interrupted:
        show([{"interrupted": "what was answered is kept; the same command goes on from here"}])
    elif report.left:
        show([{"lacking": f"{report.left} units; the same command asks for them again"}])
    return report.complete


def _name(title: str, found: dict[str, str]) -> None:
    if found:
        rows = [{"what": what, "why": why} for what, why in list(found.items())[:NAMED_MAX]]
        if len(found) > NAMED_MAX:
            rows.append({"what": f"and {len(found) - NAMED_MAX} more", "why": ""})
        show(rows, title=title)
