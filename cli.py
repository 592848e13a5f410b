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
    from pipeline.chain import ChainSettings
    from pipeline.compact import CompactSettings
    from pipeline.depth import DepthSettings
    from pipeline.ingest import IngestSettings
    from pipeline.surface.settings import SurfaceSettings

    return {
        "spool": SpoolSettings,
        "collect": CollectorSettings,
        "ingest": IngestSettings,
        "compact": CompactSettings,
        "surface": SurfaceSettings,
        "depth": DepthSettings,
        "chain": ChainSettings,
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
    """Ingest in a process of its own, so that decoding never delays the socket; one last round at the end.

    It is stopped by the end of its input and not by a signal, which it would miss while it starts, and which
    nobody would send if this process were killed.
    """
    import subprocess

    command = [sys.executable, "-m", "cli", "--root", str(this.root_path)]
    if this.config:
        command += ["--config", str(this.config)]
    command += ["ingest", "--follow", "--leash", "--stream", stream]
    # Its own session: Ctrl-C stops the recorder first, which then lets the ingester do its last round.
    process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.communicate()
    if process.returncode:
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

    this: _Context = context.obj
    if output is Format.parquet and out is None:
        raise InputError("--format parquet needs a file: add --out FILE.parquet")
    answer = query(this.root(), statement)
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
