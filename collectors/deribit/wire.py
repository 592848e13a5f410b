"""Deribit's messages as they travel: their shapes, and a decoder for each.

Three habits of the shapes, each for speed that was measured:
- Fields stand in the order in which the venue sends them today. Any order is read right; that one fastest.
- Only tabulated fields are declared: skipping a value costs less than keeping it. What is known and left out
  is listed in `LEFT_OUT`, so that a field nobody knows can be told from one left out on purpose.
- A nullable number is NaN where its key is absent and None where it is null; JSON itself has no NaN, so
  nothing is confused, and columns turn both into null.

Required is what was present in every message recorded since 2019; a message without it is refused.
"""

from __future__ import annotations

from typing import Annotated, Final, Generic, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that decoding hostile bytes can raise (msgspec.ValidationError is a DecodeError)."""

LEFT_OUT: Final[dict[str, set[str]]] = {
    "ticker": {
        "state", "stats", "settlement_price", "min_price", "max_price", "interest_rate", "interest_value",
        "estimated_delivery_price", "delivery_price",
    },
    "ticker.greeks": set(),
    "trades": {"legs"},
    "book": set(),
    "perpetual": set(),
    "deribit_price_index": set(),
    "deribit_volatility_index": {"estimated_delivery"},
    "markprice.options": set(),
    "funding_rate_history": set(),
}  # fmt: skip
"""Fields of the venue that are known, and not tabulated."""

FIRST_MS: Final = 1_262_304_000_000  # 2010-01-01
END_MS: Final = 4_102_444_800_000  # 2100-01-01
NEVER_EXPIRES_MS: Final = 32_503_708_800_000  # 3000-01-01 08:00, sent as the expiry of perpetuals and spot
MAX_LEVELS: Final = 1 << 15  # a level's position in its message is stored as int16

Milliseconds = Annotated[int, Meta(ge=FIRST_MS, lt=END_MS)]
Expiry = Annotated[int, Meta(ge=FIRST_MS, le=NEVER_EXPIRES_MS)]
Int8 = Annotated[int, Meta(ge=-(1 << 7), lt=1 << 7)]
Int16 = Annotated[int, Meta(ge=-(1 << 15), lt=1 << 15)]
Int64 = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
COUNTER_MAX: Final = 1 << 53
Counter = Annotated[int, Meta(ge=0, le=COUNTER_MAX)]
"""What the venue counts: beyond it JSON of other languages, the venue's own among them, has no whole numbers."""
Text = Annotated[str, Meta(max_length=4096)]
Number = float | None
ABSENT: Final = float("nan")
NULL: Final = Raw(b"null")
NOTHING: Final = Raw()
T = TypeVar("T")


class Greeks(Struct, gc=False, frozen=True):
    """Absolute Greeks of an option as sent: USD, rounded by the venue to 5 decimals."""

    delta: Number = ABSENT
    gamma: Number = ABSENT
    vega: Number = ABSENT
    theta: Number = ABSENT
    rho: Number = ABSENT


class Ticker(Struct, gc=False, kw_only=True):
    timestamp: Milliseconds
    greeks: Greeks | None = None
    index_price: float
    instrument_name: str
    last_price: Number = ABSENT
    open_interest: Number = ABSENT
    mark_price: float
    current_funding: Number = ABSENT
    funding_8h: Number = ABSENT
    best_ask_price: Number
    best_bid_price: Number
    mark_iv: Number = ABSENT
    bid_iv: Number = ABSENT
    ask_iv: Number = ABSENT
    underlying_price: Number = ABSENT
    underlying_index: Text | None = None
    best_ask_amount: float
    best_bid_amount: float


TICKER_NOT_NUMBERS: Final = ("timestamp", "greeks", "instrument_name", "underlying_index")


class Trade(Struct, gc=False, kw_only=True):
    timestamp: Milliseconds
    price: float
    amount: float
    direction: Literal["buy", "sell"]
    index_price: Number = ABSENT
    instrument_name: str
    trade_seq: Counter
    mark_price: Number = ABSENT
    tick_direction: Int8 | None = None
    iv: Number = ABSENT
    starbase_match_id: Int64 | None = None
    trade_id: Text | Int64
    contracts: Number = ABSENT
    starbase_timestamp: Int64 | None = None
    combo_id: Text | None = None
    combo_trade_id: Text | Int64 | None = None
    liquidation: Text | None = None
    block_trade_id: Text | None = None
    block_trade_leg_count: Int16 | None = None
    block_rfq_id: Text | Int64 | None = None


class Book(Struct, gc=False, kw_only=True):
    """Levels stay text here: they are decoded for many messages at once."""

    timestamp: Milliseconds
    type: Literal["snapshot", "change"]
    change_id: Int64
    instrument_name: str
    bids: Raw
    asks: Raw
    prev_change_id: Int64 | None = None


class Level(Struct, gc=False, array_like=True, forbid_unknown_fields=True):
    action: Literal["new", "change", "delete"]
    price: float
    amount: float


class Perpetual(Struct, gc=False, kw_only=True):
    """The perpetual channel; which instrument it speaks of, only the channel says."""

    timestamp: Milliseconds
    interest: float
    index_price: Number = ABSENT


class PriceIndex(Struct, gc=False, kw_only=True):
    timestamp: Milliseconds
    price: float
    index_name: str


class VolatilityIndex(Struct, gc=False, kw_only=True):
    """A value of DVOL, percent a year."""

    timestamp: Milliseconds
    volatility: float
    index_name: str


class Mark(Struct, gc=False, kw_only=True):
    """A row of `markprice.options`; unlike everywhere else the venue says `iv` as a fraction here."""

    timestamp: Milliseconds
    mark_price: float
    iv: Number = ABSENT
    instrument_name: str


class FundingHour(Struct, gc=False, kw_only=True):
    """A row of `get_funding_rate_history`: the hour that ends at `timestamp`, and the 8 h that do."""

    timestamp: Milliseconds
    index_price: Number = ABSENT
    prev_index_price: Number = ABSENT
    interest_8h: Number = ABSENT
    interest_1h: float


class Instrument(Struct, gc=False, kw_only=True):
    """Terms of an instrument; all but its name and kind came into the listing over the years."""

    instrument_name: Text
    kind: Text
    instrument_type: Text | None = None
    base_currency: Text | None = None
    quote_currency: Text | None = None
    counter_currency: Text | None = None
    settlement_currency: Text | None = None
    price_index: Text | None = None
    option_type: Text | None = None
    strike: Number = None
    creation_timestamp: Milliseconds | None = None
    expiration_timestamp: Expiry | None = None
    contract_size: Number = None
    tick_size: Number = None
    tick_size_steps: list[dict[str, float]] | None = None
    min_trade_amount: Number = None
    maker_commission: Number = None
    taker_commission: Number = None
    settlement_period: Text | None = None
    instrument_id: Int64 | None = None
    state: Text | None = None
    is_active: bool | None = None


class Taken(NamedTuple, Generic[T]):
    """Rows of a list that could be read, and of the others what is wrong with each."""

    rows: list[T]
    wrong: list[str]

    def told(self, what: str) -> str:
        """One line about the others."""
        return f"{len(self.wrong)} {what} refused, first: {self.wrong[0]}"


class Params(Struct, Generic[T], gc=False):
    channel: str
    data: T


class Frame(Struct, Generic[T], gc=False):
    """A notification whose data has the shape T."""

    params: Params[T]


class BareParams(Struct, Generic[T], gc=False):
    data: T


class BareFrame(Struct, Generic[T], gc=False):
    """The same, where the channel does not matter: leaving it out saves reading it."""

    params: BareParams[T]


class Success(Struct, Generic[T], gc=False):
    """A reply that has a result, of the shape T."""

    result: T


class Reply(Struct):
    """A reply to a request; `error` is what the venue says instead of a `result`."""

    result: Raw = NOTHING
    error: Raw = NOTHING


class Envelope(Struct):
    """Any frame, far enough to tell notification, reply and heartbeat apart."""

    method: str | None = None
    params: Raw = NOTHING
    result: Raw = NOTHING
    error: Raw = NOTHING


KNOWN: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(LEFT_OUT[kind]).union(shape.__struct_fields__)
    for kind, shape in (
        ("ticker", Ticker),
        ("ticker.greeks", Greeks),
        ("trades", Trade),
        ("book", Book),
        ("perpetual", Perpetual),
        ("deribit_price_index", PriceIndex),
        ("markprice.options", Mark),
        ("deribit_volatility_index", VolatilityIndex),
        ("funding_rate_history", FundingHour),
    )
}
"""Every field that is no news."""

ticker_frame: Final = msgspec.json.Decoder(Frame[Ticker])
trades_frame: Final = msgspec.json.Decoder(Frame[list[Trade]])
book_frame: Final = msgspec.json.Decoder(Frame[Book])
perpetual_frame: Final = msgspec.json.Decoder(Frame[Perpetual])
price_index_frame: Final = msgspec.json.Decoder(Frame[PriceIndex])
volatility_index_frame: Final = msgspec.json.Decoder(Frame[VolatilityIndex])
marks_frame: Final = msgspec.json.Decoder(Frame[list[Mark]])
levels: Final = msgspec.json.Decoder(list[Level])
envelope: Final = msgspec.json.Decoder(Envelope)
notification: Final = msgspec.json.Decoder(Frame[Raw])
fields: Final = msgspec.json.Decoder(dict[str, Raw])
fields_or_null: Final = msgspec.json.Decoder(dict[str, Raw] | None)
rows_of_fields: Final = msgspec.json.Decoder(list[dict[str, Raw]])
reply: Final = msgspec.json.Decoder(Reply)
funding_hours: Final = msgspec.json.Decoder(list[FundingHour])
funding_hour: Final = msgspec.json.Decoder(FundingHour)
raw_list: Final = msgspec.json.Decoder(list[Raw])
instrument: Final = msgspec.json.Decoder(Instrument)


def each(
    rows: Raw | bytes, of_all: msgspec.json.Decoder[list[T]], of_one: msgspec.json.Decoder[T]
) -> Taken[T]:
    """The rows of a list, all at once where they are as they should be, else one by one without those that are not.

    Raises:
        DECODE_ERRORS: it is no list, or of its rows none is as it should be.
    """
    try:
        return Taken(of_all.decode(rows), [])
    except DECODE_ERRORS as error:
        found, whole = Taken[T]([], []), error
    for row in raw_list.decode(rows):
        try:
            found.rows.append(of_one.decode(row))
        except DECODE_ERRORS as error:
            found.wrong.append(str(error))
    if not found.rows:
        raise whole
    return found
