"""Columns of the tables that Deribit's messages become, and the few ways to fill them.

Words that repeat (venue, instrument, family, side, ...) are dictionary-encoded; numbers are float64, as
JSON says; venue times arrive in ms and leave, like ours, in µs UTC.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.deribit import wire
from collectors.deribit.names import family

VENUE: Final = "deribit"
WORD: Final = pa.dictionary(pa.int32(), pa.string())
TIME: Final = pa.timestamp("us", "UTC")
MS_IN_US: Final = 1_000
US_IN_NS: Final = 1_000

Array: TypeAlias = "pa.Array[Any]"
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_FLOAT, _TEXT, _LONG = pa.float64(), pa.string(), pa.int64()


def _schema(named: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    lead = [("venue", WORD), ("instrument", WORD), ("ts", TIME), ("recv_ts", TIME)]
    tail = [("family", WORD), ("record", pa.int32())]
    return pa.schema([*lead, *named, *tail])


QUOTE_PAYLOAD: Final = (
    "bid_price", "bid_size", "ask_price", "ask_size", "last_price", "mark_price", "index_price",
    "underlying_price", "underlying_index", "bid_iv", "ask_iv", "mark_iv", "delta", "gamma", "vega",
    "theta", "rho", "open_interest", "funding_8h", "current_funding",
)  # fmt: skip

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "quotes": _schema((n, WORD if n == "underlying_index" else _FLOAT) for n in QUOTE_PAYLOAD),
    "trades": _schema(
        [
            ("trade_id", _TEXT),
            ("trade_seq", _LONG),
            ("price", _FLOAT),
            ("size", _FLOAT),
            ("side", WORD),
            ("iv", _FLOAT),
            ("index_price", _FLOAT),
            ("mark_price", _FLOAT),
            ("contracts", _FLOAT),
            ("tick_direction", pa.int8()),
            ("liquidation", _TEXT),
            ("block_trade_id", _TEXT),
            ("block_trade_leg_count", pa.int16()),
            ("block_rfq_id", _TEXT),
            ("combo_id", _TEXT),
            ("combo_trade_id", _TEXT),
            ("starbase_match_id", _LONG),
            ("starbase_timestamp", _LONG),
        ]
    ),
    "book": _schema(
        [
            ("type", WORD),
            ("change_id", _LONG),
            ("prev_change_id", _LONG),
            ("level", pa.int16()),
            ("side", WORD),
            ("action", WORD),
            ("price", _FLOAT),
            ("size", _FLOAT),
        ]
    ),
    "funding": _schema(
        [
            ("type", WORD),
            *(
                (name, _FLOAT)
                for name in (
                    "interest_1h",
                    "interest_8h",
                    "interest",
                    "index_price",
                    "prev_index_price",
                )
            ),
        ]
    ),
    "index_prices": _schema([("price", _FLOAT)]),
    "volatility_index": _schema(
        [("resolution", WORD), *((name, _FLOAT) for name in ("open", "high", "low", "close"))]
    ),
    "marks": _schema([("mark_price", _FLOAT), ("mark_iv", _FLOAT)]),
}

INSTRUMENTS: Final = pa.schema(
    [
        ("venue", WORD),
        ("instrument", _TEXT),
        ("valid_from", TIME),
        ("kind", _TEXT),
        ("instrument_type", _TEXT),
        ("base_currency", _TEXT),
        ("quote_currency", _TEXT),
        ("counter_currency", _TEXT),
        ("settlement_currency", _TEXT),
        ("price_index", _TEXT),
        ("option_type", _TEXT),
        ("strike", _FLOAT),
        ("creation_ts", TIME),
        ("expiration_ts", TIME),
        ("contract_size", _FLOAT),
        ("tick_size", _FLOAT),
        ("tick_size_steps", _TEXT),
        ("min_trade_amount", _FLOAT),
        ("maker_commission", _FLOAT),
        ("taker_commission", _FLOAT),
        ("settlement_period", _TEXT),
        ("instrument_id", _LONG),
        ("state", _TEXT),
        ("is_active", pa.bool_()),
    ]
)


class Instruments:
    """The instruments (or indices) of one call, numbered in order of appearance, each with its partition family."""

    def __init__(self, family_of: Callable[[str], str] = family) -> None:
        self.names: list[str] = []
        self._family_of = family_of
        self._codes: dict[str, int] = {}
        self._families: dict[str, int] = {}
        self._family_codes: list[int] = []

    def code(self, name: str) -> int:
        """The number of an instrument; InputError if its name cannot be read."""
        code = self._codes.get(name)
        if code is None:
            its_family = self._family_of(name)
            code = self._codes[name] = len(self.names)
            self.names.append(name)
            self._family_codes.append(self._families.setdefault(its_family, len(self._families)))
        return code

    def name_column(self, codes: npt.NDArray[np.int32]) -> Array:
        return words(codes, self.names)

    def family_column(self, codes: npt.NDArray[np.int32]) -> Array:
        return words(np.array(self._family_codes, np.int32)[codes], list(self._families))


def words(codes: npt.NDArray[np.integer[Any]], dictionary: Sequence[str]) -> Array:
    """A dictionary-encoded column; a negative code is null."""
    indices: Array = pa.array(codes.astype(np.int32, copy=False), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(dictionary, pa.string()))


def times(us: Ints) -> Array:
    """µs since the epoch as a UTC timestamp column."""
    return pa.array(us.view("datetime64[us]"), TIME)


def numbers(values: Floats) -> Array:
    """A float column in which NaN is null."""
    return pa.array(values, pa.float64(), from_pandas=True)


def nothing(rows: int) -> Array:
    """A float column of nulls."""
    return pa.nulls(rows, pa.float64())


def floats(values: Sequence[float | None]) -> Floats:
    """Floats of a row-wise source, null as NaN."""
    try:
        packed = struct.pack(f"{len(values)}d", *values)  # a third of numpy's time, but knows no None
    except struct.error:
        return np.array(values, np.float64)
    return np.frombuffer(packed, np.float64).copy()


def trade_payload(trades: Sequence[wire.Trade]) -> list[Array]:
    """The columns of "trades" between those that every table starts and ends with."""
    iv = floats([trade.iv for trade in trades])
    iv[iv == 0] = np.nan
    return [
        pa.array([str(trade.trade_id) for trade in trades], pa.string()),
        pa.array([trade.trade_seq for trade in trades], pa.int64()),
        pa.array([trade.price for trade in trades], pa.float64()),
        pa.array([trade.amount for trade in trades], pa.float64()),
        words(np.array([trade.direction == "sell" for trade in trades], np.int8), ["buy", "sell"]),
        numbers(iv),
        numbers(floats([trade.index_price for trade in trades])),
        numbers(floats([trade.mark_price for trade in trades])),
        numbers(floats([trade.contracts for trade in trades])),
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


def one_row(cells: Mapping[str, tuple[Any, pa.DataType]]) -> pa.Table:
    """A table of a single row: value and type by column."""
    return pa.table({name: pa.array([value], kind) for name, (value, kind) in cells.items()})


def table(
    name: str, instruments: Instruments, codes: npt.NDArray[np.int32], ts_ms: Ints, recv_us: Ints,
    records: npt.NDArray[np.int32], payload: Sequence[Array],
) -> pa.Table:  # fmt: skip
    """A table of SCHEMAS from its payload columns and what every row starts and ends with."""
    return pa.Table.from_arrays(
        [
            words(np.zeros(len(codes), np.int32), [VENUE]),
            instruments.name_column(codes),
            times(ts_ms * MS_IN_US),
            times(recv_us[records]),
            *payload,
            instruments.family_column(codes),
            pa.array(records, pa.int32()),
        ],
        schema=SCHEMAS[name],
    )
