"""The venue's past: which instruments there were, and a tape for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final

import numpy as np

from collectors.simulator.chain import (
    DAY_MS,
    PERPETUAL_CREATION_MS,
    Spec,
    date_code,
    expiry_grid,
    future,
    option,
    parse_name,
    settlement_period,
    strike_step,
)
from collectors.simulator.history.combos import Combo, ComboTape, combos_of
from collectors.simulator.history.course import MINUTE_MS, Course, month_ms
from collectors.simulator.history.noise import key, uniform
from collectors.simulator.history.tape import Tape
from collectors.simulator.settings import SimulatorSettings

BEGAN_MS: Final = month_ms("2018-08")  # the oldest candle
LINEAR_OPTIONS_MS: Final = 1_754_438_400_000  # 2025-08-06, the first trades of BTC_USDC options
_LOST_BARS: Final = 1 / 20_000  # minutes whose candle the venue lost though there were trades
_QUARTER_DAYS, _MONTH_DAYS, _WEEK_DAYS = 180, 56, 14
_OPTION_DAYS: Final = (1, 2, 2, 3, 3, 3, 7, 14, 28, 60)


class Past:
    """What the venue remembers from before the live market, up to `end_ms`; `settings` say how much."""

    def __init__(
        self, settings: SimulatorSettings, prices: Mapping[str, float], *, start_ms: int, end_ms: int
    ) -> None:
        self.settings = settings
        self.course = Course(settings.seed, prices, start_ms)
        self.end_ms = end_ms
        days = settings.past_days
        self.first_ms = max(start_ms - days * DAY_MS, BEGAN_MS) if days else BEGAN_MS
        self._tapes: dict[str, Tape] = {}
        self._combo_tapes: dict[str, ComboTape] = {}
        self._lost = key(settings.seed, "lost bars")
        self._start_ms = start_ms

    @cached_property
    def expired(self) -> dict[str, Spec]:
        """Instruments that had expired before the start, by name."""
        return {
            spec.name: spec for spec in (*self._outright, *(combo.spec for combo in self._combos.values()))
        }

    @cached_property
    def _outright(self) -> list[Spec]:
        return [*self._futures(self._start_ms), *self._options(self._start_ms)]

    @cached_property
    def _combos(self) -> dict[str, Combo]:
        """Combos by the name of their first leg."""
        return {combo.bought.name: combo for combo in combos_of(self._outright, self.settings.past_combos)}

    def combo_of(self, leg: Spec, at_ms: int) -> str | None:
        """The combo that trades of this leg may be part of; perpetuals are in those of the next quarter."""
        if not leg.perpetual:
            combo = self._combos.get(leg.name)
            return None if combo is None else combo.spec.name
        quarter = next(e for e in expiry_grid(at_ms) if settlement_period(e) == "month" and not _month(e) % 3)
        return f"{leg.prefix}-FS-{date_code(quarter)}_PERP"

    def tape(self, spec: Spec) -> Tape | ComboTape:
        """The trades of an instrument before `end_ms`."""
        if spec.kind in ("future_combo", "option_combo"):
            return self._combo_tape(spec)
        return self.outright(spec)

    def _combo_tape(self, spec: Spec) -> ComboTape:
        found = self._combo_tapes.get(spec.name)
        if found is None:
            combo = next(combo for combo in self._combos.values() if combo.spec.name == spec.name)
            sold = combo.sold or parse_name(f"{spec.prefix}-PERPETUAL", now_ms=self.end_ms)
            found = ComboTape(spec, self.outright(combo.bought), self.outright(sold))
            self._combo_tapes[spec.name] = found
        return found

    def outright(self, spec: Spec) -> Tape:
        """The trades of an instrument that is no combo."""
        found = self._tapes.get(spec.name)
        if found is None:
            settings = self.settings
            found = self._tapes[spec.name] = Tape(
                spec,
                self.course,
                seed=settings.seed,
                first_ms=self.first_ms,
                end_ms=self.end_ms,
                trades=settings.past_perpetual_trades if spec.perpetual else settings.past_trades,
                burst=settings.past_burst,
            )
        return found

    def lost(self, spec: Spec, minutes: np.ndarray) -> np.ndarray:
        """Which of these minutes since the epoch have no candle: an outage, or lost by the venue."""
        mask = uniform(self._lost ^ key(spec.name), minutes) < _LOST_BARS
        if len(minutes):
            for day in range(
                int(minutes[0]) * MINUTE_MS // DAY_MS, int(minutes[-1]) * MINUTE_MS // DAY_MS + 1
            ):
                stop = self.course.outage(day)
                if stop is not None:
                    first, last = stop
                    mask |= (minutes >= first // MINUTE_MS) & (minutes <= last // MINUTE_MS)
        mask &= minutes < self.end_ms // MINUTE_MS
        return np.asarray(mask)

    # -- who there was ---------------------------------------------------------------------------

    def _futures(self, start_ms: int) -> Iterable[Spec]:
        """Expired futures of BTC and ETH: quarters, then months, then weeks, the newest first."""
        found: dict[str, Spec] = {}
        expiries = _past_fridays(self.first_ms, start_ms)
        plans = (
            ([e for e in expiries if settlement_period(e) == "month" and _month(e) % 3 == 0], _QUARTER_DAYS),
            ([e for e in expiries if settlement_period(e) == "month" and _month(e) % 3], _MONTH_DAYS),
            ([e for e in expiries if settlement_period(e) == "week"], _WEEK_DAYS),
        )
        for chosen, days in plans:
            for expiry in chosen:
                for base in ("BTC", "ETH"):
                    if len(found) >= self.settings.past_futures:
                        return found.values()
                    spec = future(base, None, expiry, _listed(expiry - days * DAY_MS))
                    found[spec.name] = spec
        return found.values()

    def _options(self, start_ms: int) -> Iterable[Spec]:
        """Expired options, most of them of the last months; strikes near the money of their listing day."""
        found: dict[str, Spec] = {}
        span = (start_ms - self.first_ms) // DAY_MS
        luck, wanted = key(self.settings.seed, "options"), self.settings.past_options
        attempt = 0
        while len(found) < wanted and attempt < 20 * wanted:
            a, b, c, d = uniform(luck, 4 * attempt + np.arange(4)).tolist()
            attempt += 1
            expiry = (start_ms // DAY_MS - int(a**3 * span)) * DAY_MS + 8 * 3_600_000
            days = _OPTION_DAYS[int(b * len(_OPTION_DAYS))]
            if expiry > start_ms or expiry - days * DAY_MS < self.first_ms:
                continue
            base = "ETH" if c < 0.35 else "BTC"
            linear = c > 0.88 and expiry - days * DAY_MS > LINEAR_OPTIONS_MS
            created = expiry - days * DAY_MS + int(d * 50) * MINUTE_MS
            spot = self.course.index_at(base, created)
            step = strike_step(base, spot, days)
            strike = max(round(spot * (0.85 + 0.3 * d) / step), 1) * step
            sign = -1 if attempt % 2 else 1
            spec = option(base, "USDC" if linear else None, expiry, strike, sign, _listed(created))
            found[spec.name] = spec
        return found.values()


def _listed(at_ms: int) -> int:
    """When an instrument of that time was listed: nothing is older than the first perpetual."""
    return max(at_ms, PERPETUAL_CREATION_MS)


def _month(ms: int) -> int:
    return datetime.fromtimestamp(ms / 1000, UTC).month


def _past_fridays(first_ms: int, start_ms: int) -> list[int]:
    """Fridays at 08:00 UTC between two times, the newest first."""
    day = datetime.fromtimestamp(start_ms / 1000, UTC).replace(hour=8, minute=0, second=0, microsecond=0)
    day -= timedelta(days=(day.weekday() - 4) % 7)
    found = []
    while (at := int(day.timestamp() * 1000)) > first_ms:
        if at <= start_ms:
            found.append(at)
        day -= timedelta(days=7)
    return found
