"""The `lake` command: its global options and settings, and the verbs that join rooms; the others come from theirs.

Exit code 0: done. 1: it ran, and found or met something that a person must look at. 2: bad input, with one
line that says what to change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from collectors.commands import simulate
from lake.commands import book, snapshot
from lake.display import show
from lake.durable import REFUSED, TROUBLE
from lake.errors import InputError, LakeError, TransientError
from lake.invocation import DayOption, Format, Invocation, JsonFlag, as_days, as_seconds, form_of
from lake.manifest_commands import manifest
from lake.redaction import redact
from lake.streams import as_texts, streams_minded
from pipeline.commands import backfill, basis, candles, chain, compact, greeks, import_, run_periodic, surface
from quality.commands import status, verify

if TYPE_CHECKING:
    from pipeline.periodic import PeriodicJob

# numpy's linear algebra would start a thread for every core, each spinning for work that never comes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The interpreters started from here must not find their modules in whatever folder somebody stands in.
os.environ.setdefault("PYTHONSAFEPATH", "1")

CONF: Final = Path(__file__).resolve().parent / "conf"
DEFAULT_ROOT: Final = Path("data")
ROWS_SHOWN: Final = 1_000
"""Of an answer in the form of a table: nobody reads more, and to lay them out takes long."""
INTERRUPTED: Final = 130
"""Exit code of a verb that Ctrl-C ended, as shells have it."""


class _Group(TyperGroup):
    """Turns our errors, what the file system refuses and Ctrl-C into one line and an exit code; anything else is a
    bug and shows its traceback.
    """

    def main(
        self, args: Sequence[str] | None = None, *rest: Any, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run as a process of its own; without `standalone_mode`, as a step of another verb."""
        if not standalone_mode:
            return super().main(args, *rest, standalone_mode=False, **extra)
        try:
            with streams_minded():
                return super().main(as_texts(sys.argv[1:] if args is None else args), *rest, **extra)
        except InputError as error:
            typer.echo(f"lake: {error}", err=True)
            sys.exit(2)
        except UnicodeEncodeError as error:
            typer.echo(f"lake: this locale has no {error.object!a}; set PYTHONUTF8=1", err=True)
            sys.exit(2)
        except Exception:  # noqa: BLE001 - a bug; told here only to keep secrets out of it
            typer.echo(redact(traceback.format_exc()), err=True, nl=False)
            sys.exit(1)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Every verb with its whole first sentence; by default it is cut where the line ends."""
        del ctx
        verbs = [
            (name, " ".join((verb.help or "").split("\n\n")[0].split()))
            for name, verb in self.commands.items()
        ]
        with formatter.section("Commands"):
            formatter.write_dl(verbs)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LakeError as error:
            _fail(error)
        except KeyboardInterrupt:
            typer.echo("lake: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno not in TROUBLE | REFUSED:
                raise
            place = f"{error.filename} cannot be used: " if error.filename else ""
            typer.echo(f"lake: {place}{error.strerror}", err=True)
            raise typer.Exit(1 if error.errno in TROUBLE else 2) from error


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
    from lake.manifests.make import ManifestSettings
    from lake.spool import SpoolSettings
    from lake.sql_limits import SqlSettings
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
        "manifest": ManifestSettings,
        "backfill": BackfillSettings,
        "surface": SurfaceSettings,
        "depth": DepthSettings,
        "chain": ChainSettings,
        "greeks": GreeksSettings,
        "sql": SqlSettings,
        "log": LogSettings,
        "heartbeat": HeartbeatSettings,
        "metrics": MetricsSettings,
    }


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
    context.obj = Invocation(root, config, sources, known)


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
    from collectors.daemon import record, stream_folder
    from collectors.ops.settings import OpsSettings
    from lake.logs import logging_to
    from quality.watching import live_line

    this: Invocation = context.obj
    settings = this.settings("collect", {"ws_url": ws_url, "rest_url": rest_url})
    seconds = as_seconds(run_for) if run_for else None
    root = this.root(create=True)
    folder = stream_folder(root, stream)
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
            seconds=seconds,
            ops=OpsSettings(this.settings("heartbeat"), this.settings("metrics")),
            on_beat=on_beat,
        )
    told = {**dataclasses.asdict(summary), "seconds": round(summary.seconds, 3)}
    show([told], title=f"recorded into {root.path}", as_json=as_json)
    if seconds is not None and not summary.frames:
        raise TransientError(
            f"nothing came from {settings.ws_url} in {run_for}; see above, or logs/collect-{stream}.log"
        )


@contextlib.contextmanager
def _ingester_beside(this: Invocation, stream: str) -> Iterator[None]:
    """Ingest in a process of its own, so that decoding never delays the socket; one last round at the end."""
    from lake.companion import Companion
    from lake.memory import KEEP_LITTLE

    command = [sys.executable, "-P", "-m", "cli", "--root", str(this.root_path)]
    if this.config:
        command += ["--config", str(this.config)]
    command += ["ingest", "--follow", "--leash", "--stream", stream]
    with Companion(command, "the ingester", environment=KEEP_LITTLE) as ingester:
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

    this: Invocation = context.obj
    places = this.root(), this.settings("ingest"), this.settings("spool")
    if follow:
        name = f"ingest-{stream[0]}" if stream and len(stream) == 1 else "ingest"
        with logging_to(places[0].logs, name, this.settings("log")):
            leash_fd = sys.stdin.fileno() if leash else None
            follow_spool(*places, streams=stream, leash=leash_fd, beside=_beside_ingest(this))
        return
    for name in stream or ():
        if not places[0].stream(name).is_dir():
            known = ", ".join(places[0].streams()) or "none yet"
            raise InputError(f"there is no stream {name!r} in the spool; there are: {known}")
    report = ingest_once(*places, streams=stream)
    show(report.as_rows(), title="ingested", as_json=as_json)


def _beside_ingest(this: Invocation) -> list[Callable[[], None]]:
    """What an ingester that follows the spool does between its rounds."""
    from pipeline.chain import chain_job
    from pipeline.periodic import Periodic

    settings = this.settings("chain")
    jobs = [chain_job(settings)] if settings.enabled else []
    if this.settings("depth").enabled:
        jobs += _book_jobs(this)
    return [Periodic(this.root(), job).run_some for job in jobs]


def _book_jobs(this: Invocation) -> list[PeriodicJob]:
    """Samples of the books, and their comparison with what the venue answered."""
    from pipeline.depth import depth_job
    from pipeline.periodic import PeriodicJob
    from quality import books

    checks = PeriodicJob("book_checks", books.PERIOD, books.PERIOD, books.SETTLE, books.check_rows)
    return [depth_job(this.settings("depth")), checks]


@app.command()
def depth(
    context: typer.Context,
    date: DayOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Sample the order books (20 levels every 5 minutes by default) and compare them with what the venue answered.

    Example: lake --root data depth --date 2026-11-20
    """
    from lake.books import imported_days

    this: Invocation = context.obj
    root, days = this.root(), as_days(date)
    run_periodic(root, _book_jobs(this), date, as_json=as_json)
    for day in imported_days(root, days) if days else ():
        typer.echo(
            f"lake: imported books of {day} have no rows, for nothing proves that all changes are there: "
            "`lake book` shows them, marked so",
            err=True,
        )


app.command(context_settings={"allow_extra_args": True})(simulate)
app.add_typer(manifest, name="manifest")
for verb in (
    book,
    snapshot,
    compact,
    import_,
    backfill,
    candles,
    basis,
    chain,
    surface,
    greeks,
    verify,
    status,
):
    app.command(verb.__name__.rstrip("_"))(verb)


@app.command()
def sql(
    context: typer.Context,
    statement: Annotated[str, typer.Argument(help="One SQL statement; tables are views: quotes, trades, …")],
    output: Annotated[
        Format | None,
        typer.Option(
            "--format", help="table, csv, json or parquet; by default what --out ends in, or a table."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of the terminal.")] = None,
) -> None:
    """Answer one SQL statement (DuckDB's dialect) over the lake; it cannot change the lake.

    Example: lake sql "SELECT instrument, count(*) AS ticks FROM quotes GROUP BY ALL ORDER BY ticks DESC LIMIT 5"
    """
    from lake.answers import write_answer
    from lake.views import connect
    from pipeline.derive_greeks import sql_greeks

    this: Invocation = context.obj
    form = form_of(output, out)
    root = this.root()
    with _stopped_by_signals(), connect(root, sql_greeks(root), this.settings("sql")) as connection:
        schema, batches = connection.stream(statement)
        if form is not Format.table:
            write_answer(schema, batches, form.value, out)
            return
        rows = list(itertools.islice((row for batch in batches for row in batch.to_pylist()), ROWS_SHOWN + 1))
    show(rows[:ROWS_SHOWN])
    if len(rows) > ROWS_SHOWN:
        advice = "for all of them add --out FILE.csv, or --format csv"
        typer.echo(f"lake: these are the first {ROWS_SHOWN:,} rows; {advice}", err=True)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block in order, and the command with exit code 130."""

    def stop(number: int, frame: object) -> NoReturn:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("lake: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@app.command()
def demo(
    context: typer.Context,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder for the demonstration's lake; must be empty or new. By default demo-lake."),
    ] = None,
    run_for: Annotated[str, typer.Option("--for", help="How long to record.")] = "15s",
) -> None:
    """Record a simulated venue, ingest, compact, verify and query: the whole way of a tick, without network.

    Example: lake demo --root demo-lake
    """
    from collectors.simulator import SimulatorSettings
    from collectors.simulator.process import start

    if root is None:
        given = context.find_root().get_parameter_source("root")
        # A lake named in the environment is a real one.
        root = context.obj.root_path if given and given.name == "COMMANDLINE" else Path("demo-lake")
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
    typer.echo("  . .venv/bin/activate        if your shell does not know the command lake")
    for command, what in (
        (f'lake --root {root} sql "FROM book LIMIT 5"', "any SQL over what was recorded"),
        (f"lake --root {root} status", "what the lake holds"),
        ("lake --root mylake collect --for 60s", "the same from Deribit itself"),
    ):
        typer.echo(f"  {command:<46}  {what}")


def _step(arguments: list[str], *, shown: str | None = None) -> None:
    """Run one verb as a user would, showing the command line first."""
    import shlex

    typer.secho(f"\n$ {shown or 'lake ' + shlex.join(arguments)}", fg="cyan")
    code = app(arguments, standalone_mode=False)
    if code:
        raise typer.Exit(code)


if __name__ == "__main__":
    app()
