"""What `lake surface` does with what it was given: compute, then show or draw what was asked for."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lake.display import progress
from lake.errors import InputError
from lake.instants import EPOCH, from_us
from lake.root import Root
from pipeline.surface.history import constant_maturity, shown, smile_rows
from pipeline.surface.job import Spans, compute, fitted, recorded_spans
from pipeline.surface.settings import SurfaceSettings

LAST: Final = "last"
STILL_RECORDED_US: Final = 3_600_000_000
"""Options whose newest quote is within this of the newest of all are still being recorded."""
ONE_DAY: Final = dt.timedelta(days=1)

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which instants of which options, and the constant maturities, in days, that are wanted of them.

    `last` stands for the newest instant `at` which there are quotes of all that is still being recorded.
    """

    days: tuple[dt.date, ...] | None
    at: dt.datetime | None
    last: bool
    every: dt.timedelta
    currencies: tuple[str, ...] | None
    maturities: tuple[float, ...]

    @property
    def span(self) -> tuple[dt.datetime, dt.datetime]:
        """First and last moment of what is selected."""
        if self.at is not None:
            return self.at, self.at
        if not self.days:
            return EPOCH, dt.datetime.now(dt.UTC)
        first, last = (dt.datetime.combine(pick(self.days), dt.time(), dt.UTC) for pick in (min, max))
        return first, last + ONE_DAY - dt.timedelta.resolution


@dataclass(frozen=True, slots=True)
class Outcome:
    """What to show, and the pictures that were drawn."""

    title: str
    rows: Rows
    pictures: list[Path]


def run(root: Root, settings: SurfaceSettings, selection: Selection, png: Path | None) -> Outcome:
    """Compute what is due of `selection`, then draw and show what was asked for.

    Raises: as `pipeline.surface.job.compute` and `pipeline.surface.album.draw`.
    """
    recorded = recorded_spans(root, selection.currencies)
    if selection.last:
        selection = dataclasses.replace(selection, at=_last(recorded.values()), last=False)
    if selection.at is not None and not os.access(root.tables, os.W_OK):
        return _unstored(root, settings, selection, sorted(recorded), png)
    computed = compute(
        root,
        settings,
        days=selection.days,
        at=selection.at,
        every=selection.every,
        currencies=selection.currencies,
        progress=progress,
    )
    wanted = sorted(recorded)
    first, last = selection.span
    pictures: list[Path] = []
    if png is not None:
        from pipeline.surface.album import draw

        pictures = draw(root, wanted, first, last, png, settings)
    if selection.maturities:
        rows = [
            {"family": family, **one.as_row()}
            for family in wanted
            for one in constant_maturity(root, family, first, last, selection.maturities)
        ]
        return Outcome("constant maturity", rows, pictures)
    if selection.at is not None:
        rows = [
            {"family": family, **row} for family in wanted for row in smile_rows(root, family, selection.at)
        ]
        return Outcome(_title(selection.at), rows, pictures)
    return Outcome("surfaces computed", [one.as_row() for one in computed], pictures)


def _unstored(
    root: Root, settings: SurfaceSettings, selection: Selection, families: Sequence[str], png: Path | None
) -> Outcome:
    """One instant of a lake that cannot be written: what is not in the table is fitted for this answer alone."""
    assert selection.at is not None
    if png is not None or selection.maturities:
        raise InputError(
            f"{root.path} cannot be written, and only stored surfaces are drawn: leave out --png and --maturity"
        )
    found = fitted(root, settings, selection.at, selection.currencies)
    rows = []
    for family in families:
        told = shown(found[family]) if family in found else smile_rows(root, family, selection.at)
        rows += [{"family": family, **row} for row in told]
    return Outcome(f"{_title(selection.at)}, not stored", rows, [])


def _title(at: dt.datetime) -> str:
    return f"surface at {at:%Y-%m-%d %H:%M:%S} UTC"


def _last(recorded: Iterable[Spans]) -> dt.datetime:
    ends = [spans.end for spans in recorded]
    return from_us(min(end for end in ends if end > max(ends) - STILL_RECORDED_US))
