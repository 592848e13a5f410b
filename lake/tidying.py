"""Files of a table that nobody needs any more."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from lake.delta_log import log_folder
from lake.durable import make_dirs
from lake.root import Root
from lake.swap import PENDING

_logger = logging.getLogger(__name__)


def files_below(folder: Path) -> Iterator[Path]:
    """All files in `folder` and the folders below it."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def delete_older(folder: Path, limit: float) -> list[Path]:
    """Delete the files below `folder` that were last written before `limit` (s since the epoch); says which."""
    deleted = []
    for path in files_below(folder):
        if path.name != PENDING and path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
            deleted.append(path)
    for parent in [Path(parent) for parent, _, _ in os.walk(folder, topdown=False)]:
        if parent != folder and parent.stat().st_mtime < limit and not any(parent.iterdir()):
            parent.rmdir()  # not a young one: a writer may be about to put a file into it
    return deleted


def retire_unnamed(root: Root, table: str, active: Collection[str], limit: float) -> None:
    """Move files out of the table's folder which its log does not name, written before `limit` (s since the epoch)."""
    live = root.table(table)
    for path in files_below(live):
        name = path.relative_to(live)
        if log_folder(live) in path.parents or str(name) in active or path.stat().st_mtime >= limit:
            continue
        target = root.retired / table / name
        make_dirs(target.parent)
        os.utime(path)
        path.rename(target)
        _logger.warning("%s is no file of the table; moved to %s", path, target)
