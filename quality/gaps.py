"""The holes on record: what was not recorded, for how long, and why."""

from __future__ import annotations

from typing import Any, Final

from lake.views import Connection

LAST_TIME: Final = "9999-12-31 23:59:59.999999+00"
"""The latest that can be shown; a venue may name any."""
RECORDS_MAX: Final = 2**63 - 1
"""The most that can be counted; sums beyond it are given as this."""

_TOLD: Final = """
    SELECT * FROM gaps AS one WHERE healed OR NOT EXISTS (SELECT 1 FROM gaps AS other WHERE other.healed
        AND other.stream = one.stream AND other.cause = one.cause AND other.start_ts = one.start_ts
        AND other.end_ts = one.end_ts AND other.connection IS NOT DISTINCT FROM one.connection
        AND other.channel IS NOT DISTINCT FROM one.channel
        AND other.instrument IS NOT DISTINCT FROM one.instrument)
"""
_BY_CAUSE: Final = f"""
    WITH told AS (
        SELECT *, epoch_us(start_ts)::HUGEINT AS start_us, epoch_us(end_ts)::HUGEINT AS end_us FROM ({_TOLD})
    ), ordered AS (
        SELECT *, max(end_us) OVER (PARTITION BY cause ORDER BY start_us, end_us
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached FROM told
    )
    SELECT cause, count(*) FILTER (reached IS NULL OR start_us > reached) AS outages,
        count(*) AS gaps, count(*) FILTER (healed) AS healed,
        round(sum(greatest(0, end_us - greatest(start_us, coalesce(reached, start_us)))::DOUBLE / 1e6), 3) AS seconds,
        least(max(end_ts), TIMESTAMPTZ '{LAST_TIME}') AS last_end,
        greatest(least(sum(records_lost::HUGEINT), {RECORDS_MAX}), -{RECORDS_MAX})::BIGINT AS records_lost
    FROM ordered GROUP BY cause ORDER BY seconds DESC
"""  # noqa: S608 - our own text and numbers


def gaps_by_cause(sql: Connection) -> list[dict[str, Any]]:
    """One row per cause, longest first: how many outages, how many rows of `gaps` tell of them (one for each connection
    or channel), how many of these are healed, and the seconds and records lost.

    `seconds` is the time in which at least one was open: rows that overlap count once. A gap that was told when a
    collector stopped, and again when the next one had healed it, counts as healed.
    """
    return list(sql.query(_BY_CAUSE).to_pylist())
