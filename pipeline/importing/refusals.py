"""Why rows of a file are refused: the first reason of each, with the value as it stands in the file and the cure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from lake.exact import Array, Mask

SHOWN_MAX: Final = 80
"""Of a value, in a reason: more tells nobody more."""
_BARE: Final = re.compile(r"[+-]?[0-9.][0-9.eE+-]*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is wrong with `column` of a row: its `value` (null: none) and `why` that cannot be. `general`: a fault that
    can be the whole file's, if all its rows have it."""

    column: str
    value: str | None
    why: str
    cure: str = ""
    general: bool = False

    @property
    def reason(self) -> str:
        """The column, its value and why that cannot be."""
        return (
            f"{self.column}: {self.why}"
            if self.value is None
            else f"{self.column}: {_shown(self.value)} {self.why}"
        )

    @property
    def told(self) -> str:
        """Reason and cure in one line."""
        return f"{self.reason}; {self.cure}" if self.cure else self.reason


@dataclass(slots=True)
class Verdicts:
    """The rows of a batch that are refused so far, by position. `texts` has the cells as the file has them."""

    count: int
    texts: Mapping[str, Array]
    found: dict[int, Refusal] = field(default_factory=dict)

    def refuse(self, column: str, rows: Mask, why: str, cure: str = "", *, general: bool = False) -> None:
        """Refuse `rows` for the value of `column`, which `why` goes on to say: "is not above 0"."""
        for at in np.flatnonzero(rows).tolist():
            self.refuse_at(column, at, why, cure, general=general)

    def refuse_at(self, column: str, at: int, why: str, cure: str = "", *, general: bool = False) -> None:
        """Refuse the row at position `at`, unless it is already."""
        if at not in self.found:
            self.found[at] = Refusal(column, self.value(column, at), why, cure, general)

    @property
    def kept(self) -> Mask:
        """The rows that are not refused."""
        mask = np.ones(self.count, np.bool_)
        mask[list(self.found)] = False
        return mask

    def value(self, column: str, at: int) -> str | None:
        """The cell as the file has it, cut short; None where it is empty, or `column` is not of the file."""
        cells = self.texts.get(column)
        value = None if cells is None else cells[at].as_py()
        if value is None or value == "":
            return None
        text = str(value)
        return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"


def _shown(value: str) -> str:
    return value if _BARE.fullmatch(value) else repr(value)


def common_fault(refusals: Mapping[int, Refusal], rows: int) -> Refusal | None:
    """The fault that all `rows` rows have, if it is one that a file as a whole can have."""
    if not rows or len(refusals) < rows:
        return None
    first = refusals[min(refusals)]
    alike = all(r.general and r.column == first.column for r in refusals.values())
    return first if alike else None
