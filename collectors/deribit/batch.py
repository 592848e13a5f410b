"""A batch of frames under way: sorted by class of channel, judged one by one, the bad ones set aside with a reason."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Raw

from collectors.deribit import channels, columns, wire
from collectors.deribit.columns import Array, Instruments, Ints
from collectors.deribit.names import index_family
from lake.errors import InputError

EXAMINE_EVERY: Final = {
    "ticker": 64, "book": 64, channels.MARKS: 64, channels.PERPETUAL: 64,
    "trades": 1, channels.PRICE_INDEX: 1, channels.VOLATILITY_INDEX: 1,
}  # fmt: skip
LISTS: Final = ("trades", channels.MARKS)
"""Classes whose data is a list of rows."""
REASON_CHARS_MAX: Final = 300
FRAMES_AT_ONCE: Final = 1024

_USUAL_START: Final = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_BUSY: Final = ("ticker", "book", "trades", channels.MARKS, channels.PERPETUAL)
_ROUTES: Final = {_USUAL_START + kind[:4].encode(): kind for kind in _BUSY}
_ROUTE_BYTES: Final = len(_USUAL_START) + 4
_CHANNEL: Final = re.compile(rb'"channel"\s*:\s*"([^"]{1,100})"')


@dataclass(frozen=True, slots=True)
class Reject:
    """A frame that could not be taken: its index in the input, and one line naming channel and field."""

    record: int
    reason: str


@dataclass(slots=True)
class Batch:
    """One call of `decode` under way."""

    frames: Sequence[bytes]
    recv_us: Ints
    instruments: Instruments = field(default_factory=Instruments)
    indices: Instruments = field(default_factory=lambda: Instruments(index_family))
    records: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in channels.TABULATED})
    rejects: list[Reject] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    control: int = 0
    creations: list[int] = field(default_factory=list)
    subjects: dict[str, tuple[str, int]] = field(default_factory=dict)
    pairs: defaultdict[str, dict[tuple[str, str], int]] = field(default_factory=lambda: defaultdict(dict))
    """By class, the numbers of instruments by channel and name in the data, as `subject` found them."""

    def route(self) -> None:
        """Sort all frames by class, by their first bytes where these are the usual ones."""
        kinds = list(map(_ROUTES.get, [frame[:_ROUTE_BYTES] for frame in self.frames]))
        if not all(kinds):
            kinds = [kind or self.sort(record) for record, kind in enumerate(kinds)]
        for wanted in self.records.keys() & set(kinds):
            self.records[wanted] += [record for record, kind in enumerate(kinds) if kind == wanted]

    def sort(self, record: int) -> str | None:
        """The class of a frame to tabulate; None, after accounting for it, if it is not to be tabulated."""
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
                self.reject(record, "neither reply, notification nor heartbeat")
                return None
        except wire.DECODE_ERRORS as error:
            self.reject(record, error)
        else:
            self.control += 1
        return None

    def reject(self, record: int, error: object) -> None:
        found = _CHANNEL.search(self.frames[record])
        channel = found[1].decode(errors="replace") if found else "no channel"
        line = "".join(c if c.isprintable() else "?" for c in f"{channel}: {error}")
        self.rejects.append(Reject(record, line[:REASON_CHARS_MAX]))

    def each(
        self, kind: str, part: slice, decode_frame: Callable[[bytes], Any], take: Callable[[int, Any], None]
    ) -> None:
        """Decode frames of a class and hand their params to `take`, which may refuse with InputError."""
        frames, records = self.frames, self.records[kind][part]
        for record in records:
            try:
                take(record, decode_frame(frames[record]).params)
            except (*wire.DECODE_ERRORS, InputError) as error:
                # The first bytes may have promised another class, as they do of grouped books.
                if self.sort(record) is not None:
                    self.reject(record, error)

    def examine_some(self, kind: str, part: slice) -> None:
        """Look for unknown fields in every so many frames of a class."""
        refused = {reject.record for reject in self.rejects}
        for record in self.records[kind][part][:: EXAMINE_EVERY[kind]]:
            if record not in refused:
                self.examine(kind, self.frames[record])

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

    def index(self, channel: str, kind: str, named: str) -> int:
        """The number of the index a channel speaks of, which must be the one its data names."""
        sorted_out = channels.classify(channel)
        if sorted_out.kind != kind or sorted_out.index is None:
            raise InputError(f"a {kind} frame of channel {channel}")
        if sorted_out.index != named:
            raise InputError(f"index_name is {named}")
        return self.indices.code(named)

    def examine(self, kind: str, frame: bytes) -> None:
        """Count the fields of a frame that nobody told us about."""
        try:
            data = wire.notification.decode(frame).params.data
            for row in wire.rows_of_fields.decode(data) if kind in LISTS else [wire.fields.decode(data)]:
                self.count_unknown(kind, row)
                if kind == "ticker" and (greeks := wire.fields_or_null.decode(row.get("greeks", wire.NULL))):
                    self.count_unknown("ticker.greeks", greeks)
        except wire.DECODE_ERRORS:
            self.unknown[f"{kind}.?"] += 1  # a name that is not text, in a part that decoding skips

    def count_unknown(self, kind: str, row: dict[str, Raw]) -> None:
        known = wire.KNOWN[kind]
        if not row.keys() <= known:
            self.unknown.update(f"{kind}.{name}" for name in row.keys() - known)

    def table(self, name: str, codes: npt.NDArray[np.int32], ts_ms: Ints, records: npt.NDArray[np.int32],
              payload: Sequence[Array]) -> pa.Table:  # fmt: skip
        return columns.table(name, self.instruments, codes, ts_ms, self.recv_us, records, payload)

    def parts(self, kind: str) -> list[slice]:
        """Slices of the frames of a class, at least one, small enough to stay in the processor's cache."""
        frames = max(len(self.records[kind]), 1)
        return [slice(start, start + FRAMES_AT_ONCE) for start in range(0, frames, FRAMES_AT_ONCE)]
