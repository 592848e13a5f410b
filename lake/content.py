"""A hash of what a table holds, whatever the order, files or encodings it is held in.

`content_hash` is the sum over all rows, modulo 2^64, of a mix of the row's values, each salted with its
column's name. So the hash of two sets of rows together is the sum of their hashes: a rewrite that conserves
rows conserves the sum. A null adds nothing, which makes a column of nulls and an absent column equal: a table
may gain a column and keep its hashes. Numbers are hashed by their value as float64, text by its bytes.
Everything is defined here, on 64-bit integers, so that no library's version changes it. It detects accidents;
it is not meant to withstand an adversary.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array, to_floats, valid_mask
from lake.schema import PARTITION_COLUMNS

Words = npt.NDArray[np.uint64]

CHUNK_ROWS: Final = 16_384  # intermediate results stay in the processor's cache
_ODD_1: Final = np.uint64(0xBF58476D1CE4E5B9)  # the multipliers of splitmix64
_ODD_2: Final = np.uint64(0x94D049BB133111EB)
_SHIFT_1: Final = np.uint64(30)
_SHIFT_2: Final = np.uint64(27)
_SHIFT_3: Final = np.uint64(31)
_HALF: Final = np.uint64(32)
_ROW: Final = np.uint64(0x9E3779B97F4A7C15)  # what a row adds by being there, even if all is null
_WORD_BYTES: Final = 8
_WORD_MAX: Final = (1 << 64) - 1
LONG_BYTES: Final = 4096
"""Longer texts are hashed one by one from here on."""


def content_hash(rows: pa.Table) -> int:
    """Order-independent 64-bit hash of `rows`; partition columns do not count."""
    return int(
        row_hashes(rows, (n for n in rows.column_names if n not in PARTITION_COLUMNS)).sum(dtype=np.uint64)
    )


def row_hashes(rows: pa.Table, columns: Iterable[str]) -> Words:
    """One 64-bit hash per row over the named columns."""
    total = np.full(rows.num_rows, _ROW)
    for name in columns:
        column = rows[name]
        if column.null_count == len(column):
            continue
        _add_column(total, column, _salt(name))
    for start in range(0, len(total), CHUNK_ROWS):
        _finish(total[start : start + CHUNK_ROWS])
    return total


def _salt(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))


def _add_column(total: Words, column: Array, salt: np.uint64) -> None:
    """Add each value's mix to the row's sum."""
    start = 0
    for array in column.chunks:
        words = _words(array)
        valid = valid_mask(array) if array.null_count else None
        for at in range(0, len(array), CHUNK_ROWS):
            mixed = words[at : at + CHUNK_ROWS] ^ salt
            mixed *= _ODD_1
            mixed ^= mixed >> _HALF
            mixed *= _ODD_2
            if valid is not None:
                mixed *= valid[at : at + CHUNK_ROWS]
            total[start + at : start + at + len(mixed)] += mixed
        start += len(array)


def _finish(total: Words) -> None:
    """Splitmix64's finaliser in place: without it, equal column sums of different rows would cancel out."""
    total ^= total >> _SHIFT_1
    total *= _ODD_1
    total ^= total >> _SHIFT_2
    total *= _ODD_2
    total ^= total >> _SHIFT_3


def _words(array: Array) -> Words:
    """One 64-bit word per value, a function of the value alone; arbitrary where null."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        words = _words(array.dictionary)
        return (
            words[np.asarray(pc.fill_null(array.indices, 0))]
            if len(words)
            else np.zeros(len(array), np.uint64)
        )
    if pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        return (to_floats(array) + 0.0).view(np.uint64)  # adding 0.0 makes -0.0 and 0.0 one
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _text_words(array)
    if pa.types.is_list(kind):
        return _list_words(array)
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp("us", tz=kind.tz)).view(pa.int64())
    integers = array.cast(pa.int64())
    return np.asarray(pc.fill_null(integers, 0)).view(np.uint64)


def _list_words(array: Array) -> Words:
    """A word per list: the sum of its values' words, each mixed with its position, and its length."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
    ends = np.cumsum(lengths)
    starts = ends - lengths
    values = _words(array.flatten())
    position = np.arange(len(values)) - np.repeat(starts, lengths)
    mixed = (values ^ (position.astype(np.uint64) * _ROW)) * _ODD_1
    mixed ^= mixed >> _SHIFT_1
    mixed *= _ODD_2
    until = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    words: Words = until[ends] - until[starts] + lengths.astype(np.uint64) * _ODD_2
    return words


def _hashed_on(hashed: int, rest: bytes) -> int:
    """The same for the rest of one text; of long ones there are few, and steps of arrays would take minutes."""
    odd, half = int(_ODD_1), int(_HALF)
    for (octets,) in struct.iter_unpack("<Q", rest + bytes(-len(rest) % _WORD_BYTES)):
        part = (hashed ^ octets) * odd & _WORD_MAX
        hashed = part ^ (part >> half)
    return hashed


def _text_words(array: Array) -> Words:
    """A word per text: its bytes taken eight at a time, and its length."""
    encoded = array.dictionary_encode()
    texts = encoded.dictionary.cast(pa.string())
    if not len(texts):
        return np.zeros(len(array), np.uint64)
    offsets = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets).astype(np.int64)
    content = np.frombuffer(texts.buffers()[2] or b"", np.uint8)
    padded = np.concatenate([content, np.zeros(_WORD_BYTES, np.uint8)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WORD_BYTES)
    hashed = lengths.astype(np.uint64) * _ODD_2
    for at in range(0, min(int(lengths.max()), LONG_BYTES), _WORD_BYTES):
        rows = np.flatnonzero(lengths > at)
        octets = windows[starts[rows] + at].copy()
        octets[np.arange(_WORD_BYTES) >= (lengths[rows] - at)[:, None]] = 0
        part = (hashed[rows] ^ octets.view("<u8")[:, 0]) * _ODD_1
        hashed[rows] = part ^ (part >> _HALF)
    for row in np.flatnonzero(lengths > LONG_BYTES).tolist():
        rest = content[starts[row] + LONG_BYTES : starts[row] + lengths[row]].tobytes()
        hashed[row] = _hashed_on(int(hashed[row]), rest)
    words: Words = hashed[np.asarray(pc.fill_null(encoded.indices, 0))]
    return words
