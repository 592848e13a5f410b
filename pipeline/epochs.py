"""Epochs of a stream: seeing that none shares its offsets with another, and closing those that are over."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from lake import appended
from lake.durable import make_dirs
from lake.errors import BusyError, CorruptionError
from lake.locks import exclusive
from lake.root import Root
from lake.schema import COUNTED
from lake.spool import SegmentInfo, sealed_segments
from lake.spool.identity import begin_epoch, read_identity
from lake.spool.restamp import restamp
from lake.spool.writer import LOCK_FILE
from lake.tables import Tables
from pipeline.landing import Landing
from pipeline.reconcile import catch_up
from pipeline.timeline import first_foreign

IMPORT_SUFFIX: Final = "-import"

log = logging.getLogger(__name__)


class Known(Protocol):
    """What is kept between rounds of ingest."""

    tables: Tables
    epochs: dict[str, set[str]] | None


def known_epochs(kept: Known) -> dict[str, set[str]]:
    """Ids of all streams that the tables have rows of, by name; found out once, then as `kept` has them."""
    if kept.epochs is None:
        found: set[str] = set()
        for table in map(kept.tables.existing, (*COUNTED, "coverage")):
            if table is not None:
                found |= appended.streams(table)
        kept.epochs = {}
        for stream in found:
            kept.epochs.setdefault(stream.rpartition("@")[0], set()).add(stream)
    return kept.epochs


def mend_timeline(folder: Path, target: Landing, segments: Sequence[SegmentInfo]) -> bool:
    """Make sure that the tables have these very records where they have their offsets; else give the records new
    ones, and say so: the segments must then be listed anew.

    Raises:
        CorruptionError: they are others, and a recorder is writing the stream.
    """
    foreign = first_foreign(target, segments)
    if foreign is None:
        return False
    others = [segment for segment in segments if segment.number >= foreign.number]
    what = (
        f"{foreign.path} and what follows it were recorded after what the tables have under the same offsets"
    )
    try:
        with exclusive(folder / LOCK_FILE, f"recording into {folder.name}"):
            stream = restamp(folder, others)
    except BusyError:
        raise CorruptionError(
            f"{what}: newer tables were put beside a spool in use; stop the recorder and run `lake ingest`"
        ) from None
    log.warning("%s: %s; they are %s from now on", target.stream, what, stream)
    return True


def end_epochs(root: Root, name: str, kept: Known, *, abandoned: bool) -> None:
    """Close the epochs of stream `name` that are over, once: its tables and `coverage` are brought to one state.

    `abandoned` says that no recorder holds the stream: then its newest epoch is over too, if tables are ahead of it.
    """
    folder = root.stream(name)
    waiting = known_epochs(kept).pop(name, set())
    if not waiting:
        return
    segments = sealed_segments(folder) if folder.is_dir() else []
    newest = segments[-1].stream if segments else None
    present = read_identity(folder) or newest
    for stream in sorted(waiting):
        if stream == present and not abandoned:
            continue
        target = Landing(kept.tables, stream)
        end = max(target.covered, *(target.reached(table) for table in COUNTED))
        if name.endswith(IMPORT_SUFFIX) and target.committed < target.covered:
            continue  # importing the file again brings what a table lacks
        catch_up(target, end, ended=True)
        if name.endswith(IMPORT_SUFFIX):
            continue
        spooled = segments[-1].end_offset if stream == newest else 0
        if end > spooled and newest in (stream, None) and read_identity(folder) in (stream, None):
            _begin_anew(folder, stream)


def _begin_anew(folder: Path, after: str) -> None:
    """What the spool holds of stream id `after`, or held, is behind the tables: nothing more is to come of it."""
    make_dirs(folder)
    with exclusive(folder / LOCK_FILE, f"recording into {folder.name}"):
        begin_epoch(folder, after)
