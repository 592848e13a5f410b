"""Lists of instruments, living and expired; a list on record is good for an hour."""

from __future__ import annotations

from pipeline.backfill.engine import Host, Unit, single
from pipeline.backfill.plan import Plan, Planning

METHOD = "get_instruments"
LISTS: tuple[tuple[str, Host, str], ...] = (
    ("instruments", "venue", "false"),
    ("expired_instruments", "history", "true"),
)
"""The venue lists what lives, the history host what has expired."""


def plan(planning: Planning) -> Plan:
    """A list of each currency and host that is not on record or too old."""
    since_us = (planning.now_ms - int(planning.settings.listing_minutes * 60_000)) * 1000
    found = Plan()
    for dataset, host, expired in LISTS:
        recorded = planning.ledger.recorded(dataset)
        for currency in planning.currencies:
            rows = recorded.get(currency, []) + recorded.get("any", [])
            if any(
                row.recv_us >= since_us and row.resolution == "any" and row.refusal is None for row in rows
            ):
                continue
            work = single(host, METHOD, {"currency": currency, "expired": expired})
            found.units.append(Unit(dataset, currency, "list", work, host))
    return found
