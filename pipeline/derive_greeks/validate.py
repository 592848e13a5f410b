"""Our numbers against the venue's own, over all quotes of options in the lake.

Greeks are ours at the venue's mark_iv, compared with the venue's Greeks; volatilities are inverted from prices and
compared with the venue's. Not judged, but counted, are quotes that cannot show anything: those of the last 30 minutes,
and those whose mark price is not what the same quote's mark_iv gives, so that one of the two is of another moment.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from collectors.deribit.names import OPTIONS
from lake.datafile import Partition
from lake.errors import InputError
from lake.root import Root
from lake.schema import TABLES
from pipeline.derivation import Progress, by_partition
from pipeline.derive_greeks.errors import Errors
from pipeline.derive_greeks.partition import ranges
from pipeline.derive_greeks.rows import QUOTES, Derived, derive
from pipeline.derive_greeks.settings import GreeksSettings, ValidateSettings
from pipeline.derive_greeks.terms import listings, listings_version
from pipeline.derive_greeks.values import GREEKS, Floats, Mask
from pipeline.executor import executor

MEASURES: Final = (*GREEKS, "bid_iv", "ask_iv", "iv")
BUCKETS: Final = ("delta below 0.05", "0.05 to 0.35", "0.35 to 0.65", "0.65 to 0.95", "above 0.95")
"""Moneyness, by the absolute value of our delta."""
_EDGES: Final = (0.05, 0.35, 0.65, 0.95)
EVERYWHERE: Final = "all"
MARK_STEP: Final = 1e-4  # the venue's marks have four decimals
IV_STEP: Final = 0.01  # and its volatilities two, in percent

PASSES, FAILS, TOO_FEW = "passes", "fails", "too few rows"
NEEDED: Final = (*GREEKS, "iv")
"""What must have been compared; whether there are bids and asks is up to the market."""


@dataclass(slots=True)
class Comparison:
    """What was compared, and how it came out; comparisons of several partitions add up."""

    bounds: ValidateSettings = field(default_factory=ValidateSettings)
    counts: Counter[str] = field(default_factory=Counter)
    errors: dict[str, Errors] = field(default_factory=lambda: {m: Errors(len(BUCKETS)) for m in MEASURES})

    def merge(self, other: Comparison) -> None:
        """Take in the comparison of another partition."""
        self.counts.update(other.counts)
        for name, errors in other.errors.items():
            self.errors[name].merge(errors)

    @property
    def problems(self) -> list[str]:
        """Each bound that does not hold, in words; empty when all do."""
        bounds, counts = self.bounds, self.counts
        found = []
        contradicting = counts["mark_iv contradicts mark_price"]
        judged = counts["compared"] + contradicting
        if judged and 100 * contradicting / judged > bounds.contradicting_percent:
            found.append(
                f"{100 * contradicting / judged:.2f} % of the quotes have a mark_iv that contradicts their mark_price, "
                f"the bound is {bounds.contradicting_percent:g} %"
            )
        if counts["compared"] < bounds.rows_min:
            found.append(f"{counts['compared']} quotes can be compared, {bounds.rows_min} are needed")
        else:
            found += [text for name in MEASURES for text in self._objections(name)]
        marks, known = counts["marks"], counts["marks with volatility"]
        if marks and 100 * known / marks < bounds.known_percent:
            found.append(
                f"{100 * known / marks:.2f} % of the marks have a volatility, not {bounds.known_percent:g} %"
            )
        return found

    def _verdict(self, name: str) -> dict[str, Any]:
        """Of one measure over all moneyness: what was found, the bound, and whether it holds."""
        found = self.errors[name].figures(range(len(BUCKETS)))
        judged = "rmse" if name in GREEKS else "median"
        bound = self._bound(name, found["rms"] or 0.0)
        error = found[judged]
        if error is None or (found["rows"] or 0) < self.bounds.rows_min:
            verdict = TOO_FEW
        else:
            verdict = PASSES if error <= bound else FAILS
        shown = {key: _rounded(found[key]) for key in ("median", "rmse", "rms", "rmse %")}
        return {
            "measure": name, "rows": found["rows"], **shown, "judged": judged, "bound": _rounded(bound),
            "verdict": verdict,
        }  # fmt: skip

    def _bound(self, name: str, rms: float) -> float:
        if name not in GREEKS:
            return self.bounds.iv_median_points if name == "iv" else self.bounds.quote_iv_median_points
        percent = 0.0 if name == "gamma" else float(getattr(self.bounds, f"{name}_rmse_percent"))
        return max(self.bounds.rounding_rmse, rms * percent / 100)

    def _objections(self, name: str) -> Iterator[str]:
        told = self._verdict(name)
        if told["verdict"] == FAILS and name in GREEKS:
            yield f"{name}: RMSE {told['rmse']:.3g} against the venue's, the bound is {told['bound']:.3g}"
        elif told["verdict"] == FAILS:
            error, bound = told["median"], told["bound"]
            yield f"{name}: median error {error:.3g} points against the venue's, the bound is {bound:g}"
        elif told["verdict"] == TOO_FEW and name in NEEDED:
            yield f"{name}: {told['rows']} rows can be compared, {self.bounds.rows_min} are needed"

    def as_sections(self) -> dict[str, list[dict[str, Any]]]:
        """For display: what was compared, errors by measure and moneyness, worst rows, and a verdict each."""
        everywhere = list(range(len(BUCKETS)))
        spans = [(EVERYWHERE, everywhere), *((name, [i]) for i, name in enumerate(BUCKETS))]
        errors = [
            {"measure": name, "moneyness": span, **_figures(self.errors[name], buckets)}
            for name in MEASURES
            for span, buckets in spans
        ]
        worst = [
            {"measure": name, "error": error, **row}
            for name in MEASURES
            for error, row in self.errors[name].worst
        ]
        counted = [{"quotes": name, "count": count} for name, count in self.counts.items()]
        verdicts = [self._verdict(name) for name in MEASURES]
        return {"compared": counted, "errors": errors, "worst": worst, "verdicts": verdicts}


def _figures(errors: Errors, buckets: list[int]) -> dict[str, Any]:
    found = errors.figures(buckets)
    order = ("rows", "rms", "rmse", "rmse %", "median", "p99", "largest")
    return {name: found[name] if name == "rows" else _rounded(found[name]) for name in order}


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.3g}")


def validate_greeks(
    root: Root,
    settings: GreeksSettings | None = None,
    *,
    days: Sequence[dt.date] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare our Greeks and volatilities with the venue's in every quote of an option, of `days` where given.

    Raises:
        InputError: there is no such quote.
        CorruptionError: a file of the lake cannot be read.
    """
    settings = settings or GreeksSettings()
    work = [
        (partition, [root.table("quotes") / file.path for file in files])
        for partition, files in sorted(by_partition(root, "quotes").items())
        if partition.family.endswith(OPTIONS) and (days is None or partition.date in days)
    ]
    if not work:
        raise InputError("no quotes of options to compare with; record some, or give another --date")
    job = partial(_compare, root, settings.rows_in_memory, listings_version(root))
    results: Iterable[Comparison] = executor(settings.workers).map(job, work)
    total = Comparison(settings.validate)
    for one in progress(results, len(work)) if progress else results:
        total.merge(one)
    return total


def _compare(
    root: Root, rows_in_memory: int, version: int, work: tuple[Partition, Sequence[Path]]
) -> Comparison:
    """One partition's quotes."""
    partition, paths = work
    listing = listings(root, version).alive(partition.family, partition.date)
    comparison = Comparison()
    for rows in ranges(paths, TABLES["quotes"], QUOTES.columns, rows_in_memory):
        _add(comparison, rows, derive(QUOTES, rows, listing, None))
    return comparison


def _add(comparison: Comparison, rows: pa.Table, found: Derived) -> None:
    own = found.values
    marks = ~np.isnan(found.price) & ~np.isnan(found.forward) & ~own.final_averaging
    judged = ~np.isnan(own.value) & own.by_venue_iv & ~own.final_averaging
    contradicting = judged & _contradicts_itself(found)
    comparison.counts.update(
        {
            "all": len(rows),
            "compared": int((judged & ~contradicting).sum()),
            "mark_iv contradicts mark_price": int(contradicting.sum()),
            "in the last 30 minutes": int(own.final_averaging.sum()),
            "marks": int(marks.sum()),
            "marks with volatility": int((marks & ~np.isnan(own.iv)).sum()),
        }
    )
    places = np.flatnonzero(judged & ~contradicting)
    bucket = np.searchsorted(_EDGES, np.abs(own.delta[places])).astype(np.int64)
    for name, errors in comparison.errors.items():
        ours, theirs = getattr(own, name)[places], found.sent[name][places]

        def named(at: Any, ours: Floats = ours, theirs: Floats = theirs) -> list[dict[str, Any]]:
            told = rows.take(pa.array(places[at])).select(["instrument", "ts"]).to_pylist()
            pairs = zip(told, ours[at].tolist(), theirs[at].tolist(), strict=True)
            return [{**row, "own": mine, "venue": its} for row, mine, its in pairs]

        errors.add(ours, theirs, bucket, named)


def _contradicts_itself(found: Derived) -> Mask:
    """Whether the venue's mark is further from the value at its mark_iv than both can be rounded."""
    unit = np.where(found.terms.inverse, found.forward, 1.0)
    distance = np.abs(found.values.value - found.price * unit)
    return np.asarray(distance > MARK_STEP * unit + IV_STEP * found.values.vega)
