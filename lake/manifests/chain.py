"""The manifests in a folder, how they name each other, and the head: which of each day is the newest."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from lake.durable import make_dirs, replace_file
from lake.errors import CorruptionError, LakeError
from lake.manifests.form import FILE_NAME, SIGNATURE_SUFFIX, Stored, read_manifest, sha256
from lake.root import Root

HEAD_NAME: Final = "manifests.json"
HEAD_FORMAT: Final = 1


class HeadEntry(msgspec.Struct, frozen=True):
    """The newest manifest of a day, and the fingerprint of the lake that it was made from."""

    sha256: str
    state: str
    signed: bool


class Head(msgspec.Struct):
    """What lies in heads/manifests.json; `checksum` is of the rest."""

    format: int
    checksum: str
    days: dict[str, HeadEntry]

    def checked(self) -> Head:
        """The same with the checksum that it must have."""
        raw = msgspec.json.encode((self.format, self.days), order="sorted")
        return Head(self.format, sha256(raw), self.days)


def head_path(root: Root) -> Path:
    """Where the head lies, apart from what it speaks of."""
    return root.heads / HEAD_NAME


def decode_head(raw: bytes, path: Path) -> Head:
    """The head in these bytes.

    Raises:
        CorruptionError: they are not as they were written.
    """
    try:
        head = msgspec.json.decode(raw, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptionError(f"{path} was damaged: {error}; {HEAD_CURE}") from None
    if head.checked().checksum != head.checksum:
        raise CorruptionError(f"{path} was changed: its checksum does not fit; {HEAD_CURE}")
    return head


HEAD_CURE: Final = (
    "restore it from a backup, or move it away and run `lake compact`, which makes it from the manifests"
)


def read_head(root: Root) -> Head | None:
    """The head of the lake's manifests; None where there is none.

    Raises:
        CorruptionError: it is not as it was written.
    """
    path = head_path(root)
    return decode_head(path.read_bytes(), path) if path.exists() else None


def write_head(root: Root, head: Head) -> None:
    """Put it in place, durably."""
    make_dirs(root.heads)
    replace_file(head_path(root), msgspec.json.encode(head.checked(), order="sorted") + b"\n")


def manifest_path(folder: Path, day: dt.date | str) -> Path:
    """Where the newest manifest of a day lies."""
    return folder / f"{day}.json"


def revision_path(folder: Path, day: dt.date | str, revision: int) -> Path:
    """Where a superseded revision of the manifest of a day is kept."""
    return folder / f"{day}.r{revision}.json"


def revisions_in(folder: Path, day: str) -> list[Path]:
    """The files of all revisions of the manifest of a day."""
    return [path for path in _files(folder) if (found := FILE_NAME.fullmatch(path.name)) and found[1] == day]


def days_in(folder: Path) -> list[str]:
    """Days that have a manifest in the folder, ascending."""
    return sorted(
        {found[1] for path in _files(folder) if (found := FILE_NAME.fullmatch(path.name)) and not found[2]}
    )


def strangers_in(folder: Path) -> list[Path]:
    """Files in the folder that are neither manifests nor their signatures."""
    names = {path.name for path in _files(folder)}
    return [
        path
        for path in _files(folder)
        if not FILE_NAME.fullmatch(path.name)
        and not (path.name.startswith(".") and path.name.endswith(".tmp"))
        and not (
            path.suffix == SIGNATURE_SUFFIX
            and FILE_NAME.fullmatch(path.stem)
            and path.name.removesuffix(SIGNATURE_SUFFIX) in names
        )
    ]


@dataclass(frozen=True, slots=True)
class Chain:
    """Manifests by day, the newest first; what could not be read is a problem."""

    by_day: dict[str, list[Stored]]
    problems: list[str]

    @classmethod
    def of(cls, folder: Path) -> Chain:
        """All that lie in a folder."""
        found: list[Stored] = []
        problems: list[str] = []
        for path in _files(folder):
            if not FILE_NAME.fullmatch(path.name):
                continue
            try:
                found.append(read_manifest(path))
            except LakeError as error:
                problems.append(str(error))
        by_day: dict[str, list[Stored]] = {}
        for one in sorted(
            found, key=lambda one: (one.manifest.day, -one.manifest.revision, ".r" in one.path.name)
        ):
            held = by_day.setdefault(one.manifest.day, [])
            if not held or held[-1].sha256 != one.sha256:  # a making that was cut short leaves one twice
                held.append(one)
        return cls(by_day, problems)

    def newest(self, day: str) -> Stored | None:
        """The newest manifest of a day; None where there is none."""
        held = self.by_day.get(day)
        return held[0] if held else None

    def link_problems(self, *, whole: bool) -> list[str]:
        """Links that do not hold; unless the chain is `whole`, only between manifests that are there."""
        problems, before = [], ""
        for day, held in self.by_day.items():
            if ".r" in held[0].path.name:
                problems.append(f"{held[0].path}: the revision that superseded it is missing")
            for newer, older in zip(held, [*held[1:], None], strict=True):
                problems += _supersedes(newer, older, whole=whole)
            problems += self._previous(
                held[0], whole=whole
            )  # of an older revision it may have been lost and renewed
            link = held[0].manifest.previous
            if whole and (link.day if link else "") != before:
                problems.append(
                    f"{held[0].path}: names {_said(link.day if link else None)}, not {_said(before or None)}"
                )
            before = day
        return problems

    def _previous(self, one: Stored, *, whole: bool) -> list[str]:
        link = one.manifest.previous
        if link is None:
            return []
        held = self.by_day.get(link.day, [])
        if link.day >= one.manifest.day:
            return [f"{one.path}: names {link.day} as the day before"]
        if any(other.sha256 == link.sha256 for other in held) or (not held and not whole):
            return []
        if not held:
            return [f"{one.path}: the manifest of {link.day}, which it names, is missing"]
        return [f"{one.path}: the manifest of {link.day} is not the one that it names ({link.sha256[:16]}…)"]


def _supersedes(newer: Stored, older: Stored | None, *, whole: bool) -> list[str]:
    link = newer.manifest.supersedes
    if link is None:
        odd = older is not None or newer.manifest.revision != 1
        return [f"{newer.path}: names no revision that it supersedes, and is not the first"] if odd else []
    if older is None:
        return [f"{newer.path}: the revision that it supersedes is missing"] if whole else []
    if older.sha256 != link.sha256 or older.manifest.revision != newer.manifest.revision - 1:
        return [f"{newer.path}: {older.path.name} is not the revision that it supersedes"]
    return []


def _said(day: str | None) -> str:
    return f"{day} as the day before" if day else "no day before"


def _files(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
