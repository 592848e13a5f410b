"""What a person at a terminal sees of a running lake: one line of the collector, or the status again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from lake.beats import Beat
from lake.display import as_tables

REFRESH_SECONDS: Final = 2.0


@contextmanager
def live_line(console: Console | None = None) -> Iterator[Callable[[Beat], None] | None]:
    """A line on stderr, replaced by every beat given to what this yields; None where that is no terminal."""
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False) as live:
        yield lambda beat: live.update(Text(line(beat), no_wrap=True, overflow="ellipsis"), refresh=True)


def line(beat: Beat) -> str:
    """A collector's beat in one line."""
    figures = beat.collector
    if figures is None:
        return f"{beat.stream}: {beat.state}"
    connections, spool = figures.connections, figures.spool
    parts = [
        f"{beat.stream}: {beat.state}",
        f"{figures.frames_per_s:,.0f} frames/s",
        f"{sum(c.frames for c in connections):,} frames",
        f"on disk after {spool.durable_lag_s * 1e3:.0f} ms",
        f"{sum(c.up for c in connections)}/{len(connections)} connections",
        f"{figures.instruments_subscribed}/{figures.instruments_expected} instruments",
        f"{sum(figures.gaps.values())} gaps, {figures.open_gaps_count} open",
    ]
    return " · ".join([*parts, *(["DISK FULL"] if spool.disk_full else [])])


def watch_sections(read: Callable[[], Mapping[str, Sequence[Mapping[str, Any]]]]) -> None:
    """Show the sections that `read` gives, on the whole terminal, until interrupted."""

    def shown() -> Group:
        return Group(*(t for title, rows in read().items() for t in as_tables(rows, title, console.width)))

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    with suppress(KeyboardInterrupt), Live(shown(), console=console, auto_refresh=False, screen=True) as live:
        while True:
            time.sleep(REFRESH_SECONDS)
            live.update(shown(), refresh=True)
