"""Rows for people: one look for every table that a verb prints. Imports nothing slow."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
TALL_COLUMNS: Final = 8
PIPE_WIDTH: Final = 160
"""Columns of text where the output is no terminal that could say how wide it is."""


def show(rows: Sequence[Mapping[str, Any]], *, title: str = "", as_json: bool = False) -> None:
    """Print `rows`, all with the same keys, as one table for people or as a JSON list for programs.

    A single row of many columns is turned on its side. Nulls show as a middle dot, times in UTC.
    """
    if as_json:
        sys.stdout.write(
            json.dumps([{k: plain(v) for k, v in row.items()} for row in rows], default=str, indent=1)
        )
        sys.stdout.write("\n")
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    console.print(as_table(rows, title) if rows else f"{title}: nothing" if title else "nothing")


@contextlib.contextmanager
def working(doing: str) -> Iterator[Callable[[str], None]]:
    """Show on the terminal that something takes long; what is yielded tells how far it has got.

    It goes to standard error, so that answers stay clean, and nowhere if that is no terminal.
    """
    from rich.console import Console

    with Console(stderr=True).status(doing) as status:
        yield lambda done: status.update(f"{doing}: {done}")


def progress(results: Iterable[T], total: int) -> Iterator[T]:
    """`results` as they come, with a bar on stderr of how many of `total` there are; none where that is no terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(results, "", total, console=console, transient=True, disable=not console.is_terminal)


def as_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """The table that `show` prints."""
    from rich import box
    from rich.table import Table

    if len(rows) == 1 and len(rows[0]) > TALL_COLUMNS:
        rows = [{"what": name, "value": value} for name, value in rows[0].items()]
    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for name in rows[0] if rows else ():
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def plain(value: Any) -> Any:
    """A value as JSON can say it: times in ISO 8601, null for NaN and infinities."""
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cell(value: Any) -> str:
    match value:
        case None:
            return "·"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.10g}"
        case datetime.datetime():
            moment = value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
            return moment.isoformat(" ", "microseconds" if moment.microsecond % 1000 else "milliseconds")
        case str() | datetime.date():
            return str(value)
        case _:
            return json.dumps(value, default=str)
