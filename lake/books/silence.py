"""What silence of a book means: that nothing happened, if somebody listened; else nothing at all.

A book that is told nothing of is what it was, as long as its channel was open. That is certain when something else
was heard of the same instrument later (its quotes come over the same connection) and no hole on record lies between
that may concern it: a lost connection, if the book spoke last before; a time of which records were dropped or
damaged, if the book did not speak after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lake.books.arrays import Flags, Ints


@dataclass(frozen=True, slots=True)
class Holes:
    """The holes on record that may concern books, of all books of a venue, and of single ones by (venue, instrument).

    Each is a row of when it began and when, at the latest, a book that it concerns was last heard: µs UTC, (n, 2).
    """

    of_all: Mapping[str, Ints] = field(default_factory=dict)
    of_one: Mapping[tuple[str, str], Ints] = field(default_factory=dict)

    def between(self, key: tuple[str, str], since_us: int, until_us: int) -> bool:
        """Whether one may concern the book `key`, last heard at `since_us`, until `until_us`."""
        return any(
            bool(((found[:, 0] <= until_us) & (found[:, 1] >= since_us)).any())
            for found in (self.of_all.get(key[0]), self.of_one.get(key))
            if found is not None
        )


def still_true(keys: list[tuple[str, str]], recv: Ints, heard: Ints, holes: Holes) -> Flags:
    """Whether books that last spoke at `recv` were silent because nothing happened; `heard` is when something else
    was heard of each afterwards, -1 where nothing was. All times in µs UTC, by our clock."""
    listened = zip(keys, recv.tolist(), heard.tolist(), strict=True)
    verdict = [until >= 0 and not holes.between(key, since, until) for key, since, until in listened]
    return np.array(verdict, np.bool_)
