"""Deribit's instrument names: their grammar, and the partition family each belongs to.

    CODE    = letters and digits                         BTC, SOL, 1000PEPE, NVDA
    BASIS   = CODE | CODE_CODE                           BTC (coin-settled), BTC_USDC (linear, quoted in USDC)
    DATE    = D[D]MMMYY                                  5DEC25: no leading zero; expires at 08:00 UTC
    perp    = BASIS-PERPETUAL                            BTC-PERPETUAL, NVDA_USDC-PERPETUAL
    future  = BASIS-DATE                                 BTC-27SEP24
    option  = BASIS-DATE-STRIKE-(C|P)                    XRP_USDC-30JUN23-0d625-C: `d` is the decimal point
    spot    = CODE_CODE                                  BTC_USDC
    combo   = BASIS-FS-LEG_LEG, LEG = DATE | PERP        BTC-FS-25DEC26_PERP
            | BASIS-STRATEGY-DATE[_DATE]-K[_K...]        BTC-CS-19MAY26-70000_75000; strategies are open-ended

A name is no proof of an instrument's terms: the listing's own fields are, and names are read to sort ticks
into partitions and to interpret instruments whose listing was never seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

from lake.errors import InputError

Kind = Literal["future", "option", "spot", "future_combo", "option_combo"]
OptionType = Literal["call", "put"]

EXPIRY_HOUR_UTC: Final = 8
NAMES_REMEMBERED: Final = 1 << 16
OWN_FAMILY: Final = {"BTC-PERPETUAL": "btc_perpetual", "ETH-PERPETUAL": "eth_perpetual"}

INDEX_FAMILY: Final = "index"
OPTIONS: Final = "_option"
"""How the families of options end."""

_INDEX: Final = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_MONTHS: Final = {
    name: number + 1
    for number, name in enumerate(
        ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
    )
}
_CODE: Final = r"[A-Z0-9]+"
_DATE: Final = rf"[1-9][0-9]?(?:{'|'.join(_MONTHS)})[0-9]{{2}}"
_BASIS: Final = rf"(?P<base>{_CODE})(?:_(?P<quote>{_CODE}))?"
_NUMBER: Final = r"[0-9]+(?:d[0-9]+)?"

_SPOT: Final = re.compile(rf"(?P<base>{_CODE})_(?P<quote>{_CODE})")
_PERPETUAL: Final = re.compile(rf"{_BASIS}-PERPETUAL")
_FUTURE: Final = re.compile(rf"{_BASIS}-(?P<dates>{_DATE})")
_OPTION: Final = re.compile(rf"{_BASIS}-(?P<dates>{_DATE})-(?P<strike>{_NUMBER})-(?P<type>[CP])")
_FUTURE_COMBO: Final = re.compile(rf"{_BASIS}-FS-(?P<dates>{_DATE}_(?:{_DATE}|PERP))")
_OPTION_COMBO: Final = re.compile(
    rf"{_BASIS}-(?!FS-)[A-Z][A-Z0-9]*-(?P<dates>{_DATE}(?:_{_DATE})*)-{_NUMBER}(?:_{_NUMBER})*"
)
_FORMS: Final[tuple[tuple[Kind, re.Pattern[str]], ...]] = (
    ("option", _OPTION),
    ("future", _FUTURE),
    ("future", _PERPETUAL),
    ("spot", _SPOT),
    ("future_combo", _FUTURE_COMBO),
    ("option_combo", _OPTION_COMBO),
)


@dataclass(frozen=True, slots=True)
class Name:
    """What an instrument's name says.

    kind: the venue's own kinds; a perpetual is a "future" without expiry.
    quote: as written (USDC, USDT, ...); None for coin-settled instruments, whose price is against USD.
    expiry: µs since the epoch, 08:00 UTC of the named day; of a combo the first leg to expire; None for
    perpetuals and spot.
    strike: in units of the index price; None for all but options.
    """

    kind: Kind
    base: str
    quote: str | None
    expiry: int | None = None
    strike: float | None = None
    option_type: OptionType | None = None

    @property
    def perpetual(self) -> bool:
        return self.kind == "future" and self.expiry is None

    @property
    def basis(self) -> str:
        """What the name begins with: BTC, BTC_USDC."""
        return self.base if self.quote is None else f"{self.base}_{self.quote}"


@lru_cache(maxsize=NAMES_REMEMBERED)
def parse_name(name: str) -> Name:
    """Read an instrument name; InputError if it has none of the forms above."""
    for kind, form in _FORMS:
        match = form.fullmatch(name)
        if match is None:
            continue
        parts = match.groupdict()
        strike, letter = parts.get("strike"), parts.get("type")
        return Name(
            kind=kind,
            base=parts["base"],
            quote=parts["quote"],
            expiry=_first_expiry(parts.get("dates"), name),
            strike=None if strike is None else float(strike.replace("d", ".")),
            option_type=None if letter is None else ("call" if letter == "C" else "put"),
        )
    raise InputError(f"instrument name {name!r} has none of Deribit's forms, such as BTC-25DEC26-76000-C")


@lru_cache(maxsize=NAMES_REMEMBERED)
def family(name: str) -> str:
    """The partition family of an instrument, [a-z0-9_]+; InputError if the name cannot be read.

    Options by underlying ("btc_option", "btc_usdc_option"), dated futures "future", the two great perpetuals
    each their own, the others "perpetual"; "spot"; "combo".
    """
    own = OWN_FAMILY.get(name)
    if own is not None:
        return own
    parsed = parse_name(name)
    if parsed.kind == "option":
        return option_family(parsed.basis)
    if parsed.kind in ("future_combo", "option_combo"):
        return "combo"
    return "perpetual" if parsed.perpetual else parsed.kind


def option_family(basis: str) -> str:
    """The partition family of the options on a basis, such as BTC or BTC_USDC."""
    return f"{basis.lower()}{OPTIONS}"


def index_family(name: str) -> str:
    """The partition family of a price or volatility index, such as btc_usd; InputError if it is not so written."""
    if not _INDEX.fullmatch(name):
        raise InputError(f"index name {name!r} is not of Deribit's form, such as btc_usd")
    return INDEX_FAMILY


def _first_expiry(dates: str | None, name: str) -> int | None:
    if dates is None:
        return None
    return min(_expiry_us(date, name) for date in dates.split("_") if date != "PERP")


def _expiry_us(date: str, name: str) -> int:
    day, month, year = int(date[:-5]), _MONTHS[date[-5:-2]], 2000 + int(date[-2:])
    try:
        moment = datetime(year, month, day, EXPIRY_HOUR_UTC, tzinfo=UTC)
    except ValueError:
        raise InputError(f"instrument name {name!r}: there is no day {date}") from None
    return int(moment.timestamp()) * 1_000_000
