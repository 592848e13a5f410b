"""The account: one JSON line per frame sent or withheld, so that what arrived can be compared with what left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import msgspec

from lake.errors import InputError

_FLUSH_BYTES: Final = 1 << 20
_HASH_BYTES: Final = 8


class Sent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One frame that was handed to a session's socket, or that a fault kept from it (`withheld`).

    `seq` is the change_id of a book, first and last trade_seq of an instrument's trades, first and last
    trade_id of a currency's, and a timestamp (ms) elsewhere; `channel` is null for replies, heartbeats and
    garbage; `hash` is the `frame_hash` of its bytes. A withheld frame comes with its text in `payload`: it is
    what the session would have got at this place.
    """

    n: int
    session: int
    channel: str | None
    seq: Any
    prev: int | None
    hash: str
    sent_ns: int
    withheld: bool = False
    payload: str | None = None


class Account:
    """Appends lines to a file through a buffer; complete after `flush` or `close`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("wb")
        self._buffer = bytearray()
        self._encoder = msgspec.json.Encoder()
        self._count = 0

    def add(
        self,
        session: int,
        channel: str | None,
        seq: object,
        prev: int | None,
        payload: bytes,
        *,
        withheld: bool = False,
    ) -> None:
        """Note one frame; `payload` is the text without the WebSocket header."""
        text = payload.decode("utf-8", "backslashreplace") if withheld else None
        hashed = frame_hash(payload)
        line = Sent(self._count, session, channel, seq, prev, hashed, time.time_ns(), withheld, text)
        self._count += 1
        self._buffer += self._encoder.encode(line)
        self._buffer += b"\n"
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Make the file complete up to now."""
        self._file.write(self._buffer)
        self._file.flush()
        self._buffer.clear()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        self._file.close()

    def __enter__(self) -> Account:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_hash(payload: bytes) -> str:
    """The `hash` of a frame with these bytes."""
    return blake2b(payload, digest_size=_HASH_BYTES).hexdigest()


def read_account(path: Path) -> Iterator[Sent]:
    """The lines of an account, in the order of sending.

    Raises:
        InputError: a line is not one of an account; the message names it.
    """
    decoder = msgspec.json.Decoder(Sent)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield decoder.decode(line)
            except msgspec.DecodeError as error:
                raise InputError(f"{path}:{number}: not an account line ({error})") from None
