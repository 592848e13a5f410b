"""`lake compact`, `chain`, `candles`, `basis`, `surface` and `greeks`: tables out of tables."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lake.display import plain, progress, show, working
from lake.errors import InputError
from lake.invocation import (
    SECONDS_PER_UNIT,
    DayOption,
    Invocation,
    JsonFlag,
    MonthOption,
    as_days,
    as_instant,
    as_months,
    as_seconds,
)

if TYPE_CHECKING:
    from lake.root import Root
    from pipeline.periodic import PeriodicJob


def compact(
    context: typer.Context,
    date: DayOption = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; repeatable.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rewrite closed days sorted, without duplicates and in their smallest form; roll up the day in progress.

    Example: lake --root data compact --date 2026-11-20
    """
    from pipeline.compact import compact as compact_days

    this: Invocation = context.obj
    report = compact_days(
        this.root(),
        this.settings("compact"),
        days=as_days(date),
        tables=table,
        progress=progress,
        manifests=this.settings("manifest"),
    )
    show(report.as_rows(), title="compacted", as_json=as_json)
    if report.manifests and not as_json:
        show(
            [
                {"day": day, "because": "; ".join(why) or "it is closed"}
                for day, why in report.manifests.items()
            ],
            title="manifests",
        )


def chain(
    context: typer.Context,
    date: DayOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep the option chain of every full hour: each option's last quote, with volatilities and Greeks.

    Example: lake --root data chain --date 2026-11-20
    """
    from pipeline.chain import chain_job

    this: Invocation = context.obj
    run_periodic(this.root(), [chain_job(this.settings("chain"))], date, as_json=as_json)


def run_periodic(
    root: Root, jobs: Sequence[PeriodicJob], date: Sequence[str] | None, *, as_json: bool
) -> None:
    """Run jobs that are due once in a period, for the days in `date` (a `DayOption`), and show what they made."""
    from pipeline.periodic import Periodic

    days, ran = as_days(date), []
    with working("making rows") as tell:
        for job in jobs:
            made = Periodic(root, job)
            ran += made.run(days=days, on_day=lambda day: tell(f"{day.table}, {day.day}, {day.rows:,} rows"))
    show([dataclasses.asdict(one) for one in ran], title="made", as_json=as_json)


def candles(context: typer.Context, month: MonthOption = None, as_json: JsonFlag = False) -> None:
    """Make bars of our own (1m, 5m, 1h) from trades and from the venue's candles, and compare the two.

    Example: lake candles --month 2026-11
    """
    from pipeline.bars import agreement, derive_bars, left_out

    this: Invocation = context.obj
    root = this.root()
    months = as_months(month)
    done = derive_bars(root, months=months, progress=progress)
    compared, odd = agreement(root, months=months), left_out(root, months=months)
    if as_json:
        made = [dataclasses.asdict(part) for part in done]
        typer.echo(json.dumps(plain({"derived": made, "agreement": compared, "left_out": odd}), indent=1))
        return
    show([dataclasses.asdict(part) for part in done], title="bars")
    show(compared, title="bars from trades against the venue's candles")
    if odd:
        show(odd, title="trades in no bar, because their size or price cannot be right")


def basis(context: typer.Context, month: MonthOption = None, as_json: JsonFlag = False) -> None:
    """Compare dated futures with their perpetual and their index, for every minute in which both have a candle.

    Example: lake basis --month 2026-11
    """
    from pipeline.basis import derive_basis

    this: Invocation = context.obj
    done = derive_basis(this.root(), months=as_months(month), progress=progress)
    show([dataclasses.asdict(part) for part in done], title="basis", as_json=as_json)


def surface(
    context: typer.Context,
    date: DayOption = None,
    at: Annotated[
        str | None,
        typer.Option(help="Only this instant, UTC: 2026-11-20T12:00, or last; shows its expiries."),
    ] = None,
    currency: Annotated[
        list[str] | None, typer.Option(help="Only options on this: BTC, ETH, BTC_USDC, …; repeatable.")
    ] = None,
    every: Annotated[str, typer.Option(help="One surface every, say, 1h or 15m, from midnight on.")] = "1h",
    maturity: Annotated[
        list[str] | None, typer.Option(help="Show the series of this constant maturity: 30d; repeatable.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Draw the newest surface: FILE.png or a folder for all pictures.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Fit volatility surfaces to the quotes, check them for arbitrage, keep them in the table `surface`, draw them.

    Example: lake --root data surface --currency BTC --every 1h --png pictures
    """
    from pipeline.surface.command import LAST, Selection, run

    this: Invocation = context.obj
    if at and date:
        raise InputError("give --at or --date, not both")
    selection = Selection(
        days=tuple(as_days(date) or ()) or None,
        at=as_instant(at) if at and at != LAST else None,
        last=at == LAST,
        every=datetime.timedelta(seconds=as_seconds(every)),
        currencies=tuple(currency) if currency else None,
        maturities=tuple(as_seconds(text) / SECONDS_PER_UNIT["d"] for text in maturity or ()),
    )
    outcome = run(this.root(), this.settings("surface"), selection, png)
    show(outcome.rows, title=outcome.title, as_json=as_json)
    for path in outcome.pictures:
        typer.echo(str(path), err=as_json)


def greeks(
    context: typer.Context,
    of: Annotated[str, typer.Option(help="Table with the prices: quotes, trades or candles.")] = "quotes",
    date: DayOption = None,
    every: Annotated[
        str | None, typer.Option(help="Store the last quote of each interval, say 1m or 1h; 0s stores all.")
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Store nothing; compare with the venue's own, exit 1 if off.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compute volatilities and Greeks of closed days into the table `greeks`, or hold them against the venue's.

    Example: lake --root data greeks --date 2026-11-20 --every 0s
    """
    from pipeline.derive_greeks import derive_greeks, validate_greeks

    this: Invocation = context.obj
    settings = this.settings("greeks", {"quotes_every_s": as_seconds(every) if every else None})
    days = as_days(date)
    if validate:
        if of != "quotes":
            raise InputError("--validate compares quotes: only they carry the venue's own Greeks")
        found = validate_greeks(this.root(), settings, days=days, progress=progress)
        if as_json:
            typer.echo(json.dumps(plain({**found.as_sections(), "problems": found.problems}), indent=1))
        else:
            for title, rows in found.as_sections().items():
                show(rows, title=title)
        for problem in found.problems:
            typer.echo(f"lake: {problem}", err=True)
        raise typer.Exit(1 if found.problems else 0)
    report = derive_greeks(this.root(), settings, of=of, days=days, progress=progress)
    show(report.as_rows(), title=f"Greeks of {of}", as_json=as_json)
