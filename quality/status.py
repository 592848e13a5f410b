"""What a person wants to know at a glance: what is held, what is waiting, what went wrong, how full the disk is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from lake.datafile import DataFile
from lake.delta import Table
from lake.errors import LakeError
from lake.ledger import complete_to
from lake.root import Root
from lake.schema import TABLES
from lake.spool import open_segments, sealed_segments
from lake.tables import Tables
from lake.views import connect
from quality.books import last_checks
from quality.gaps import gaps_by_cause
from quality.liveness import collectors, ingesters, open_gaps

SPAN_COLUMNS: Final = {  # of tables that have no ts; the Delta log has their bounds
    "gaps": ("start_ts", "end_ts"),
    "coverage": ("start_ts", "end_ts"),
    "instruments": ("valid_from", "valid_from"),
    "backfills": ("recv_ts", "recv_ts"),
}


def status(root: Root) -> dict[str, list[dict[str, Any]]]:
    """Sections of rows for display: what `live` has, then tables, recorded gaps by cause, book checks of a week."""
    tables = Tables(root)
    with connect(root) as sql:
        return {
            **live(root, tables),
            "tables": [_table(tables, name) for name in TABLES],
            "gaps": gaps_by_cause(sql),
            "book checks": last_checks(sql),
        }


def live(root: Root, tables: Tables) -> dict[str, list[dict[str, Any]]]:
    """The sections that change by the second and cost little to look at: processes, streams, disk."""
    return {
        "collectors": collectors(root),
        "open gaps": open_gaps(root),
        "ingesters": ingesters(root),
        "streams": [_stream(root, name, tables) for name in root.streams()],
        "disk": [_disk(root)],
    }


def _table(tables: Tables, name: str) -> dict[str, Any]:
    try:
        return _table_figures(name, tables.find(name))
    except LakeError as error:  # one damaged table must not hide how all the others are
        unknown = dict.fromkeys(("rows", "files", "bytes", "bytes/row", "first", "last"))
        return {"table": name, **unknown, "trouble": f"{error}; see `lake verify`"}


def _table_figures(name: str, table: Table | None) -> dict[str, Any]:
    files = table.files() if table else []
    rows = sum(file.rows for file in files)
    size = sum(file.size for file in files)
    first, last = SPAN_COLUMNS.get(name, ("ts", "ts"))
    return {
        "table": name,
        "rows": rows,
        "files": len(files),
        "bytes": size,
        "bytes/row": round(size / rows, 1) if rows else None,
        "first": min((file.minimum[first] for file in files if first in file.minimum), default=None),
        "last": max((file.maximum[last] for file in files if last in file.maximum), default=None),
        "trouble": _trouble(table, files) if table else None,
    }


def _trouble(table: Table, files: Sequence[DataFile]) -> str | None:
    """What shows without reading a file that some of them are not as they were written."""
    wrong = [file.path for file in files if _size(table.path(file)) != file.size]
    return f"{len(wrong)} files are gone or cut short, first {wrong[0]}; see `lake verify`" if wrong else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _stream(root: Root, name: str, tables: Tables) -> dict[str, Any]:
    folder = root.stream(name)
    sealed, unsealed = sealed_segments(folder), open_segments(folder)
    end = sealed[-1].end_offset if sealed else 0
    done: int | None = 0
    if sealed:
        try:
            done = _ingested(tables, sealed[-1].stream)
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


def _ingested(tables: Tables, stream: str) -> int:
    coverage = tables.find("coverage")
    return complete_to(coverage, stream, partial(tables.reached, stream)) if coverage else 0


def _disk(root: Root) -> dict[str, Any]:
    usage = shutil.disk_usage(root.path)
    quarantined = [p for p in root.quarantine.rglob("*") if p.is_file()]
    return {
        # As df says: what is kept back for root can be had by nobody else.
        "used": f"{100 * usage.used / (usage.used + usage.free):.1f} %",
        "free bytes": usage.free,
        "files in quarantine": len(quarantined),
    }
