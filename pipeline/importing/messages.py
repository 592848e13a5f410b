"""Rows of a file of books put together to messages, however they are interleaved and wherever the file is cut.

One message is what has the same instrument, receive time, venue's time and kind. Such files carry no ids: the id made
here is the receive time in µs, or the next free one where an instrument has several messages in the same µs. It depends
on nothing but the messages of the instrument and their order, so a file of one instrument and one of many agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lake.exact import Array

REMEMBERED: Final = 1 << 20
"""Messages whose later rows are still known as theirs; files are sorted by receive time, give or take."""

_Key = tuple[str, int, int, bool]


@dataclass(slots=True)
class Messages:
    """The messages of one file, batch after batch."""

    ids: dict[_Key, int] = field(default_factory=dict)
    levels: dict[_Key, int] = field(default_factory=dict)
    taken: dict[tuple[str, int], None] = field(default_factory=dict)

    def columns(self, columns: Mapping[str, Array], snapshot: Array) -> dict[str, Array]:
        """The columns of `book` that tell messages apart. Rows without a time get any; they are refused elsewhere."""
        whole = np.asarray(pc.fill_null(snapshot, False))
        names = pc.fill_null(columns["instrument"], "").dictionary_encode()
        times = [np.asarray(pc.fill_null(columns[name].cast(pa.int64()), 0)) for name in ("recv_ts", "ts")]
        rows = np.stack([np.asarray(names.indices).astype(np.int64), *times, whole.astype(np.int64)], axis=1)
        change_id, level = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        if len(rows):
            found, first, of_row = np.unique(rows, axis=0, return_index=True, return_inverse=True)
            of_row = of_row.reshape(-1)
            order = np.argsort(of_row, kind="stable")
            counts = np.bincount(of_row, minlength=len(found))
            level[order] = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
            words = names.dictionary.to_pylist()
            ids, known = np.zeros(len(found), np.int64), np.zeros(len(found), np.int64)
            for at in np.argsort(first).tolist():  # in the order of the file
                code, received, happened, is_whole = found[at].tolist()
                key = (words[code], received, happened, bool(is_whole))
                ids[at], known[at] = self._id(key), self.levels.get(key, 0)
                self.levels[key] = int(known[at] + counts[at])
            change_id, level = ids[of_row], level + known[of_row]
        self._forget()
        amount = np.asarray(pc.fill_null(columns["size"], 0.0))
        return {
            "type": pa.array(np.where(whole, "snapshot", "change").tolist(), pa.string()),
            "change_id": pa.array(change_id),
            "level": pa.array(level),
            "action": pa.array(
                np.where(whole, "new", np.where(amount == 0, "delete", "change")).tolist(), pa.string()
            ),
        }

    def _id(self, key: _Key) -> int:
        if key not in self.ids:
            name, change_id = key[0], key[1]
            while (name, change_id) in self.taken:
                change_id += 1
            self.ids[key] = change_id
            self.taken[name, change_id] = None
        return self.ids[key]

    def _forget(self) -> None:
        _cut(self.ids)
        _cut(self.levels)
        _cut(self.taken)


def _cut(table: dict[Any, Any]) -> None:
    """Keep the newest entries; a dictionary has its keys in the order in which they came."""
    for key in list(itertools.islice(table, max(len(table) - REMEMBERED, 0))):
        del table[key]
