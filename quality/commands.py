"""`lake verify` and `lake status`."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from lake.display import plain, show
from lake.errors import InputError
from lake.invocation import Invocation, JsonFlag


def verify(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Prove the lake: files, row counts, content hashes, unique keys, and every stream accounted for.

    Example: lake --root data verify
    """
    from lake.views import connect
    from quality.gaps import gaps_by_cause
    from quality.verify import verify as verify_lake

    this: Invocation = context.obj
    root = this.root()
    report = verify_lake(root)
    show(report.as_rows(), title="verified", as_json=as_json)
    for problem in report.problems:
        typer.echo(f"lake: {problem}", err=True)
    if report.problems:
        raise typer.Exit(1)
    if not as_json:
        with connect(root) as sql:
            show(gaps_by_cause(sql), title="holes on record")


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
    from lake.tables import Tables
    from quality.status import live
    from quality.status import status as lake_status
    from quality.watching import watch_sections

    this: Invocation = context.obj
    root = this.root()
    if watch:
        if as_json or not sys.stdout.isatty():
            raise InputError("--watch is for a terminal; for programs there is --json without it")
        tables = Tables(root)
        watch_sections(lambda: live(root, tables))
        return
    report = lake_status(root)
    if as_json:
        typer.echo(json.dumps(plain(report), indent=1))
        return
    for title, rows in report.items():
        show(rows, title=title)
