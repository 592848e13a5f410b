"""Trades by their number: every instrument counts its own from 1 without a hole, so a hole proves itself.

The history host has all trades but the newest, and answers a range of numbers with neighbours and in any order; its
`has_more` says nothing. A page that is not full has come to the end of what there is. The venue itself has the last
24 hours. So pages are asked for by number: of the history host first, and what it does not have yet of the venue. What
neither gives is asked for once more; after that it is the venue's hole.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from collectors.deribit.rest import RestReply
from collectors.deribit.trade_answers import (
    BY_INSTRUMENT,
    BY_INSTRUMENT_AND_TIME,
    BY_TIME,
    TradeNumber,
    trade_numbers,
)
from pipeline.backfill.engine import Ask, Host, Unit
from pipeline.backfill.ledger import SEQ_END, Listed, Recorded
from pipeline.backfill.plan import DAY_MS, Plan, Planning
from pipeline.backfill.settings import BackfillSettings
from pipeline.backfill.spans import Span, cut, joined, lacking

KINDS: Final = ("future", "option")
HISTORY_LAG_MS: Final = 24 * 3_600_000
"""How far the history host may be behind; not published. A dead instrument's page counts as the last only if it was
asked for so long after the expiry, or if it brought nothing new."""
LEAK_SHARE: Final = 10
"""A tenth of a page is left to the neighbours that come with a range."""
Bounds = dict[str, tuple[int, int]]
"""Numbers of an instrument's trades to have, by instrument: the first, and the one after the last."""


def wide(settings: BackfillSettings, host: Host) -> int:
    """Numbers to ask for at once, so that they come with their neighbours."""
    page = settings.trades_per_page if host == "history" else settings.recent_per_page
    return page - page // LEAK_SHARE


def survey(planning: Planning, bounds: Bounds) -> Plan:
    """Questions that must be answered before pages can be planned; their answers go to `bounds`.

    Of the living: the newest number. With a time from or to which trades are wanted: the numbers at these times.
    """
    found = Plan()
    recorded = planning.ledger.recorded("trades")
    for item in planning.chosen(KINDS):
        if not found.may_ask(item.name, recorded.get(item.name, []), planning):
            continue
        dead = item.expires_ms <= planning.now_ms
        timed = planning.start_ms > item.created_ms or planning.end_ms < min(planning.now_ms, item.expires_ms)
        if dead and not timed:
            continue
        work = partial(_locate, item, planning.start_ms, planning.end_ms, planning.now_ms, bounds)
        questions = 1 + int(planning.start_ms > item.created_ms)
        found.units.append(Unit("trades", item.name, "bounds", work, "venue", questions))
    return found


async def _locate(item: Listed, start_ms: int, end_ms: int, now_ms: int, bounds: Bounds, ask: Ask) -> None:
    first, end = 1, 0
    one: dict[str, str | int] = {"instrument_name": item.name, "count": 1}
    if start_ms > item.created_ms:
        params = {
            **one,
            "start_timestamp": start_ms,
            "end_timestamp": max(start_ms, end_ms - 1),
            "sorting": "asc",
        }
        first = await _number(ask, ("history", "venue"), BY_INSTRUMENT_AND_TIME, params)
        if not first:
            bounds[item.name] = (1, 1)  # nothing was traded in that time
            return
    if end_ms < min(now_ms, item.expires_ms):
        hosts: tuple[Host, ...] = ("history", "venue")
        if end_ms > now_ms - HISTORY_LAG_MS:
            hosts = ("venue", "history")
        params = {
            **one,
            "start_timestamp": min(item.created_ms, end_ms - 1),
            "end_timestamp": end_ms - 1,
            "sorting": "desc",
        }
        end = await _number(ask, hosts, BY_INSTRUMENT_AND_TIME, params)
    elif item.expires_ms > now_ms:
        end = await _number(ask, ("venue", "history"), BY_INSTRUMENT, {**one, "sorting": "desc"})
    else:
        bounds[item.name] = (first, SEQ_END)
        return
    bounds[item.name] = (first, max(first, end + 1))


async def _number(ask: Ask, hosts: Iterable[Host], method: str, params: dict[str, str | int]) -> int:
    """The number of the one trade that is asked for, by the first host that has it; 0 where none has."""
    for host in hosts:
        trades = _given(await ask(host, method, params))
        if trades:
            return trades[0].trade_seq
    return 0


def plan(planning: Planning, bounds: Bounds) -> Plan:
    """Pages of numbers that are neither held nor on record; of the dead, a walk from the last that is held."""
    found = Plan()
    recorded = planning.ledger.recorded("trades")
    open_ones = [
        item
        for item in planning.chosen(KINDS)
        if found.may_ask(item.name, recorded.get(item.name, []), planning)
    ]
    held = planning.ledger.trade_spans([item.name for item in open_ones])
    for item in open_ones:
        rows, have = recorded.get(item.name, []), held.get(item.name, [])
        first, end = bounds.get(item.name, (1, SEQ_END))
        newest = max(first, *(stop for _, stop in have), 1)
        missing = lacking([(first, newest if end == SEQ_END else end)], have)
        if missing:
            missing = lacking(missing, holes_of_the_venue(item.name, rows, have, planning))
        for start, stop in cut(missing, wide(planning.settings, "history")):
            work = partial(_ask_page, item.name, start, stop, planning.settings)
            found.units.append(Unit("trades", item.name, f"{start}-{stop - 1}", work, "history"))
        if end == SEQ_END and not _finished(item, rows, planning):
            work = partial(_walk, item.name, newest, planning.settings)
            found.units.append(Unit("trades", item.name, f"{newest}-", work, "history"))
    return found


def _finished(item: Listed, rows: Iterable[Recorded], planning: Planning) -> bool:
    """Whether a page asked for after the end has come to the end: there is nothing after it, now or later."""
    over_us = (item.expires_ms + HISTORY_LAG_MS) * 1000
    return item.expires_ms <= planning.now_ms and any(
        row.end_seq is None and row.start_seq is not None and row.refusal is None
        and (row.recv_us >= over_us or row.recv_us >= planning.now_ms * 1000)
        for row in rows
    )  # fmt: skip


def holes_of_the_venue(
    name: str, rows: Iterable[Recorded], held: Sequence[Span], planning: Planning
) -> list[Span]:
    """Numbers between held ones that two answers of the history host spanned and did not bring.

    They count only where the trade after them is old enough for that host to have had them.
    """
    twice = spanned_twice(rows, planning.settings.history_url)
    inner = lacking([(1, max((stop for _, stop in held), default=1))], held)
    found = []
    for start, stop in lacking(inner, lacking(inner, twice)):
        after_ms = planning.ledger.traded_ms(name, stop)
        if after_ms is not None and after_ms < planning.now_ms - HISTORY_LAG_MS:
            found.append((start, stop))
    return found


def spanned_twice(rows: Iterable[Recorded], history_url: str) -> list[Span]:
    """Numbers that at least two answers of the history host span."""
    host = history_url.partition("://")[2].rstrip("/")
    once: list[Span] = []
    twice: list[Span] = []
    for row in rows:
        if row.host == host and row.refusal is None and row.start_seq is not None:
            span = (row.start_seq, SEQ_END if row.end_seq is None else row.end_seq + 1)
            fresh = lacking([span], once)
            twice = joined([*twice, *lacking([span], fresh)])
            once = joined([*once, *fresh])
    return twice


async def _ask_page(name: str, start: int, stop: int, settings: BackfillSettings, ask: Ask) -> None:
    """The trades numbered from `start` to before `stop`; afterwards they are held, or were refused twice."""
    missing = await _page(name, [(start, stop)], "history", settings, ask)
    if missing and missing[-1][1] == stop:  # perhaps too new for the history host
        missing = await _page(name, missing, "venue", settings, ask)
    if missing:
        await _page(name, missing, "history", settings, ask)


async def _page(name: str, spans: list[Span], host: Host, settings: BackfillSettings, ask: Ask) -> list[Span]:
    """What is still lacking of `spans` after `host` was asked for them."""
    got: list[Span] = []
    todo = list(cut(spans, wide(settings, host)))
    while todo:
        start, stop = todo.pop(0)
        count = settings.trades_per_page if host == "history" else settings.recent_per_page
        reply = await ask(host, BY_INSTRUMENT, _numbered(name, start, count, stop - 1))
        trades = _given(reply)
        seqs = sorted({trade.trade_seq for trade in trades if start <= trade.trade_seq < stop})
        got += [(seq, seq + 1) for seq in seqs]
        if len(trades) >= count and seqs and seqs[-1] + 1 < stop:  # cut off by its neighbours
            todo.insert(0, (seqs[-1] + 1, stop))
    return lacking(spans, got)


async def _walk(name: str, start: int, settings: BackfillSettings, ask: Ask) -> None:
    """All trades from number `start` on, page by page, until one is not full; then what was missing in between."""
    count = settings.trades_per_page
    got: list[Span] = []
    at = start
    while True:
        trades = _given(await ask("history", BY_INSTRUMENT, _numbered(name, at, count)))
        seqs = sorted({trade.trade_seq for trade in trades if trade.trade_seq >= at})
        got = joined([*got, *((seq, seq + 1) for seq in seqs)])
        if len(trades) < count or not seqs:
            break
        at = seqs[-1] + 1
    if got:
        await _page(name, lacking([(start, got[-1][1])], got), "history", settings, ask)


def _numbered(name: str, start: int, count: int, last: int | None = None) -> dict[str, str | int]:
    params: dict[str, str | int] = {
        "instrument_name": name,
        "start_seq": start,
        "count": count,
        "sorting": "asc",
    }
    return params if last is None else {**params, "end_seq": last}


def _given(reply: RestReply) -> list[TradeNumber]:
    """The trades of an answer; none where the venue refused."""
    return [] if reply.refusal is not None else trade_numbers(reply.result)


def reread(planning: Planning, day: dt.date) -> Plan:
    """Walks over all trades of a day, of each currency, because the venue tells of liquidations only later."""
    start_ms = int(dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()) * 1000
    found = Plan()
    for currency in planning.currencies:
        work = partial(_reread, currency, start_ms, start_ms + DAY_MS - 1, planning.settings.trades_per_page)
        found.units.append(Unit("trades", currency, f"again {day}", work, "history"))
    return found


async def _reread(currency: str, start_ms: int, last_ms: int, count: int, ask: Ask) -> None:
    at = start_ms
    while at <= last_ms:
        params: dict[str, str | int] = {
            "currency": currency, "start_timestamp": at, "end_timestamp": last_ms, "count": count, "sorting": "asc",
        }  # fmt: skip
        trades = _given(await ask("history", BY_TIME, params))
        if len(trades) < count:
            return
        newest = max(trade.timestamp for trade in trades)
        if newest == at:  # a page full of one millisecond: the rest of it only their numbers can name
            await _rest_of_millisecond(trades, count, ask)
        at = newest if newest > at else at + 1


async def _rest_of_millisecond(trades: Sequence[TradeNumber], count: int, ask: Ask) -> None:
    at = trades[0].timestamp
    for name in sorted({trade.instrument_name for trade in trades}):
        start = 1 + max(trade.trade_seq for trade in trades if trade.instrument_name == name)
        while True:
            more = _given(await ask("history", BY_INSTRUMENT, _numbered(name, start, count)))
            if len(more) < count or any(trade.timestamp > at for trade in more):
                break
            start = 1 + max(trade.trade_seq for trade in more)
