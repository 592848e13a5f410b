"""Parameters of public methods, as the venue reads and refuses them; GET sends every value as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from collectors.simulator.chain import Spec
from collectors.simulator.rpc import invalid

KINDS: Final = ("future", "option", "spot", "future_combo", "option_combo", "any")
CURRENCIES: Final = ("BTC", "ETH", "USDC", "USDT", "EURR", "any")
Params = dict[str, Any]


def text(params: Params, name: str, allowed: Iterable[str] | None = None, default: str | None = None) -> str:
    """A string parameter."""
    value = params.get(name, default)
    if not isinstance(value, str):
        raise invalid(name, "value is required" if value is None else "must be a string")
    if allowed is not None and value not in allowed:
        raise invalid(name)
    return value


def integer(params: Params, name: str, default: int | None = None) -> int:
    """An integer parameter."""
    value = params.get(name, default)
    if value is None:
        raise invalid(name, "value is required")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise invalid(name, "must be an integer") from None


def bounded(params: Params, name: str, default: int, highest: int, lowest: int = 1) -> int:
    """An integer parameter within bounds."""
    value = integer(params, name, default)
    if not lowest <= value <= highest:
        raise invalid(name, f"value must be between {lowest} and {highest}")
    return value


def boolean(params: Params, name: str) -> bool:
    """A boolean parameter, false by default."""
    value = params.get(name, False)
    if value in (True, "true"):
        return True
    if value in (False, "false"):
        return False
    raise invalid(name, "must be a boolean")


def span(params: Params, now_ms: int) -> tuple[int, int]:
    """`start_timestamp` and `end_timestamp`, the latter not after now."""
    first, last = integer(params, "start_timestamp"), integer(params, "end_timestamp")
    if first > last:
        raise invalid("start_timestamp", "must not be after end_timestamp")
    return first, min(last, now_ms)


def listed(specs: Iterable[Spec], params: Params) -> list[Spec]:
    """The instruments a `currency` and `kind` choose."""
    currency = text(params, "currency", CURRENCIES, "any")
    kind = text(params, "kind", KINDS, "any")
    return [s for s in specs if currency in ("any", s.currency) and kind in ("any", s.kind)]
