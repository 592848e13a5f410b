"""Book levels, decoded for thousands of messages at once.

A book message of 20 levels a side is 40 small arrays; making a Python object of each costs more than
everything else about the message. The levels of many messages are therefore joined into one text and read
by Arrow's CSV reader, of which `["new",1.5,10.0],["delete",2,0.0]` without brackets and quotes is nearly an
input already.

It is a shortcut for the spelling the venue uses, over text that the JSON decoder has found well-formed, and it
checks itself: as many lines as there are opening brackets, two quotes a line, every action a known word,
every number finite. Anything else is read level by level by the JSON decoder, which names what is wrong.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from msgspec import Raw

from collectors.deribit import wire
from collectors.deribit.columns import Floats, Ints

T = TypeVar("T", np.int32, np.float64)

ACTIONS: Final = ("new", "change", "delete")
SIDES: Final = ("bid", "ask")
NO_LEVEL: Final = -1

_OPEN, _CLOSE, _COMMA = b"[],"
_EMPTY_BYTES: Final = len(b"[]")
_WORDS: Final = pa.array(ACTIONS)
_TEXT_BYTES_MAX: Final = 1 << 30
_LINE_END_FOR_BRACKET: Final = bytes.maketrans(b"]", b"\n")
_COLUMNS: Final = ["action", "price", "size"]
_PARSE: Final = pyarrow.csv.ParseOptions(quote_char=False, double_quote=False, escape_char=False)
_CONVERT: Final = pyarrow.csv.ConvertOptions(
    column_types={"action": pa.string(), "price": pa.float64(), "size": pa.float64()},
    include_columns=_COLUMNS,
    null_values=[],
    strings_can_be_null=False,
)


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels of messages in order, bids before asks; a message without levels has one row of nothing.

    rows: rows per message. position: of the level in its message. side, action: index into SIDES and ACTIONS,
    NO_LEVEL in the row of an empty message, whose price and size are NaN.
    """

    rows: Ints
    position: Ints
    side: npt.NDArray[np.int32]
    action: npt.NDArray[np.int32]
    price: Floats
    size: Floats


def decode_joined(bids: Sequence[Raw], asks: Sequence[Raw]) -> Levels | None:
    """Read the levels of all messages as one text; None if any is not spelled as expected."""
    sides = list(itertools.chain.from_iterable(zip(bids, asks, strict=True)))
    sizes = np.fromiter(map(len, sides), np.int64, len(sides))
    if not len(sides) or sizes.min() < _EMPTY_BYTES or sizes.sum() > _TEXT_BYTES_MAX:
        return None
    text = np.frombuffer(bytearray().join(sides), np.uint8)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    counts = np.add.reduceat(text == _OPEN, starts, dtype=np.int64) - 1
    usual = (text[starts] == _OPEN) & (text[ends - 1] == _CLOSE)
    usual &= (sizes == _EMPTY_BYTES) | ((text[starts + 1] == _OPEN) & (text[ends - 2] == _CLOSE))
    per_side = counts.reshape(-1, 2)
    if not usual.all() or per_side.sum(axis=1).max() > wire.MAX_LEVELS:
        return None
    # The brackets around a side give way, to a comma where levels follow: then one stands before every level.
    text[starts] = np.where(counts > 0, _COMMA, _OPEN)
    text[ends - 1] = _OPEN
    return _read(text.tobytes(), per_side)


def decode_each(bids: Sequence[Raw], asks: Sequence[Raw]) -> tuple[Levels, dict[int, str]]:
    """Read the levels message by message; also what is wrong, by index of the message (which then counts as
    empty)."""
    found: list[wire.Level] = []
    counts: list[tuple[int, int]] = []
    wrong: dict[int, str] = {}
    for index, pair in enumerate(zip(bids, asks, strict=True)):
        sides: list[list[wire.Level]] = []
        for name, raw in zip(("bids", "asks"), pair, strict=True):
            try:
                sides.append(wire.levels.decode(raw))
            except wire.DECODE_ERRORS as error:
                wrong[index] = f"{error} in {name}"
        if index not in wrong and sum(map(len, sides)) > wire.MAX_LEVELS:
            wrong[index] = f"more than {wire.MAX_LEVELS} levels"
        if index in wrong:
            sides = [[], []]
        counts.append((len(sides[0]), len(sides[1])))
        found += sides[0] + sides[1]
    actions = np.array([ACTIONS.index(level.action) for level in found], np.int32)
    prices = np.array([level.price for level in found], np.float64)
    sizes = np.array([level.amount for level in found], np.float64)
    return _arrange(np.array(counts, np.int64).reshape(-1, 2), actions, prices, sizes), wrong


def _read(text: bytes, per_side: Ints) -> Levels | None:
    """The joined text as columns, or None if it is anything but the levels that were counted."""
    lines = int(per_side.sum())
    if not lines or text.count(b'"') != 2 * lines:
        return None  # of no levels, too: reading an empty text takes milliseconds
    # The comma at the start of every line makes an empty first column, which is left out.
    csv = text.translate(_LINE_END_FOR_BRACKET, b'["')
    options = pyarrow.csv.ReadOptions(
        use_threads=False, block_size=len(csv) + 1, column_names=["between", *_COLUMNS]
    )
    try:
        read: Any = pyarrow.csv.read_csv(
            io.BytesIO(csv), read_options=options, parse_options=_PARSE, convert_options=_CONVERT
        )
    except pa.ArrowInvalid:
        return None
    words = pc.index_in(read["action"], value_set=_WORDS)
    if read.num_rows != lines or words.null_count:
        return None
    actions, prices, sizes = (column.to_numpy() for column in (words, read["price"], read["size"]))
    if not (np.isfinite(prices).all() and np.isfinite(sizes).all()):
        return None
    return _arrange(per_side, actions, prices, sizes)


def _arrange(per_side: Ints, actions: npt.NDArray[np.int32], prices: Floats, sizes: Floats) -> Levels:
    levels = per_side.sum(axis=1)
    rows = np.maximum(levels, 1)
    starts = np.cumsum(rows) - rows
    position = np.arange(rows.sum()) - np.repeat(starts, rows)
    side = (position >= np.repeat(per_side[:, 0], rows)).astype(np.int32)
    there = np.repeat(levels > 0, rows)
    side[~there] = NO_LEVEL
    actions = _spread(actions, there, NO_LEVEL)
    prices, sizes = (_spread(values, there, np.nan) for values in (prices, sizes))
    return Levels(rows, position, side, actions, prices, sizes)


def _spread(values: npt.NDArray[T], there: npt.NDArray[np.bool_], nothing: float) -> npt.NDArray[T]:
    """The values in the rows that have one, `nothing` in the others."""
    if len(values) == len(there):
        return values
    spread = np.full(len(there), nothing, values.dtype)
    spread[there] = values
    return spread
