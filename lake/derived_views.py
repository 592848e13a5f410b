"""Views computed on read: small answers that are asked for every day and are not worth storing."""

from __future__ import annotations

from typing import Final

DERIVED_VIEWS: Final[dict[str, str]] = {
    "funding_daily": """
        SELECT venue, instrument, ts::DATE AS day, sum(interest_1h) AS rate, count(*) AS hours,
            sum(interest_1h) * 365 AS annualised
        FROM (
            SELECT venue, instrument, ts - INTERVAL '1 microsecond' AS ts, any_value(interest_1h) AS interest_1h
            FROM funding WHERE type = 'hourly' GROUP BY ALL
        ) GROUP BY ALL
    """,
    "realised_volatility": """
        SELECT venue, instrument, ts::DATE AS day, count(step) AS steps,
            100 * sqrt(sum(step * step) * 525600 / count(step)) AS volatility
        FROM (
            SELECT venue, instrument, ts,
                CASE WHEN ts - lag(ts) OVER prior = INTERVAL '1 minute'
                    THEN ln(close / lag(close) OVER prior) END AS step
            FROM (
                SELECT venue, instrument, ts, arg_min(close, recv_ts) AS close FROM candles
                WHERE resolution = '1m' AND close > 0 GROUP BY ALL
            ) WINDOW prior AS (PARTITION BY venue, instrument ORDER BY ts)
        ) GROUP BY ALL HAVING count(step) > 0
    """,
}
"""Name and SQL of each. `funding_daily`: `rate`, a fraction, the exact sum of `hours` hours of a UTC day; a row of the
venue speaks of the hour that ends with it. `realised_volatility`: percent a year, from the `steps` one-minute
returns of a UTC day; a missing minute makes no return."""
