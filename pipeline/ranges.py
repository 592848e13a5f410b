"""Ranges of instruments that fit into memory: what a job reads at once, where a partition is too large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator


def cut(counts: Counter[str], rows_in_memory: int) -> Iterator[tuple[str, str]]:
    """Ranges of consecutive names with about `rows_in_memory` rows each, or one name that alone has more."""
    names = sorted(counts)
    start, rows = 0, 0
    for i, name in enumerate(names):
        if rows and rows + counts[name] > rows_in_memory:
            yield names[start], names[i - 1]
            start, rows = i, 0
        rows += counts[name]
    if names:
        yield names[start], names[-1]
