"""Whether the market has a reason to be still: a lock, a settlement, maintenance, a halt, an expiry.

Fed with what the venue announces (`platform_state`, `instrument.state`) and with its answers to `public/status`.
Times are receive times in ns since the epoch, UTC.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from collectors.deribit import wire
from collectors.deribit.channels import classify
from collectors.deribit.columns import US_IN_NS
from collectors.deribit.lifecycle import LIVING, StateChange
from collectors.deribit.names import parse_name
from lake.errors import InputError

EVERY_INDEX: Final = ""


class _PlatformData(Struct, gc=False):
    """Either a lock of one index, or maintenance of everything."""

    price_index: str | None = None
    locked: bool | None = None
    maintenance: bool | None = None


class _Status(Struct, gc=False):
    """`locked` is "true", "partial" or "false"; some answers spell it as a boolean."""

    locked: str | bool = False
    locked_indices: list[str] = []


_PLATFORM: Final = msgspec.json.Decoder(wire.BareFrame[_PlatformData])
_STATE: Final = msgspec.json.Decoder(wire.BareFrame[StateChange])
_STATUS: Final = msgspec.json.Decoder(_Status)


class MarketState:
    """Since when what is still: `resting_ns` of a channel."""

    def __init__(self) -> None:
        self._locked: dict[str, int] = {}
        self._halted: dict[str, int] = {}
        self._open_ns = 0
        """When the venue last said that nothing is locked: a lock found later may be as old as that."""

    @property
    def locked(self) -> bool:
        """Whether any index is, as far as was heard."""
        return bool(self._locked)

    def platform(self, frame: bytes, recv_ns: int) -> None:
        """Take a `platform_state` notification.

        Raises:
            msgspec.DecodeError: it is none.
        """
        data = _PLATFORM.decode(frame).params.data
        if data.maintenance is not None:
            self._lock(EVERY_INDEX, recv_ns, locked=data.maintenance)
        if data.price_index is not None and data.locked is not None:
            self._lock(data.price_index, recv_ns, locked=data.locked)

    def instrument(self, frame: bytes, recv_ns: int) -> None:
        """Take an `instrument.state` notification.

        Raises:
            msgspec.DecodeError: it is none.
        """
        change = _STATE.decode(frame).params.data
        if change.state in LIVING:
            self._halted.pop(change.instrument_name, None)
        else:
            self._halted.setdefault(change.instrument_name, recv_ns)

    def status(self, result: msgspec.Raw, recv_ns: int) -> None:
        """Take the result of `public/status`, which is the truth about locks.

        Raises:
            msgspec.DecodeError: it is none.
        """
        status = _STATUS.decode(result)
        word = str(status.locked).lower()
        locked = status.locked_indices if word == "partial" else [EVERY_INDEX] if word == "true" else []
        if not locked:
            self._open_ns = recv_ns
        known_ns = min(self._locked.values(), default=self._open_ns)
        self._locked = {index: self._locked.get(index, known_ns) for index in locked}

    def forget(self) -> None:
        """What has changed may have been missed."""
        self._locked.clear()
        self._halted.clear()

    def resting_ns(self, channel: str, now_ns: int) -> int | None:
        """Since when the channel has had a reason to say nothing; None: it has none."""
        known = classify(channel)
        reasons = [self._locked.get(EVERY_INDEX)]
        if known.instrument is None:
            reasons += [since for name, since in self._locked.items() if known.index in (None, name)]
        else:
            reasons += [self._locked.get(index_of(known.instrument)), self._halted.get(known.instrument)]
            reasons.append(expired_ns(known.instrument, now_ns))
        return min((since_ns for since_ns in reasons if since_ns is not None), default=None)

    def _lock(self, index: str, recv_ns: int, *, locked: bool) -> None:
        if locked:
            self._locked.setdefault(index, recv_ns)
        else:
            self._locked.pop(index, None)


def index_of(instrument: str) -> str:
    """The index that an instrument settles against, by its name: BTC-… btc_usd, SOL_USDC-… sol_usdc."""
    basis = instrument.partition("-")[0].lower()
    return basis if "_" in basis else f"{basis}_usd"


def expired_ns(instrument: str, now_ns: int) -> int | None:
    """When an instrument has expired, by its name; None where it has not by `now_ns`, or never does."""
    try:
        expiry_us = parse_name(instrument).expiry
    except InputError:
        return None
    expiry_ns = None if expiry_us is None else expiry_us * US_IN_NS
    return expiry_ns if expiry_ns is not None and expiry_ns <= now_ns else None
