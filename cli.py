"""The `lake` command: one thin function per verb. What a verb does lives in the room it calls.

Exit code 0: done. 1: it ran, and found or met something that a person must look at. 2: bad input, with one
line that says what to change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from lake.display import plain, show, working
from lake.errors import InputError, LakeError, TransientError

if TYPE_CHECKING:
    from lake.root import Root
    from lake.settings import Sources
    from pipeline.periodic import PeriodicJob

# numpy's linear algebra would start a thread for every core, each spinning for work that never comes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

CONF: Final = Path(__file__).resolve().parent / "conf"
DEFAULT_ROOT: Final = Path("data")
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS_PER_UNIT: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class _Group(TyperGroup):
    """Turns our errors into one line and an exit code; anything else is a bug and shows its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LakeError as error:
            _fail(error)


def _fail(error: LakeError) -> NoReturn:
    typer.echo(f"lake: {error}", err=True)
    raise typer.Exit(2 if isinstance(error, InputError) else 1) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="A lake of crypto-derivatives ticks that can prove what it holds.",
)


def sections() -> dict[str, type]:
    """Every section of the settings file, each declared by the room it belongs to."""
    from collectors.ops.settings import HeartbeatSettings, MetricsSettings
    from collectors.settings import CollectorSettings
    from lake.logs import LogSettings
    from lake.spool import SpoolSettings
    from pipeline.backfill.settings import BackfillSettings
    from pipeline.chain import ChainSettings
    from pipeline.compact import CompactSettings
    from pipeline.depth import DepthSettings
    from pipeline.derive_greeks.settings import GreeksSettings
    from pipeline.ingest import IngestSettings
    from pipeline.surface.settings import SurfaceSettings

    return {
        "spool": SpoolSettings,
        "collect": CollectorSettings,
        "ingest": IngestSettings,
        "compact": CompactSettings,
        "backfill": BackfillSettings,
        "surface": SurfaceSettings,
        "depth": DepthSettings,
        "chain": ChainSettings,
        "greeks": GreeksSettings,
        "log": LogSettings,
        "heartbeat": HeartbeatSettings,
        "metrics": MetricsSettings,
    }


class Format(enum.StrEnum):
    """How `lake sql` gives its answer."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


@dataclass(frozen=True, slots=True)
class _Context:
    """What the global options said."""

    root_path: Path
    config: Path | None
    sources: Sources

    def root(self, *, create: bool = False) -> Root:
        from lake.root import open_root

        return open_root(self.root_path, create=create)

    def settings(self, name: str, flags: Mapping[str, Any] | None = None) -> Any:
        """Section `name` of the settings, `flags` (where not None) above all."""
        return self.sources.section(name, sections()[name], flags)


JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"ticklake {version('ticklake')}")
        raise typer.Exit


@app.callback()
def _global(
    context: typer.Context,
    root: Annotated[Path, typer.Option(envvar="LAKE_ROOT", help="Folder of the lake.")] = DEFAULT_ROOT,
    config: Annotated[
        Path | None, typer.Option(envvar="LAKE_CONFIG", help="Settings file (TOML); see docs/settings.md.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    from lake.settings import read_sources

    del version
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    known = sections()
    sources = read_sources(config, known)
    for name, cls in known.items():
        sources.section(name, cls)  # a slip anywhere is told now, not when the setting is first used
    context.obj = _Context(root, config, sources)


def seconds(text: str) -> float:
    """A duration such as 500ms, 20s, 10m, 2h or 1d, in seconds."""
    match = DURATION.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no duration; write it like 20s, 10m or 2h")
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]


@app.command(context_settings={"allow_extra_args": True})
def simulate(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 picks a free one and prints it.")] = 0,
    seed: Annotated[int, typer.Option(help="Same seed, same market.")] = 1,
    instruments: Annotated[int, typer.Option(help="How many instruments to list.")] = 200,
    rate: Annotated[float, typer.Option(help="Frames per second over all channels.")] = 500.0,
    replay: Annotated[
        list[Path] | None, typer.Option(help="Replay recordings instead: one or more files.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Replay speed; 1 is as recorded, 0 as fast as it goes.")] = 1.0,
    account: Annotated[
        Path | None, typer.Option(help="Write one JSON line per frame sent, or withheld by a fault.")
    ] = None,
    script: Annotated[
        Path | None, typer.Option(help="Faults and their times, TOML or JSON lines: see docs/simulator.md.")
    ] = None,
    limits: Annotated[
        bool,
        typer.Option("--limits/--no-limits", help="Refuse REST callers beyond the venue's request limits."),
    ] = False,
) -> None:
    """Serve a simulated Deribit (WebSocket and REST) on a local port until interrupted.

    Example: lake simulate --port 8765 --instruments 300 --rate 2000
    """
    import asyncio

    from collectors.simulator import SimulatorSettings, run
    from collectors.simulator.settings import VENUE_HISTORY_PER_SECOND, VENUE_REST_PER_SECOND

    if context.args and not replay:
        raise typer.BadParameter(f"unexpected argument {context.args[0]!r}; recordings follow --replay")
    settings = SimulatorSettings(
        port=port,
        seed=seed,
        instruments=instruments,
        rate=rate,
        replay=(*(replay or ()), *map(Path, context.args)),
        # Recordings may name intervals (.raw) that a collector of today does not ask for.
        replay_everything=True,
        replay_speed=speed,
        account=account,
        script=script,
        rest_per_second=VENUE_REST_PER_SECOND if limits else 0.0,
        history_per_second=VENUE_HISTORY_PER_SECOND if limits else 0.0,
    )
    asyncio.run(
        run(settings, lambda venue: typer.echo(f"{venue.ws_url}\n{venue.rest_url}\n{venue.history_url}"))
    )


@app.command()
def collect(
    context: typer.Context,
    ws_url: Annotated[str | None, typer.Option(help="WebSocket address of the venue.")] = None,
    rest_url: Annotated[str | None, typer.Option(help="REST address of the venue.")] = None,
    run_for: Annotated[
        str | None, typer.Option("--for", help="Stop by itself after, say, 20s or 2h.")
    ] = None,
    stream: Annotated[str, typer.Option(help="Name of the spool stream; one writer each.")] = "deribit",
    ingest_beside: Annotated[
        bool, typer.Option("--ingest/--no-ingest", help="Bring the spool into the tables while recording.")
    ] = True,
    as_json: JsonFlag = False,
) -> None:
    """Record the venue into the lake until stopped (Ctrl-C or SIGTERM flush and exit cleanly).

    Example: lake --root /volume1/lake collect --for 60s
    """
    from collectors.daemon import record
    from collectors.ops.settings import OpsSettings
    from lake.logs import logging_to
    from quality.watching import live_line

    this: _Context = context.obj
    root = this.root(create=True)
    settings = this.settings("collect", {"ws_url": ws_url, "rest_url": rest_url})
    folder = root.stream(stream)
    with (
        logging_to(root.logs, f"collect-{folder.name}", this.settings("log")),
        live_line() as on_beat,
        _ingester_beside(this, stream) if ingest_beside else contextlib.nullcontext(),
    ):
        summary = record(
            root,
            settings,
            this.settings("spool"),
            stream=stream,
            seconds=seconds(run_for) if run_for else None,
            ops=OpsSettings(this.settings("heartbeat"), this.settings("metrics")),
            on_beat=on_beat,
        )
    show([dataclasses.asdict(summary)], title=f"recorded into {root.path}", as_json=as_json)


@contextlib.contextmanager
def _ingester_beside(this: _Context, stream: str) -> Iterator[None]:
    """Ingest in a process of its own, so that decoding never delays the socket; one last round at the end."""
    from lake.companion import Companion

    command = [sys.executable, "-m", "cli", "--root", str(this.root_path)]
    if this.config:
        command += ["--config", str(this.config)]
    command += ["ingest", "--follow", "--leash", "--stream", stream]
    with Companion(command, "the ingester") as ingester:
        yield
        code = ingester.finish()
    if code:
        raise TransientError("all is recorded, but not all of it ingested; see above, then run `lake ingest`")


@app.command()
def ingest(
    context: typer.Context,
    stream: Annotated[list[str] | None, typer.Option(help="Only this stream; repeatable.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on until stopped; one last round at the end.")] = False,
    leash: Annotated[
        bool, typer.Option("--leash", hidden=True, help="With --follow: stop when standard input ends.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring every sealed segment of the spool into the tables, each record exactly once.

    Example: lake --root data ingest
    """
    from lake.logs import logging_to
    from pipeline.ingest import follow as follow_spool
    from pipeline.ingest import ingest as ingest_once

    this: _Context = context.obj
    places = this.root(), this.settings("ingest"), this.settings("spool")
    if follow:
        name = f"ingest-{stream[0]}" if stream and len(stream) == 1 else "ingest"
        with logging_to(places[0].logs, name, this.settings("log")):
            leash_fd = sys.stdin.fileno() if leash else None
            follow_spool(*places, streams=stream, leash=leash_fd, beside=_beside_ingest(this))
        return
    report = ingest_once(*places, streams=stream)
    show(report.as_rows(), title="ingested", as_json=as_json)


def _beside_ingest(this: _Context) -> list[Callable[[], None]]:
    """What an ingester that follows the spool does between its rounds."""
    from pipeline.chain import chain_job
    from pipeline.periodic import Periodic

    settings = this.settings("chain")
    jobs = [chain_job(settings)] if settings.enabled else []
    if this.settings("depth").enabled:
        jobs += _book_jobs(this)
    return [Periodic(this.root(), job).run_some for job in jobs]


def _book_jobs(this: _Context) -> list[PeriodicJob]:
    """Samples of the books, and their comparison with what the venue answered."""
    from pipeline.depth import depth_job
    from pipeline.periodic import PeriodicJob
    from quality import books

    checks = PeriodicJob("book_checks", books.PERIOD, books.PERIOD, books.SETTLE, books.check_rows)
    return [depth_job(this.settings("depth")), checks]


@app.command()
def depth(
    context: typer.Context,
    date: Annotated[list[str] | None, typer.Option(help="Only this UTC day, YYYY-MM-DD; repeatable.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Sample the order books (20 levels every 5 minutes by default) and compare them with what the venue answered.

    Example: lake --root data depth --date 2026-11-20
    """
    from pipeline.periodic import Periodic

    this: _Context = context.obj
    days = [_day(text) for text in date] if date else None
    ran = []
    with working("sampling") as tell:
        for job in _book_jobs(this):
            made = Periodic(this.root(), job)
            ran += made.run(days=days, on_day=lambda day: tell(f"{day.table}, {day.day}, {day.rows:,} rows"))
    show([dataclasses.asdict(one) for one in ran], title="sampled", as_json=as_json)


@app.command()
def book(
    context: typer.Context,
    instrument: Annotated[str, typer.Argument(help="The venue's own name of the instrument.")],
    at: Annotated[str, typer.Option(help="Instant, ISO 8601; without a zone it is UTC.")],
    levels: Annotated[int, typer.Option(min=1, help="Levels a side.")] = 20,
    venue: Annotated[str | None, typer.Option(help="Where the name is traded at several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rebuild an order book as it was at any recorded instant; exit code 1 where nobody can say.

    Example: lake book BTC-PERPETUAL --at 2026-11-20T10:00:00 --levels 5
    """
    from lake.books import book_at

    this: _Context = context.obj
    found = book_at(this.root(), instrument, _instant(at), levels=levels, venue=venue)
    if as_json:
        typer.echo(json.dumps({k: plain(v) for k, v in dataclasses.asdict(found).items()}, indent=1))
    elif found.reason is None:
        none = (None, None)
        pairs = itertools.zip_longest(found.bids, found.asks, fillvalue=none)
        rows = [{"bid size": b[1], "bid": b[0], "ask": a[0], "ask size": a[1]} for b, a in pairs]
        show(rows, title=f"{instrument}, change {found.change_id}")
    if found.reason is not None:
        typer.echo(f"lake: the book of {instrument} at {at} is not known: {found.reason}", err=True)
        raise typer.Exit(1)


def _instant(text: str) -> datetime.datetime:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no instant; write it like 2026-11-20T10:00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


@app.command()
def chain(
    context: typer.Context,
    date: Annotated[list[str] | None, typer.Option(help="Only this UTC day, YYYY-MM-DD; repeatable.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep the option chain of every full hour: each option's last quote, with volatilities and Greeks.

    Example: lake --root data chain --date 2026-11-20
    """
    from pipeline.chain import chain_job
    from pipeline.periodic import Periodic

    this: _Context = context.obj
    days = [_day(text) for text in date] if date else None
    job = Periodic(this.root(), chain_job(this.settings("chain")))
    with working("making chain") as tell:
        ran = job.run(days=days, on_day=lambda day: tell(f"{day.day}, {day.rows:,} rows"))
    show([dataclasses.asdict(one) for one in ran], title="made chain", as_json=as_json)


@app.command()
def compact(
    context: typer.Context,
    date: Annotated[list[str] | None, typer.Option(help="Only this UTC day, YYYY-MM-DD; repeatable.")] = None,
    table: Annotated[list[str] | None, typer.Option(help="Only this table; repeatable.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rewrite closed days sorted, without duplicates and in their smallest form; roll up the day in progress.

    Example: lake --root data compact --date 2026-11-20
    """
    from pipeline.compact import compact as compact_days

    this: _Context = context.obj
    days = [_day(text) for text in date] if date else None
    report = compact_days(this.root(), this.settings("compact"), days=days, tables=table)
    show(report.as_rows(), title="compacted", as_json=as_json)


def _day(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; write it like 2026-11-20") from None


@app.command("import")
def import_(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="CSV files: plain, .gz, .zst or .bz2.")],
    tardis: Annotated[
        str | None,
        typer.Option(help="Tardis' data type: trades, quotes, options_chain, derivative_ticker, …"),
    ] = None,
    mapping: Annotated[Path | None, typer.Option(help="TOML file that says what the columns mean.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Bring files that you own into the lake: Tardis' CSV files, or any CSV with a mapping of its columns.

    Example: lake import --tardis options_chain deribit_options_chain_2024-03-01_OPTIONS.csv.gz
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    from pipeline.importing import TARDIS, import_files, read_mapping

    this: _Context = context.obj
    if mapping is not None and tardis is None:
        form = read_mapping(mapping)
    elif mapping is None and tardis is not None and tardis in TARDIS:
        form = TARDIS[tardis]
    else:
        raise InputError(f"say what the files are: --mapping FILE.toml, or --tardis {'|'.join(TARDIS)}")
    size = sum(path.stat().st_size for path in files if path.is_file())
    columns = (
        *Progress.get_default_columns()[:2],
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=as_json) as progress:
        task = progress.add_task("import", total=size)
        report = import_files(
            this.root(create=True), files, form, on_bytes=lambda n: progress.advance(task, n)
        )
    show(report.files, title="imported", as_json=as_json)
    if report.refused:
        typer.echo(f"lake: {report.refused} rows do not fit; reasons by line in quarantine/import", err=True)
        raise typer.Exit(1)


MonthOption = Annotated[list[str] | None, typer.Option(help="Only this month, YYYY-MM; repeatable.")]


@app.command()
def candles(context: typer.Context, month: MonthOption = None, as_json: JsonFlag = False) -> None:
    """Make bars of our own (1m, 5m, 1h) from trades and from the venue's candles, and compare the two.

    Example: lake candles --month 2026-11
    """
    from pipeline.bars import agreement, derive_bars
    from quality.watching import progress

    this: _Context = context.obj
    root = this.root()
    done = derive_bars(root, months=_months(month), progress=progress)
    compared = agreement(root)
    if as_json:
        sys.stdout.write(
            json.dumps({"derived": [dataclasses.asdict(part) for part in done], "agreement": compared})
        )
        return
    show([dataclasses.asdict(part) for part in done], title="bars")
    show(compared, title="bars from trades against the venue's candles")


@app.command()
def basis(context: typer.Context, month: MonthOption = None, as_json: JsonFlag = False) -> None:
    """Compare dated futures with their perpetual and their index, for every minute in which both have a candle.

    Example: lake basis --month 2026-11
    """
    from pipeline.basis import derive_basis
    from quality.watching import progress

    this: _Context = context.obj
    done = derive_basis(this.root(), months=_months(month), progress=progress)
    show([dataclasses.asdict(part) for part in done], title="basis", as_json=as_json)


def _months(texts: list[str] | None) -> list[datetime.date] | None:
    """The first days of months given as YYYY-MM."""
    try:
        return [datetime.date.fromisoformat(f"{text}-01") for text in texts] if texts else None
    except ValueError:
        raise typer.BadParameter(f"{texts} are no months; write them like 2026-11") from None


@app.command()
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

    this: _Context = context.obj
    choice = Choice(
        instruments=tuple(instrument or ()),
        currencies=tuple(text.upper() for text in currency or ()),
        kinds=tuple(kind or ()),
        start=midnight(_day(start)) if start else None,
        end=midnight(_day(end) + datetime.timedelta(days=1)) if end else None,
        resolution=resolution,
        strikes=strike_range(strikes) if strikes else None,
        expired=expired,
        reread=_day(reread) if reread else None,
    )
    settings = this.settings("backfill", {"rest_url": rest_url, "history_url": history_url})
    places = this.root(create=True), dataset, choice, settings, this.settings("spool")
    if not backfill_now(*places, dry_run=dry_run, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def surface(
    context: typer.Context,
    date: Annotated[list[str] | None, typer.Option(help="Only this UTC day, YYYY-MM-DD; repeatable.")] = None,
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

    this: _Context = context.obj
    if at and date:
        raise InputError("give --at or --date, not both")
    selection = Selection(
        days=tuple(_day(text) for text in date) if date else None,
        at=_moment(at) if at and at != LAST else None,
        last=at == LAST,
        every=datetime.timedelta(seconds=seconds(every)),
        currencies=tuple(currency) if currency else None,
        maturities=tuple(seconds(text) / SECONDS_PER_UNIT["d"] for text in maturity or ()),
    )
    outcome = run(this.root(), this.settings("surface"), selection, png)
    show(outcome.rows, title=outcome.title, as_json=as_json)
    for path in outcome.pictures:
        typer.echo(str(path), err=as_json)


def _moment(text: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; write it like 2026-11-20T12:00, or last") from None
    return moment.astimezone(datetime.UTC) if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


@app.command()
def greeks(
    context: typer.Context,
    of: Annotated[str, typer.Option(help="Table with the prices: quotes, trades or candles.")] = "quotes",
    date: Annotated[list[str] | None, typer.Option(help="Only this UTC day, YYYY-MM-DD; repeatable.")] = None,
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
    from quality.watching import progress

    this: _Context = context.obj
    settings = this.settings("greeks", {"quotes_every_s": seconds(every) if every else None})
    days = [_day(text) for text in date] if date else None
    if validate:
        if of != "quotes":
            raise InputError("--validate compares quotes: only they carry the venue's own Greeks")
        found = validate_greeks(this.root(), settings, days=days, progress=progress)
        if as_json:
            typer.echo(json.dumps({**found.as_sections(), "problems": found.problems}, default=str, indent=1))
        else:
            for title, rows in found.as_sections().items():
                show(rows, title=title)
        for problem in found.problems:
            typer.echo(f"lake: {problem}", err=True)
        raise typer.Exit(1 if found.problems else 0)
    report = derive_greeks(this.root(), settings, of=of, days=days, progress=progress)
    show(report.as_rows(), title=f"Greeks of {of}", as_json=as_json)


@app.command()
def sql(
    context: typer.Context,
    statement: Annotated[str, typer.Argument(help="One SQL statement; tables are views: quotes, trades, …")],
    output: Annotated[Format, typer.Option("--format", help="table, csv, json or parquet.")] = Format.table,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of the terminal.")] = None,
) -> None:
    """Answer one SQL statement (DuckDB's dialect) over the lake; it cannot change the lake.

    Example: lake sql "SELECT instrument, count(*) AS ticks FROM quotes GROUP BY ALL ORDER BY ticks DESC LIMIT 5"
    """
    from lake.answers import write_answer
    from lake.views import query
    from pipeline.derive_greeks import sql_greeks

    this: _Context = context.obj
    if output is Format.parquet and out is None:
        raise InputError("--format parquet needs a file: add --out FILE.parquet")
    root = this.root()
    answer = query(root, statement, sql_greeks(root))
    if output is Format.table and out is None:
        show(answer.to_pylist())
    else:
        write_answer(answer, "csv" if output is Format.table else output.value, out)


@app.command()
def verify(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Prove the lake: files, row counts, content hashes, unique keys, and every stream accounted for.

    Example: lake --root data verify
    """
    from quality.gaps import gaps_by_cause
    from quality.verify import verify as verify_lake

    this: _Context = context.obj
    report = verify_lake(this.root())
    show(report.as_rows(), title="verified", as_json=as_json)
    for problem in report.problems:
        typer.echo(f"lake: {problem}", err=True)
    if report.problems:
        raise typer.Exit(1)
    if not as_json:
        show(gaps_by_cause(this.root()), title="holes on record")


@app.command()
def status(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show what changes by the second until interrupted.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say how collector and ingester are doing or how they ended, what the lake holds, and how full the disk is.

    Example: lake --root data status --watch
    """
    from quality.status import live
    from quality.status import status as lake_status
    from quality.watching import watch_sections

    this: _Context = context.obj
    root = this.root()
    if watch:
        if as_json or not sys.stdout.isatty():
            raise InputError("--watch is for a terminal; for programs there is --json without it")
        watch_sections(lambda: live(root))
        return
    report = lake_status(root)
    if as_json:
        typer.echo(json.dumps(report, default=str, indent=1))
        return
    for title, rows in report.items():
        show(rows, title=title)


@app.command()
def demo(
    context: typer.Context,
    root: Annotated[
        Path, typer.Option(help="Folder for the demonstration's lake; must be empty or new.")
    ] = Path("demo-lake"),
    run_for: Annotated[str, typer.Option("--for", help="How long to record.")] = "15s",
) -> None:
    """Record a simulated venue, ingest, compact, verify and query: the whole way of a tick, without network.

    Example: lake demo --root demo-lake
    """
    from collectors.simulator import SimulatorSettings
    from collectors.simulator.process import start

    del context
    if root.exists() and any(root.iterdir()):
        raise InputError(f"{root} is not empty; remove it or give another folder: lake demo --root DIR")
    lake = ["--root", str(root)]
    with start(SimulatorSettings(port=0, seed=7, instruments=600, rate=2000.0)) as venue:
        _step([*lake, "collect", "--ws-url", venue.ws_url, "--rest-url", venue.rest_url, "--for", run_for])
    _step([*lake, "compact", "--date", datetime.datetime.now(datetime.UTC).date().isoformat()])
    _step([*lake, "verify"])
    _step([*lake, "greeks", "--date", datetime.datetime.now(datetime.UTC).date().isoformat()])
    _step([*lake, "status"])
    for text in (CONF / "demo.sql").read_text(encoding="utf-8").split(";\n"):
        question, _, statement = text.strip().removeprefix("-- ").partition("\n")
        if statement:
            typer.secho(f"\n{question}", bold=True)
            _step([*lake, "sql", statement], shown=f'lake --root {root} sql "{statement}"')
    typer.secho("\nNext", bold=True)
    typer.echo(f'  lake --root {root} sql "FROM book LIMIT 5"     any SQL over what was recorded')
    typer.echo(f"  lake --root {root} status                     what the lake holds")
    typer.echo("  lake --root mylake collect --for 60s           the same from Deribit itself")


def _step(arguments: list[str], *, shown: str | None = None) -> None:
    """Run one verb as a user would, showing the command line first."""
    import shlex

    typer.secho(f"\n$ {shown or 'lake ' + shlex.join(arguments)}", fg="cyan")
    app(arguments, standalone_mode=False)


if __name__ == "__main__":
    app()
