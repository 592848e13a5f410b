"""REST answers as columns: which of the venue's methods are tabulated, and by what.

Whoever asks the venue by REST records the answer as it came, with its address; here the address says what the
answer is. A method that is not in `DECODERS` is kept in the spool and counted, and gives no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from collectors.deribit import history_answers, wire
from collectors.deribit.answer import Answer, Span, only, recorded, within
from collectors.deribit.batch import Reject
from collectors.deribit.book_answers import DEPTH_UNASKED, GET_ORDER_BOOK, decode_order_book
from collectors.deribit.columns import MS_IN_US
from collectors.deribit.decode import Decoded
from collectors.deribit.funding_answers import HISTORY, decode_funding
from collectors.deribit.history_answers import FUNDING_HOURS_MAX, HOUR_MS, known_up_to
from collectors.deribit.instruments import RefusedInstrument, decode_instruments
from collectors.deribit.rpc import Fault
from collectors.deribit.trade_answers import (
    BY_CURRENCY,
    BY_INSTRUMENT,
    BY_INSTRUMENT_AND_TIME,
    BY_TIME,
    decode_trades,
)

HTTP_OK: Final = 200
HTTP_REFUSED: Final = 400


class _Refusal(msgspec.Struct):
    error: Fault


_REFUSAL: Final = msgspec.json.Decoder(_Refusal)


def decode_answer(
    url: str, status: int, body: bytes, recv_ns: int, requested_ns: int | None = None
) -> Decoded | None:
    """The rows of the answer that came from `url`, all with `record` 0; None where none are made of it.

    An answer about the past also has a row in `backfills`, even one in which the venue refuses for good.

    Raises:
        SchemaDriftError: the body is not what this method answers with.
        VenueRefusedError: the body is the venue's error.
    """
    parts = urlsplit(url)
    path, _, method = parts.path.rpartition("/")
    decoder = DECODERS.get(method)
    if decoder is None:
        return None
    host = parts.netloc.rpartition("@")[2] + path.removesuffix("/public")
    asked_ns = recv_ns if requested_ns is None else requested_ns
    answer = Answer(method, dict(parse_qsl(parts.query)), body, recv_ns, asked_ns, host)
    if status == HTTP_REFUSED:
        return _refused(answer)
    return decoder(answer) if status == HTTP_OK else None


def _refused(answer: Answer) -> Decoded | None:
    """Only the row of `backfills`; None where nothing was asked about the past."""
    dataset = DATASETS.get(answer.method)
    if dataset is None or answer.subject is None:
        return None
    try:
        reason = str(_REFUSAL.decode(answer.body).error)
    except wire.DECODE_ERRORS as error:
        raise answer.unreadable(error) from None
    span = Span(
        dataset,
        answer.subject,
        answer.params.get("resolution"),
        answer.time_us("start_timestamp"),
        answer.time_us("end_timestamp"),
        answer.optional("start_seq"),
        answer.optional("end_seq"),
        refusal=reason,
    )
    return recorded(Decoded({}), answer, span)


def _trades(answer: Answer) -> Decoded:
    """Trades. What an answer holds beyond the numbers asked for is left to the answers that were asked for those.

    A question for one trade without its number is only to learn a number: the trade itself is asked for again.
    """
    found = decode_trades(answer.body, answer.recv_ns)
    first, last, count = (answer.optional(name) for name in ("start_seq", "end_seq", "count"))
    by_number = first is not None or last is not None
    if count == 1 and not by_number:
        return Decoded({}, found.rejects, found.unknown_fields)
    full = len(found.tables["trades"]) + len(found.rejects) >= (count or TRADES_BY_DEFAULT)
    if not by_number:
        return recorded(found, answer, _listed(answer, found, full=full))
    first = first or 0
    found = within(found, "trades", first, last, "trade_seq")
    rows = found.tables["trades"]
    if full:  # what follows the newest row has been cut off
        last = int(pc.max(rows["trade_seq"]).as_py()) if len(rows) else first - 1
    span = Span("trades", answer.params.get("instrument_name", ""), start_seq=first, end_seq=last)
    return recorded(found, answer, span)


def _listed(answer: Answer, found: Decoded, *, full: bool) -> Span:
    """What a page of trades by time spans: where it is full, up to the millisecond of its newest trade."""
    last_us = answer.time_us("end_timestamp")
    end_us = None if last_us is None else last_us + 1
    if full and len(found.tables["trades"]):
        end_us = int(pc.max(found.tables["trades"]["ts"]).cast(pa.int64()).as_py())
    start_us = answer.time_us("start_timestamp")
    return Span("trades", answer.subject or "any", answer.params.get("kind"), start_us, end_us)


def _listing(answer: Answer) -> Span:
    expired = answer.params.get("expired") == "true"
    currency, kind = answer.params.get("currency", "any"), answer.params.get("kind", "any")
    asked_us = answer.asked_us()
    dataset = "expired_instruments" if expired else "instruments"
    return Span(dataset, currency, kind, start_us=0, end_us=asked_us)


def _instruments(answer: Answer) -> Decoded:
    strange: list[RefusedInstrument] = []
    rows = decode_instruments(answer.body, answer.recv_ns, strange)
    told = f"{len(strange)} instruments of the listing refused, first: " if strange else ""
    found = only("instruments", rows, [Reject(0, told + strange[0].reason)] if strange else None)
    return recorded(found, answer, _listing(answer))


def _funding(answer: Answer) -> Decoded:
    """Hourly rows after the start asked for, which itself is excluded; the newest, where these are too many."""
    instrument = answer.params.get("instrument_name", "")
    found = decode_funding(instrument, answer.body, answer.recv_ns)
    first, last = answer.number("start_timestamp") + 1, answer.number("end_timestamp")
    given = found.tables["funding"]
    if len(given) >= FUNDING_HOURS_MAX:
        first = max(first, int(pc.min(given["ts"]).cast(pa.int64()).as_py()) // MS_IN_US)
    found = within(found, "funding", first * MS_IN_US, last * MS_IN_US, "ts")
    rows = found.tables["funding"]
    newest = int(pc.max(rows["ts"]).cast(pa.int64()).as_py()) // MS_IN_US if len(rows) else 0
    end = known_up_to(last, newest, answer.asked_us() // MS_IN_US, 2 * HOUR_MS) + 1
    span = Span("funding", instrument, None, first * MS_IN_US, max(end, first) * MS_IN_US)
    return recorded(found, answer, span)


def _book(answer: Answer) -> Decoded:
    depth = answer.optional("depth")
    rows = decode_order_book(answer.body, DEPTH_UNASKED if depth is None else depth, answer.recv_ns)
    return only("book_answers", rows)


TRADES_BY_DEFAULT: Final = 10
DATASETS: Final[Mapping[str, str]] = {
    history_answers.CHART: "candles",
    history_answers.VOLATILITY: "volatility",
    history_answers.INDEX_CHART: "index",
    history_answers.SETTLEMENTS: "settlements",
    history_answers.DELIVERY_PRICES: "delivery_prices",
    HISTORY: "funding",
    BY_INSTRUMENT: "trades",
}
"""What a refusal is on record for, by method."""
DECODERS: Final[Mapping[str, Callable[[Answer], Decoded]]] = {
    HISTORY: _funding,
    history_answers.CHART: history_answers.candles,
    history_answers.VOLATILITY: history_answers.volatility,
    history_answers.INDEX_CHART: history_answers.index_chart,
    history_answers.SETTLEMENTS: history_answers.settlements,
    history_answers.DELIVERY_PRICES: history_answers.delivery_prices,
    GET_ORDER_BOOK: _book,
    "get_instruments": _instruments,
    BY_INSTRUMENT: _trades,
    BY_INSTRUMENT_AND_TIME: _trades,
    BY_CURRENCY: _trades,
    BY_TIME: _trades,
}
