"""`lake import` and `lake backfill`: what was before the lake."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lake.display import plain, show
from lake.errors import InputError
from lake.invocation import Invocation, JsonFlag, as_day

if TYPE_CHECKING:
    from pipeline.importing import FileFormat, ImportReport
    from pipeline.importing.propose import Proposal


def import_(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="CSV files, plain or compressed (gzip, zstd, bzip2, lz4), Parquet or Arrow files."
        ),
    ] = None,
    tardis: Annotated[
        str | None,
        typer.Option(help="Tardis' data type: trades, quotes, options_chain, derivative_ticker, …"),
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="TOML file that says what the columns mean.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only show the first rows as they would be stored, and what is refused."
        ),
    ] = False,
    propose: Annotated[
        Path | None,
        typer.Option(help="Print a mapping for this file, guessed from its header and first rows."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring files that you own into the lake: Tardis' CSV files, or any table with a mapping of its columns.

    Example: lake import --tardis options_chain deribit_options_chain_2024-03-01_OPTIONS.csv.gz
    """
    from pipeline.importing import TARDIS, import_files, read_mapping
    from pipeline.importing.propose import propose_mapping

    this: Invocation = context.obj
    if propose is not None:
        _print_proposal(propose_mapping(propose))
        return
    if mapping is not None and tardis is None:
        form = read_mapping(mapping)
    elif mapping is None and tardis is not None and tardis in TARDIS:
        form = TARDIS[tardis]
    else:
        raise InputError(f"say what the files are: --mapping FILE.toml, or --tardis {'|'.join(TARDIS)}")
    if not files:
        raise InputError("name the files to import")
    if dry_run:
        _try(this, files, form, as_json=as_json)
        return
    with _bytes_read(files, shown=not as_json) as on_bytes:
        report = import_files(this.root(create=True), files, form, on_bytes=on_bytes)
    show(report.files, title="imported", as_json=as_json)
    if report.refused:
        _tell_refused(report, "reasons by line in quarantine/import")
        raise typer.Exit(1)


def _try(this: Invocation, files: Sequence[Path], form: FileFormat, *, as_json: bool) -> None:
    """Show what an import would bring; no lake is made where there is none."""
    from pipeline.importing import try_files

    report = try_files(this.root() if (this.root_path / "lake.json").exists() else None, files, form)
    reasons = [
        {"column": column, "why": why, "rows": count} for (column, why), count in report.reasons.most_common()
    ]
    if as_json:
        told = {"files": report.files, "refused": reasons, "first_rows": report.first_rows}
        typer.echo(json.dumps(plain(told), default=str, indent=1))
    else:
        show(report.first_rows, title="first rows, as they would be stored")
        show(report.files, title="not imported: a trial")
        if reasons:
            show(reasons, title="refused")
    if report.refused:
        _tell_refused(report, "nothing was imported")
        raise typer.Exit(1)


def _tell_refused(report: ImportReport, rest: str) -> None:
    for example in report.examples:
        typer.echo(f"lake: {example}", err=True)
    rows = "1 row does" if report.refused == 1 else f"{report.refused:,} rows do"
    typer.echo(f"lake: {rows} not fit; {rest}", err=True)


def _print_proposal(proposal: Proposal) -> None:
    typer.echo(proposal.text, nl=False)
    if proposal.missing:
        typer.echo(f"lake: add {', '.join(proposal.missing)} before you import with this mapping", err=True)
        raise typer.Exit(1)


@contextlib.contextmanager
def _bytes_read(files: Sequence[Path], *, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, told how many more bytes of `files` have been read, if it is to be `shown`."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        *Progress.get_default_columns()[:2],
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    off = not (shown and console.is_terminal)
    with Progress(*columns, console=console, transient=True, disable=off) as progress:
        task = progress.add_task("import", total=sum(path.stat().st_size for path in files if path.is_file()))
        yield lambda count: progress.advance(task, count)


def backfill(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(help="candles, trades, funding, index, volatility, instruments or settlements."),
    ],
    instrument: Annotated[list[str] | None, typer.Option(help="Only this instrument; repeatable.")] = None,
    currency: Annotated[
        list[str] | None,
        typer.Option(help="Only this currency, as the venue groups instruments; repeatable."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="future, option, spot, …; repeatable. By default futures, of trades options too."),
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="First UTC day, YYYY-MM-DD.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last UTC day.")] = None,
    resolution: Annotated[
        str | None,
        typer.Option(
            help="Length of the bars: of candles in minutes (1), of volatility in seconds (3600); 1D."
        ),
    ] = None,
    strikes: Annotated[str | None, typer.Option(help="Only options with strikes LOW-HIGH.")] = None,
    expired: Annotated[
        bool, typer.Option("--expired/--living", help="Expired instruments too, or only living ones.")
    ] = True,
    reread: Annotated[
        str | None,
        typer.Option(
            help="Trades: read this UTC day again, for what the venue tells only later (liquidations)."
        ),
    ] = None,
    rest_url: Annotated[str | None, typer.Option(help="REST address of the venue.")] = None,
    history_url: Annotated[str | None, typer.Option(help="Address of the host of old trades.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be asked for.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Ask the venue for all it still has of the past that the lake lacks; Ctrl-C and crashes cost seconds.

    Example: lake --root data backfill candles --currency BTC --from 2024-01-01
    """
    from pipeline.backfill.display import backfill_now
    from pipeline.backfill.plan import Choice, midnight, strike_range

    this: Invocation = context.obj
    choice = Choice(
        instruments=tuple(instrument or ()),
        currencies=tuple(text.upper() for text in currency or ()),
        kinds=tuple(kind or ()),
        start=midnight(as_day(start)) if start else None,
        end=midnight(as_day(end) + datetime.timedelta(days=1)) if end else None,
        resolution=resolution,
        strikes=strike_range(strikes) if strikes else None,
        expired=expired,
        reread=as_day(reread) if reread else None,
    )
    settings = this.settings("backfill", {"rest_url": rest_url, "history_url": history_url})
    places = this.root(create=True), dataset, choice, settings, this.settings("spool")
    if not backfill_now(*places, link=this.settings("collect").link, dry_run=dry_run, as_json=as_json):
        raise typer.Exit(1)
