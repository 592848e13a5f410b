"""Which instruments exist: names, expiries, strikes, ticks, and their `get_instruments` objects.

Names and expiry grid follow the venue: day without leading zero, every expiry at 08:00 UTC; the next four
days, the next Fridays, the last Fridays of the next months and quarters.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log10
from typing import Any, Final

from collectors.deribit import names
from lake.errors import InputError

MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
PERPETUAL_EXPIRY_MS: Final = 32_503_708_800_000
EXPIRY_HOUR: Final = 8
PERPETUAL_CREATION_MS: Final = 1_534_167_754_000
DAY_MS: Final = 86_400_000
_INDEX_PRICE: Final = {"BTC": 84_000.0, "ETH": 2_700.0, "SOL": 150.0, "XRP": 2.0}
_STRIKE_STEP: Final = {"BTC": (500.0, 1_000.0, 2_000.0, 5_000.0), "ETH": (25.0, 50.0, 100.0, 200.0)}
_UUID: Final = {
    "BTC": "5b71fc48-3dd3-540c-809b-f8c94d0e68b5",
    "USD": "dc311642-e9fb-4ba9-a312-c75c1aef4ae1",
    "ETH": "0b1dcf73-34b1-4c6d-8b0d-1f3c0d8f4c8a",
    "USDC": "2b92315d-eab7-5bef-84fa-089a131333f5",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """One instrument as listed; prices and sizes in the venue's units."""

    name: str
    kind: str  # option, future or spot
    base: str
    quote: str  # what the price is in: the coin for inverse options
    counter: str
    settlement: str
    linear: bool
    expiry_ms: int
    creation_ms: int
    period: str  # day, week, month, perpetual
    strike: float
    sign: int  # +1 call, -1 put, 0 otherwise
    tick: float
    steps: tuple[tuple[float, float], ...]  # (above_price, tick)
    min_amount: float
    contract_size: float
    instrument_id: int

    @property
    def index(self) -> str:
        """Name of the price index, such as `btc_usd`."""
        return f"{self.base}_{self.counter}".lower()

    @property
    def currency(self) -> str:
        """Currency of the channels and listings the instrument belongs to: BTC, ETH, USDC."""
        return self.settlement if self.linear else self.base

    @property
    def prefix(self) -> str:
        """What a name of this product begins with: `BTC`, `BTC_USDC`."""
        return f"{self.base}_{self.counter}" if self.linear else self.base

    @property
    def perpetual(self) -> bool:
        """Whether it never expires."""
        return self.period == "perpetual"

    @property
    def expiry_code(self) -> str:
        """`25DEC26` of a dated instrument."""
        return date_code(self.expiry_ms)


def date_code(expiry_ms: int) -> str:
    """`5DEC26`: day without leading zero, upper-case month, two digits of the year."""
    day = datetime.fromtimestamp(expiry_ms / 1000, UTC)
    return f"{day.day}{MONTHS[day.month - 1]}{day.year % 100:02d}"


def _expiry_ms(day: datetime) -> int:
    return int(day.replace(hour=EXPIRY_HOUR, minute=0, second=0, microsecond=0).timestamp() * 1000)


def last_friday(year: int, month: int) -> datetime:
    first_of_next = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    last = first_of_next - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - 4) % 7)


def settlement_period(expiry_ms: int) -> str:
    """`month` for the last Friday of a month, `week` for another Friday, else `day`."""
    day = datetime.fromtimestamp(expiry_ms / 1000, UTC)
    if day.weekday() != 4:
        return "day"
    return "month" if day.date() == last_friday(day.year, day.month).date() else "week"


def expiry_grid(now_ms: int) -> list[int]:
    """Expiries listed at `now_ms`, ascending, ms: 4 days, 4 Fridays, 3 months, 5 quarters."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    first = now if now_ms < _expiry_ms(now) else now + timedelta(days=1)
    days = {_expiry_ms(first + timedelta(days=n)) for n in range(4)}
    friday = first + timedelta(days=(4 - first.weekday()) % 7)
    days |= {_expiry_ms(friday + timedelta(weeks=n)) for n in range(4)}
    months = [divmod(first.year * 12 + first.month - 1 + n, 12) for n in range(18)]
    lasts = [(month + 1, _expiry_ms(last_friday(year, month + 1))) for year, month in months]
    lasts = [(month, expiry) for month, expiry in lasts if expiry > now_ms]
    days |= {expiry for _, expiry in lasts[:3]}
    days |= {expiry for month, expiry in lasts if month % 3 == 0}
    return sorted(days)


def parse_name(name: str, *, now_ms: int) -> Spec:
    """The instrument a name speaks of, with the contract terms usual for its product.

    Raises:
        InputError: the name follows no grammar this simulator knows (combos are not listed).
    """
    parsed = names.parse_name(name)
    if parsed.kind == "spot":
        return _spot(parsed.base, str(parsed.quote))
    if parsed.kind not in ("future", "option"):
        raise InputError(f"instrument name {name!r} is a combo, and this venue lists none")
    if parsed.expiry is None:
        return future(parsed.base, parsed.quote, PERPETUAL_EXPIRY_MS, PERPETUAL_CREATION_MS)
    expiry = parsed.expiry // 1000
    created = min(now_ms, expiry) - 3 * DAY_MS
    if parsed.strike is None:
        return future(parsed.base, parsed.quote, expiry, created)
    sign = 1 if parsed.option_type == "call" else -1
    return option(parsed.base, parsed.quote, expiry, parsed.strike, sign, created)


def _identity(name: str) -> int:
    return 300_000 + zlib.crc32(name.encode()) % 600_000


def future(base: str, quote: str | None, expiry: int, created: int) -> Spec:
    """A dated future, or the perpetual; inverse without a `quote` currency. Times in ms."""
    perpetual = expiry == PERPETUAL_EXPIRY_MS
    prefix = f"{base}_{quote}" if quote else base
    name = f"{prefix}-PERPETUAL" if perpetual else f"{prefix}-{date_code(expiry)}"
    tick = (
        {"BTC": 0.5, "ETH": 0.05}.get(base, 0.01) if perpetual else {"BTC": 2.5, "ETH": 0.25}.get(base, 0.01)
    )
    size = (0.001 if base == "BTC" else 0.01) if quote else (10.0 if base == "BTC" else 1.0)
    period = "perpetual" if perpetual else settlement_period(expiry)
    coin = quote or base
    counter = quote or "USD"
    return Spec(
        name, "future", base, counter, counter, coin, quote is not None, expiry, created,
        period, 0.0, 0, tick, (), size, size, _identity(name),
    )  # fmt: skip


def _spot(base: str, quote: str) -> Spec:
    name = f"{base}_{quote}"
    return Spec(
        name, "spot", base, quote, quote, quote, True, PERPETUAL_EXPIRY_MS, 1_682_899_200_000,
        "perpetual", 0.0, 0, 1.0 if base == "BTC" else 0.01, (), 0.0001, 0.0001, _identity(name),
    )  # fmt: skip


def option(base: str, quote: str | None, expiry: int, strike: float, sign: int, created: int) -> Spec:
    """A call (`sign` +1) or put (-1); inverse without a `quote` currency. Times in ms."""
    text = f"{strike:.10f}".rstrip("0").rstrip(".").replace(".", "d")
    prefix = f"{base}_{quote}" if quote else base
    name = f"{prefix}-{date_code(expiry)}-{text}-{'C' if sign > 0 else 'P'}"
    tick, steps = (1.0, ((100.0, 5.0),)) if quote else (0.0001, ((0.005, 0.0005),))
    if quote and base != "BTC":
        tick, steps = 0.1, ((10.0, 0.5),)
    minimum = 0.01 if quote else (0.1 if base == "BTC" else 1.0)
    coin = quote or base
    return Spec(
        name, "option", base, coin, quote or "USD", coin, quote is not None, expiry, created,
        settlement_period(expiry), strike, sign, tick, steps, minimum, 0.01 if quote else 1.0,
        _identity(name),
    )  # fmt: skip


def index_start(base: str) -> float:
    """Where the simulated index of a coin begins, USD."""
    return _INDEX_PRICE.get(base, 100.0)


def strike_step(base: str, price: float, days: float) -> float:
    """The distance of strikes of options that live so long, for a coin at this price: 1, 2 or 5 by tens."""
    wanted = max(_usual_step(base, days) * price / index_start(base), 1.0)
    power = 10.0 ** int(log10(wanted))
    return max(size * power for size in (1.0, 2.0, 5.0) if size * power <= wanted)


def _usual_step(base: str, days: float) -> float:
    """The distance of strikes while the coin stands at its usual start."""
    return _STRIKE_STEP[base][(days > 3) + (days > 14) + (days > 90)]


def build_chain(count: int, now_ms: int, prices: Mapping[str, float] | None = None) -> list[Spec]:
    """`count` instruments, perpetuals first, then futures, then options near the money first.

    Options are about 55 % BTC, 35 % ETH and 10 % BTC_USDC over the whole expiry grid, calls and puts, with
    strikes from at the money out to deep in and out of it. `prices`: where coins stand, if not at their usual start.
    """
    perpetuals = [future("BTC", None, PERPETUAL_EXPIRY_MS, PERPETUAL_CREATION_MS)]
    if count >= 6:
        perpetuals.append(future("ETH", None, PERPETUAL_EXPIRY_MS, 1_552_568_454_000))
    grid = expiry_grid(now_ms)
    created = now_ms - 20 * DAY_MS
    products: list[tuple[str, str | None]] = [("BTC", None), ("ETH", None), ("BTC", "USDC")]
    futures = [future(base, quote, e, created) for e in reversed(grid) for base, quote in products]
    futures = futures[: count // 12]
    left = max(count - len(perpetuals) - len(futures), 0)
    shares = (left - left * 35 // 100 - left // 10, left * 35 // 100, left // 10)
    specs = perpetuals[:count] + futures
    for (base, quote), share in zip(products, shares, strict=True):
        specs += _options(base, quote, grid, share, now_ms, (prices or {}).get(base, index_start(base)))
    return specs


def _options(
    base: str, quote: str | None, grid: list[int], share: int, now_ms: int, centre: float
) -> list[Spec]:
    """Round-robin over the expiries; strikes alternate around the money with a growing distance."""
    taken: list[Spec] = []
    rank = 0
    while len(taken) < share:
        for expiry in grid:
            days = (expiry - now_ms) / DAY_MS
            step = _usual_step(base, days)
            distance = (rank + 1) // 2 * (1 if rank % 2 else -1)
            strike = (round(centre / step) + distance * (1 + abs(distance) // 4)) * step
            if strike <= 0:
                continue
            created = now_ms - int(DAY_MS * min(20.0, 3 + days / 20))
            taken += [option(base, quote, expiry, strike, sign, created) for sign in (1, -1)]
        rank += 1
    return taken[:share]


def instrument_json(spec: Spec, now_ms: int, state: str = "open") -> dict[str, Any]:
    """The `get_instruments` object of 2026: field set and types as recorded that year."""
    option = spec.kind == "option"
    fee = 0.0003 if option else 0.0005
    row: dict[str, Any] = {
        "state": state,
        "price_index": spec.index,
        "kind": spec.kind,
        "instrument_name": spec.name,
        "maker_commission": 0.0003 if option else 0.0,
        "taker_commission": fee,
        "instrument_type": "linear" if spec.linear else "reversed",
        "underlying_type": "crypto",
        "expiration_timestamp": spec.expiry_ms,
        "instrument_id": spec.instrument_id,
        "product_group": spec.prefix,
        "creation_timestamp": spec.creation_ms,
        "is_active": state == "open" and spec.expiry_ms > now_ms,
        "contract_size": spec.contract_size,
        "tick_size": spec.tick,
        "counter_currency": spec.counter,
        "min_trade_amount": spec.min_amount,
        "block_trade_commission": 0.0003 if option else 0.00025,
        "block_trade_min_trade_amount": 25 if option else 200_000,
        "block_trade_tick_size": 0.0001 if option else 0.01,
        "settlement_currency": spec.settlement,
        "settlement_period": spec.period,
        "base_currency": spec.base,
        "index_id": 1_000_033 + zlib.crc32(spec.index.encode()) % 100,
        "quote_currency": spec.quote,
        "tick_size_steps": [{"tick_size": tick, "above_price": above} for above, tick in spec.steps],
        "lot_size": 1,
        "base_currency_uuid": _UUID.get(spec.base, ""),
        "quote_currency_uuid": _UUID.get(spec.quote, ""),
    }
    if option:
        row |= {"strike": spec.strike, "option_type": "call" if spec.sign > 0 else "put"}
    elif spec.kind == "future":
        row |= {
            "max_leverage": 50 if spec.perpetual else 25,
            "max_non_default_leverage": 5.0,
            "max_liquidation_commission": 0.0075,
            "future_type": "linear" if spec.linear else "reversed",
        }
    return row
