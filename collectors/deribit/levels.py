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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from msgspec import Raw

from collectors.deribit import wire
from collectors.deribit.columns import Floats, Ints

ACTIONS: Final = ("new", "change", "delete")
SIDES: Final = ("bid", "ask")
NO_LEVEL: Final = -1

_EMPTY_WORD: Final = "-"
_EMPTY_LEVEL: Final = b'["-",0,0]'
_WORDS: Final = pa.array([*ACTIONS, _EMPTY_WORD])
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
    if not bids:
        return decode_each(bids, asks)[0]  # reading an empty text takes milliseconds
    bodies: list[bytes] = []
    counts: list[int] = []
    for pair in zip(bids, asks, strict=True):
        before = len(bodies)
        for raw in pair:
            text = bytes(raw)
            if text == b"[]":
                counts.append(0)
            elif text.startswith(b"[[") and text.endswith(b"]]"):
                counts.append(text.count(b"[") - 1)
                bodies.append(text[1:-1])
            else:
                return None
        if len(bodies) == before:
            bodies.append(_EMPTY_LEVEL)
    per_side = np.array(counts, np.int64).reshape(-1, 2)
    joined = b",".join(bodies)
    if per_side.sum(axis=1).max(initial=0) > wire.MAX_LEVELS or len(joined) > _TEXT_BYTES_MAX:
        return None
    return _read(joined, per_side)


def decode_each(bids: Sequence[Raw], asks: Sequence[Raw]) -> tuple[Levels, dict[int, str]]:
    """Read the levels message by message; also what is wrong, by index of the message (which then counts as
    empty)."""
    found: list[wire.Level] = []
    counts: list[tuple[int, int]] = []
    wrong: dict[int, str] = {}
    nothing = wire.Level("new", 0.0, 0.0)
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
        found += sides[0] + sides[1] or [nothing]
    actions = np.array([ACTIONS.index(level.action) for level in found], np.int32)
    prices = np.array([level.price for level in found], np.float64)
    sizes = np.array([level.amount for level in found], np.float64)
    return _arrange(np.array(counts, np.int64).reshape(-1, 2), actions, prices, sizes), wrong


def _read(text: bytes, per_side: Ints) -> Levels | None:
    """The joined text as columns, or None if it is anything but the levels that were counted."""
    empty = per_side.sum(axis=1) == 0
    lines = int(per_side.sum() + empty.sum())
    if text.count(b'"') != 2 * lines:
        return None
    # Every line starts with the comma that stood between levels: the first column is empty, and left out.
    csv = b"," + text.translate(_LINE_END_FOR_BRACKET, b'["')
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
    levels = _arrange(per_side, actions, prices, sizes)
    if not np.array_equal(actions == len(ACTIONS), np.repeat(empty, levels.rows)):
        return None
    return levels


def _arrange(per_side: Ints, actions: npt.NDArray[np.int32], prices: Floats, sizes: Floats) -> Levels:
    levels = per_side.sum(axis=1)
    rows = np.maximum(levels, 1)
    starts = np.cumsum(rows) - rows
    position = np.arange(rows.sum()) - np.repeat(starts, rows)
    side = (position >= np.repeat(per_side[:, 0], rows)).astype(np.int32)
    empty = np.repeat(levels == 0, rows)
    side[empty] = NO_LEVEL
    actions = np.where(empty, np.int32(NO_LEVEL), actions)
    prices, sizes = (np.where(empty, np.nan, values) for values in (prices, sizes))
    return Levels(rows, position, side, actions, prices, sizes)
