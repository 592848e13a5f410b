"""`lake verify` and `lake status`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lake.display import plain, show
from lake.errors import InputError, LakeError
from lake.invocation import Invocation, JsonFlag

if TYPE_CHECKING:
    from lake.root import Root


def verify(
    context: typer.Context,
    since_last: Annotated[
        bool,
        typer.Option(
            "--since-last", help="Read only data files that are new or were written to since the last proof."
        ),
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Prove the lake: files, row counts, content hashes, unique keys, and every stream accounted for.

    Exits with 1 where anything is wrong, and says where and what mends it.

    Example: lake --root data verify
    """
    from quality.verify import find_lake
    from quality.verify import verify as verify_lake

    this: Invocation = context.obj
    root = find_lake(this.root_path)
    report = verify_lake(root, since_last=since_last, remember=True)
    if as_json:
        show([*report.as_rows(), *report.problem_rows()], as_json=True)
    else:
        _show_filled(report.as_rows(), "verified", "checked")
    for problem in report.problems:
        typer.echo(f"lake: {problem}", err=True)
    if report.problems:
        raise typer.Exit(1)
    if not as_json:
        _show_gaps(root)


def _show_gaps(root: Root) -> None:
    """What the proof says of what is missing; whatever becomes of this, the proof holds."""
    from lake.views import connect
    from quality.gaps import gaps_by_cause

    try:
        with connect(root) as sql:
            rows = gaps_by_cause(sql)
    except LakeError as error:
        typer.echo(
            f"lake: the holes on record cannot be summed up ({error}); see `lake sql 'FROM gaps'`", err=True
        )
        return
    show(rows, title="holes on record")


def status(
    context: typer.Context,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show what changes by the second until interrupted.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say how collector and ingester are doing or how they ended, what the lake holds, and how full the disk is; exit
    code 1 where something is wrong with them or a table.

    Example: lake --root data status --watch
    """
    from lake.tables import Tables
    from quality.liveness import faults
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
    troubles = [f"table {row['table']}: {row['trouble']}" for row in report["tables"] if row["trouble"]]
    troubles += faults(root)
    if as_json:
        typer.echo(json.dumps(plain(report), indent=1))
    else:
        _show_status(report)
    for line in troubles:
        typer.echo(f"lake: {line}", err=True)
    if troubles:
        raise typer.Exit(1)


def _show_status(report: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    for title, rows in report.items():
        if title == "tables":
            figures = [{k: v for k, v in row.items() if k != "trouble"} for row in rows]
            _show_filled(figures, title, "table")
        else:
            show(rows, title=title)


def _show_filled(rows: Sequence[Mapping[str, Any]], title: str, name: str) -> None:
    """Show the tables that have rows, and only the names of the others."""
    empty = [str(row[name]).removeprefix("table ") for row in rows if row["rows"] == row["files"] == 0]
    show([row for row in rows if row["rows"] != 0 or row["files"] != 0], title=title)
    if empty:
        typer.echo(f"nothing yet in {', '.join(empty)}")
