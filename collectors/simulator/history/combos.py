"""Combos of the past: a combo's trades are some of those of its first leg, which name the combo in turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from collectors.simulator.chain import Spec
from collectors.simulator.history.course import month_ms
from collectors.simulator.history.noise import Floats, Ints, key, uniform
from collectors.simulator.history.tape import Rows, Tape, to_tick

COMBOS_SINCE_MS: Final = month_ms("2021-01")
SHARE: Final = 0.02  # of the trades of a leg
_TICK: Final = 0.0001  # of inverse option combos


def through_combo(name: str, seq: Ints, ts: Ints) -> np.ndarray:
    """Which trades of a leg were made through a combo."""
    return np.asarray((uniform(key(name, "combo"), seq) < SHARE) & (ts >= COMBOS_SINCE_MS))


class ComboTape:
    """Trades of a combo of two legs, the first bought and the second sold, numbered from 1.

    Of the second leg, a combo trade tells the last trade before it.
    """

    def __init__(self, spec: Spec, bought: Tape, sold: Tape) -> None:
        self.spec = spec
        self.legs = (bought, sold)
        self.first_ms, self.end_ms = bought.first_ms, bought.end_ms
        seq = np.arange(1, bought.count + 1)
        ts = bought.times(seq)
        chosen = through_combo(bought.spec.name, seq, ts)
        other = np.array([sold.before(at) for at in ts[chosen].tolist()], np.int64)
        self.numbers = seq[chosen][other > 0]
        self.other_numbers = other[other > 0]
        self._ts = ts[chosen][other > 0]
        self.count = len(self.numbers)

    def before(self, at_ms: int) -> int:
        """How many trades came before a time."""
        return int(np.searchsorted(self._ts, at_ms))

    def times(self, seq: Ints) -> Ints:
        """Timestamps of trades by number."""
        return np.asarray(self._ts[seq - 1])

    def rows(self, first: int, last: int) -> Rows:
        """The trades from number `first` to number `last`; their price is the difference of those of the legs."""
        seq = np.arange(max(first, 1), min(last, self.count) + 1)
        bought, sold = self.legs
        of_first = _picked(bought, self.numbers[seq - 1])
        of_second = _picked(sold, self.other_numbers[seq - 1])
        price = to_tick(of_first.price - of_second.price, self.spec)
        return Rows(seq, of_first.ts, price, of_first.amount, of_first.volume, of_first.cost, of_first.index)

    def fair(self, ts: Ints, index: Floats) -> Floats:
        """The difference of the legs' mark prices."""
        bought, sold = self.legs
        return np.asarray(bought.fair(ts, index) - sold.fair(ts, index))

    def volatility(self, ts: Ints) -> Floats:
        """A combo has none of its own; that of its first leg."""
        return self.legs[0].volatility(ts)

    def trade_ids(self, rows: Rows) -> Ints:
        """One less than the id of the leg's trade, which tells it as `combo_trade_id`."""
        leg = _picked(self.legs[0], self.numbers[rows.seq - 1])
        return np.asarray(self.legs[0].trade_ids(leg) - 1)


def _picked(tape: Tape, numbers: Ints) -> Rows:
    """Trades of a tape by number, in any order."""
    if not len(numbers):
        return tape.rows(1, 0)
    first = int(numbers.min())
    rows = tape.rows(first, int(numbers.max()))
    place = numbers - first
    return Rows(*(getattr(rows, name)[place] for name in Rows.__slots__))


@dataclass(frozen=True, slots=True)
class Combo:
    """A combo and its legs, the first bought; the second sold, None for the perpetual of the coin."""

    spec: Spec
    bought: Spec
    sold: Spec | None


def combos_of(expired: Sequence[Spec], count: int) -> Iterator[Combo]:
    """Combos of expired instruments: half of them a future against the perpetual, half call and put spreads."""
    young = [spec for spec in expired if spec.creation_ms >= COMBOS_SINCE_MS]
    for spec in [spec for spec in young if spec.kind == "future"][: count // 2]:
        name = f"{spec.prefix}-FS-{spec.expiry_code}_PERP"
        yield Combo(_combo(spec, name, "future_combo", 0.5), spec, None)
    left = count - count // 2
    single: dict[tuple[str, int, int], Spec] = {}
    for spec in [spec for spec in young if spec.kind == "option"]:
        kin = (spec.prefix, spec.expiry_ms, spec.sign)
        other = single.pop(kin, None)  # a leg belongs to one combo
        if other is None or other.strike == spec.strike:
            single[kin] = spec
        elif left:
            left -= 1
            low, high = sorted((spec, other), key=lambda leg: leg.strike)
            strikes = "_".join(leg.name.split("-")[2] for leg in (low, high))
            name = f"{spec.prefix}-{'CS' if spec.sign > 0 else 'PS'}-{spec.expiry_code}-{strikes}"
            yield Combo(_combo(low, name, "option_combo", spec.tick if spec.linear else _TICK), low, high)


def _combo(leg: Spec, name: str, kind: str, tick: float) -> Spec:
    number = leg.instrument_id + 1_000_000
    return replace(leg, name=name, kind=kind, tick=tick, steps=(), strike=0.0, sign=0, instrument_id=number)
