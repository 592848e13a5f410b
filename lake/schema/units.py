"""The unit of every number that is no count and no id, by the name of its column: one name means one unit, in every
table and view."""

from __future__ import annotations

from typing import Final

PRICE: Final = "price: coin for inverse options, else quote currency"
AMOUNT: Final = "amount: USD for inverse futures, else base coin"
QUOTE: Final = "quote currency (USD for inverse instruments)"
BASE: Final = "base coin"
SETTLEMENT: Final = "settlement currency"
PERCENT: Final = "percent"
POINTS: Final = "volatility points"
FRACTION: Final = "fraction"
PURE: Final = "pure number"
BAR: Final = "as the instrument: a price, or percent a year of a volatility index"

_BY_UNIT: Final[dict[str, tuple[str, ...]]] = {
    PRICE: (
        "price", "bid_price", "ask_price", "last_price", "mark_price", "bid_prices", "ask_prices", "future_price",
        "perpetual_price", "basis", "basis_index", "tick_size",
    ),
    AMOUNT: (
        "size", "bid_size", "ask_size", "bid_sizes", "ask_sizes", "open_interest", "position", "contract_size",
        "min_trade_amount",
    ),
    QUOTE: ("index_price", "prev_index_price", "underlying_price", "forward", "strike", "cost"),
    BASE: ("volume",),
    SETTLEMENT: (
        "session_profit_loss", "profit_loss", "funding", "funded", "session_bankruptcy", "session_tax", "socialized",
    ),
    PERCENT: ("bid_iv", "ask_iv", "mark_iv", "iv", "atm", "rr25", "bf25", "volatility"),
    POINTS: ("residual_bid_iv", "residual_ask_iv", "residual_iv", "rmse", "rmse_equal", "max_error"),
    FRACTION: (
        "funding_8h", "current_funding", "interest", "interest_1h", "interest_8h", "rate", "annualised",
        "annualised_index", "maker_commission", "taker_commission", "session_tax_rate",
    ),
    BAR: ("open", "high", "low", "close"),
    "contracts": ("contracts",),
    "per 1 of the underlying": ("delta", "residual_delta"),
    "per 1 of quote currency": ("gamma", "residual_gamma"),
    "quote currency per volatility point": ("vega", "residual_vega"),
    "quote currency per day": ("theta", "residual_theta"),
    "quote currency per rate point": ("rho", "residual_rho"),
    "log-moneyness": ("k_low", "k_high", "calendar_k", "svi_m", "svi_sigma"),
    "total variance": ("svi_a", "svi_b", "calendar_excess"),
    PURE: ("svi_rho", "least_g"),
}  # fmt: skip

UNITS: Final[dict[str, str]] = {name: unit for unit, names in _BY_UNIT.items() for name in names}
