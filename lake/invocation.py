"""What every verb of the `lake` command shares: the lake it is about, its settings, and values as people write them."""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from lake.errors import InputError
from lake.instants import CENTURY_SECONDS

if TYPE_CHECKING:
    from lake.root import Root
    from lake.settings import Sources

DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
SECONDS_PER_UNIT: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2099
"""What a verb may be asked about: whoever reckons with it stays far from the ends of the calendar."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
DayOption = Annotated[list[str] | None, typer.Option(help="Only this UTC day, YYYY-MM-DD; repeatable.")]
MonthOption = Annotated[list[str] | None, typer.Option(help="Only this month, YYYY-MM; repeatable.")]


class Format(enum.StrEnum):
    """How `lake sql` gives its answer."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the global options said; `sections` are the classes of the settings, by name."""

    root_path: Path
    config: Path | None
    sources: Sources
    sections: Mapping[str, type]

    def root(self, *, create: bool = False) -> Root:
        """The lake, made where it is missing if `create`; raises RootError."""
        from lake.root import open_root

        return open_root(self.root_path, create=create)

    def settings(self, name: str, flags: Mapping[str, Any] | None = None) -> Any:
        """Section `name` of the settings, `flags` (where not None) above all."""
        return self.sources.section(name, self.sections[name], flags)


def as_seconds(text: str) -> float:
    """A duration such as 500ms, 20s, 10m, 2h or 1d, in seconds; below a century."""
    match = DURATION.fullmatch(text.strip())
    if not match:
        raise typer.BadParameter(f"{text!r} is no duration; write it like 20s, 10m or 2h")
    seconds = float(match[1]) * SECONDS_PER_UNIT[match[2]]
    if seconds >= CENTURY_SECONDS:
        raise typer.BadParameter(f"{text!r} is longer than a century")
    return seconds


def as_day(text: str) -> datetime.date:
    """A day such as 2026-11-20."""
    try:
        day = datetime.date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; write it like 2026-11-20") from None
    _check_year(day.year, text)
    return day


def as_days(texts: Sequence[str] | None) -> list[datetime.date] | None:
    """What a `DayOption` was given; None where it was not."""
    return [as_day(text) for text in texts] if texts else None


def as_months(texts: Sequence[str] | None) -> list[datetime.date] | None:
    """What a `MonthOption` was given, as the first days of the months; None where it was not."""
    try:
        months = [datetime.date.fromisoformat(f"{text}-01") for text in texts] if texts else None
    except ValueError:
        raise typer.BadParameter(f"{', '.join(texts or ())} is no month; write it like 2026-11") from None
    for month in months or ():
        _check_year(month.year, f"{month:%Y-%m}")
    return months


def as_instant(text: str) -> datetime.datetime:
    """An instant in ISO 8601, in UTC; without a zone it is UTC."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no instant; write it like 2026-11-20T12:00") from None
    _check_year(found.year, text)
    return found.astimezone(datetime.UTC) if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _check_year(year: int, text: str) -> None:
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise typer.BadParameter(f"{text!r} is out of range; give a time from {FIRST_YEAR} to {LAST_YEAR}")


def form_of(output: Format | None, out: Path | None) -> Format:
    """In which form an answer goes `out`; raises InputError where that cannot be."""
    if out is None:
        if output is Format.parquet:
            raise InputError("--format parquet needs a file: add --out FILE.parquet")
        return output or Format.table
    ending = out.suffix.removeprefix(".").lower()
    known = {form.value for form in Format if form is not Format.table}
    if output is None and ending in known:
        return Format(ending)
    if output in (None, Format.table):
        raise InputError(f"--out {out}: say --format csv, json or parquet, or give a name that ends so")
    return output
