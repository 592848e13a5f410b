"""Half-open spans of whole numbers (times, or numbers of trades): joined, subtracted, cut. All lists rise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Span = tuple[int, int]


def joined(spans: Iterable[Span]) -> list[Span]:
    """The same numbers in the fewest spans; empty spans vanish."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def lacking(wanted: Iterable[Span], held: Iterable[Span]) -> list[Span]:
    """What of `wanted` is not in `held`."""
    have = joined(held)
    found: list[Span] = []
    at = 0
    for start, end in joined(wanted):
        while at < len(have) and have[at][1] <= start:
            at += 1
        here = at
        while here < len(have) and have[here][0] < end:
            if start < have[here][0]:
                found.append((start, have[here][0]))
            start = max(start, have[here][1])
            here += 1
        if start < end:
            found.append((start, end))
    return found


def cut(spans: Iterable[Span], size: int) -> Iterator[Span]:
    """The same numbers in spans of at most `size`."""
    for start, end in spans:
        for first in range(start, end, size):
            yield first, min(first + size, end)


def total(spans: Iterable[Span]) -> int:
    """How many numbers the spans hold; they must not overlap."""
    return sum(end - start for start, end in spans)
