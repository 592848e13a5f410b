"""A lake held against its own manifests."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lake.delta import Table
from lake.errors import CorruptionError
from lake.manifests.chain import Chain, Head, head_path, manifest_path, read_head, strangers_in
from lake.manifests.compare import Comparison, Findings
from lake.manifests.files import sha256_of
from lake.manifests.form import Manifest, Stored
from lake.manifests.signing import signature_path, signature_problem
from lake.manifests.state import LakeState
from lake.root import Root

Hashed = Callable[[str, str], str | None]
RUN_COMPACT = "run `lake compact` to bring its manifest up to date"


def check_manifests(
    root: Root, tables: Mapping[str, Table], *, hashed: Hashed | None = None, public: str | None = None
) -> Findings:
    """Hold the lake against its manifests, and these against each other and their head; changes nothing.

    `tables` are pinned, by name; `hashed` gives the SHA-256 of a table's file by its path where the caller has read it
    anyhow; `public` is the key, in hex, that every manifest must be signed with. What compaction has not brought into
    the manifests yet is a note; each problem is one that no ordinary work of the lake explains.
    """
    found = Findings()
    chain = Chain.of(root.manifests)
    found.problems += chain.problems
    found.problems += [f"{path}: is no manifest; move it elsewhere" for path in strangers_in(root.manifests)]
    try:
        head = read_head(root)
    except CorruptionError as error:
        found.problems.append(str(error))
        head = None
    else:
        if head is None and chain.by_day:
            found.problems.append(f"{head_path(root)} is gone, which names the newest manifests")
    found.problems += chain.link_problems(whole=True)
    _check_head(root, chain, head, found)
    try:
        state = LakeState(tables)
        comparison = Comparison(state)
        for day, held in chain.by_day.items():
            found.add(_check_day(root, held[0], head, comparison, hashed, public))
            if held[0].manifest.lake != root.lake_id:
                found.problems.append(f"{held[0].path} is of another lake")
            if any(one.manifest.day != day for one in held):
                found.problems.append(f"{held[0].path} is not of {day}")
    except CorruptionError as error:
        found.problems.append(f"manifests: {error}")
    return found


def _check_head(root: Root, chain: Chain, head: Head | None, found: Findings) -> None:
    """What the head names must be there; a manifest that it does not name yet must follow from one that it does."""
    entries = head.days if head else {}
    for day, entry in entries.items():
        newest = chain.newest(day)
        path = manifest_path(root.manifests, day)
        if not path.exists():
            found.problems.append(f"{path} is missing; restore it from a backup")
        elif newest is not None and newest.sha256 != entry.sha256:
            link = newest.manifest.supersedes
            if link is None or link.sha256 != entry.sha256:
                found.problems.append(f"{path} is not the one that was made last; restore it from a backup")
            else:
                found.notes.append(f"{day}: the making of its manifest was cut short; run `lake compact`")
        elif entry.signed and not signature_path(path).exists():
            found.problems.append(f"{path}: its signature is gone; restore it from a backup")
    if head is not None:
        cut = [day for day in chain.by_day if day not in entries]
        found.notes += [f"{day}: the making of its manifest was cut short; run `lake compact`" for day in cut]


def _check_day(
    root: Root,
    newest: Stored,
    head: Head | None,
    comparison: Comparison,
    hashed: Hashed | None,
    public: str | None,
) -> Findings:
    manifest = newest.manifest
    found = comparison.compare(manifest)
    if found.notes:
        found.notes = [f"{manifest.day}: changed since its manifest; {RUN_COMPACT}", *found.notes]
    entry = head.days.get(manifest.day) if head else None
    if entry is not None and entry.sha256 == newest.sha256:  # else it may not have come to the signature yet
        problem = signature_problem(newest.path, newest.raw, public)
        found.problems += [problem] if problem else []
    found.problems += _hash_problems(root, manifest, comparison, hashed)
    return found


def _hash_problems(
    root: Root, manifest: Manifest, comparison: Comparison, hashed: Hashed | None
) -> list[str]:
    """Files whose bytes are not those of the manifest, of those that the tables still have."""
    problems = []
    for entry in manifest.partitions:
        active = comparison.active(entry.table)
        for file in entry.files:
            if file.path not in active:
                continue
            path = root.table(entry.table) / file.path
            try:
                digest = (hashed(entry.table, file.path) if hashed else None) or sha256_of(path)
            except OSError as error:
                problems.append(f"{manifest.day}: {path} cannot be read: {error.strerror}")
                continue
            if digest != file.sha256:
                problems.append(f"{manifest.day}: {path} has other bytes than at the manifest's making")
    return problems
