"""`lake book` and `lake snapshot`."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Annotated

import typer

from lake.display import plain, show, working
from lake.invocation import Invocation, JsonFlag, as_instant


def book(
    context: typer.Context,
    instrument: Annotated[str, typer.Argument(help="The venue's own name of the instrument.")],
    at: Annotated[str, typer.Option(help="Instant, ISO 8601; without a zone it is UTC.")],
    levels: Annotated[int, typer.Option(min=1, help="Levels a side.")] = 20,
    venue: Annotated[str | None, typer.Option(help="Where the name is traded at several.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Rebuild an order book as it was at any recorded instant; exit code 1 where nobody can say.

    Of an imported book, standard error says that its continuity is not proven.

    Example: lake book BTC-PERPETUAL --at 2026-11-20T10:00:00 --levels 5
    """
    from lake.books import book_at

    this: Invocation = context.obj
    found = book_at(this.root(), instrument, as_instant(at), levels=levels, venue=venue)
    if as_json:
        told = {**dataclasses.asdict(found), "continuity": found.continuity}
        typer.echo(json.dumps(plain(told), indent=1))
    elif found.reason is None:
        none = (None, None)
        pairs = itertools.zip_longest(found.bids, found.asks, fillvalue=none)
        rows = [{"bid size": b[1], "bid": b[0], "ask": a[0], "ask size": a[1]} for b, a in pairs]
        show(rows, title=f"{instrument}, change {found.change_id}")
    if found.unproven is not None:
        typer.echo(f"lake: continuity not proven: {found.unproven}", err=True)
    if found.reason is not None:
        typer.echo(f"lake: the book of {instrument} at {at} is not known: {found.reason}", err=True)
        raise typer.Exit(1)


def snapshot(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="New or empty folder for the copy.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy the lake as it is at this moment, while it records: by links where the copy is on the same file system.

    Example: lake --root data snapshot /volume1/lake-copy
    """
    from lake.snapshot import snapshot as copy_lake

    this: Invocation = context.obj
    with working(f"copying to {folder}") as tell:
        report = copy_lake(this.root(), folder, tell=tell)
    show([report.as_row()], title=f"copied to {folder}", as_json=as_json)
    for note in report.notes:
        typer.echo(f"lake: {note}", err=True)
