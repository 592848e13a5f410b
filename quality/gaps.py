"""The holes on record: what was not recorded, for how long, and why."""

from __future__ import annotations

from typing import Any, Final

from lake.views import Connection

LAST_TIME: Final = "9999-12-31 23:59:59.999999+00"
"""The latest that can be shown; a venue may name any."""
RECORDS_MAX: Final = 2**63 - 1
"""The most that can be counted; sums beyond it are given as this."""

_BY_CAUSE: Final = f"""
    SELECT cause, count(*) AS gaps, count(*) FILTER (healed) AS healed,
        round(sum((epoch_us(end_ts)::HUGEINT - epoch_us(start_ts)::HUGEINT)::DOUBLE / 1e6), 3) AS seconds,
        least(max(end_ts), TIMESTAMPTZ '{LAST_TIME}') AS last_end,
        greatest(least(sum(records_lost::HUGEINT), {RECORDS_MAX}), -{RECORDS_MAX})::BIGINT AS records_lost
    FROM gaps AS one WHERE healed OR NOT EXISTS (SELECT 1 FROM gaps AS other WHERE other.healed
        AND other.stream = one.stream AND other.cause = one.cause AND other.start_ts = one.start_ts
        AND other.end_ts = one.end_ts AND other.connection IS NOT DISTINCT FROM one.connection
        AND other.channel IS NOT DISTINCT FROM one.channel
        AND other.instrument IS NOT DISTINCT FROM one.instrument)
    GROUP BY cause ORDER BY seconds DESC
"""  # noqa: S608 - our own numbers


def gaps_by_cause(sql: Connection) -> list[dict[str, Any]]:
    """One row per cause: how many gaps, how many healed since, seconds and records lost; longest first.

    A gap that was told when a collector stopped, and again when the next one had healed it, counts as healed.
    """
    return list(sql.query(_BY_CAUSE).to_pylist())
