"""What a terminal shows of a running collector, and that nothing is shown elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from quality.watching import line, live_line
from tests.ops.kit import collector_beat


def test_a_beat_is_one_line() -> None:
    assert line(collector_beat()) == (
        "deribit: running · 50 frames/s · 110 frames · on disk after 40 ms · 1/2 connections"
        " · 3/4 instruments · 3 gaps, 2 open"
    )


def test_a_terminal_shows_the_newest_beat_and_leaves_nothing_behind() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200, highlight=False)
    with live_line(console) as on_beat:
        assert on_beat is not None
        on_beat(collector_beat())
        assert "50 frames/s" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")


def test_what_is_no_terminal_is_left_alone() -> None:
    with live_line(Console(file=io.StringIO())) as on_beat:
        assert on_beat is None
