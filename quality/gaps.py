"""The holes on record: what was not recorded, for how long, and why."""

from __future__ import annotations

from typing import Any

from lake.views import Connection


def gaps_by_cause(sql: Connection) -> list[dict[str, Any]]:
    """One row per cause: how many gaps, how many healed since, seconds and records lost; longest first.

    A gap that was told when a collector stopped, and again when the next one had healed it, counts as healed.
    """
    answer = sql.query(
        "SELECT cause, count(*) AS gaps, count(*) FILTER (healed) AS healed, "
        "round(sum(epoch(end_ts - start_ts)), 3) AS seconds, max(end_ts) AS last_end, "
        "sum(records_lost)::BIGINT AS records_lost "
        "FROM gaps AS one WHERE healed OR NOT EXISTS (SELECT 1 FROM gaps AS other WHERE other.healed "
        "AND other.stream = one.stream AND other.cause = one.cause AND other.start_ts = one.start_ts "
        "AND other.end_ts = one.end_ts AND other.connection IS NOT DISTINCT FROM one.connection "
        "AND other.channel IS NOT DISTINCT FROM one.channel "
        "AND other.instrument IS NOT DISTINCT FROM one.instrument) "
        "GROUP BY cause ORDER BY seconds DESC"
    )
    return list(answer.to_pylist())
