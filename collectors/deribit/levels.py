"""Book levels, decoded for thousands of messages at once.

A book message of 20 levels a side is 40 small arrays; making a Python object of each costs several times more than
everything else about the message. The levels of many messages are therefore joined into one text and read by Arrow's
CSV reader, of which `[["new",1.5,10.0],["delete",2,0.0]]` is nearly an input already. It is a shortcut for the exact
spelling the venue uses, and it checks itself: the text must consist of quoted actions and finite numbers, three to
a level, as many as were counted. Anything else is read level by level by the JSON decoder, which names what is wrong.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from msgspec import Raw

from collectors.deribit import wire
from collectors.deribit.columns import Floats, Ints

ACTIONS: Final = ("new", "change", "delete")
SIDES: Final = ("bid", "ask")
NO_LEVEL: Final = -1

_EMPTY_LINE: Final = b'"-",0,0'
_EMPTY_WORD: Final = "-"
_TEXT_BYTES_MAX: Final = 1 << 30
_COLUMNS: Final = ["action", "price", "size"]
_ACTION_TYPE: Final = pa.dictionary(pa.int32(), pa.string())
_PARSE: Final = pyarrow.csv.ParseOptions(
    delimiter=",", quote_char='"', double_quote=False, escape_char=False, newlines_in_values=False
)
_CONVERT: Final = pyarrow.csv.ConvertOptions(
    column_types={"action": _ACTION_TYPE, "price": pa.float64(), "size": pa.float64()},
    null_values=[],
    strings_can_be_null=False,
    check_utf8=True,
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
    bodies: list[bytes] = []
    counts: list[int] = []
    for pair in zip(bids, asks, strict=True):
        before = len(bodies)
        for raw in pair:
            text = bytes(raw)
            if text == b"[]":
                counts.append(0)
            elif text.startswith(b"[[") and text.endswith(b"]]"):
                counts.append(text.count(b"],[") + 1)
                bodies.append(text[2:-2])
            else:
                return None
        if len(bodies) == before:
            bodies.append(_EMPTY_LINE)
    per_side = np.array(counts, np.int64).reshape(-1, 2)
    joined = b"\n".join(bodies).replace(b"],[", b"\n") + b"\n"
    if per_side.sum(axis=1).max(initial=0) > wire.MAX_LEVELS or len(joined) > _TEXT_BYTES_MAX:
        return None
    return _read(joined, per_side)


def decode_each(bids: Sequence[Raw], asks: Sequence[Raw]) -> tuple[Levels, dict[int, str]]:
    """Read the levels message by message; also what is wrong, by index of the message (which then counts as empty)."""
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
    """The joined text as columns, or None if it is anything but the lines that were counted."""
    empty = per_side.sum(axis=1) == 0
    lines = int(per_side.sum() + empty.sum())
    if text.count(b'"') != 2 * lines or b"[" in text or b"]" in text:
        return None
    options = pyarrow.csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=_COLUMNS)
    try:
        read = pyarrow.csv.read_csv(
            io.BytesIO(text), read_options=options, parse_options=_PARSE, convert_options=_CONVERT
        )
    except pa.ArrowInvalid:
        return None
    if read.num_rows != lines:
        return None
    action, price, size = (_whole(read.column(name)) for name in _COLUMNS)
    prices, sizes = price.to_numpy(), size.to_numpy()
    if not (np.isfinite(prices).all() and np.isfinite(sizes).all()):
        return None
    known = {word: code for code, word in enumerate((*ACTIONS, _EMPTY_WORD))}
    mapping = [known.get(word, NO_LEVEL) for word in action.dictionary.to_pylist()]
    actions = np.array(mapping, np.int32)[action.indices.to_numpy()]
    levels = _arrange(per_side, actions, prices, sizes)
    wanted = np.repeat(empty, levels.rows)
    if NO_LEVEL in mapping or not np.array_equal(actions == known[_EMPTY_WORD], wanted):
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


def _whole(column: pa.ChunkedArray[Any]) -> Any:
    """A column of one chunk; the stubs do not tell dictionary arrays from others."""
    return column.combine_chunks()
