"""REST answers about the past: candles, volatility and price indices, settlements, delivery prices.

Each answer becomes rows and one row of `backfills`: what it spans. Where the venue keeps only the newest rows of
what was asked for, the span begins with the first row given, so that what was cut off stays on record as lacking.
A bar counts only if it had closed when the venue received the question. The habits relied on are the venue's as
clients have met them: the start of candles and of funding is excluded, that of the volatility index included.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Meta, Struct

from collectors.deribit import columns, wire
from collectors.deribit.answer import EPOCH_US, Answer, Span, recorded
from collectors.deribit.columns import MS_IN_US, Floats, Instruments, Ints, floats, numbers, times, words
from collectors.deribit.decode import Decoded
from collectors.deribit.names import index_family
from lake.errors import InputError, SchemaDriftError

CHART: Final = "get_tradingview_chart_data"
VOLATILITY: Final = "get_volatility_index_data"
INDEX_CHART: Final = "get_index_chart_data"
SETTLEMENTS: Final = "get_last_settlements_by_currency"
DELIVERY_PRICES: Final = "get_delivery_prices"

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
BARS_MAX: Final = 5_001
"""So many candles an answer holds at most, the newest; the older part is left out without a word."""
VOLATILITY_BARS_MAX: Final = 1_000
FUNDING_HOURS_MAX: Final = 744
PUBLISHED_AFTER_MS: Final = 10 * MINUTE_MS
"""A bar that is not in an answer so long after it closed is not there; the venue does not say how long it takes."""
SETTLED_AT_MS: Final = 8 * HOUR_MS
"""Time of day of settlements and expiries, UTC."""
CHART_RESOLUTIONS: Final = {
    "1": ("1m", MINUTE_MS),
    "3": ("3m", 3 * MINUTE_MS),
    "5": ("5m", 5 * MINUTE_MS),
    "10": ("10m", 10 * MINUTE_MS),
    "15": ("15m", 15 * MINUTE_MS),
    "30": ("30m", 30 * MINUTE_MS),
    "60": ("1h", HOUR_MS),
    "120": ("2h", 2 * HOUR_MS),
    "180": ("3h", 3 * HOUR_MS),
    "360": ("6h", 6 * HOUR_MS),
    "720": ("12h", 12 * HOUR_MS),
    "1D": ("1d", DAY_MS),
}
"""The venue's word for the length of a candle, ours, and the length in ms."""
VOLATILITY_RESOLUTIONS: Final = {
    "1": ("1s", 1_000),
    "60": ("1m", MINUTE_MS),
    "3600": ("1h", HOUR_MS),
    "43200": ("12h", 12 * HOUR_MS),
    "1D": ("1d", DAY_MS),
}


class _Chart(Struct, gc=False):
    ticks: list[wire.Milliseconds]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]
    cost: list[float]


class _Volatility(Struct, gc=False):
    data: list[tuple[wire.Milliseconds, float, float, float, float]]
    continuation: int | None = None


class _Settlement(Struct, gc=False, kw_only=True):
    """One row of the venue's settlements. Which amounts there are depends on its type."""

    type: str
    timestamp: wire.Milliseconds
    instrument_name: str
    index_price: wire.Number = wire.ABSENT
    mark_price: wire.Number = wire.ABSENT
    position: wire.Number = wire.ABSENT
    session_profit_loss: wire.Number = wire.ABSENT
    profit_loss: wire.Number = wire.ABSENT
    funding: wire.Number = wire.ABSENT
    funded: wire.Number = wire.ABSENT
    session_bankruptcy: wire.Number = wire.ABSENT
    session_bankrupcy: wire.Number = wire.ABSENT
    """The same, as the venue spelled it for years."""
    session_tax: wire.Number = wire.ABSENT
    session_tax_rate: wire.Number = wire.ABSENT
    socialized: wire.Number = wire.ABSENT


class _Settlements(Struct, gc=False):
    settlements: list[_Settlement]
    continuation: str | None = None


class _Delivery(Struct, gc=False):
    date: str
    delivery_price: float


class _Deliveries(Struct, gc=False):
    data: list[_Delivery]
    records_total: int


_Point = tuple[Annotated[float, Meta(ge=wire.FIRST_MS, lt=wire.END_MS)], float]

_CHART: Final = msgspec.json.Decoder(wire.Success[_Chart])
_VOLATILITY: Final = msgspec.json.Decoder(wire.Success[_Volatility])
_INDEX_CHART: Final = msgspec.json.Decoder(wire.Success[list[_Point]])
_SETTLEMENTS: Final = msgspec.json.Decoder(wire.Success[_Settlements])
_DELIVERIES: Final = msgspec.json.Decoder(wire.Success[_Deliveries])
_NO_AMOUNTS: Final = ("type", "timestamp", "instrument_name", "session_bankrupcy")
_AMOUNTS: Final = tuple(name for name in _Settlement.__struct_fields__ if name not in _NO_AMOUNTS)


def candles(answer: Answer) -> Decoded:
    """Bars of `get_tradingview_chart_data`; a bar in which nothing was traded has volume 0.

    Raises:
        SchemaDriftError: the body is no such answer, or the question does not say what was asked for.
    """
    name, step = _resolution(answer, CHART_RESOLUTIONS)
    instrument = answer.params.get("instrument_name", "")
    try:
        chart = _CHART.decode(answer.body).result
    except wire.DECODE_ERRORS as error:
        raise answer.unreadable(error) from None
    ticks = np.array(chart.ticks, np.int64)
    payload = [np.array(getattr(chart, n)) for n in ("open", "high", "low", "close", "volume", "cost")]
    if any(len(column) != len(ticks) for column in payload):
        raise answer.unreadable("its columns differ in length")
    first = answer.number("start_timestamp") // step * step + step
    if len(ticks) >= BARS_MAX:
        first = max(first, int(ticks[0]))
    ticks, payload, span_us = _closed(answer, ticks, payload, first, step)
    bars = {**_bars(name, payload), "source": words(np.zeros(len(ticks), np.int32), ["venue"])}
    rows = _rows(answer, _one(answer, instrument, len(ticks)), ticks, bars)
    span = Span("candles", instrument, name, *span_us)
    return recorded(Decoded({"candles": rows}), answer, span)


def volatility(answer: Answer) -> Decoded:
    """Bars of the volatility index of a currency; SchemaDriftError as for `candles`."""
    name, step = _resolution(answer, VOLATILITY_RESOLUTIONS)
    index = volatility_index(answer.params.get("currency", ""))
    try:
        result = _VOLATILITY.decode(answer.body).result
    except wire.DECODE_ERRORS as error:
        raise answer.unreadable(error) from None
    cells = np.array(result.data, np.float64).reshape(-1, 5)
    ticks = cells[:, 0].astype(np.int64)
    first = -(-answer.number("start_timestamp") // step) * step
    if len(ticks) and (result.continuation is not None or len(ticks) >= VOLATILITY_BARS_MAX):
        first = max(first, int(ticks[0]))
    ticks, payload, span_us = _closed(answer, ticks, list(cells[:, 1:].T), first, step)
    rows = _rows(answer, _one(answer, index, len(ticks), index=True), ticks, _bars(name, payload))
    span = Span("volatility", index, name, *span_us)
    return recorded(Decoded({"volatility_index": rows}), answer, span)


def index_chart(answer: Answer) -> Decoded:
    """Points of an index's chart; how far apart they are is the venue's choice by range.

    Raises:
        SchemaDriftError: the body is no such answer.
    """
    index = answer.params.get("index_name", "")
    try:
        points = np.array(_INDEX_CHART.decode(answer.body).result, np.float64).reshape(-1, 2)
    except wire.DECODE_ERRORS as error:
        raise answer.unreadable(error) from None
    ticks = points[:, 0].astype(np.int64)
    order = np.argsort(ticks, kind="stable")
    ticks, prices = ticks[order], points[order, 1]
    rows = _rows(answer, _one(answer, index, len(ticks), index=True), ticks, {"price": numbers(prices)})
    span_us = (int(ticks[0]) * MS_IN_US, int(ticks[-1]) * MS_IN_US + 1) if len(ticks) else (None, None)
    span = Span("index", index, answer.params.get("range"), *span_us)
    return recorded(Decoded({"index_prices": rows}), answer, span)


def settlements(answer: Answer) -> Decoded:
    """A page of settlements of a currency, newest first; `search_start_timestamp` is its upper bound.

    The pages of one search form a chain, each asked for with the cursor of the one before. The span on record is that
    of the chain up to here: from the oldest row on (not from within its millisecond, which the next page may go on
    with), or from the beginning of time where the venue gave no further cursor.

    Raises:
        SchemaDriftError: the body is no such answer.
    """
    try:
        page = _SETTLEMENTS.decode(answer.body).result
    except wire.DECODE_ERRORS as error:
        raise answer.unreadable(error) from None
    told = page.settlements
    known = Instruments()
    try:
        codes = np.array([known.code(row.instrument_name) for row in told], np.int32)
    except InputError as error:
        raise answer.unreadable(error) from None
    ticks = np.array([row.timestamp for row in told], np.int64)
    kinds = pa.array([row.type for row in told], pa.string()).dictionary_encode()
    amounts = {name: floats([getattr(row, name) for row in told]) for name in _AMOUNTS}
    bankruptcy, older = amounts["session_bankruptcy"], floats([row.session_bankrupcy for row in told])
    amounts["session_bankruptcy"] = np.where(np.isnan(bankruptcy), older, bankruptcy)
    payload = {name: numbers(column) for name, column in amounts.items()}
    rows = _rows(answer, (known, codes), ticks, {"type": kinds, **payload})
    end_us = answer.number("search_start_timestamp") * MS_IN_US + 1
    start_us = int(ticks.min()) * MS_IN_US + 1 if len(ticks) else end_us
    if page.continuation is None:
        start_us = EPOCH_US
    span = Span(
        "settlements", answer.params.get("currency", ""), answer.params.get("type"), min(start_us, end_us), end_us,
        cursor=page.continuation,
    )  # fmt: skip
    return recorded(Decoded({"settlements": rows}), answer, span)


def delivery_prices(answer: Answer) -> Decoded:
    """A page of an index's delivery prices by day, newest first, as settlements of the type delivery_price.

    The span on record is from the oldest day of the page to the one after its newest; the first page reaches up to
    the question.

    Raises:
        SchemaDriftError: the body is no such answer.
    """
    index = answer.params.get("index_name", "")
    try:
        page = _DELIVERIES.decode(answer.body).result
        days = [datetime.strptime(row.date, "%Y-%m-%d").replace(tzinfo=UTC) for row in page.data]
    except (*wire.DECODE_ERRORS, ValueError) as error:
        raise answer.unreadable(error) from None
    ticks = np.array([int(day.timestamp()) * 1_000 + SETTLED_AT_MS for day in days], np.int64)
    prices = numbers(floats([row.delivery_price for row in page.data]))
    kinds = words(np.zeros(len(ticks), np.int32), ["delivery_price"])
    named = _one(answer, index, len(ticks), index=True)
    rows = _rows(answer, named, ticks, {"type": kinds, "index_price": prices})
    offset = answer.optional("offset") or 0
    asked_us = answer.asked_us()
    newest = (int(ticks.max()) + DAY_MS) * MS_IN_US if len(ticks) else asked_us
    oldest = int(ticks.min()) * MS_IN_US if len(ticks) else newest
    last = offset + len(ticks) >= page.records_total
    span = Span("delivery_prices", index, None, EPOCH_US if last else oldest, newest if offset else asked_us)
    return recorded(Decoded({"settlements": rows}), answer, span)


def volatility_index(currency: str) -> str:
    """Name of the volatility index of a currency, as its channel writes it: btc_usd."""
    return f"{currency.lower()}_usd"


def _resolution(answer: Answer, known: dict[str, tuple[str, int]]) -> tuple[str, int]:
    given = answer.params.get("resolution", "")
    if given not in known:
        raise SchemaDriftError(f"{answer.method} was asked with resolution={given!r}: unknown")
    return known[given]


def _closed(
    answer: Answer, ticks: Ints, payload: list[Floats], first: int, step: int
) -> tuple[Ints, list[Floats], tuple[int, int]]:
    """Of bars of `step` ms those from `first` on that were asked for and had closed by then; what they span, µs."""
    if (ticks[1:] <= ticks[:-1]).any():
        raise answer.unreadable("its times do not rise")
    asked = answer.asked_us() // MS_IN_US // step * step
    end = min(answer.number("end_timestamp") // step * step + step, asked)
    keep = (ticks >= first) & (ticks < end)
    if not keep.all():
        ticks, payload = ticks[keep], [column[keep] for column in payload]
    last = int(ticks[-1]) + step if len(ticks) else 0
    end = known_up_to(end, last, asked, max(step, PUBLISHED_AFTER_MS))
    return ticks, payload, (first * MS_IN_US, max(end, first) * MS_IN_US)


def known_up_to(end: int, last: int, asked: int, lag: int) -> int:
    """Up to where an answer speaks for itself, all in one unit of time.

    What is missing at its end may only not have been published yet: within `lag` before `asked` nothing counts as
    lacking at the venue, so the span ends after its `last` row there.
    """
    return min(end, max(last, asked - lag))


def _one(
    answer: Answer, name: str, rows: int, *, index: bool = False
) -> tuple[Instruments, npt.NDArray[np.int32]]:
    """The one instrument (or index) that all rows are about, and its code in each of them."""
    known = Instruments(index_family) if index else Instruments()
    try:
        known.code(name)
    except InputError as error:
        raise answer.unreadable(error) from None
    return known, np.zeros(rows, np.int32)


def _bars(resolution: str, payload: Sequence[Floats]) -> dict[str, Any]:
    """Columns of bars in the order open, high, low, close and, where there are any, volume, cost."""
    named = ("open", "high", "low", "close", "volume", "cost")
    found: dict[str, Any] = {name: numbers(column) for name, column in zip(named, payload, strict=False)}
    return {**found, "resolution": words(np.zeros(len(payload[0]), np.int32), [resolution])}


def _rows(
    answer: Answer, named: tuple[Instruments, npt.NDArray[np.int32]], ticks: Ints, payload: dict[str, Any]
) -> pa.Table:
    """Rows of any of these tables: what every row has, and `payload`."""
    known, codes = named
    zeros = np.zeros(len(ticks), np.int32)
    return pa.table(
        {
            "venue": words(zeros, [columns.VENUE]),
            "instrument": known.name_column(codes),
            "ts": times(ticks * MS_IN_US),
            "recv_ts": times(np.full(len(ticks), answer.recv_ns // columns.US_IN_NS, np.int64)),
            **payload,
            "family": known.family_column(codes),
            "record": pa.array(zeros),
        }
    )
