"""What a person wants to know at a glance: what is held, what is waiting, what went wrong, how full the disk is."""

from __future__ import annotations

import shutil
from typing import Any, Final

from lake.delta import Table
from lake.errors import LakeError
from lake.ledger import complete_to
from lake.root import Root
from lake.schema import TABLES
from lake.spool import open_segments, sealed_segments
from lake.views import connect
from quality.books import last_checks
from quality.gaps import gaps_by_cause
from quality.liveness import collectors, ingesters, open_gaps

SPAN_COLUMNS: Final = {
    "gaps": ("start_ts", "end_ts"),
    "coverage": ("start_ts", "end_ts"),
    "instruments": ("valid_from", "valid_from"),
    "backfills": ("recv_ts", "recv_ts"),
}


def status(root: Root) -> dict[str, list[dict[str, Any]]]:
    """Sections of rows for display: what `live` has, then tables, recorded gaps by cause, book checks of a week."""
    return {
        **live(root),
        "tables": [_table(root, name) for name in TABLES],
        "gaps": gaps_by_cause(root),
        "book checks": last_checks(root),
    }


def live(root: Root) -> dict[str, list[dict[str, Any]]]:
    """The sections that change by the second and cost little to look at: processes, streams, disk."""
    return {
        "collectors": collectors(root),
        "open gaps": open_gaps(root),
        "ingesters": ingesters(root),
        "streams": [_stream(root, name) for name in root.streams()],
        "disk": [_disk(root)],
    }


def _table(root: Root, name: str) -> dict[str, Any]:
    try:
        return _table_figures(root, name)
    except LakeError as error:  # one damaged table must not hide how all the others are
        unknown = dict.fromkeys(("rows", "files", "bytes", "bytes/row", "first", "last"))
        return {"table": name, **unknown, "trouble": f"{error}; see `lake verify`"}


def _table_figures(root: Root, name: str) -> dict[str, Any]:
    table = Table.find(root, TABLES[name])
    files = table.files() if table else []
    rows = sum(file.rows for file in files)
    size = sum(file.size for file in files)
    first, last = SPAN_COLUMNS.get(name, ("ts", "ts"))
    with connect(root) as sql:
        span = sql.execute(f"SELECT min({first}), max({last}) FROM {name}").fetchone() or (None, None)  # noqa: S608
    return {
        "table": name,
        "rows": rows,
        "files": len(files),
        "bytes": size,
        "bytes/row": round(size / rows, 1) if rows else None,
        "first": span[0],
        "last": span[1],
        "trouble": None,
    }


def _stream(root: Root, name: str) -> dict[str, Any]:
    folder = root.stream(name)
    sealed, unsealed = sealed_segments(folder), open_segments(folder)
    end = sealed[-1].end_offset if sealed else 0
    done: int | None = 0
    if sealed:
        try:
            done = _ingested(root, sealed[-1].stream)
        except LakeError:  # told beside the table that it is about
            done = None
    return {
        "stream": name,
        "sealed": len(sealed),
        "open": len(unsealed),
        "records sealed": end,
        "records ingested": done,
        "waiting": None if done is None else end - done,
        "spool bytes": sum(segment.path.stat().st_size for segment in (*sealed, *unsealed)),
    }


def _ingested(root: Root, stream: str) -> int:
    coverage = Table.find(root, TABLES["coverage"])
    if coverage is None:
        return 0

    def reached(name: str) -> int:
        table = Table.find(root, TABLES[name])
        return (table.committed(stream) or 0) if table else 0

    return complete_to(coverage, stream, reached)


def _disk(root: Root) -> dict[str, Any]:
    usage = shutil.disk_usage(root.path)
    quarantined = [p for p in root.quarantine.rglob("*") if p.is_file()]
    return {
        # As df says: what is kept back for root can be had by nobody else.
        "used": f"{100 * usage.used / (usage.used + usage.free):.1f} %",
        "free bytes": usage.free,
        "files in quarantine": len(quarantined),
    }
