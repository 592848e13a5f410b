"""One chunk of the spool → rows that fit the contract, and everything that did not, with its reason.

Pure: no file is touched here. The venue's own words are understood by its decoder in `collectors`; this
module routes records by kind, asks the contract, and keeps count, so that for every chunk

    records = frames + events + responses        and        frames = decoded + control + rejected
"""

from __future__ import annotations

import datetime
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa

from collectors.deribit.answers import decode_answer
from collectors.deribit.decode import decode
from collectors.deribit.instruments import decode_creation
from lake.conform import conform
from lake.errors import SchemaDriftError, VenueRefusedError
from lake.events import Gap, decode_event, decode_response
from lake.instants import from_us
from lake.schema import TABLES
from lake.spool import Batch, Damage, RecordKind

OFFSET: Final = "offset"
"""Helper column: the row's record in the stream; dropped before the rows are written."""
AHEAD_MAX_US: Final = 86_400_000_000
MANY_ROWS: Final = 16
CHUNK_RECORDS: Final = 32_768
CHUNK_BYTES: Final = 32 << 20
"""REST answers can have megabytes each: a run ends at so many bytes as well."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that gave no rows, or not all of them, and why."""

    offset: int
    recv_ns: int
    reason: str
    payload: bytes


@dataclass(slots=True)
class Chunk:
    """What a run of records became."""

    first_offset: int
    end_offset: int
    start_ns: int
    end_ns: int
    rows: dict[str, pa.Table] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    unknown_fields: Counter[str] = field(default_factory=Counter)
    class_frames: Counter[str] = field(default_factory=Counter)
    """Frames by the table they gave rows to, which is their class of channel; `other` for the rest."""
    class_bytes: Counter[str] = field(default_factory=Counter)

    def add(self, other: Chunk) -> None:
        """Take over the counts, times and rejected records of a later chunk; its rows go elsewhere."""
        self.start_ns = self.start_ns or other.start_ns
        self.end_ns = other.end_ns
        self.rejected += other.rejected
        self.counts.update(other.counts)
        self.unknown_fields.update(other.unknown_fields)
        self.class_frames.update(other.class_frames)
        self.class_bytes.update(other.class_bytes)


def chunks(items: Iterable[Batch | Damage], venue: str, stream: str) -> Iterator[Chunk]:
    """Decode what a segment holds, in stream order, in runs of about `CHUNK_RECORDS` records or `CHUNK_BYTES`.

    Damage in the spool becomes a chunk of its own: no rows but one in `gaps`.
    """
    held: list[Batch] = []
    count = size = 0
    for item in items:
        if isinstance(item, Batch):
            held.append(item)
            count += len(item.payloads)
            size += sum(map(len, item.payloads))
            if count < CHUNK_RECORDS and size < CHUNK_BYTES:
                continue
        if held:
            yield _decode_run(held, venue, stream)
            held, count, size = [], 0, 0
        if isinstance(item, Damage):
            span = (item.first_offset, item.end_offset, item.start_ns, item.end_ns)
            yield lost_chunk(*span, "spool_damage", venue, stream)
    if held:
        yield _decode_run(held, venue, stream)


def lost_chunk(
    first_offset: int, end_offset: int, start_ns: int, end_ns: int, cause: str, venue: str, stream: str
) -> Chunk:
    """What is known of records that the disk no longer gives back: a row in `gaps`, and their count."""
    chunk = Chunk(first_offset, end_offset, start_ns, end_ns)
    lost = end_offset - first_offset
    chunk.counts["records_lost"] = lost
    gap = Gap(start_ns=start_ns, end_ns=end_ns, cause=cause, records_lost=lost)
    chunk.rows["gaps"] = gap_rows([gap], [first_offset], venue, stream)
    return chunk


def empty_rows(name: str) -> pa.Table:
    """No rows of table `name`, with its partition columns and the offset: what concatenation starts from."""
    return TABLES[name].delta_schema.append(pa.field(OFFSET, pa.int64())).empty_table()


def _decode_run(batches: list[Batch], venue: str, stream: str) -> Chunk:
    first = batches[0].first_offset
    payloads = list(itertools.chain.from_iterable(batch.payloads for batch in batches))
    recv_ns = np.concatenate([batch.recv_ns for batch in batches])
    kind = np.concatenate([batch.kind for batch in batches])
    connection = np.concatenate([batch.connection for batch in batches])
    chunk = Chunk(first, first + len(payloads), int(recv_ns[0]), int(recv_ns[-1]))
    run = _Run(chunk, payloads, recv_ns, connection, venue, stream)
    run.frames(np.flatnonzero(kind == RecordKind.FRAME))
    run.events(np.flatnonzero(kind == RecordKind.EVENT))
    run.responses(np.flatnonzero(kind == RecordKind.RESPONSE))
    chunk.rows = {name: pa.concat_tables(tables) for name, tables in run.kept.items()}
    return chunk


@dataclass(slots=True)
class _Run:
    """The records of one chunk on their way into `chunk`."""

    chunk: Chunk
    payloads: list[bytes]
    recv_ns: np.ndarray
    connection: np.ndarray
    venue: str
    stream: str
    kept: defaultdict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))

    def frames(self, at: np.ndarray) -> None:
        """Decode the venue's frames, at positions `at` of the chunk."""
        self.chunk.counts["frames"] += len(at)
        if not len(at):
            return
        payloads = list(map(self.payloads.__getitem__, at.tolist()))
        decoded = decode(payloads, self.recv_ns[at], self.connection[at])
        tables = {name: columns for name, columns in decoded.tables.items() if len(columns)}
        self._count_classes(payloads, tables)
        self.chunk.counts["control"] += decoded.control
        self.chunk.unknown_fields += decoded.unknown_fields
        refused = {int(at[reject.record]): reject.reason for reject in decoded.rejects}
        for i in at[decoded.creations].tolist():
            try:
                unfit = self._terms(i, decode_creation(self.payloads[i], int(self.recv_ns[i])))
            except SchemaDriftError as error:
                unfit = {i: str(error)}
            refused.update(unfit)
            self.chunk.counts["control"] -= len(unfit)
        early = _ahead_of_time(tables)
        refused.update((int(at[record]), reason) for record, reason in early.items())
        for name, columns in tables.items():
            kept = ~np.isin(columns["record"].to_numpy(), list(early)) if early else None
            own = columns if kept is None else columns.filter(pa.array(kept))
            refused.update(self._fit(name, own, at))
        self._reject(refused)

    def _count_classes(self, payloads: list[bytes], tables: Mapping[str, pa.Table]) -> None:
        sizes = np.fromiter(map(len, payloads), np.int64, len(payloads))
        others = np.ones(len(payloads), bool)
        for name, columns in tables.items():
            own = np.zeros(len(payloads), bool)
            own[columns["record"].to_numpy()] = True
            others &= ~own
            self.chunk.class_frames[name] += int(own.sum())
            self.chunk.class_bytes[name] += int(sizes[own].sum())
        self.chunk.class_frames["other"] += int(others.sum())
        self.chunk.class_bytes["other"] += int(sizes[others].sum())

    def events(self, at: np.ndarray) -> None:
        """Our own events: gaps become rows, the rest is evidence that stays in the spool and is counted."""
        self.chunk.counts["events"] += len(at)
        gaps: list[Gap] = []
        offsets: list[int] = []
        refused: dict[int, str] = {}
        for i in at:
            try:
                event = decode_event(self.payloads[i])
            except SchemaDriftError as error:
                refused[int(i)] = str(error)
                continue
            if isinstance(event, Gap):
                gaps.append(event)
                offsets.append(self.chunk.first_offset + int(i))
        if gaps:
            self.kept["gaps"].append(gap_rows(gaps, offsets, self.venue, self.stream))
        self._reject(refused)

    def responses(self, at: np.ndarray) -> None:
        """REST answers: rows like any others where the venue's decoder knows the method; others are counted."""
        self.chunk.counts["responses"] += len(at)
        refused: dict[int, str] = {}
        found: defaultdict[str, list[pa.Table]] = defaultdict(list)
        for i in at.tolist():
            try:
                said = decode_response(self.payloads[i])
                decoded = decode_answer(
                    said.url, said.status, bytes(said.body), int(self.recv_ns[i]), said.requested_ns
                )
            except (SchemaDriftError, VenueRefusedError) as error:
                refused[i] = str(error)
                continue
            if decoded is None:
                continue
            self.chunk.unknown_fields += decoded.unknown_fields
            refused.update((i, reject.reason) for reject in decoded.rejects)
            for name, columns in decoded.tables.items():
                if len(columns):
                    found[name].append(_of_record(i, columns))
        for name, tables in found.items():
            columns = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
            refused.update(self._fit(name, columns, np.arange(len(self.payloads))))
        self._reject(refused)

    def _terms(self, record: int, columns: pa.Table) -> dict[int, str]:
        """Terms of instruments that one record told: candidates for versions."""
        return self._fit("instruments", _of_record(record, columns), np.arange(len(self.payloads)))

    def _fit(self, name: str, columns: pa.Table, at: np.ndarray) -> dict[int, str]:
        """Hold `columns` against the contract; rows that fit go to the chunk, the others' records are named.

        A record whose rows do not all fit is refused whole: half a book message is no book message.
        """
        record = columns["record"].to_numpy()
        conformed = conform(TABLES[name], columns.drop_columns(["record"]))
        fits = ~conformed.rejected
        bad = dict(zip(record[conformed.rejected].tolist(), conformed.row_reasons, strict=True))
        rows, kept = conformed.rows, fits
        if bad:
            kept = ~np.isin(record, list(bad))
            rows = rows.filter(pa.array(kept[fits]))
        if TABLES[name].partitioned:
            rows = rows.append_column("date", TABLES[name].dates(rows["ts"]))
            rows = rows.append_column("family", columns["family"].filter(pa.array(kept)))
        offsets = self.chunk.first_offset + at[record[kept]]
        self.kept[name].append(rows.append_column(OFFSET, pa.array(offsets, pa.int64())))
        return {int(at[i]): f"{name}: {reason}" for i, reason in bad.items()}

    def _reject(self, refused: dict[int, str]) -> None:
        self.chunk.counts["rejected"] += len(refused)
        for i, reason in sorted(refused.items()):
            offset = self.chunk.first_offset + i
            self.chunk.rejected.append(Rejected(offset, int(self.recv_ns[i]), reason, self.payloads[i]))


def _ahead_of_time(tables: Mapping[str, pa.Table]) -> dict[int, str]:
    """Frames that speak of a time more than a day after they came, with the reason; a partition of the future would
    never be closed. Where many do, it is our clock that is wrong, and none is refused.

    Frames of the past are taken: a recording that is played again has them.
    """
    refused: dict[int, str] = {}
    rows = 0
    for columns in tables.values():
        ts, recv = (columns[name].cast(pa.int64()).to_numpy() for name in ("ts", "recv_ts"))
        early = np.flatnonzero(ts - recv > AHEAD_MAX_US)
        rows += len(ts)
        records = columns["record"].to_numpy()
        for row in early.tolist():
            reason = f"its time, {from_us(int(ts[row]))}, is more than a day after it came"
            refused[int(records[row])] = reason
    return {} if rows >= MANY_ROWS and len(refused) > rows // 10 else refused


def _of_record(record: int, columns: pa.Table) -> pa.Table:
    """The same rows, said to come from position `record` of the chunk."""
    if "record" in columns.column_names:
        columns = columns.drop_columns(["record"])
    return columns.append_column("record", pa.array(np.full(len(columns), record, np.int32)))


def as_utc(ns: int) -> datetime.datetime:
    """Nanoseconds since the epoch as a time of whole microseconds, rounded down."""
    return from_us(ns // 1000)


def gap_rows(gaps: list[Gap], offsets: list[int], venue: str, stream: str) -> pa.Table:
    """Rows of the table `gaps`, ready to append; `offsets` are the records that told of them."""
    rows = [_gap_row(gap, venue, stream) for gap in gaps]
    table = pa.Table.from_pylist(rows, schema=TABLES["gaps"].arrow_schema)
    return table.append_column(OFFSET, pa.array(offsets, pa.int64()))


def _gap_row(gap: Gap, venue: str, stream: str) -> dict[str, object]:
    return {
        "venue": gap.venue or venue,
        "stream": stream,
        "connection": gap.connection,
        "instrument": gap.instrument,
        "channel": gap.channel,
        # Outwards, so that rounding to µs never makes a gap shorter than it was.
        "start_ts": as_utc(gap.start_ns),
        "end_ts": as_utc(gap.end_ns + 999),
        "cause": gap.cause,
        "healed": gap.healed,
        "records_lost": gap.records_lost,
    }
