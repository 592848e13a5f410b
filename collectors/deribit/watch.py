"""Looking over the recorder's shoulder: the few fields of a frame that tell whether anything is missing.

Frames are taken note of when they have been recorded, and looked into later, in batches on the event loop:
what is looked for can delay no record. A frame that cannot be read is left to ingest, which keeps it with
its reason.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta, Struct

from collectors.continuity import (
    BookChains,
    ChainNews,
    ClockSkew,
    Hole,
    Leap,
    Skew,
    TradeSequences,
    Whole,
)
from collectors.deribit import wire
from collectors.deribit.channels import CHANNELS_REMEMBERED, PLATFORM, STATE
from collectors.deribit.columns import US_IN_NS
from collectors.deribit.market_state import MarketState
from collectors.deribit.trade_answers import notified_trades
from collectors.silence import Silence, Silent

FRAMES_AT_ONCE: Final = 500
"""Half a millisecond or so: then it is the sockets' turn again."""
_HEAD: Final = b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"'
_HEAD_BYTES: Final = len(_HEAD)


class _BookData(Struct, gc=False):
    type: str
    change_id: wire.Int64
    prev_change_id: wire.Int64 | None = None


class _Reply(Struct, gc=False):
    usOut: Annotated[int, Meta(ge=wire.FIRST_MS * 1000, lt=wire.END_MS * 1000)]  # noqa: N815 - as sent


class _ChannelParams(Struct, gc=False):
    channel: str = ""


class _AnyFrame(Struct, gc=False):
    params: _ChannelParams | None = None


_BOOK: Final = msgspec.json.Decoder(wire.BareFrame[_BookData])
_REPLY: Final = msgspec.json.Decoder(_Reply)
_ANY: Final = msgspec.json.Decoder(_AnyFrame)


class Reactions(Protocol):
    """Who is told what was noticed, on the event loop. Receive times in ns."""

    def book_broke(self, connection: int, channel: str) -> None:
        """A book cannot be built any more."""

    def book_mended(self, channel: str) -> None:
        """What it lacked has come late: it can be built, and nothing was missing."""

    def book_whole(self, channel: str, whole: Whole) -> None:
        """A broken book can be built again."""

    def trades_missing(self, connection: int, channel: str, hole: Hole) -> None:
        """Trades did not come, or not yet."""

    def trades_leapt(self, connection: int, channel: str, leap: Leap) -> None:
        """A trade has a number that cannot be."""

    def silence_ended(self, connection: int, silent: Silent) -> None:
        """A lively channel, or all of a connection, speaks again."""

    def clock_skewed(self, skew: Skew) -> None:
        """Our clock and the venue's have come apart, or together again."""


class Watch:
    """Feeds the trackers with what `observe` is shown, and tells `reactions` what they find."""

    def __init__(self, reactions: Reactions) -> None:
        self.books = BookChains()
        self.trades = TradeSequences()
        self.clock = ClockSkew()
        self.market = MarketState()
        self.silence: dict[int, Silence] = {}
        self.tickers: dict[str, bytes] = {}
        """The last frame of each ticker."""
        self.unreadable = 0
        self._reactions = reactions
        self._waiting: deque[tuple[int, int, bytes]] = deque()
        self._names: dict[bytes, str] = {}

    def observe(self, recv_ns: int, connection: int, payload: bytes) -> None:
        """Take note of a frame just recorded. Call from the event loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._some)
        self._waiting.append((recv_ns, connection, payload))

    def catch_up(self) -> None:
        """Look into everything noted so far."""
        while self._waiting:
            self._look(len(self._waiting))

    def forget(self, channel: str) -> None:
        """The channel is left, or was interrupted: what it says next has nothing before it."""
        self.books.forget(channel)
        self.tickers.pop(channel, None)

    def _some(self) -> None:
        self._look(FRAMES_AT_ONCE)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._some)

    def _look(self, count: int) -> None:
        """Look into the oldest `count` frames noted."""
        waiting, head, head_bytes, known = self._waiting, _HEAD, _HEAD_BYTES, self._names.get
        for _ in range(min(count, len(waiting))):
            recv_ns, connection, payload = waiting.popleft()
            try:
                name = (
                    payload[head_bytes : payload.find(b'"', head_bytes)] if payload.startswith(head) else b""
                )
                channel = known(name) or self._channel(name, payload)
                if not channel:
                    self._reply(payload, recv_ns)
                    continue
                silence = self.silence.get(connection)
                if silence is None:
                    silence = self.silence[connection] = Silence()
                ended = silence.heard(channel, recv_ns)
                if ended:
                    for silent in ended:
                        self._reactions.silence_ended(connection, silent)
                if channel.startswith("book."):
                    self._book(connection, channel, recv_ns, payload)
                elif channel.startswith("ticker."):
                    self.tickers[channel] = payload
                elif channel.startswith("trades."):
                    self._trades(connection, channel, recv_ns, payload)
                elif channel in PLATFORM:
                    self.market.platform(payload, recv_ns)
                elif channel.startswith(STATE):
                    self.market.instrument(payload, recv_ns)
            except wire.DECODE_ERRORS:
                self.unreadable += 1

    def _channel(self, name: bytes, payload: bytes) -> str:
        """The channel of a frame met for the first time or written in an unusual way; empty if it has none."""
        params = _ANY.decode(payload).params
        channel = params.channel if params is not None else ""
        if name and len(self._names) < CHANNELS_REMEMBERED:
            self._names[name] = channel
        return channel

    def _book(self, connection: int, channel: str, recv_ns: int, payload: bytes) -> None:
        data = _BOOK.decode(payload).params.data
        if data.type == "change":
            news = self.books.change(channel, data.change_id, data.prev_change_id, recv_ns)
            if news is ChainNews.BROKE:
                self._reactions.book_broke(connection, channel)
            elif news is ChainNews.MENDED:
                self._reactions.book_mended(channel)
        elif data.type == "snapshot":
            whole = self.books.snapshot(channel, data.change_id, recv_ns)
            if whole is not None:
                self._reactions.book_whole(channel, whole)

    def _trades(self, connection: int, channel: str, recv_ns: int, payload: bytes) -> None:
        for trade in notified_trades(payload):
            hole = self.trades.note(trade.instrument_name, trade.trade_seq, recv_ns)
            if isinstance(hole, Hole):
                self._reactions.trades_missing(connection, channel, hole)
            elif hole is not None:
                self._reactions.trades_leapt(connection, channel, hole)

    def _reply(self, payload: bytes, recv_ns: int) -> None:
        if b'"usOut"' in payload:
            skew = self.clock.note(_REPLY.decode(payload).usOut * US_IN_NS, recv_ns)
            if skew is not None:
                self._reactions.clock_skewed(skew)
