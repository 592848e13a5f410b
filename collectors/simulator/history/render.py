"""The JSON of trades of the past, with the fields that trades of their time have."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np

from collectors.simulator.chain import DAY_MS, Spec
from collectors.simulator.frames import number
from collectors.simulator.history.combos import ComboTape, through_combo
from collectors.simulator.history.course import HOUR_MS, month_ms
from collectors.simulator.history.noise import key, one, uniform
from collectors.simulator.history.past import Past
from collectors.simulator.history.tape import Rows, Tape

LIQUIDATION_KNOWN_MS: Final = HOUR_MS  # measured: the live host tells it about an hour later
MARK_PRICE_SINCE_MS: Final = month_ms("2021-01")
CONTRACTS_SINCE_MS: Final = month_ms("2023-01")
STARBASE_SINCE_MS: Final = 1_784_505_600_000  # 2026-07-20
_LIQUIDATED: Final = 0.004
_IN_BLOCK: Final = 0.01
_FIRST_MATCH: Final = 200_000_000_000_000_000
_SIDES: Final = ("M", "T", "MT")


@lru_cache(4096)
def _liquidation_key(name: str) -> int:
    return key("liquidation", name)


def liquidation(spec: Spec, seq: int) -> str | None:
    """Which side of a trade was liquidated: M, T or MT; options are never."""
    if spec.kind != "future":
        return None
    luck = one(_liquidation_key(spec.name), seq)
    return _SIDES[int(luck / _LIQUIDATED * 3)] if luck < _LIQUIDATED else None


def with_liquidation(text: str, spec: Spec, seq: int) -> str:
    """A trade's JSON, with `liquidation` where there was one."""
    side = liquidation(spec, seq)
    return text if side is None else f'{text[:-1]},"liquidation":"{side}"}}'


def render(
    past: Past, tape: Tape | ComboTape, rows: Rows, liquidations_until_ms: int
) -> Iterator[tuple[int, int, str]]:
    """Time, number and JSON of trades; `liquidation` is told up to a time."""
    spec = tape.spec
    name, option = spec.name, spec.kind == "option"
    luck = key(name, "fields")
    buys = (uniform(luck, rows.seq) < 0.5).tolist()
    extras = uniform(luck + 1, rows.seq).tolist()
    combined = through_combo(name, rows.seq, rows.ts).tolist()
    marks = np.round(tape.fair(rows.ts, rows.index), 4 if option else 2).tolist()
    vols = (
        np.round(tape.volatility(rows.ts) + 2.0 * uniform(luck + 2, rows.seq) - 1.0, 2).tolist()
        if option
        else []
    )
    liquidated = uniform(_liquidation_key(name), rows.seq) < _LIQUIDATED
    liquidated &= (rows.ts <= liquidations_until_ms) & (spec.kind == "future")
    ids, seqs, times, prices = (c.tolist() for c in (tape.trade_ids(rows), rows.seq, rows.ts, rows.price))
    amounts, indices = rows.amount.tolist(), np.round(rows.index, 2).tolist()
    prefix = "" if spec.prefix == "BTC" else f"{spec.prefix}-"
    previous = tape.rows(seqs[0] - 1, seqs[0] - 1).price.tolist() if seqs and seqs[0] > 1 else []
    last = previous[0] if previous else None
    for n, (seq, ts, price) in enumerate(zip(seqs, times, prices, strict=True)):
        moved = 0 if last is None or price > last else 2 if price < last else 1 if buys[n] else 3
        last = price
        text = (
            f'{{"timestamp":{ts},"price":{number(price)},"amount":{number(amounts[n])},'
            f'"direction":"{"buy" if buys[n] else "sell"}","index_price":{number(indices[n])},'
            f'"instrument_name":"{name}","trade_seq":{seq}'
        )
        if ts >= MARK_PRICE_SINCE_MS:
            text += f',"mark_price":{number(marks[n])}'
        if option:
            text += f',"iv":{number(_told_iv(vols[n], extras[n], spec.expiry_ms - ts))}'
        text += f',"tick_direction":{moved}'
        if ts >= STARBASE_SINCE_MS:
            text += f',"starbase_match_id":{_FIRST_MATCH + ids[n]}'
        text += f',"trade_id":"{prefix}{ids[n]}"'
        if ts >= CONTRACTS_SINCE_MS:
            text += f',"contracts":{number(round(amounts[n] / spec.contract_size, 6))}'
        if ts >= STARBASE_SINCE_MS:
            text += f',"starbase_timestamp":{ts * 1_000_000 + ids[n] % 1_000_000}'
        if combined[n]:
            text += _leg_of(past.combo_of(spec, ts), extras[n], ids[n])
        elif option and extras[n] < _IN_BLOCK and ts >= MARK_PRICE_SINCE_MS:
            text += f',"block_trade_id":"BLOCK-{ids[n] % 1_000_000}","block_trade_leg_count":2'
        elif isinstance(tape, ComboTape):
            text += f',"legs":{_legs(past, tape, seq)}'
        text += "}"
        yield ts, seq, with_liquidation(text, spec, seq) if liquidated[n] else text


def _told_iv(vol: float, luck: float, left_ms: int) -> float:
    """On the day of expiry some trades are under the intrinsic value (0.0) or above every bound (500.0)."""
    if left_ms > DAY_MS or luck < 0.9:
        return vol
    return 0.0 if luck < 0.97 else 500.0


def _leg_of(combo: str | None, luck: float, trade_id: int) -> str:
    """What the leg of a combo says of the whole; now and then without its name, and the id as text or as a number."""
    if combo is None:
        return ""
    told = f'"{trade_id - 1}"' if trade_id % 2 else str(trade_id - 1)
    return f',"combo_id":"{combo}","combo_trade_id":{told}' if luck < 0.8 else f',"combo_trade_id":{told}'


def _legs(past: Past, tape: ComboTape, seq: int) -> str:
    """The trades of a combo's legs, as those instruments tell them."""
    numbers = (int(tape.numbers[seq - 1]), int(tape.other_numbers[seq - 1]))
    texts = [
        text
        for leg, number_ in zip(tape.legs, numbers, strict=True)
        for _, _, text in render(past, leg, leg.rows(number_, number_), 0)
    ]
    return f"[{','.join(texts)}]"
