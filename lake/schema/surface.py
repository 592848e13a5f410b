"""Volatility surfaces: one row per expiry and instant."""

from __future__ import annotations

from typing import Final

from lake.schema.shared import VENUE
from lake.schema.spec import TableSpec, flag, number32, text, time
from lake.schema.spec import repeated_number as number  # hardly a value repeats: no dictionary

_COLUMNS: Final = (
    VENUE,
    text("instrument", "Name of the expiry's options without strike and type: BTC-25DEC26.", null=False),
    time("ts", "The instant whose quotes were fitted, UTC.", null=False),
    time("expiration_ts", "Expiry, UTC.", null=False),
    text("source", "What was fitted: mid or mark volatilities.", null=False),
    text("method", "svi, or essvi where SVI failed; null where there is no smile."),
    text("failure", "Why there is no smile; null where there is one."),
    number("forward", "Forward price, quote currency: of the newest quote."),
    number(
        "svi_a",
        "Raw SVI: total variance w(k) = a + b (rho (k - m) + sqrt((k - m)² + sigma²)), k = ln(K / forward).",
    ),
    number("svi_b", "Raw SVI."),
    number("svi_rho", "Raw SVI."),
    number("svi_m", "Raw SVI."),
    number("svi_sigma", "Raw SVI."),
    number("k_low", "Log-moneyness of the lowest strike fitted; below it the smile is extrapolated."),
    number("k_high", "Log-moneyness of the highest strike fitted."),
    number32("quotes", "Quotes of the expiry's options, calls and puts.", null=False),
    number32("strikes", "Strikes fitted, one quote each.", null=False),
    text("excluded", "JSON object, reason: number of quotes left out.", null=False),
    number("rmse", "Root mean square error with the weights of the fit, volatility points."),
    number("rmse_equal", "Root mean square error, every strike alike, volatility points."),
    number("max_error", "Largest error, volatility points."),
    number(
        "least_g", "Least value of Durrleman's g(k) between k_low and k_high; null where it is not finite."
    ),
    flag("butterfly", "Whether the smile admits butterfly arbitrage between k_low and k_high."),
    flag(
        "calendar", "Whether the expiry before has more total variance at a strike that both were fitted to."
    ),
    number("calendar_k", "Log-moneyness where it has the most more."),
    number("calendar_excess", "By how much, total variance."),
    number("atm", "Volatility at the forward, percent."),
    number("rr25", "Volatility of the 25-delta call less that of the 25-delta put, percent."),
    number("bf25", "Mean of the two less atm, percent."),
)

SPECS: Final = (
    TableSpec(
        name="surface",
        doc="Volatility smiles: one row per expiry of an underlying and instant, fitted by `lake surface`.",
        columns=_COLUMNS,
        natural_key=("venue", "instrument", "ts"),
        sort_key=("venue", "instrument", "ts"),
        period="month",
    ),
)
