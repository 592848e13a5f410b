"""`lake surface`: from the table `quotes` to the table `surface`, each instant once.

An instant is due when the quotes of its family reach it, so that none is fitted to half of what was recorded, and
done when the table has rows of it. The instants of a day and family that are due are appended in one commit, under
one lock: killed anywhere, a run loses the day it was at, and the next run computes that day again.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any, Final

import pyarrow as pa

from collectors.deribit.names import OPTIONS, option_family
from lake.conform import conform
from lake.crashpoints import reach
from lake.delta import Table
from lake.durable import disk_full_told
from lake.errors import InputError, SchemaDriftError
from lake.instants import DAY_US, MICROSECOND, from_us, midnight_us, to_us
from lake.locks import exclusive
from lake.root import Root
from lake.schema import TABLES
from lake.views import connect
from pipeline.derivation import Progress
from pipeline.executor import executor
from pipeline.surface.chain import Chain
from pipeline.surface.fit import Smile, fit_surface
from pipeline.surface.settings import SurfaceSettings
from pipeline.surface.source import VENUE, Instants, chains

SPEC: Final = TABLES["surface"]
ONE_SECOND: Final = dt.timedelta(seconds=1)
ONE_DAY: Final = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Work:
    """The instants of one family and UTC day that are due and not done, `step` or multiples of it apart, µs."""

    family: str
    day: dt.date
    step: int
    instants: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Computed:
    """What became of one piece of work; `rmse` is the median over its smiles, volatility points."""

    family: str
    day: dt.date
    instants: int
    smiles: int
    essvi: int
    failures: int
    butterfly: int
    calendar: int
    rmse: float | None

    def as_row(self) -> dict[str, Any]:
        """For display."""
        return {
            "family": self.family,
            "date": self.day,
            "instants": self.instants,
            "smiles": self.smiles,
            "of them eSSVI": self.essvi,
            "no smile": self.failures,
            "butterfly": self.butterfly,
            "calendar": self.calendar,
            "median error, points": None if self.rmse is None else round(self.rmse, 3),
        }


def compute(
    root: Root,
    settings: SurfaceSettings | None = None,
    *,
    days: Sequence[dt.date] | None = None,
    at: dt.datetime | None = None,
    every: dt.timedelta = dt.timedelta(hours=1),
    currencies: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[Computed]:
    """Fit the instants that are due, counted from midnight UTC in steps of `every`, or just the one instant `at`.

    A second run finds nothing to do. `days` limits the days, `currencies` (BTC, ETH, BTC_USDC …) the options.

    Raises:
        InputError: there are no quotes of such options, or none yet at the instant `at`; `every` is no step of a day.
        BusyError: another process computes surfaces.
        DiskFullError: no space is left; the days appended before stay.
    """
    settings = settings or SurfaceSettings()
    if not ONE_SECOND <= every <= ONE_DAY:
        raise InputError("surfaces are computed every 1s to every 24h; change --every")
    computed: list[Computed] = []
    with disk_full_told("computing surfaces"), exclusive(root.locks / "surface.lock", "computing surfaces"):
        step = DAY_US if at else round(every / MICROSECOND)
        due = _due(root, days, at, step, currencies, round(settings.max_age_minutes * 60e6))
        if not due:
            return computed
        table = Table.open(root, SPEC)
        results = executor(settings.workers).map(partial(_rows, root, settings), due)
        shown = progress(results, len(due)) if progress else results
        for work, rows in zip(due, shown, strict=True):
            if len(rows):
                _append(table, work, rows)
                computed.append(_summary(work, rows))
    return computed


def snapshot(
    root: Root, family: str, at: dt.datetime, settings: SurfaceSettings | None = None
) -> list[Smile]:
    """The smiles of `family` at one instant, fitted from the quotes and stored nowhere; empty without quotes.

    The same as `compute` stores for that instant, with all that they were fitted to.
    """
    settings = settings or SurfaceSettings()
    instants = Instants(to_us(at), DAY_US, 1)
    found = chains(root, family, instants, settings.max_age_minutes * 60.0)
    return [smile for chain in found for smile in fit_surface(chain, settings)]


def _due(
    root: Root,
    days: Sequence[dt.date] | None,
    at: dt.datetime | None,
    step: int,
    currencies: Sequence[str] | None,
    max_age_us: int,
) -> list[Work]:
    """What is to be computed, by family and day."""
    recorded = recorded_spans(root, currencies)
    if at is not None and all(spans.end < to_us(at) for spans in recorded.values()):
        reached = max(spans.end for spans in recorded.values())
        raise InputError(
            f"quotes reach to {from_us(reached)}; give an earlier --at, or run `lake ingest` first"
        )
    known = {day for spans in recorded.values() for day in spans.by_day}
    if days is not None and known.isdisjoint(days):
        raise InputError(
            f"there are no quotes of such options on these days; there are from {min(known)} to {max(known)}"
        )
    due = []
    for family, spans in sorted(recorded.items()):
        wanted = []
        for day in sorted(spans.by_day):
            grid = range(midnight_us(day), midnight_us(day) + DAY_US, step) if at is None else [to_us(at)]
            first = spans.first_on(day, max_age_us)
            if (days is None or day in days) and (at is None or day == from_us(to_us(at)).date()):
                wanted.append((day, [us for us in grid if first <= us <= spans.end]))
        done = _done(root, family, [us for _, instants in wanted for us in instants])
        for day, instants in wanted:
            missing = tuple(us for us in instants if us not in done)
            if missing:
                due.append(Work(family, day, step, missing))
    return due


@dataclass(slots=True)
class Spans:
    """From when to when a family's quotes reach on each day, µs since the epoch."""

    by_day: dict[dt.date, tuple[int, int]] = field(default_factory=dict)

    def add(self, day: dt.date, first: int, last: int) -> None:
        known_first, known_last = self.by_day.get(day, (first, last))
        self.by_day[day] = min(known_first, first), max(known_last, last)

    @property
    def end(self) -> int:
        return max(last for _, last in self.by_day.values())

    def first_on(self, day: dt.date, max_age_us: int) -> int:
        """The first moment of `day` at which there is a quote to be had, also of the evening before."""
        before = self.by_day.get(day - ONE_DAY)
        if before and before[1] > midnight_us(day) - max_age_us:
            return midnight_us(day)
        return self.by_day[day][0]


def recorded_spans(root: Root, currencies: Sequence[str] | None) -> dict[str, Spans]:
    """Per family of options, of all or those on `currencies`, the days and times that `quotes` has.

    Raises:
        InputError: there are none.
    """
    table = Table.find(root, TABLES["quotes"])
    found: dict[str, Spans] = {}
    for file in table.files() if table else ():
        if file.partition and file.partition.family.endswith(OPTIONS):
            spans = found.setdefault(file.partition.family, Spans())
            spans.add(file.partition.date, to_us(file.minimum["ts"]), to_us(file.maximum["ts"]))
    if not found:
        raise InputError(f"{root.path} has no quotes of options yet; record some with `lake collect`")
    if currencies is None:
        return found
    families = [option_family(currency) for currency in currencies]
    for currency, family in zip(currencies, families, strict=True):
        if family not in found:
            known = ", ".join(name.removesuffix(OPTIONS).upper() for name in sorted(found))
            raise InputError(f"there are no quotes of options on {currency}; there are of {known}")
    return {family: found[family] for family in families}


def _done(root: Root, family: str, instants: Sequence[int]) -> set[int]:
    if not instants:
        return set()
    with connect(root) as connection:
        found = connection.query(
            """
            SELECT DISTINCT epoch_us(ts) AS us FROM surface
            WHERE family = $family AND ts >= make_timestamptz($first) AND ts <= make_timestamptz($last)
            """,
            {"family": family, "first": min(instants), "last": max(instants)},
        )
    return set(found["us"].to_pylist())


def _rows(root: Root, settings: SurfaceSettings, work: Work) -> pa.Table:
    """Rows of the table for every instant of `work` that had quotes."""
    first, last = work.instants[0], work.instants[-1]
    instants = Instants(first, work.step, (last - first) // work.step + 1)
    wanted = set(work.instants)
    rows = [
        _row(chain, smile)
        for chain in chains(root, work.family, instants, settings.max_age_minutes * 60.0)
        if chain.ts in wanted
        for smile in fit_surface(chain, settings)
    ]
    if not rows:
        return SPEC.arrow_schema.empty_table()
    columns = pa.Table.from_pylist(rows, schema=SPEC.arrow_schema)
    conformed = conform(SPEC, columns)
    if conformed.reasons:
        raise SchemaDriftError(f"{work.family} {work.day}: {conformed.reasons}")
    return conformed.rows


def _row(chain: Chain, smile: Smile) -> dict[str, Any]:
    seen = smile.observed
    fitted = smile.svi is not None
    row: dict[str, Any] = {
        "venue": VENUE,
        "instrument": chain.expiry_names[seen.expiry],
        "ts": chain.ts,
        "expiration_ts": seen.expiry,
        "source": seen.source,
        "method": smile.method,
        "failure": smile.failure,
        "forward": seen.forward,
        **({f"svi_{name}": value for name, value in smile.svi._asdict().items()} if smile.svi else {}),
        "quotes": smile.quotes,
        "strikes": len(seen.k),
        "excluded": json.dumps(seen.excluded),
        "least_g": smile.least_g,
        "butterfly": smile.butterfly,
        "calendar": smile.calendar is not None if fitted else None,
        **(smile.quoted._asdict() if smile.quoted else {}),
    }
    if fitted:
        row |= {"k_low": float(seen.k.min()), "k_high": float(seen.k.max())}
    if smile.errors:
        row |= {
            "rmse": smile.errors.weighted,
            "rmse_equal": smile.errors.equal,
            "max_error": smile.errors.largest,
        }
    if smile.calendar:
        row |= {"calendar_k": smile.calendar.k, "calendar_excess": smile.calendar.variance}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def _append(table: Table, work: Work, rows: pa.Table) -> None:
    """Append rows that the table does not have; only under the lock, so that nobody else appends them meanwhile."""
    rows = rows.append_column("date", SPEC.dates(rows["ts"]))
    rows = rows.append_column("family", pa.array([work.family] * len(rows), pa.string()))
    app = f"surface/{work.family}"
    version = (table.committed(app) or 0) + 1
    reach("surface:before_append")
    table.append(rows, app=app, version=version, origin=f"i.surface.{version}")
    reach("surface:after_append")


def _summary(work: Work, rows: pa.Table) -> Computed:
    found = rows.select(["ts", "method", "butterfly", "calendar", "rmse"]).to_pydict()
    methods = found["method"]
    errors = [error for error in found["rmse"] if error is not None]
    return Computed(
        family=work.family,
        day=work.day,
        instants=len(set(found["ts"])),
        smiles=sum(method is not None for method in methods),
        essvi=methods.count("essvi"),
        failures=methods.count(None),
        butterfly=sum(map(bool, found["butterfly"])),
        calendar=sum(map(bool, found["calendar"])),
        rmse=median(errors) if errors else None,
    )
