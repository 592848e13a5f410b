"""The holes on record: what was not recorded, for how long, and why."""

from __future__ import annotations

from typing import Any, Final

from lake.views import Connection

_TOLD: Final = """
    SELECT * FROM gaps AS one WHERE healed OR NOT EXISTS (SELECT 1 FROM gaps AS other WHERE other.healed
        AND other.stream = one.stream AND other.cause = one.cause AND other.start_ts = one.start_ts
        AND other.end_ts = one.end_ts AND other.connection IS NOT DISTINCT FROM one.connection
        AND other.channel IS NOT DISTINCT FROM one.channel
        AND other.instrument IS NOT DISTINCT FROM one.instrument)
"""
_BY_CAUSE: Final = f"""
    WITH told AS ({_TOLD}), ordered AS (
        SELECT *, max(end_ts) OVER (PARTITION BY cause ORDER BY start_ts, end_ts
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached FROM told
    )
    SELECT cause, count(*) FILTER (reached IS NULL OR start_ts > reached) AS outages,
        count(*) AS gaps, count(*) FILTER (healed) AS healed,
        round(sum(greatest(0, epoch(end_ts) - epoch(greatest(start_ts, coalesce(reached, start_ts))))), 3) AS seconds,
        max(end_ts) AS last_end, sum(records_lost::DOUBLE) AS records_lost
    FROM ordered GROUP BY cause ORDER BY seconds DESC
"""  # noqa: S608 - our own text


def gaps_by_cause(sql: Connection) -> list[dict[str, Any]]:
    """One row per cause, longest first: how many outages, how many rows of `gaps` tell of them (one for each connection
    or channel), how many of these are healed, and the seconds and records lost.

    `seconds` is the time in which at least one was open: rows that overlap count once. A gap that was told when a
    collector stopped, and again when the next one had healed it, counts as healed.
    """
    rows: list[dict[str, Any]] = sql.query(_BY_CAUSE).to_pylist()
    # As many as the sum can say: a venue may number its trades so wildly that the sums of them fit no integer.
    return [
        {**row, "records_lost": None if row["records_lost"] is None else int(row["records_lost"])}
        for row in rows
    ]
