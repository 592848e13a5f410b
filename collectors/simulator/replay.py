"""Recorded sessions: reading their files, and sending their frames again byte for byte.

Three formats are read, plain or zstd: lines of `<receive time, s>: <frame>` (beside them `configuration:`
lines and `<url> <- …` lines of what the recorder sent), lines of bare frames, and lines wrapped as
`{"_file": …, "_msg": frame}`.
Only subscription notifications are replayed; replies and heartbeats are the server's own business.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import zstandard

from collectors.simulator.chain import Spec, instrument_json, parse_name
from collectors.simulator.params import Params, boolean, listed, text
from collectors.simulator.rest import currencies
from collectors.simulator.rpc import UNKNOWN_METHOD, VERSION, RpcError, invalid
from lake.errors import InputError

_STAMPED: Final = re.compile(rb"(\d+(?:\.\d+)?): (\{.*)", re.DOTALL)
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_INSTRUMENT_CHANNELS: Final = ("ticker", "book", "trades", "quote", "perpetual", "chart")


@dataclass(frozen=True, slots=True)
class Recorded:
    """One notification: seconds after the first one, its channel, its bytes, and its sequence ids."""

    offset_s: float
    channel: str
    payload: bytes
    seq: Any
    prev: int | None


class _Wrapper(msgspec.Struct):
    msg: msgspec.Raw = msgspec.field(name="_msg", default_factory=msgspec.Raw)


class _Params(msgspec.Struct):
    channel: str | None = None
    data: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))


class _Frame(msgspec.Struct):
    method: str | None = None
    params: _Params | None = None


_wrapper = msgspec.json.Decoder(_Wrapper)
_frame = msgspec.json.Decoder(_Frame)


def load(paths: Sequence[Path]) -> list[Recorded]:
    """The notifications of recorded files, in order; a later file begins where the one before ended.

    Without a receive time, the pace is that of the venue's timestamps.

    Raises:
        InputError: a file is missing or has a line that is no recording; the message names it.
    """
    found: list[Recorded] = []
    for path in paths:
        base = found[-1].offset_s if found else 0.0
        first: float | None = None
        latest = 0.0
        for stamp, payload in _lines(path):
            frame = _frame.decode(payload)
            if frame.method != "subscription" or frame.params is None or frame.params.channel is None:
                continue
            seq, prev, timestamp = _sequence(frame.params.data)
            at = stamp if stamp is not None else timestamp
            if at is not None:
                first = at if first is None else first
                latest = max(latest, at - first)
            found.append(Recorded(base + latest, frame.params.channel, payload, seq, prev))
    return found


def _lines(path: Path) -> Iterator[tuple[float | None, bytes]]:
    """(receive time or None, frame bytes) of every frame in a file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith(_ZSTD_MAGIC):
        stream = zstandard.ZstdDecompressor().decompressobj()
        try:
            content = stream.decompress(content)
        except zstandard.ZstdError as error:
            raise InputError(f"{path}: not a whole zstd file ({error})") from None
        if not stream.eof:
            raise InputError(f"{path}: not a whole zstd file (it ends early)")
    for number, line in enumerate(content.split(b"\n"), start=1):
        if (
            not line.strip()
            or line.startswith(b"configuration:")
            or b" <- " in line[:200]
            or b" <-> " in line
        ):
            continue
        stamped = _STAMPED.fullmatch(line)
        try:
            if stamped:
                yield float(stamped[1]), stamped[2]
            else:
                wrapped = _wrapper.decode(line).msg
                yield None, bytes(wrapped) or line
        except msgspec.DecodeError as error:
            raise InputError(f"{path}:{number}: not a recorded frame ({error})") from None


def _sequence(raw: msgspec.Raw) -> tuple[Any, int | None, float | None]:
    """Sequence ids, previous change id, and the venue's time in seconds of a frame's data."""
    data = msgspec.json.decode(raw)
    first, last = (data[0], data[-1]) if isinstance(data, list) and data else (data, data)
    if not isinstance(first, dict):
        return None, None, None
    timestamp = first.get("timestamp")
    seconds = timestamp / 1000 if isinstance(timestamp, int) else None
    if "change_id" in first:
        return first["change_id"], first.get("prev_change_id"), seconds
    if "trade_seq" in first:
        return [first["trade_seq"], last["trade_seq"]], None, seconds
    return timestamp, None, seconds


def channel_instrument(channel: str) -> str | None:
    """The instrument a channel speaks of, if it is about one."""
    parts = channel.split(".")
    if parts[0] not in _INSTRUMENT_CHANNELS or len(parts) < 2:
        return None
    return parts[1] if "-" in parts[1] or "_" in parts[1] else None


class ReplayMethods:
    """Public methods during a replay: the clock, and the instruments the recording speaks of."""

    def __init__(self, recorded: Sequence[Recorded], now_ms: int) -> None:
        self._now_ms = now_ms
        names = dict.fromkeys(filter(None, (channel_instrument(r.channel) for r in recorded)))
        self._specs: dict[str, Spec] = {name: parse_name(name, now_ms=now_ms) for name in names if name}

    def call(self, method: str, params: Params) -> object:
        """The `result` of `public/<method>`; raises RpcError as the venue would."""
        if method == "get_time":
            return self._now_ms
        if method in ("test", "hello"):
            return {"version": VERSION}
        if method == "status":
            return {"locked": "false", "locked_indices": []}
        if method == "get_currencies":
            return currencies({spec.currency for spec in self._specs.values()})
        if method == "get_instruments":
            chosen = [] if boolean(params, "expired") else listed(self._specs.values(), params)
            return [self._row(spec) for spec in chosen]
        if method == "get_instrument":
            found = self._specs.get(text(params, "instrument_name"))
            if found is None:
                raise invalid("instrument_name", "instrument not found")
            return self._row(found)
        raise RpcError(UNKNOWN_METHOD, "Method not found")

    def _row(self, spec: Spec) -> dict[str, Any]:
        return instrument_json(spec, min(self._now_ms, spec.creation_ms))
