"""From the quotes of one instant to a smile per expiry, each with its errors, its flags and what a desk quotes of it.

The result is a function of the quotes and settings alone: it does not depend on what was computed before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pipeline.surface.arbitrage import Crossing, crossing, least_g
from pipeline.surface.chain import Chain, Observations, observations
from pipeline.surface.essvi import MIN_POINTS as ESSVI_POINTS
from pipeline.surface.essvi import Observed, fit_essvi
from pipeline.surface.evaluate import Wing, wing
from pipeline.surface.settings import SurfaceSettings
from pipeline.surface.svi import Floats, Svi, fit_svi

OUTLIER_ROUNDS: Final = 3
MAX_OUTLIERS: Final = 0.2
"""Where more than this part of the quotes looked like outliers, the smile is at fault and none is left out."""
_PERCENT: Final = 100.0
_G_ROUNDING: Final = -1e-9


@dataclass(frozen=True, slots=True)
class Errors:
    """How far a smile is from its observations, volatility points: with the weights of the fit, with equal
    weights, and the largest."""

    weighted: float
    equal: float
    largest: float


@dataclass(frozen=True, slots=True)
class Smile:
    """One expiry of a surface.

    `failure` says why there is no smile, and then `svi`, `method`, `errors` and all that follows from them are
    None. `method`: svi or essvi. `least_g`: the least of Durrleman's g between the outermost strikes used.
    `calendar`: where the expiry before has more total variance than this one, over the strikes that both use.
    """

    quotes: int
    observed: Observations
    failure: str | None
    method: str | None = None
    svi: Svi | None = None
    errors: Errors | None = None
    least_g: float | None = None
    calendar: Crossing | None = None
    quoted: Wing | None = None

    @property
    def butterfly(self) -> bool | None:
        """Whether the smile admits butterfly arbitrage between its outermost strikes; None without a smile."""
        return None if self.least_g is None else self.least_g < _G_ROUNDING


def fit_surface(chain: Chain, settings: SurfaceSettings | None = None) -> list[Smile]:
    """A smile per expiry of `chain`, in the order of expiries; those that cannot be fitted say why."""
    settings = settings or SurfaceSettings()
    counts: list[int] = []
    observed: list[Observations] = []
    smiles: list[Svi | None] = []
    for expiry in np.unique(chain.expiry):
        rows = chain.take(chain.expiry == expiry)
        neighbour = next((smile for smile in reversed(smiles) if smile), None)
        seen, smile = _fit_robustly(observations(rows, settings), neighbour, settings)
        counts.append(len(rows.expiry))
        observed.append(seen)
        smiles.append(smile)
    methods = _fall_back(observed, smiles, settings)
    return _described(counts, observed, smiles, methods)


def _fit_robustly(
    seen: Observations, start: Svi | None, settings: SurfaceSettings
) -> tuple[Observations, Svi | None]:
    """SVI without its outliers. They are judged again by the fit without them, which takes in again what was only
    off because they had bent the first."""
    smile = first = fit_svi(seen.k, seen.variance, seen.variance_weight, start=start)
    if smile is None:
        return seen, None
    kept, outliers = seen, np.zeros(len(seen.k), np.bool_)
    for _ in range(OUTLIER_ROUNDS):
        judged = _outliers(seen, smile, settings)
        if judged.mean() > MAX_OUTLIERS:
            return seen, first
        if (judged == outliers).all():
            break
        outliers = judged
        kept = seen.without(outliers, "outlier")
        again = fit_svi(kept.k, kept.variance, kept.variance_weight, start=smile)
        if again is None:
            return seen, first
        smile = again
    return kept, smile


def _outliers(seen: Observations, smile: Svi, settings: SurfaceSettings) -> npt.NDArray[np.bool_]:
    off = np.abs(errors_of(seen, smile)) * np.sqrt(seen.weight)
    found: npt.NDArray[np.bool_] = off > max(
        settings.outlier_floor, settings.outlier_factor * float(np.median(off))
    )
    return found


def errors_of(seen: Observations, smile: Svi) -> Floats:
    """What the smile says less what was observed, volatility points; NaN where it has no positive variance."""
    found: Floats = smile.volatility(seen.k, seen.years) * _PERCENT - seen.iv
    return found


def _fall_back(
    observed: list[Observations], smiles: list[Svi | None], settings: SurfaceSettings
) -> list[str | None]:
    """Put eSSVI in the place of smiles that SVI could not give, or only with butterflies; says who made each."""
    methods: list[str | None] = ["svi" if smile else None for smile in smiles]
    wanted = [i for i, smile in enumerate(smiles) if _needs_fallback(observed[i], smile)]
    if not wanted:
        return methods
    # A smile's constraints come from the expiries before it only.
    joint = fit_essvi([Observed(s.k, s.variance, s.variance_weight) for s in observed[: wanted[-1] + 1]])
    for i in wanted:
        candidate, first = joint[i], smiles[i]
        if candidate is None:
            continue
        smile = candidate.as_svi()
        allowed = np.inf if first is None else _errors(observed[i], first).weighted + settings.fallback_error
        if _errors(observed[i], smile).weighted <= allowed:
            smiles[i], methods[i] = smile, "essvi"
    return methods


def _needs_fallback(seen: Observations, smile: Svi | None) -> bool:
    if smile is None:
        return len(seen.k) >= ESSVI_POINTS
    return least_g(smile, float(seen.k[0]), float(seen.k[-1])) < _G_ROUNDING


def _described(
    counts: list[int], observed: list[Observations], smiles: list[Svi | None], methods: list[str | None]
) -> list[Smile]:
    described: list[Smile] = []
    before: tuple[Svi, float, float] | None = None
    for count, seen, smile, method in zip(counts, observed, smiles, methods, strict=True):
        if smile is None:
            described.append(Smile(count, seen, _failure(seen)))
            continue
        lowest, highest = float(seen.k.min()), float(seen.k.max())
        calendar = None
        if before:
            calendar = crossing(before[0], smile, max(lowest, before[1]), min(highest, before[2]))
        described.append(
            Smile(
                quotes=count,
                observed=seen,
                failure=None,
                method=method,
                svi=smile,
                errors=_errors(seen, smile),
                least_g=least_g(smile, lowest, highest),
                calendar=calendar,
                quoted=wing(smile.variance_at, seen.years, lowest, highest),
            )
        )
        before = smile, lowest, highest
    return described


def _errors(seen: Observations, smile: Svi) -> Errors:
    off = errors_of(seen, smile)
    return Errors(
        weighted=float(np.sqrt(np.average(off * off, weights=seen.weight))),
        equal=float(np.sqrt(np.mean(off * off))),
        largest=float(np.abs(off).max()),
    )


def _failure(seen: Observations) -> str:
    if len(seen.k):
        return "too few strikes"
    reasons = sorted(seen.excluded.items(), key=lambda item: -item[1])
    return reasons[0][0] if reasons else "no quotes"
