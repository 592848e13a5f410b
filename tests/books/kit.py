"""What the tests of books share: a second way to build them (plain dictionaries), and books of chance."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from collectors.deribit.decode import decode
from lake.books.arrays import ASK, BID, NEITHER, NO_MESSAGE, NO_ROWS, Rows
from lake.conform import conform
from lake.delta import Table
from lake.parquet import sort_by
from lake.root import Root, open_root
from lake.schema import TABLES

SIDES = {"bid": BID, "ask": ASK, None: NEITHER}
Level = tuple[int, float]


@dataclass
class Message:
    """One message of a book; `levels` are (side, action, price, size)."""

    book: int
    change_id: int
    prev: int | None
    ts: int
    recv: int
    levels: list[tuple[str, str, float, float]]

    @property
    def snapshot(self) -> bool:
        return self.prev is None


@dataclass
class Naive:
    """A book kept in dictionaries: what any client of the venue would do."""

    levels: dict[int, dict[float, float]] = field(default_factory=lambda: {BID: {}, ASK: {}})
    change_id: int | None = None

    def apply(self, message: Message) -> None:
        if message.snapshot:
            self.levels = {BID: {}, ASK: {}}
        else:
            assert message.prev == self.change_id
        for side, action, price, size in message.levels:
            if action == "delete":
                self.levels[SIDES[side]].pop(price, None)
            else:
                self.levels[SIDES[side]][price] = size
        self.change_id = message.change_id

    def sides(self) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
        bids, asks = self.levels[BID], self.levels[ASK]
        return (
            tuple((p, bids[p]) for p in sorted(bids, reverse=True)),  # type: ignore[misc]
            tuple((p, asks[p]) for p in sorted(asks)),  # type: ignore[misc]
        )


def history(
    chance: random.Random, book: int, count: int, *, start: int = 0, snapshots: float = 0.02
) -> list[Message]:
    """Messages of one book: a snapshot, then changes, now and then a snapshot in between; times rise by chance."""
    now = Naive()
    found: list[Message] = []
    ts, change_id = start, chance.randint(1, 1000)
    for number in range(count):
        # Some messages share their time, some come a little before the one that they follow.
        ts += chance.choice([0, 0, 1, 5, 40, 300, -2])
        change_id += chance.randint(1, 900)
        fresh = number == 0 or chance.random() < snapshots
        levels: list[tuple[str, str, float, float]] = []
        if fresh:
            for side, sign in (("bid", -1), ("ask", 1)):
                prices = {100 + sign * chance.randint(1, 60) * 0.5 for _ in range(chance.randint(0, 30))}
                levels += [(side, "new", p, float(chance.randint(1, 9))) for p in sorted(prices)]
        for _ in range(0 if fresh else chance.randint(0, 5)):
            side, sign = chance.choice([("bid", -1), ("ask", 1)])
            held = now.levels[SIDES[side]]
            price = 100 + sign * chance.randint(1, 60) * 0.5
            if held and chance.random() < 0.4:
                levels.append((side, "delete", chance.choice(sorted(held)), 0.0))
                held.pop(levels[-1][2])
            else:
                levels.append((side, "change" if price in held else "new", price, chance.random() * 10 + 0.1))
                held[price] = levels[-1][3]
        message = Message(book, change_id, None if fresh else found[-1].change_id, ts, ts + 7, levels)
        found.append(message)
        now = Naive()
        for one in found[max(i for i, m in enumerate(found) if m.snapshot) :]:
            now.apply(one)
    return found


def rows(messages: list[Message]) -> Rows:
    """The messages as rows of the table `book`, in the order given."""
    table: list[tuple[Any, ...]] = []
    for m in messages:
        head = (m.book, m.change_id, NO_MESSAGE if m.prev is None else m.prev, m.snapshot, m.ts, m.recv)
        levels: list[tuple[Any, ...]] = list(m.levels) or [(None, "", float("nan"), float("nan"))]
        table += [(*head, i, SIDES[side], price, size) for i, (side, _, price, size) in enumerate(levels)]
    kinds = [getattr(NO_ROWS, name).dtype for name in Rows.__dataclass_fields__]
    columns = list(zip(*table, strict=True)) or [() for _ in kinds]
    return Rows(*(np.array(values, kind) for values, kind in zip(columns, kinds, strict=True)))


def naive_at(messages: list[Message], at: int) -> Naive | None:
    """The book at an instant: everything up to the last message that is not later."""
    last = max((i for i, m in enumerate(messages) if m.ts <= at), default=None)
    if last is None:
        return None
    book = Naive()
    for message in messages[: last + 1]:
        book.apply(message)
    return book


def lake_of(folder: Path, frames: Sequence[bytes], *, per_commit: int = 200) -> Root:
    """A lake with the rows of `frames`, which are received 10 ms after the venue's time of them."""
    root = open_root(folder, create=True)
    stamps = [json.loads(frame)["params"]["data"]["timestamp"] for frame in frames]
    for start in range(0, len(frames), per_commit):
        piece = frames[start : start + per_commit]
        recv_ns = np.array(stamps[start : start + per_commit], np.int64) * 1_000_000 + 10_000_000
        decoded = decode(piece, recv_ns, np.zeros(len(piece), np.int64))
        assert not decoded.rejects
        for name in ("book", "quotes"):
            append(root, name, decoded.tables[name], version=start + 1)
    return root


def append(root: Root, name: str, decoded: pa.Table, *, version: int) -> None:
    """Decoded rows into a table, as ingest does."""
    spec = TABLES[name]
    conformed = conform(spec, decoded.drop_columns(["record"]))
    assert not conformed.rejected.any()
    rows = conformed.rows.append_column("date", spec.dates(conformed.rows["ts"]))
    rows = rows.append_column("family", decoded["family"].cast(pa.string()))
    rows = sort_by(rows, spec.partition_columns + spec.sort_key)
    Table.open(root, spec).append(rows, app="test", version=version, origin=f"i.test.{version}")


def in_dictionaries(messages: Sequence[dict[str, Any]], instrument: str, until_ms: int) -> Naive | None:
    """The book of `instrument` after every one of the venue's `messages` that is not later; None before the first."""
    book, high = None, 0
    for data in messages:
        if data["instrument_name"] != instrument:
            continue
        high = max(high, data["timestamp"])
        if high > until_ms:
            break
        book = book or Naive()
        levels = [("bid", *level) for level in data["bids"]] + [("ask", *level) for level in data["asks"]]
        prev = data.get("prev_change_id")
        book.apply(Message(0, data["change_id"], prev, data["timestamp"], 0, levels))
    return book
