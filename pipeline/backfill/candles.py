"""Candles: windows of as many bars as an answer can hold, of what neither `candles` nor the record has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from collectors.deribit.history_answers import BARS_MAX, CHART, CHART_RESOLUTIONS
from lake.errors import InputError
from lake.instants import from_us
from pipeline.backfill import ledger
from pipeline.backfill.engine import Ask, Unit
from pipeline.backfill.ledger import Listed
from pipeline.backfill.plan import Choice, Plan, Planning, urgency
from pipeline.backfill.spans import Span, cut, lacking

KINDS: Final = ("future",)
RESOLUTION: Final = "1"
BARS_PER_QUESTION: Final = BARS_MAX - 1
"""The question begins a bar early, because the first one may be left out: it may also be given."""


def bars(choice: Choice) -> tuple[str, str, int]:
    """What the venue calls the bars that are wanted, what the table calls them, and their length, ms.

    Raises:
        InputError: the venue has no bars of this length.
    """
    given = choice.resolution or RESOLUTION
    if given not in CHART_RESOLUTIONS:
        raise InputError(f"--resolution {given}: use {', '.join(CHART_RESOLUTIONS)} (minutes; 1D: a day)")
    return given, *CHART_RESOLUTIONS[given]


def plan(planning: Planning) -> Plan:
    """A unit for every window that is lacking, the most urgent instrument first."""
    given, name, step = bars(planning.choice)
    recorded = planning.ledger.recorded("candles")
    held = planning.ledger.whole_months(name, step * 1000)
    found = Plan()
    for item in planning.chosen(KINDS):
        rows = recorded.get(item.name, [])
        if not found.may_ask(item.name, rows, planning):
            continue
        have = [*ledger.times(rows, name), *held.get(item.name, [])]
        word = urgency(item, planning.now_ms)
        for first, end in windows(item, planning, step, have):
            found.units.append(
                Unit(
                    "candles", item.name, f"{from_us(first * 1000):%Y-%m-%d %H:%M} {word}",
                    partial(_ask_window, item.name, given, first - step, end - step),
                )
            )  # fmt: skip
    return found


def windows(item: Listed, planning: Planning, step: int, have_us: list[Span]) -> Iterator[Span]:
    """Spans of ms, of whole bars that have closed, that are lacking and fit into an answer each."""
    first = max(planning.start_ms, item.created_ms) // step * step
    end = min(planning.published_ms // step * step, -(-item.expires_ms // step) * step)
    if end <= first:
        return
    have = [(-(-a // 1000 // step) * step, b // 1000 // step * step) for a, b in have_us]
    yield from cut(lacking([(first, end)], have), BARS_PER_QUESTION * step)


async def _ask_window(name: str, resolution: str, before_ms: int, last_ms: int, ask: Ask) -> None:
    await ask(
        "venue",
        CHART,
        {
            "instrument_name": name,
            "start_timestamp": before_ms,
            "end_timestamp": last_ms,
            "resolution": resolution,
        },
    )
