"""What a proof has looked at, and what it found wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

LOOKS_MAX: Final = 20


@dataclass(slots=True)
class TableProof:
    """What was checked of one table."""

    table: str
    files: int = 0
    rows: int = 0
    duplicates_dropped: int = 0
    bytes: int = 0
    remembered: int = 0
    """Files that were not read, because they had been proven before and have not been touched since."""


@dataclass(slots=True)
class VerifyReport:
    """Everything that was checked; `problems` is empty when the proof holds."""

    tables: list[TableProof] = field(default_factory=list)
    streams: dict[str, int] = field(default_factory=dict)
    """Up to which offset each stream is in the tables."""
    problems: list[str] = field(default_factory=list)

    def as_rows(self) -> list[dict[str, Any]]:
        """One row per table and per stream, and the verdict, for display."""
        nothing = dict.fromkeys(("files", "rows", "duplicates dropped", "bytes"))
        tables = [
            {
                "checked": f"table {proof.table}",
                "files": proof.files,
                "rows": proof.rows,
                "duplicates dropped": proof.duplicates_dropped,
                "bytes": proof.bytes,
            }
            for proof in self.tables
        ]
        streams = [
            {"checked": f"stream {stream}", **nothing, "rows": end} for stream, end in self.streams.items()
        ]
        verdict = f"{len(self.problems)} PROBLEMS" if self.problems else "holds"
        return [*tables, *streams, {"checked": f"proof {verdict}", **nothing}]

    def problem_rows(self) -> list[dict[str, Any]]:
        """One row per problem, with the columns of `as_rows`, for programs."""
        nothing = dict.fromkeys(("files", "rows", "duplicates dropped", "bytes"))
        return [{"checked": f"problem {problem}", **nothing} for problem in self.problems]


def at_rest(look: Callable[[], list[str]]) -> list[str]:
    """What `look` finds wrong twice in a row: what it found only while something was being written is no fault."""
    before = look()
    for _ in range(LOOKS_MAX):
        if not before:
            break
        now = look()
        if now == before:
            break
        before = now
    return before
