"""Which files of a table can hold the rows that a SQL statement asks for.

DuckDB pushes the conditions of a statement down to each scan, and EXPLAIN prints them. Conditions on
`date`, `family` and `ts` of the plain forms below select files; any other is ignored, which only means that
more files are looked at. All conditions of a scan must hold, so leaving one out is always safe.
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lake.read_only import Node
from lake.schema.spec import Period

Scan = Sequence[str]  # the conditions of one scan as DuckDB prints them; all must hold

STATISTICS_TOLERANCE: Final = dt.timedelta(milliseconds=1)  # other writers may cut statistics to milliseconds
_OPTIONAL: Final = "optional: "
_LITERAL: Final = r"'((?:[^']|'')*)'(?:::DATE|::TIMESTAMP WITH TIME ZONE)?"
_COMPARISON: Final = re.compile(rf"(date|family|ts) (=|<|<=|>|>=) {_LITERAL}")
_MEMBERSHIP: Final = re.compile(rf"(date|family) IN \(({_LITERAL}(?:, {_LITERAL})*)\)")
_TOKEN: Final = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|[()]| AND |.", re.DOTALL)
_OPERATORS: Final[Mapping[str, Callable[[Any, Any], pc.Expression]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def planned_scans(nodes: Sequence[Node], statement: str, tables: Collection[str]) -> dict[str, list[Scan]]:
    """The scans of each of `tables` in the plan `nodes` of `statement`.

    A table that the statement names without a scan of it in the plan counts as scanned without condition.
    """
    scans: dict[str, list[Scan]] = {}
    for node in nodes:
        info = node.get("extra_info", {})
        name = str(info.get("Table", "")).rpartition(".")[2]
        if name in tables:
            filters = info.get("Filters", [])
            scans.setdefault(name, []).append([filters] if isinstance(filters, str) else filters)
    for name in tables:
        if name not in scans and re.search(rf"\b{name}\b", statement, re.IGNORECASE):
            scans[name] = [[]]
    return scans


def prune(listing: pa.Table, scans: Sequence[Scan], period: Period = "day") -> list[str]:
    """Paths of those files of `listing` (see `Table.listing`) that can hold rows of any of `scans`.

    The scans speak of `date` as the day of a row; the partitions of the listing are of days or of months, by `period`.
    """
    available = set(listing.column_names)
    wanted = pc.scalar(False)
    for scan in scans:
        conditions = [
            c for text in scan for leaf in _leaves(text) for c in _on_files(leaf, available, period)
        ]
        if not conditions:
            return [str(path) for path in listing["path"].to_pylist()]
        every = conditions[0]
        for condition in conditions[1:]:
            every = every & condition
        wanted = wanted | every
    return [str(path) for path in listing.filter(wanted)["path"].to_pylist()]


def _leaves(text: str) -> Iterator[str]:
    """The members of a conjunction, without parentheses and without DuckDB's "optional".

    Of an optional condition, the scan may let through rows that do not meet it; none of them is needed.
    """
    text = text.removeprefix(_OPTIONAL)
    parts, depth, enclosed = [""], 0, text.startswith("(")
    tokens = _TOKEN.findall(text)
    for position, word in enumerate(tokens):
        depth += (word == "(") - (word == ")")
        if depth == 0 and position < len(tokens) - 1:
            enclosed = False
        if depth == 0 and word == " AND ":
            parts.append("")
        else:
            parts[-1] += word
    if enclosed:
        yield from _leaves(text[1:-1])
    elif len(parts) > 1:
        for part in parts:
            yield from _leaves(part)
    else:
        yield text


def _on_files(leaf: str, available: set[str], period: Period) -> Iterator[pc.Expression]:
    """What `leaf`, a condition on rows, says of files; nothing where it is of no known form."""
    if found := _MEMBERSHIP.fullmatch(leaf):
        name, values = found[1], re.findall(_LITERAL, found[2])
        if f"partition.{name}" in available and None not in (parsed := [_parsed(name, v) for v in values]):
            if name == "date":
                parsed = [_partition(day, period) for day in parsed]
            yield pc.field(f"partition.{name}").isin(pa.array(parsed))
    elif found := _COMPARISON.fullmatch(leaf):
        name, symbol, value = found[1], found[2], _parsed(found[1], found[3])
        if value is None:
            return
        if name == "ts" and {"min.ts", "max.ts"} <= available:
            yield from _on_times(symbol, value)
        elif name == "date" and period == "month" and "partition.date" in available:
            yield _on_months(symbol, value)
        elif f"partition.{name}" in available:
            yield _OPERATORS[symbol](pc.field(f"partition.{name}"), pa.scalar(value))


def _on_months(symbol: str, day: dt.date) -> pc.Expression:
    """Which months have a day that is before, at or after `day`: of a month only the first day is known here."""
    month = _partition(day, "month")
    least = {">": operator.ge, ">=": operator.ge, "=": operator.eq}.get(symbol)
    first = pc.field("partition.date")
    return least(first, pa.scalar(month)) if least else _OPERATORS[symbol](first, pa.scalar(day))


def _partition(day: dt.date, period: Period) -> dt.date:
    return day.replace(day=1) if period == "month" else day


def _on_times(symbol: str, value: dt.datetime) -> Iterator[pc.Expression]:
    first, last = pc.field("min.ts"), pc.field("max.ts")
    if symbol in ("=", "<", "<="):
        yield (first <= pa.scalar(value)) | first.is_null()
    if symbol in ("=", ">", ">="):
        yield (last >= pa.scalar(value - STATISTICS_TOLERANCE)) | last.is_null()


def _parsed(name: str, text: str) -> Any:
    """The literal's value; None where it has none that Python knows, such as infinity."""
    try:
        if name == "date":
            return dt.date.fromisoformat(text)
        if name == "ts":
            return dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return text.replace("''", "'")
