"""Deribit's frames as columns: pure, in bulk, and never stopped by a bad frame.

What the columns mean, once and for all
=======================================
column                      from                         meaning
--------------------------  ---------------------------  ------------------------------------------------------------
instrument                  instrument_name              must be the channel's own, else the frame is refused
ts                          timestamp (ms)               the venue's clock, µs UTC; refused outside 2010-2099
recv_ts                     receive time (ns)            ours, µs UTC, rounded down
family                      the name                     partition family, see `names.family`
record                      -                            index of the frame in the input
quotes (one row per ticker)
 bid_price bid_size         best_bid_price, _amount      amount 0 is the venue's "no bid": price, size and IV are null
 ask_price ask_size         best_ask_price, _amount      likewise; size in USD (inverse futures) or coin (the rest)
 bid_iv ask_iv mark_iv      same                         percent; 0 is the venue's "not computable": null
 delta gamma vega theta rho greeks                       as sent (USD, rounded to 5 decimals by the venue); options
 last_price                 same                         null if never traded
 mark_price index_price     same                         the venue's fair price; the index. Quotes are not atomic: IV
                                                         and Greeks follow the mark about once a second
 underlying_price, _index   same                         forward used for the IV, and its name (a future, SYN.*, or
                                                         the words index_price); options
 open_interest              same                         USD (inverse futures) or coin (the rest); none for spot
 funding_8h current_funding same                         perpetuals: realised over 8 h; momentary 8 h rate. Fractions
trades (one row per trade)
 trade_id combo_trade_id    same, number or text         text, digits as sent; block_rfq_id likewise
 trade_seq                  same                         counts without gap per instrument
 side                       direction                    of the taker: buy or sell
 size contracts             amount, contracts            USD (inverse futures) or coin (the rest); amount/contract size
 iv                         same                         percent; 0 is null; 500 is the venue's cap, kept
 tick_direction             same                         0 plus, 1 zero-plus, 2 minus, 3 zero-minus tick
 liquidation                same                         M, T, MT: maker, taker, both were liquidated
 starbase_*                 same                         engine's match id; its time, ns
book (one row per level of a message, bids first; one row of null side, action, price, size if it has none)
 type                       same                         snapshot restarts the book, change amends it
 change_id prev_change_id   same                         the book is whole while each prev_change_id is the last
                                                         change_id; a change must have one
 level                      position in the message      from 0, counted through bids, then asks
 action price size          levels                       new, change, delete (whose size is 0)

A key that is absent and a JSON null are both null, where null is allowed; nothing else is ever filled in. A frame
is taken whole or refused whole (`Reject`). Required are: of a ticker timestamp, instrument, both best prices and amounts,
mark and index price; of a trade timestamp, instrument, id, sequence, price, amount, direction; of a book all but levels.
Fields unknown to `wire.KNOWN` are kept out and counted: in every trades frame, and, because looking costs more
than decoding, in one frame out of EXAMINE_EVERY for tickers and books, counted from the first of the call.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.deribit import channels, columns, levels, wire
from collectors.deribit.columns import Array, Instruments, Ints, numbers, words
from lake.errors import InputError

EXAMINE_EVERY: Final = {"ticker": 16, "book": 16, "trades": 1}
REASON_CHARS_MAX: Final = 300
BOOKS_AT_ONCE: Final = 4096

_USUAL_START: Final = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_ROUTES: Final = {_USUAL_START + kind[:4].encode(): kind for kind in channels.TABULATED}
_ROUTE_BYTES: Final = len(_USUAL_START) + 4
_CHANNEL: Final = re.compile(rb'"channel"\s*:\s*"([^"]{1,100})"')

_TICKER_NUMBERS: Final = (
    "best_bid_price best_bid_amount best_ask_price best_ask_amount mark_price index_price underlying_price "
    "bid_iv ask_iv mark_iv open_interest funding_8h current_funding".split()
)
_GREEKS: Final = "delta gamma vega theta rho".split()
_PACK: Final = struct.Struct(f"=q{len(_TICKER_NUMBERS) + len(_GREEKS)}d").pack
_TICKER_ROW: Final = [("timestamp", "=i8"), *((name, "=f8") for name in (*_TICKER_NUMBERS, *_GREEKS))]


@dataclass(frozen=True, slots=True)
class Reject:
    """A frame that could not be taken: its index in the input, and one line naming channel and field."""

    record: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of frames held. Every frame is in exactly one of: rows of a table, `rejects`, `control`.

    tables: "quotes", "trades", "book" in the columns of `columns.SCHEMAS`, rows in the order of the frames.
    unknown_fields: "ticker.newfield" -> number of examined frames (trades: trades) that had it.
    control: replies, heartbeats, and notifications that are not tabulated; the latter by class in `other`.
    creations: indices of the frames that announce a new instrument, for `instruments.decode_creation`.
    """

    tables: dict[str, pa.Table]
    rejects: list[Reject]
    unknown_fields: Counter[str]
    control: int
    other: Counter[str]
    creations: list[int]


def decode(
    frames: Sequence[bytes], recv_ns: npt.NDArray[np.int64], connection: npt.NDArray[np.integer[Any]]
) -> Decoded:
    """Decode frames as they were received into columns.

    frames, recv_ns (ns since the epoch) and connection run parallel; InputError if they do not. Which connection
    brought a frame matters to continuity, not to its meaning: no column is made of it. Raises nothing for bad frames.
    """
    if not len(frames) == len(recv_ns) == len(connection):
        raise InputError(
            f"{len(frames)} frames, {len(recv_ns)} times and {len(connection)} connections differ"
        )
    batch = _Batch(frames, np.asarray(recv_ns, np.int64) // columns.US_IN_NS)
    batch.route()
    tables = {"quotes": batch.quotes(), "trades": batch.trades(), "book": batch.book()}
    rejects = sorted(batch.rejects, key=attrgetter("record"))
    return Decoded(tables, rejects, batch.unknown, batch.control, batch.other, batch.creations)


@dataclass(slots=True)
class _Batch:
    """One call of `decode` under way."""

    frames: Sequence[bytes]
    recv_us: Ints
    instruments: Instruments = field(default_factory=Instruments)
    records: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in channels.TABULATED})
    rejects: list[Reject] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    control: int = 0
    creations: list[int] = field(default_factory=list)
    subjects: dict[str, tuple[str, int]] = field(default_factory=dict)

    def route(self) -> None:
        """Sort all frames by class, by their first bytes where these are the usual ones."""
        records, usual = self.records, _ROUTES.get
        for record, frame in enumerate(self.frames):
            kind = usual(frame[:_ROUTE_BYTES]) or self.sort(record)
            if kind:
                records[kind].append(record)

    def sort(self, record: int) -> str | None:
        """The class of a frame to tabulate; None, after accounting for it, if there is nothing to tabulate."""
        frame = self.frames[record]
        try:
            message = wire.envelope.decode(frame)
            if message.method == "subscription":
                channel = channels.classify(wire.notification.decode(frame).params.channel)
                if channel.tabulated:
                    return channel.kind
                self.other[channel.kind] += 1
                if channel.kind == channels.CREATION:
                    self.creations.append(record)
            elif message.method != "heartbeat" and message.result is message.error:
                raise InputError("neither reply, notification nor heartbeat")
        except (*wire.DECODE_ERRORS, InputError) as error:
            self.reject(record, error)
        else:
            self.control += 1
        return None

    def reject(self, record: int, error: object) -> None:
        found = _CHANNEL.search(self.frames[record])
        channel = found[1].decode(errors="replace") if found else "no channel"
        line = "".join(c if c.isprintable() else "?" for c in f"{channel}: {error}")
        self.rejects.append(Reject(record, line[:REASON_CHARS_MAX]))

    def each(self, kind: str, decoder: Callable[[bytes], Any], take: Callable[[int, Any], None]) -> None:
        """Decode every frame of a class and hand its params to `take`, which may refuse with InputError."""
        frames, every = self.frames, EXAMINE_EVERY[kind]
        for nth, record in enumerate(self.records[kind]):
            try:
                take(record, decoder(frames[record]).params)
            except (*wire.DECODE_ERRORS, InputError) as error:
                # The first bytes may have promised another class, as with grouped books.
                if self.sort(record) is not None:
                    self.reject(record, error)
            else:
                if nth % every == 0:
                    self.examine(kind, frames[record])

    def subject(self, channel: str, kind: str, named: str) -> int:
        """The number of the instrument a channel speaks of, which must be the one its data names."""
        known = self.subjects.get(channel)
        if known is None:
            sorted_out = channels.classify(channel)
            if sorted_out.kind != kind:
                raise InputError(f"a {kind} frame of channel {channel}")
            name = sorted_out.instrument or ""
            known = self.subjects[channel] = (name, self.instruments.code(name) if name else -1)
        name, code = known
        if name == named:
            return code
        if name:
            raise InputError(f"instrument_name is {named}")
        return self.instruments.code(named)

    def examine(self, kind: str, frame: bytes) -> None:
        """Count the fields of a frame that nobody told us about."""
        data = wire.notification.decode(frame).params.data
        try:
            for row in wire.rows_of_fields.decode(data) if kind == "trades" else [wire.fields.decode(data)]:
                self.unknown.update(f"{kind}.{name}" for name in row.keys() - wire.KNOWN[kind])
                if kind == "ticker" and "greeks" in row:
                    greeks = wire.fields.decode(row["greeks"])
                    self.unknown.update(
                        f"ticker.greeks.{name}" for name in greeks.keys() - wire.KNOWN["ticker.greeks"]
                    )
        except wire.DECODE_ERRORS:
            self.unknown[f"{kind}.?"] += 1  # a name that is not text, in a part that decoding skips

    def table(self, name: str, codes: npt.NDArray[np.int32], ts_ms: Ints, records: npt.NDArray[np.int32],
              payload: Sequence[Array]) -> pa.Table:  # fmt: skip
        return columns.table(name, self.instruments, codes, ts_ms, self.recv_us, records, payload)

    def quotes(self) -> pa.Table:
        """Tickers, one row each."""
        rows: list[bytes] = []
        records: list[int] = []
        codes: list[int] = []
        last_prices: list[float | None] = []
        underlyings: list[str | None] = []
        ticker_numbers, greek_numbers, subject = (
            attrgetter(*_TICKER_NUMBERS),
            attrgetter(*_GREEKS),
            self.subject,
        )

        def take(record: int, params: wire.TickerParams) -> None:
            ticker = params.data
            code = subject(params.channel, "ticker", ticker.instrument_name)
            values = (*ticker_numbers(ticker), *greek_numbers(ticker.greeks))
            try:
                row = _PACK(ticker.timestamp, *values)
            except struct.error:  # a null where one is seldom seen
                row = _PACK(ticker.timestamp, *(wire.ABSENT if v is None else v for v in values))
            rows.append(row)
            records.append(record)
            codes.append(code)
            last_prices.append(ticker.last_price)
            underlyings.append(ticker.underlying_index)

        self.each("ticker", wire.ticker_frame.decode, take)
        cells = np.frombuffer(b"".join(rows), dtype=_TICKER_ROW)
        payload = _quote_columns(cells, columns.floats(last_prices), underlyings)
        numbered = np.array(codes, np.int32)
        return self.table("quotes", numbered, cells["timestamp"], np.array(records, np.int32), payload)

    def trades(self) -> pa.Table:
        """Trades, in the order of the frames and of their lists."""
        taken: list[wire.Trade] = []
        records: list[int] = []
        codes: list[int] = []

        def take(record: int, params: wire.TradesParams) -> None:
            found = [self.subject(params.channel, "trades", trade.instrument_name) for trade in params.data]
            codes.extend(found)
            taken.extend(params.data)
            records.extend([record] * len(found))

        self.each("trades", wire.trades_frame.decode, take)
        ts_ms = np.array([trade.timestamp for trade in taken], np.int64)
        numbered = np.array(codes, np.int32)
        return self.table("trades", numbered, ts_ms, np.array(records, np.int32), _trade_columns(taken))

    def book(self) -> pa.Table:
        """Book messages, a row for every level."""
        taken: list[wire.Book] = []
        records: list[int] = []
        codes: list[int] = []

        def take(record: int, params: wire.BookParams) -> None:
            message = params.data
            code = self.subject(params.channel, "book", message.instrument_name)
            if message.type == "change" and message.prev_change_id is None:
                raise InputError("a change without prev_change_id")
            codes.append(code)
            taken.append(message)
            records.append(record)

        self.each("book", wire.book_frame.decode, take)
        parts: list[pa.Table] = []
        for start in range(0, max(len(taken), 1), BOOKS_AT_ONCE):
            part = slice(start, start + BOOKS_AT_ONCE)
            parts.append(self.book_part(taken[part], records[part], codes[part]))
        return pa.concat_tables(parts).unify_dictionaries()

    def book_part(self, taken: list[wire.Book], records: list[int], codes: list[int]) -> pa.Table:
        bids, asks = [m.bids for m in taken], [m.asks for m in taken]
        found = levels.decode_joined(bids, asks)
        keep = np.ones(len(taken), np.bool_)
        if found is None:
            found, wrong = levels.decode_each(bids, asks)
            for index, reason in wrong.items():
                self.reject(records[index], reason)
                keep[index] = False
        rows = found.rows
        previous = [message.prev_change_id for message in taken]
        payload = [
            words(
                np.repeat(np.array([m.type == "change" for m in taken], np.int8), rows),
                ["snapshot", "change"],
            ),
            pa.array(np.repeat(np.array([m.change_id for m in taken], np.int64), rows)),
            pa.array(
                np.repeat(np.array([p or 0 for p in previous], np.int64), rows),
                mask=np.repeat(np.array([p is None for p in previous], np.bool_), rows),
            ),
            pa.array(found.position.astype(np.int16)),
            words(found.side, levels.SIDES),
            words(found.action, levels.ACTIONS),
            numbers(found.price, found.absent),
            numbers(found.size, found.absent),
        ]
        ts_ms = np.repeat(np.array([m.timestamp for m in taken], np.int64), rows)
        numbered, where = (np.repeat(np.array(v, np.int32), rows) for v in (codes, records))
        part = self.table("book", numbered, ts_ms, where, payload)
        return part if keep.all() else part.filter(pa.array(np.repeat(keep, rows)))


def _quote_columns(
    cells: npt.NDArray[np.void], last_prices: columns.Floats, underlyings: Sequence[str | None]
) -> list[Array]:
    no_bid, no_ask = cells["best_bid_amount"] == 0, cells["best_ask_amount"] == 0
    no_bid_iv, no_ask_iv, no_mark_iv = (cells[name] == 0 for name in ("bid_iv", "ask_iv", "mark_iv"))
    return [
        numbers(cells["best_bid_price"], no_bid),
        numbers(cells["best_bid_amount"], no_bid),
        numbers(cells["best_ask_price"], no_ask),
        numbers(cells["best_ask_amount"], no_ask),
        numbers(last_prices),
        numbers(cells["mark_price"]),
        numbers(cells["index_price"]),
        numbers(cells["underlying_price"]),
        pa.array(underlyings, pa.string()).dictionary_encode(),
        numbers(cells["bid_iv"], no_bid | no_bid_iv),
        numbers(cells["ask_iv"], no_ask | no_ask_iv),
        numbers(cells["mark_iv"], no_mark_iv),
        *(numbers(cells[name]) for name in _GREEKS),
        *(numbers(cells[name]) for name in ("open_interest", "funding_8h", "current_funding")),
    ]


def _trade_columns(trades: Sequence[wire.Trade]) -> list[Array]:
    iv = columns.floats(trade.iv for trade in trades)
    return [
        pa.array([str(trade.trade_id) for trade in trades], pa.string()),
        pa.array([trade.trade_seq for trade in trades], pa.int64()),
        pa.array([trade.price for trade in trades], pa.float64()),
        pa.array([trade.amount for trade in trades], pa.float64()),
        words(np.array([trade.direction == "sell" for trade in trades], np.int8), ["buy", "sell"]),
        numbers(iv, iv == 0),
        numbers(columns.floats(trade.index_price for trade in trades)),
        numbers(columns.floats(trade.mark_price for trade in trades)),
        numbers(columns.floats(trade.contracts for trade in trades)),
        pa.array([trade.tick_direction for trade in trades], pa.int8()),
        pa.array([trade.liquidation for trade in trades], pa.string()),
        pa.array([trade.block_trade_id for trade in trades], pa.string()),
        pa.array([trade.block_trade_leg_count for trade in trades], pa.int16()),
        pa.array([_text(trade.block_rfq_id) for trade in trades], pa.string()),
        pa.array([trade.combo_id for trade in trades], pa.string()),
        pa.array([_text(trade.combo_trade_id) for trade in trades], pa.string()),
        pa.array([trade.starbase_match_id for trade in trades], pa.int64()),
        pa.array([trade.starbase_timestamp for trade in trades], pa.int64()),
    ]


def _text(value: str | int | None) -> str | None:
    return None if value is None else str(value)
