"""From market state to the venue's bytes: numbers, envelopes and the `data` objects of each channel.

Key order is that of 2026 traffic. Numbers are written as that server writes them: the shortest of decimal and
exponent form, decimal on a tie (77100.0 becomes 7.71e4, 83950.0 stays).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from collectors.simulator.options import Greeks

_CACHED_NUMBERS: Final = 1 << 16


def format_number(value: float) -> str:
    """JSON text of a float as the venue writes it.

    >>> [format_number(x) for x in (77100.0, 83950.0, 0.00002, 0.0001, -3.1e-06, 1000200.0)]
    ['7.71e4', '83950.0', '2.0e-5', '0.0001', '-3.1e-6', '1.0002e6']
    """
    text = repr(value)
    if value == 0.0:
        return "0.0"  # never "-0.0"
    if "e" not in text and 0.001 <= abs(value) < 1000.0:
        return text
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) + (len(whole) - 1 if whole != "0" else -(len(fraction) - len(digits)) - 1)
    digits = digits.rstrip("0")
    scientific = f"{sign}{digits[0]}.{digits[1:] or '0'}e{power}"
    if power < 0:
        decimal = f"{sign}0.{'0' * (-power - 1)}{digits}"
    else:
        padded = digits.ljust(power + 1, "0")
        decimal = f"{sign}{padded[: power + 1]}.{padded[power + 1 :] or '0'}"
    return scientific if len(scientific) < len(decimal) else decimal


number = lru_cache(_CACHED_NUMBERS)(format_number)


def optional(value: float | None) -> str:
    """`null`, or the number."""
    return "null" if value is None else number(value)


def notification(channel: str, data: str) -> str:
    """A subscription notification around the text of its `data`."""
    return f'{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'


def pairs(levels: Sequence[tuple[str, str]]) -> str:
    """`[price,amount]` levels of a grouped book or of get_order_book."""
    return "[" + ",".join([f"[{price},{amount}]" for price, amount in levels]) + "]"


def events(levels: Sequence[tuple[str, str, str]]) -> str:
    """`[action,price,amount]` levels of a book change."""
    return "[" + ",".join([f'["{action}",{price},{amount}]' for action, price, amount in levels]) + "]"


def book_snapshot(
    name: str,
    timestamp: int,
    change_id: int,
    bids: Sequence[tuple[str, str]],
    asks: Sequence[tuple[str, str]],
) -> str:
    """Every level as `new`; a snapshot has no `prev_change_id`."""
    all_bids = events([("new", price, amount) for price, amount in bids])
    all_asks = events([("new", price, amount) for price, amount in asks])
    return (
        f'{{"timestamp":{timestamp},"type":"snapshot","change_id":{change_id},"instrument_name":"{name}",'
        f'"bids":{all_bids},"asks":{all_asks}}}'
    )


def book_change(
    name: str,
    timestamp: int,
    change_id: int,
    prev_change_id: int,
    bids: Sequence[tuple[str, str, str]],
    asks: Sequence[tuple[str, str, str]],
) -> str:
    """Level events since `prev_change_id`."""
    return (
        f'{{"timestamp":{timestamp},"type":"change","change_id":{change_id},"instrument_name":"{name}",'
        f'"bids":{events(bids)},"asks":{events(asks)},"prev_change_id":{prev_change_id}}}'
    )


def grouped_book(
    name: str,
    timestamp: int,
    change_id: int,
    bids: Sequence[tuple[str, str]],
    asks: Sequence[tuple[str, str]],
) -> str:
    """The whole window of a grouped book: no actions, no type."""
    return (
        f'{{"timestamp":{timestamp},"change_id":{change_id},"instrument_name":"{name}",'
        f'"bids":{pairs(bids)},"asks":{pairs(asks)}}}'
    )


def quote(name: str, timestamp: int, ask: str, bid: str, ask_amount: str, bid_amount: str) -> str:
    """Best prices and amounts; 0.0 where a side is empty."""
    return (
        f'{{"timestamp":{timestamp},"instrument_name":"{name}","best_ask_price":{ask},"best_bid_price":{bid},'
        f'"best_ask_amount":{ask_amount},"best_bid_amount":{bid_amount}}}'
    )


def greeks(greek: Greeks) -> str:
    """The `greeks` member of a ticker: five decimals each."""
    delta, gamma, vega, theta, rho = [number(round(value, 5)) for value in greek]
    return f',"greeks":{{"delta":{delta},"gamma":{gamma},"vega":{vega},"theta":{theta},"rho":{rho}}}'


def trade(
    name: str,
    timestamp: int,
    *,
    side: str,
    numbers: tuple[float, float, float, float, float],
    vol: float | None,
    ids: tuple[int, str, int, int],
    nanoseconds: int,
) -> str:
    """One trade; `numbers`: price, amount, index, mark, contracts; `ids`: seq, id, tick direction, match."""
    price, amount, index, mark, contracts = map(number, numbers)
    seq, trade_id, tick_direction, match_id = ids
    iv = "" if vol is None else f',"iv":{number(vol)}'
    return (
        f'{{"timestamp":{timestamp},"price":{price},"amount":{amount},"direction":"{side}","index_price":{index}'
        f',"instrument_name":"{name}","trade_seq":{seq},"mark_price":{mark}{iv},"tick_direction":{tick_direction}'
        f',"starbase_match_id":{match_id},"trade_id":"{trade_id}","contracts":{contracts}'
        f',"starbase_timestamp":{nanoseconds}}}'
    )


def price_index(name: str, timestamp: int, price: float) -> str:
    """`deribit_price_index`."""
    return f'{{"timestamp":{timestamp},"price":{number(price)},"index_name":"{name}"}}'


def volatility_index(name: str, timestamp: int, volatility: float) -> str:
    """`deribit_volatility_index`, percent."""
    return f'{{"timestamp":{timestamp},"volatility":{number(volatility)},"index_name":"{name}"}}'


def platform_state(index: str, *, locked: bool) -> str:
    """Whether an index is locked, as it is during settlement."""
    return f'{{"locked":{"true" if locked else "false"},"price_index":"{index}"}}'


def public_methods(*, allowed: bool) -> str:
    """Whether callers without a login are answered."""
    return f'{{"allow_unauthenticated_public_requests":{"true" if allowed else "false"}}}'


def platform_maintenance(under_way: bool) -> str:
    """The announcement that all of the venue goes down, or is back."""
    return f'{{"maintenance":{"true" if under_way else "false"}}}'


def instrument_state(name: str, timestamp: int, state: str) -> str:
    """A life-cycle event."""
    return f'{{"timestamp":{timestamp},"state":"{state}","instrument_name":"{name}"}}'


def perpetual(timestamp: int, index: float, interest: float) -> str:
    """Interest of a perpetual."""
    return f'{{"timestamp":{timestamp},"interest":{number(interest)},"index_price":{number(index)}}}'


def mark_price_row(name: str, timestamp: int, mark: float, vol: float) -> str:
    """One row of `markprice.options`; the volatility is a fraction here."""
    return (
        f'{{"timestamp":{timestamp},"mark_price":{number(mark)},"iv":{number(vol)}'
        f',"instrument_name":"{name}"}}'
    )
