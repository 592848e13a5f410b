"""What a person wants to know after a run: what is missing and whose hole it is, what is wrong, what is there twice."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lake.root import Root
from lake.schema import TABLES
from pipeline.backfill import candles, ledger, trades
from pipeline.backfill.ledger import Ledger
from pipeline.backfill.plan import Planning
from pipeline.backfill.spans import joined, lacking, total
from pipeline.compact import compact

NAMES_AT_ONCE: Final = 50
TABLE_OF: Final = {
    "candles": "candles", "trades": "trades", "funding": "funding", "index": "index_prices",
    "volatility": "volatility_index", "settlements": "settlements", "instruments": "instruments",
}  # fmt: skip
"""The datasets, and where the rows of each are."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: `count` of `what`, in how many instruments, the first by name; `bad` if it should be none,
    `repeated` if it is of rows that compaction drops."""

    what: str
    count: int
    instruments: int = 0
    first: str | None = None
    bad: bool = False
    repeated: bool = False

    def as_row(self) -> dict[str, Any]:
        """For display."""
        return {
            "check": self.what,
            "count": self.count,
            "instruments": self.instruments,
            "first": self.first,
            "verdict": "WRONG" if self.bad and self.count else "ok",
        }


def check(planning: Planning, dataset: str) -> list[Check]:
    """Findings about what the choice selects of `dataset`."""
    if dataset == "candles":
        return _candles(planning)
    if dataset == "trades":
        return _trades(planning)
    return [_rows(planning.ledger, TABLE_OF[dataset]), _repeated(planning.ledger, TABLE_OF[dataset])]


def drop_repeated(root: Root, dataset: str, days: Sequence[dt.date] | None = None) -> int:
    """Rewrite the partitions that hold a row twice (or those of `days`); how many rows were dropped.

    Raises:
        BusyError: the table is being compacted by another process.
    """
    table = TABLE_OF[dataset]
    if not TABLES[table].partitioned:
        return 0
    if days is None:
        key = ", ".join(TABLES[table].natural_key)
        partition = f"date_trunc('{TABLES[table].period}', date)::DATE"
        with Ledger(root) as lake:
            found = lake.query(
                f"SELECT DISTINCT {partition} AS date FROM"  # noqa: S608
                f" (SELECT date, {key} FROM {table} GROUP BY ALL HAVING count(*) > 1)"
            )
        days = [row["date"] for row in found]
    if not days:
        return 0
    return sum(done.duplicates for done in compact(root, days=days, tables=[table]).rewritten)


def _candles(planning: Planning) -> list[Check]:
    _, name, step = candles.bars(planning.choice)
    step_us = step * 1000
    recorded = planning.ledger.recorded("candles")
    whole = planning.ledger.whole_months(name, step_us)
    items = {item.name: item for item in planning.chosen(candles.KINDS)}
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    found = _bars(planning.ledger, list(items), name, step_us)
    for item in items.values():
        have = joined([*ledger.times(recorded.get(item.name, []), name), *whole.get(item.name, [])])
        row = found.get(item.name)
        if row is None:
            counts["empty"][item.name] = int(bool(have))
            continue
        inside = [(row["first_us"], row["last_us"] + step_us)]
        holes = total(inside) // step_us - row["bars"]
        counts["ours"][item.name] = min(holes, total(lacking(inside, have)) // step_us)
        counts["theirs"][item.name] = holes - counts["ours"][item.name]
        counts["bars"][item.name], counts["still"][item.name] = row["bars"], row["still"]
        counts["crooked"][item.name], counts["twice"][item.name] = row["crooked"], row["n"] - row["bars"]
    unit = f"{name} bars"
    return [
        _summed(unit, counts["bars"]),
        _summed(f"{unit} in which nothing was traded (volume 0)", counts["still"]),
        _summed("instruments of which the venue has no bars", counts["empty"]),
        _summed(f"{unit} missing: the venue has none", counts["theirs"]),
        _summed(f"{unit} missing: not asked for yet", counts["ours"], bad=True),
        _summed(f"{unit} without high >= open, close >= low", counts["crooked"], bad=True),
        _summed(f"{unit} held twice", counts["twice"], bad=True, repeated=True),
    ]


def _bars(lake: Ledger, names: Sequence[str], resolution: str, step_us: int) -> dict[str, Counter[str]]:
    """Sums by instrument: `n` rows, different `bars`, `still` and `crooked` ones; `first_us`, `last_us`.

    Different bars are counted only in months that are not whole, one month at a time, which bounds memory.
    """
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    doubtful: defaultdict[dt.date, list[str]] = defaultdict(list)
    for row in _by_month(lake, names, resolution):
        sums = found[row["instrument"]]
        sums.update({name: row[name] for name in ("n", "still", "crooked")})
        sums["first_us"] = min(sums["first_us"] or row["first_us"], row["first_us"])
        sums["last_us"] = max(sums["last_us"], row["last_us"])
        if row["last_us"] + step_us - row["first_us"] == row["n"] * step_us:
            sums["bars"] += row["n"]
        else:
            doubtful[row["month"]].append(row["instrument"])
    for month, some in doubtful.items():
        for row in lake.query(
            "SELECT instrument, count(DISTINCT ts) AS bars FROM candles"  # noqa: S608
            f" WHERE date >= '{month}' AND date < '{TABLES['candles'].closes(month)}'"
            f" AND resolution = '{resolution}' AND source = 'venue'"
            f" AND instrument IN ({ledger.sql_list(some)}) GROUP BY instrument"
        ):
            found[row["instrument"]]["bars"] += row["bars"]
    return found


def _by_month(lake: Ledger, names: Sequence[str], resolution: str) -> Iterator[dict[str, Any]]:
    for start in range(0, len(names), NAMES_AT_ONCE):
        yield from lake.query(
            "SELECT instrument, date_trunc('month', date)::DATE AS month, count(*) AS n,"  # noqa: S608
            " epoch_us(min(ts)) AS first_us, epoch_us(max(ts)) AS last_us,"
            " count(*) FILTER (volume = 0) AS still,"
            " count(*) FILTER (high < greatest(open, close) OR low > least(open, close)) AS crooked"
            f" FROM candles WHERE resolution = '{resolution}' AND source = 'venue'"
            f" AND instrument IN ({ledger.sql_list(names[start : start + NAMES_AT_ONCE])}) GROUP BY ALL"
        )


def _trades(planning: Planning) -> list[Check]:
    recorded = planning.ledger.recorded("trades")
    names = [item.name for item in planning.chosen(trades.KINDS)]
    held = planning.ledger.trade_spans(names)
    timed = planning.choice.start is not None
    counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name in names:
        spans = held.get(name, [])
        if not spans:
            counts["empty"][name] = int(name in recorded)
            continue
        counts["numbers"][name] = total(spans)
        # Where only a time was wanted, the numbers before it are not missing.
        inside = [(spans[0][0] if timed else 1, spans[-1][1])]
        missing = lacking(inside, spans)
        known = trades.holes_of_the_venue(name, recorded.get(name, []), spans, planning) if missing else []
        counts["ours"][name] = total(lacking(missing, known))
        counts["theirs"][name] = total(missing) - counts["ours"][name]
    return [
        _summed("trades", counts["numbers"]),
        _summed("instruments of which the venue has no trades", counts["empty"]),
        _summed("numbers missing: the venue was asked twice and has none", counts["theirs"]),
        _summed("numbers missing: not proven to be the venue's", counts["ours"], bad=True),
        _repeated(planning.ledger, "trades"),
    ]


def _rows(lake: Ledger, table: str) -> Check:
    row = lake.query(f"SELECT count(*) AS n, count(DISTINCT instrument) AS names FROM {table}")[0]  # noqa: S608
    return Check(f"rows in {table}", row["n"], row["names"])


def _repeated(lake: Ledger, table: str) -> Check:
    key = ", ".join(TABLES[table].natural_key)
    row = lake.query(
        "SELECT coalesce(sum(n - 1), 0)::BIGINT AS n, count(DISTINCT instrument) AS names, min(instrument) AS first"  # noqa: S608
        f" FROM (SELECT {key}, count(*) AS n FROM {table} GROUP BY ALL HAVING count(*) > 1)"
    )[0]
    return Check(f"rows of {table} held twice", row["n"], row["names"], row["first"], bad=True, repeated=True)


def _summed(what: str, by_name: dict[str, int], *, bad: bool = False, repeated: bool = False) -> Check:
    some = sorted(name for name, count in by_name.items() if count)
    return Check(what, sum(by_name.values()), len(some), some[0] if some else None, bad, repeated)
