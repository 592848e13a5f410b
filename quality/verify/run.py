"""The proof: one snapshot of the tables, every file of it, every stream, and the spool."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Final

from lake.delta import Table
from lake.errors import LakeError, RootError
from lake.log_damage import stray_files
from lake.manifests import check_manifests
from lake.root import FORMAT, LAYOUT_VERSION, MARKER, Root, open_root
from lake.schema import TABLES
from quality.verify.files import FileProver
from quality.verify.ledger import Ledger
from quality.verify.memory import Memory, note, recall
from quality.verify.report import TableProof, VerifyReport
from quality.verify.snapshot import FIRST, Snapshot, take
from quality.verify.spool import check_spool
from quality.verify.streams import check_conservation, check_quarantine, check_streams

_PARTS: Final = ("tables", "spool")
_log = logging.getLogger(__name__)


def verify(root: Root, *, since_last: bool = False, remember: bool = False) -> VerifyReport:
    """Re-derive every claim of the lake at `root`, as of one moment; reads all of it.

    `since_last` leaves out data files that the last proof which was to `remember` has proven, and that nobody has
    written to since. `remember` notes in `run/` what was proven; nothing else is ever changed.
    """
    report = VerifyReport()
    report.problems += marker_damage(root.path)
    report.problems += _strangers(root)
    report.problems += stray_files(root, TABLES)
    snapshot = take(root, report.problems)
    known = recall(root) if since_last else Memory()
    proven = Memory({})
    for name in TABLES:
        if name in snapshot.tables:
            _prove(snapshot, name, known, proven, report)
        else:
            report.tables.append(TableProof(name))
    ledger = _ledger(snapshot, report)
    if ledger is not None:
        _account(snapshot, ledger, report)
    report.problems += check_manifests(root, snapshot.tables, trusted=known.knows).problems
    if remember and proven.proven:
        try:
            note(root, proven)
        except OSError as error:  # a lake that is only to be read is proven all the same
            _log.warning("what was proven is not noted for the next time: %s", error)
    return report


def find_lake(path: Path) -> Root:
    """The lake in folder `path`, to be proven whatever its marker says.

    Raises:
        RootError: there is no lake, or one of a newer or foreign layout.
    """
    try:
        return open_root(path)
    except RootError:
        if _is_foreign(path / MARKER) or not any((path / part).is_dir() for part in _PARTS):
            raise
        return Root(path.absolute())


def marker_damage(path: Path) -> list[str]:
    """What is wrong with the marker of the lake in folder `path`."""
    try:
        open_root(path)
    except (RootError, OSError) as error:
        return [
            f"{path / MARKER}: is gone or not what a lake has ({error}); write "
            f"{json.dumps({'format': FORMAT, 'layout': LAYOUT_VERSION})} into it"
        ]
    return []


def _is_foreign(marker: Path) -> bool:
    """Whether the marker can be read, and is that of something else."""
    try:
        found = json.loads(marker.read_bytes())
        return isinstance(found, dict) and bool({"format", "layout"} <= found.keys())
    except (OSError, ValueError):
        return False


def _strangers(root: Root) -> list[str]:
    """Whatever lies among the tables and is none: a copy, most likely, which a pattern over the folder would meet."""
    if not root.tables.is_dir():
        return [f"{root.tables}: is gone; restore it from backup"]
    known = set(TABLES)
    return [
        f"{path}: is no table of this lake; move it elsewhere"
        for path in sorted(root.tables.iterdir())
        if path.name not in known
    ]


def _prove(snapshot: Snapshot, name: str, known: Memory, proven: Memory, report: VerifyReport) -> None:
    prover = FileProver(snapshot.root, snapshot.tables[name], known)
    try:
        report.tables.append(prover.prove_all())
    except LakeError as error:
        report.tables.append(TableProof(name))
        report.problems.append(f"table {name}: {error}; restore it from backup")
    report.problems += prover.problems
    proven.proven.update(prover.proven)


def _ledger(snapshot: Snapshot, report: VerifyReport) -> Ledger | None:
    """What `coverage` says; nothing where it is not there, None where it cannot be read, which is told already."""
    coverage: Table | None = snapshot.tables.get(FIRST)
    if FIRST in snapshot.unopened:
        return None
    if coverage is None:
        return Ledger(TABLES[FIRST].arrow_schema.empty_table())
    try:
        return Ledger(coverage.read())
    except LakeError as error:
        report.problems.append(f"table {FIRST}: {error}; restore it from backup")
        return None


def _account(snapshot: Snapshot, ledger: Ledger, report: VerifyReport) -> None:
    check_streams(ledger.rows, snapshot, report)
    check_conservation(ledger.rows, snapshot, report)
    check_quarantine(snapshot.root, ledger.rows, report)
    report.problems += check_spool(snapshot, ledger)
