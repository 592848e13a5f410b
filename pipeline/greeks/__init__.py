"""Implied volatility and Greeks of European options on arrays, in Deribit's conventions."""

from pipeline.greeks.inversion import implied_volatility
from pipeline.greeks.venue import (
    FINAL_AVERAGING_YEARS,
    Greeks,
    greeks,
    in_final_averaging,
    premium_adjusted_delta,
    volatility_uncertainty,
)

__all__ = [
    "FINAL_AVERAGING_YEARS",
    "Greeks",
    "greeks",
    "implied_volatility",
    "in_final_averaging",
    "premium_adjusted_delta",
    "volatility_uncertainty",
]
