"""Deribit's frames as columns: pure, in bulk, and never stopped by a bad frame.

What the columns mean, once and for all
=======================================
column                      from                     meaning
--------------------------- ------------------------ --------------------------------------------------------
instrument                  instrument_name          must be the channel's own, else the frame is refused
ts                          timestamp (ms)           the venue's clock, µs UTC; refused outside 2010-2099
recv_ts                     receive time (ns)        ours, µs UTC, rounded down
family                      the name                 partition family, see `names.family`
record                      -                        index of the frame in the input
quotes (one row per ticker)
 bid_price bid_size         best_bid_price, _amount  amount 0 is the venue's "no bid": nulls, also of the IV
 ask_price ask_size         best_ask_price, _amount  likewise; size in USD (inverse futures) or coin (others)
 bid_iv ask_iv mark_iv      same                     percent; 0 is the venue's "not computable": null
 delta gamma vega theta rho greeks                   as sent: USD, rounded to 5 decimals; options
 last_price                 same                     null if never traded
 mark_price index_price     same                     the venue's fair price; the index. Quotes are not atomic:
                                                     IV and Greeks follow the mark about once a second
 underlying_price, _index   same                     forward used for the IV, and its name (a future, SYN.*
                                                     or the words index_price); options
 open_interest              same                     USD (inverse futures) or coin (the rest); none for spot
 funding_8h current_funding same                     perpetuals: realised over 8 h; momentary. Fractions
trades (one row per trade)
 trade_id combo_trade_id    same, number or text     text, digits as sent; block_rfq_id likewise
 trade_seq                  same                     counts without gap per instrument
 side                       direction                of the taker: buy or sell
 size contracts             amount, contracts        USD (inverse futures) or coin (the rest); contracts
 iv                         same                     percent; 0 is null; 500 is the venue's cap, kept
 tick_direction             same                     0 plus, 1 zero-plus, 2 minus, 3 zero-minus tick
 liquidation                same                     M, T, MT: maker, taker, both were liquidated
 starbase_*                 same                     engine's match id; its time, ns
book (one row per level of a message, bids first; one row of null side, action, price, size if it has none)
 type                       same                     snapshot restarts the book, change amends it
 change_id prev_change_id   same                     the book is whole while each prev_change_id is the last
                                                     change_id; a change must have one
 level                      position in the message  from 0, counted through bids, then asks
 action price size          levels                   new, change, delete (whose size is 0)

A key that is absent and a JSON null are both null, where null is allowed; nothing else is ever filled in. A
frame is taken whole or refused whole (`Reject`). Required are: of a ticker timestamp, instrument, both best
prices and amounts, mark and index price; of a trade timestamp, instrument, id, sequence, price, amount and
direction; of a book everything. Fields unknown to `wire.KNOWN` are kept out and counted: in every frame of
trades and indices, and, because looking costs more than decoding, in the first of every `batch.EXAMINE_EVERY`
tickers, books, marks and frames of funding. The columns of the sampled channels are told in `sampled`.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import astuple

from collectors.deribit import columns, levels, sampled, wire
from collectors.deribit.batch import Batch, Reject
from collectors.deribit.columns import Array, numbers, words
from lake.errors import InputError

__all__ = ["Decoded", "Reject", "decode"]

_NO_GREEKS: Final = wire.Greeks()
_NUMBERS: Final = [name for name in wire.Ticker.__struct_fields__ if name not in wire.TICKER_NOT_NUMBERS]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a batch of frames held. Every frame is in exactly one of: rows of a table, `rejects`, `control`.

    tables: all of `columns.SCHEMAS`, in its columns, rows in the order of the frames.
    unknown_fields: "ticker.newfield" -> number of examined frames (of lists: rows) that had it.
    control: replies, heartbeats, and notifications that are not tabulated; the latter by class in `other`.
    creations: indices of the frames that announce a new instrument, for `instruments.decode_creation`.
    """

    tables: dict[str, pa.Table]
    rejects: list[Reject] = field(default_factory=list)
    unknown_fields: Counter[str] = field(default_factory=Counter)
    control: int = 0
    other: Counter[str] = field(default_factory=Counter)
    creations: list[int] = field(default_factory=list)


def decode(
    frames: Sequence[bytes], recv_ns: npt.NDArray[np.int64], connection: npt.NDArray[np.integer[Any]]
) -> Decoded:
    """Decode frames as they were received into columns.

    frames, recv_ns (ns since the epoch) and connection run parallel; InputError if they do not. Which
    connection brought a frame matters to continuity, not to its meaning: no column is made of it. Bad frames
    raise nothing: they are in `rejects`.
    """
    if not len(frames) == len(recv_ns) == len(connection):
        raise InputError(
            f"{len(frames)} frames, {len(recv_ns)} times and {len(connection)} connections differ"
        )
    batch = Batch(frames, np.asarray(recv_ns, np.int64) // columns.US_IN_NS)
    with _collector_paused():
        batch.route()
        tables = {"quotes": _quotes(batch), "trades": _trades(batch), "book": _book(batch)}
        tables |= sampled.tables(batch)
    rejects = sorted(batch.rejects, key=attrgetter("record"))
    return Decoded(tables, rejects, batch.unknown, batch.control, batch.other, batch.creations)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No cyclic garbage is made here, and looking for it among the rows costs a fifth of decoding."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _quotes(batch: Batch) -> pa.Table:
    """Tickers, one row each."""
    records: list[int] = []
    codes: list[int] = []
    tickers: list[wire.Ticker] = []

    def take(record: int, params: wire.Params[wire.Ticker]) -> None:
        codes.append(batch.subject(params.channel, "ticker", params.data.instrument_name))
        records.append(record)
        tickers.append(params.data)

    parts: list[dict[str, Any]] = []
    for part in batch.parts("ticker"):
        found = _all_at_once(batch, "ticker", part, wire.ticker_frame.decode)
        if found is None:
            batch.each("ticker", part, wire.ticker_frame.decode, take)
        else:
            records += batch.records["ticker"][part]
            codes += found[0]
            tickers += found[1]
        batch.examine_some("ticker", part)
        parts.append(_ticker_cells(tickers))
        tickers.clear()
    cells = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    numbered, where = np.array(codes, np.int32), np.array(records, np.int32)
    return batch.table("quotes", numbered, cells["timestamp"], where, _quote_columns(cells))


def _all_at_once(
    batch: Batch, kind: str, part: slice, decode_frame: Callable[[bytes], Any]
) -> tuple[list[int], list[Any]] | None:
    """The numbers of the instruments and the data of all frames of a part; None where one of them is refused.

    Each pair of channel and name is judged once, not once a frame (`pairs`). A part with a frame to refuse is
    taken frame by frame in `each`, which finds the reasons.
    """
    frames, known = batch.frames, batch.pairs[kind]
    try:
        found = [decode_frame(frames[record]).params for record in batch.records[kind][part]]
        data = [params.data for params in found]
        channels, names = [params.channel for params in found], [each.instrument_name for each in data]
        codes: list[Any] = list(map(known.get, zip(channels, names, strict=True)))
        if None in codes:
            for channel, name in set(zip(channels, names, strict=True)) - known.keys():
                known[channel, name] = batch.subject(channel, kind, name)
            codes = [known[pair] for pair in zip(channels, names, strict=True)]
    except (*wire.DECODE_ERRORS, InputError):
        return None
    return codes, data


def _trades(batch: Batch) -> pa.Table:
    """Trades, in the order of the frames and of their lists."""
    taken: list[wire.Trade] = []
    records: list[int] = []
    codes: list[int] = []

    def take(record: int, params: wire.Params[list[wire.Trade]]) -> None:
        found = [batch.subject(params.channel, "trades", trade.instrument_name) for trade in params.data]
        codes.extend(found)
        taken.extend(params.data)
        records.extend([record] * len(found))

    batch.each("trades", slice(None), wire.trades_frame.decode, take)
    batch.examine_some("trades", slice(None))
    ts_ms = np.array([trade.timestamp for trade in taken], np.int64)
    numbered = np.array(codes, np.int32)
    return batch.table("trades", numbered, ts_ms, np.array(records, np.int32), columns.trade_payload(taken))


def _book(batch: Batch) -> pa.Table:
    """Book messages, a row for every level."""
    taken: list[wire.Book] = []
    records: list[int] = []
    codes: list[int] = []

    def take(record: int, params: wire.Params[wire.Book]) -> None:
        message = params.data
        code = batch.subject(params.channel, "book", message.instrument_name)
        if _is_unlinked(message):
            raise InputError("a change without prev_change_id")
        codes.append(code)
        taken.append(message)
        records.append(record)

    tables: list[pa.Table] = []
    for part in batch.parts("book"):
        found = _all_at_once(batch, "book", part, wire.book_frame.decode)
        if found is None or any(map(_is_unlinked, found[1])):
            batch.each("book", part, wire.book_frame.decode, take)
        else:
            records += batch.records["book"][part]
            codes += found[0]
            taken += found[1]
        batch.examine_some("book", part)
        tables.append(_book_part(batch, taken, records, codes))
        for column in (taken, records, codes):
            column.clear()
    return pa.concat_tables(tables).unify_dictionaries()


def _is_unlinked(message: wire.Book) -> bool:
    return message.prev_change_id is None and message.type == "change"


def _book_part(batch: Batch, taken: list[wire.Book], records: list[int], codes: list[int]) -> pa.Table:
    bids, asks = [m.bids for m in taken], [m.asks for m in taken]
    found = levels.decode_joined(bids, asks)
    keep = np.ones(len(taken), np.bool_)
    if found is None:
        found, wrong = levels.decode_each(bids, asks)
        for index, reason in wrong.items():
            batch.reject(records[index], reason)
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
        numbers(found.price),
        numbers(found.size),
    ]
    ts_ms = np.repeat(np.array([m.timestamp for m in taken], np.int64), rows)
    numbered, where = (np.repeat(np.array(v, np.int32), rows) for v in (codes, records))
    part = batch.table("book", numbered, ts_ms, where, payload)
    return part if keep.all() else part.filter(pa.array(np.repeat(keep, rows)))


def _ticker_cells(tickers: list[wire.Ticker]) -> dict[str, Any]:
    """Tickers turned into arrays: numbers with NaN for null, names as objects."""
    by_name = _transposed(list(map(astuple, tickers)), wire.Ticker.__struct_fields__)
    given = [_NO_GREEKS if one is None else one for one in by_name["greeks"]]
    greeks = _transposed(list(map(astuple, given)), wire.Greeks.__struct_fields__)
    cells: dict[str, Any] = {name: columns.floats(by_name[name]) for name in _NUMBERS}
    cells |= {name: columns.floats(values) for name, values in greeks.items()}
    cells["timestamp"] = np.array(by_name["timestamp"], np.int64)
    cells["underlying_index"] = np.array(by_name["underlying_index"], object)
    return cells


def _transposed(rows: list[tuple[Any, ...]], names: Sequence[str]) -> dict[str, Sequence[Any]]:
    by_column = zip(*rows, strict=True) if rows else [()] * len(names)
    return dict(zip(names, by_column, strict=True))


def _quote_columns(cells: dict[str, Any]) -> list[Array]:
    for side in ("bid", "ask"):
        absent = cells[f"best_{side}_amount"] == 0
        for name in (f"best_{side}_price", f"best_{side}_amount", f"{side}_iv"):
            cells[name][absent] = np.nan
    for name in ("bid_iv", "ask_iv", "mark_iv"):
        cells[name][cells[name] == 0] = np.nan
    sent = {"bid_price": "best_bid_price", "bid_size": "best_bid_amount"}
    sent |= {"ask_price": "best_ask_price", "ask_size": "best_ask_amount"}
    underlying = pa.array(cells.pop("underlying_index"), pa.string()).dictionary_encode()
    return [
        underlying if name == "underlying_index" else numbers(cells[sent.get(name, name)])
        for name in columns.QUOTE_PAYLOAD
    ]
