"""Funding, volatility index, index prices, settlements, delivery prices: what the venue pages each in its own way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from collectors.deribit.funding_answers import HISTORY as FUNDING
from collectors.deribit.history_answers import (
    DAY_MS,
    DELIVERY_PRICES,
    FUNDING_HOURS_MAX,
    HOUR_MS,
    INDEX_CHART,
    SETTLED_AT_MS,
    SETTLEMENTS,
    VOLATILITY,
    VOLATILITY_BARS_MAX,
    VOLATILITY_RESOLUTIONS,
    volatility_index,
)
from lake.errors import InputError
from lake.instants import from_us
from pipeline.backfill import ledger
from pipeline.backfill.engine import Ask, Unit, single
from pipeline.backfill.ledger import Recorded
from pipeline.backfill.plan import Choice, Plan, Planning
from pipeline.backfill.spans import cut, lacking

FUNDING_SINCE_MS: Final = 1_556_582_400_000  # 2019-04-30, the first day with funding on record at the venue
VOLATILITY_SINCE_MS: Final = 1_616_544_000_000  # 2021-03-24
VOLATILITY_RESOLUTION: Final = "3600"
VOLATILITY_CURRENCIES: Final = ("BTC", "ETH")
SETTLEMENT_TYPES: Final = ("settlement", "delivery", "bankruptcy")
PAGE_ROWS: Final = 1_000
INDEX_RANGES: Final = (("1d", 1), ("1m", 30), ("1y", 365))
"""Charts of an index by the days they reach back; `all` reaches back to the beginning."""


class _Page(msgspec.Struct):
    """As much of a page as tells whether there is another."""

    continuation: str | None = None
    settlements: list[dict[str, Any]] = []
    data: list[Any] = []
    records_total: int = 0


_PAGE: Final = msgspec.json.Decoder(_Page)


def funding(planning: Planning) -> Plan:
    """Windows of 744 hours of every perpetual, asked for from a millisecond early because the start is excluded."""
    recorded = planning.ledger.recorded("funding")
    found = Plan()
    for item in planning.chosen(("future",), only=lambda item: item.perpetual):
        rows = recorded.get(item.name, [])
        if not found.may_ask(item.name, rows, planning):
            continue
        first = max(planning.start_ms, item.created_ms, FUNDING_SINCE_MS)
        have = [(a // 1000, b // 1000) for a, b in ledger.times(rows)]
        # Up to the last whole hour: before the next has ended there is nothing to come.
        wanted = (first, planning.published_ms // HOUR_MS * HOUR_MS + 1)
        for start, end in cut(lacking([wanted], have), FUNDING_HOURS_MAX * HOUR_MS):
            span: dict[str, str | int] = {"start_timestamp": start - 1, "end_timestamp": end - 1}
            params = {"instrument_name": item.name, **span}
            found.units.append(_one("funding", item.name, start, FUNDING, params))
    return found


def volatility_bars(choice: Choice) -> tuple[str, str, int]:
    """What the venue calls the bars that are wanted, what the table calls them, and their length, ms.

    Raises:
        InputError: the venue has no bars of this length.
    """
    given = choice.resolution or VOLATILITY_RESOLUTION
    if given not in VOLATILITY_RESOLUTIONS:
        raise InputError(
            f"--resolution {given}: use {', '.join(VOLATILITY_RESOLUTIONS)} (seconds; 1D: a day)"
        )
    return given, *VOLATILITY_RESOLUTIONS[given]


def volatility(planning: Planning) -> Plan:
    """Windows of a thousand bars of the volatility indices."""
    given, name, step = volatility_bars(planning.choice)
    recorded = planning.ledger.recorded("volatility")
    found = Plan()
    for currency in planning.choice.currencies or VOLATILITY_CURRENCIES:
        index = volatility_index(currency)
        rows = recorded.get(index, []) + recorded.get(currency, [])
        if not found.may_ask(currency, rows, planning):
            continue
        first = -(-max(planning.start_ms, VOLATILITY_SINCE_MS) // step) * step
        end = planning.published_ms // step * step
        have = [(a // 1000, b // 1000) for a, b in ledger.times(rows, name)]
        for start, stop in cut(lacking([(first, max(first, end))], have), VOLATILITY_BARS_MAX * step):
            params: dict[str, str | int] = {
                "currency": currency, "start_timestamp": start, "end_timestamp": stop - step, "resolution": given,
            }  # fmt: skip
            found.units.append(_one("volatility", currency, start, VOLATILITY, params))
    return found


def index(planning: Planning) -> Plan:
    """The chart of each index that reaches back to what is held; the venue has nothing finer of the past."""
    recorded = planning.ledger.recorded("index")
    found = Plan()
    for currency in planning.choice.currencies or VOLATILITY_CURRENCIES:
        name = volatility_index(currency)
        rows = recorded.get(name, [])
        if not found.may_ask(name, rows, planning):
            continue
        told = [row for row in rows if row.refusal is None]
        whole = any(row.resolution == "all" for row in told)
        newest_us = max(row.recv_us for row in told) if whole else 0
        missing_days = (planning.now_ms - newest_us // 1000) / DAY_MS
        if newest_us and missing_days < 1:
            continue
        chart = next((word for word, days in INDEX_RANGES if newest_us and missing_days <= days), "all")
        params = {"index_name": name, "range": chart}
        found.units.append(_one("index", name, planning.now_ms, INDEX_CHART, params))
    return found


def settlements(planning: Planning) -> Plan:
    """Chains of pages backwards from now, per currency and type, up to what is held; and delivery prices."""
    recorded = planning.ledger.recorded("settlements")
    found = Plan()
    for currency in planning.currencies:
        rows = recorded.get(currency, [])
        if not found.may_ask(currency, rows, planning):
            continue
        for kind in SETTLEMENT_TYPES:
            found.units += _chains(planning, currency, kind, [row for row in rows if row.resolution == kind])
    _deliveries(planning, found)
    return found


def _chains(planning: Planning, currency: str, kind: str, rows: list[Recorded]) -> list[Unit]:
    """Chains of one type: begun ones go on with their cursor, and a new one covers what has been settled since."""
    have = ledger.times(rows)
    # Settlements of a day are told at once: before the next 08:00 UTC there is nothing to come.
    settled_ms = (planning.end_ms - SETTLED_AT_MS) // DAY_MS * DAY_MS + SETTLED_AT_MS + HOUR_MS
    end_us = min(planning.end_ms, settled_ms) * 1000 + 1
    units = []
    for start_us, stop_us in reversed(lacking([(planning.start_ms * 1000, end_us)], have)):
        begun = next(
            (row for row in reversed(rows) if row.start_us == stop_us and row.cursor is not None), None
        )
        upper_ms = (stop_us if begun is None or begun.end_us is None else begun.end_us) // 1000
        cursor = None if begun is None else begun.cursor
        work = partial(_ask_settlements, currency, kind, upper_ms, start_us // 1000, cursor)
        units.append(Unit("settlements", currency, f"{kind} to {from_us(stop_us):%Y-%m-%d}", work))
    return units


async def _ask_settlements(
    currency: str, kind: str, upper_ms: int, until_ms: int, cursor: str | None, ask: Ask
) -> None:
    while True:
        params: dict[str, str | int] = {
            "currency": currency, "type": kind, "count": PAGE_ROWS, "search_start_timestamp": upper_ms,
        }  # fmt: skip
        if cursor is not None:
            params["continuation"] = cursor
        reply = await ask("venue", SETTLEMENTS, params)
        if reply.refusal is not None:
            return
        page = _PAGE.decode(reply.result)
        oldest_ms = min((row["timestamp"] for row in page.settlements), default=0)
        cursor = page.continuation
        if cursor is None or oldest_ms < until_ms:
            return


def _deliveries(planning: Planning, found: Plan) -> None:
    recorded = planning.ledger.recorded("delivery_prices")
    days_until = (planning.end_ms - SETTLED_AT_MS - HOUR_MS) // DAY_MS
    for currency in planning.choice.currencies or VOLATILITY_CURRENCIES:
        name = volatility_index(currency)
        rows = recorded.get(name, [])
        if not found.may_ask(name, rows, planning):
            continue
        last_us = (days_until * DAY_MS + SETTLED_AT_MS) * 1000 + 1
        # What is told of a day begins with its price: of the hours before the first one nothing can be had.
        first_ms = -((SETTLED_AT_MS - planning.start_ms) // DAY_MS) * DAY_MS + SETTLED_AT_MS
        missing = lacking([(first_ms * 1000, last_us)], ledger.times(rows))
        if not missing:
            continue
        work = partial(_ask_deliveries, name, missing[0][0] // 1000, planning.now_ms)
        what = f"delivery prices from {max(dt.date(2016, 1, 1), from_us(missing[0][0]).date())}"
        found.units.append(Unit("delivery_prices", name, what, work))


async def _ask_deliveries(name: str, first_ms: int, now_ms: int, ask: Ask) -> None:
    """Pages from the newest day on; the first is not larger than what is lacking, so that little comes twice."""
    days = (now_ms - first_ms) // DAY_MS + 1
    offset = 0
    while days > 0:
        count = min(PAGE_ROWS, days)
        reply = await ask("venue", DELIVERY_PRICES, {"index_name": name, "offset": offset, "count": count})
        if reply.refusal is not None:
            return
        page = _PAGE.decode(reply.result)
        offset += len(page.data)
        days -= len(page.data)
        if not page.data or offset >= page.records_total:
            return


def _one(dataset: str, subject: str, start_ms: int, method: str, params: Mapping[str, str | int]) -> Unit:
    what = f"{from_us(start_ms * 1000):%Y-%m-%d}"
    return Unit(dataset, subject, what, single("venue", method, params))
