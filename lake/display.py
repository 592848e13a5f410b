"""Rows for people: one look for every table that a verb prints. Imports nothing slow."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")
TALL_COLUMNS: Final = 8
NS_PER_S: Final = 1_000_000_000
PIPE_WIDTH: Final = 160
"""Columns of text where the output is no terminal that could say how wide it is."""
TEXT_WIDTH_MIN: Final = 16
"""A column of text is not made narrower than this to let a table fit; numbers and times are never broken."""
HEADER_WORDS: Final = re.compile(r"[^ _/]+[ _/]?|[ _/]")
"""What of a header may not be torn apart."""


def show(rows: Sequence[Mapping[str, Any]], *, title: str = "", as_json: bool = False) -> None:
    """Print `rows`, all with the same keys, as one table for people or as a JSON list for programs.

    A single row of many columns is turned on its side. Nulls show as a middle dot, times in UTC. Without a
    terminal, tables are made for 160 columns of text.
    """
    if as_json:
        sys.stdout.write(json.dumps([plain(row) for row in rows], default=str, indent=1))
        sys.stdout.write("\n")
        return
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    if not rows:
        console.print(f"{title}: nothing" if title else "nothing")
    for table in as_tables(rows, title, console.width):
        console.print(table)


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


def as_tables(rows: Sequence[Mapping[str, Any]], title: str, width: int) -> Iterator[Table]:
    """The tables that `show` prints on so many columns of text: one, unless `rows` are too wide for one.

    Too wide, text is folded and headers are broken between words; where that is not enough, few rows are turned on
    their side, and many are given as several tables, whose rows are numbered.
    """
    if not rows:
        return
    if len(rows) == 1 and len(rows[0]) > TALL_COLUMNS:
        rows = _on_their_side(rows, ["value"])
    columns = [_Column.of(name, [row[name] for row in rows]) for name in rows[0]]
    if _total(column.width for column in columns) <= width:
        yield _table(columns, title, width)
        return
    columns = [column.narrowed() for column in columns]
    if _total(column.width_min for column in columns) <= width:
        yield _table(columns, title, width)
        return
    sideways = _on_their_side(rows, [str(number) for number in range(1, len(rows) + 1)])
    turned = [_Column.of(name, [row[name] for row in sideways]) for name in sideways[0]]
    if len(columns) > len(turned) and _total(column.width_min for column in turned) <= width:
        yield _table(turned, title, width)
        return
    number = _Column.of("#", list(range(1, len(rows) + 1)))
    part = [number]
    for column in columns:
        if len(part) > 1 and _total(c.width_min for c in (*part, column)) > width:
            yield _table(part, title, width)
            part, title = [number], ""
        part.append(column)
    yield _table(part, title, width)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table as it will be printed, with cells no narrower than `room` even where they are folded."""

    header: str
    cells: Sequence[str]
    room: int
    numeric: bool

    @classmethod
    def of(cls, name: str, values: Sequence[Any]) -> _Column:
        cells = [_cell(value) for value in values]
        whole = [isinstance(value, int | float | datetime.date | None) for value in values]
        rooms = [
            _text_width([cell]) if unbroken else min(_text_width([cell]), TEXT_WIDTH_MIN)
            for cell, unbroken in zip(cells, whole, strict=True)
        ]
        numeric = all(isinstance(value, int | float | None) for value in values)
        return cls(name, cells, max(rooms, default=0), numeric)

    def narrowed(self) -> _Column:
        """Its header in as many lines as it takes to be no wider than the cells."""
        words = HEADER_WORDS.findall(self.header)
        room = max(_text_width([*self.cells, *words]), 1)
        lines = [""]
        for word in words:
            if lines[-1] and len(lines[-1]) + len(word.rstrip()) > room:
                lines.append("")
            lines[-1] += word
        return replace(self, header="\n".join(line.rstrip() for line in lines))

    @property
    def width(self) -> int:
        return _text_width([self.header, *self.cells])

    @property
    def width_min(self) -> int:
        return max(_text_width([self.header]), self.room)


def _table(columns: Sequence[_Column], title: str, width: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    spare = width - _total(column.width_min for column in columns)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        given = max(0, min(spare, column.width - column.width_min))
        spare -= given
        table.add_column(column.header, justify=justify, overflow="fold", width=column.width_min + given)
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def _on_their_side(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each column of `rows`, with the values of its row under each of `names`."""
    return [
        {"what": column, **{name: row[column] for name, row in zip(names, rows, strict=True)}}
        for column in rows[0]
    ]


def _total(widths: Iterable[int]) -> int:
    """How wide a table with such columns is: a margin of one, and three between columns."""
    return sum(width + 3 for width in widths) - 1


def _text_width(texts: Iterable[str]) -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for text in texts for line in text.split("\n")), default=0)


def plain(value: Any) -> Any:
    """A value as JSON can say it: times and spans in ISO 8601, null for NaN and infinities; also within lists and
    objects."""
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if _is_span(value):
        return _iso_span(*value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def _is_span(value: Any) -> bool:
    """Whether it is an interval of SQL, as Arrow gives it; asked by its fields, because Arrow is slow to import."""
    return isinstance(value, tuple) and hasattr(value, "nanoseconds")


def _iso_span(months: int, days: int, nanoseconds: int) -> str:
    """A span of time as a duration in ISO 8601: P1Y2M3DT12.5S, with a sign at each part that is negative."""
    years, months = int(months / 12), int(math.fmod(months, 12))
    units = ((years, "Y"), (months, "M"), (days, "D"))
    date = "".join(f"{number}{unit}" for number, unit in units if number)
    clock = f"T{_sign(nanoseconds)}{_seconds(abs(nanoseconds))}S" if nanoseconds or not date else ""
    return f"P{date}{clock}"


def _span(months: int, days: int, nanoseconds: int) -> str:
    """A span of time for people: "14 months 3 days 02:00:12.5", or "12.5 s" below a minute."""
    units = ((months, "month"), (days, "day"))
    parts = [f"{number} {unit}{'' if abs(number) == 1 else 's'}" for number, unit in units if number]
    minutes, rest = divmod(abs(nanoseconds), 60 * NS_PER_S)
    if not parts and not minutes:
        return f"{_sign(nanoseconds)}{_seconds(rest)} s"
    if nanoseconds:
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{_sign(nanoseconds)}{hours:02d}:{minutes:02d}:{_seconds(rest, 2)}")
    return " ".join(parts)


def _sign(number: int) -> str:
    return "-" if number < 0 else ""


def _seconds(nanoseconds: int, width: int = 1) -> str:
    """Nanoseconds, 0 or more, as decimal seconds of at least `width` digits, with no zeros behind the fraction."""
    whole, fraction = divmod(nanoseconds, NS_PER_S)
    return f"{whole:0{width}d}" + f".{fraction:09d}".rstrip("0").rstrip(".")


def _cell(value: Any) -> str:
    if _is_span(value):
        return _span(*value)
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
