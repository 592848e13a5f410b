"""A copy, an archive or a delivered part of a lake held against one manifest, without the lake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lake.errors import InputError
from lake.manifests.chain import Chain
from lake.manifests.files import file_problems, sha256_of
from lake.manifests.form import FileEntry, Manifest, PartitionEntry, Stored, read_manifest
from lake.manifests.signing import signature_path, signature_problem
from lake.schema import TABLES

SUFFIX: Final = ".parquet"


@dataclass(slots=True)
class Delivered:
    """What was found of one manifest's files; `problems` is empty where all that must be there is, as it was."""

    day: str
    sha256: str
    files: int = 0
    rows: int = 0
    bytes: int = 0
    missing: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)
    signature: str = "none"

    @property
    def problems(self) -> list[str]:
        """One line each."""
        missing = [f"{name}: is missing" for name in self.missing]
        extra = [f"{name}: lies beside and is not in the manifest" for name in self.extra]
        return [*self.different, *missing, *extra, *self.chain]

    def as_rows(self) -> list[dict[str, Any]]:
        """For display."""
        return [
            {
                "day": self.day,
                "files as they were": self.files,
                "rows": self.rows,
                "bytes": self.bytes,
                "different": len(self.different),
                "missing": len(self.missing),
                "extra": len(self.extra),
                "signature": self.signature,
                "sha256": self.sha256,
            }
        ]


def check_delivered(
    file: Path, folder: Path | None = None, *, subset: bool = False, public: str | None = None
) -> Delivered:
    """Check the files that the manifest in `file` lists: size, SHA-256, checksum, rows and content hash of each.

    They are looked for in `folder` (by default where the manifest lies, or the lake whose it is): under their table's
    and partition's folders, or by name alone. With `subset`, files may be missing. Manifests beside it must fit it,
    and with `public` (a key in hex) it must be signed.

    Raises:
        InputError: there is no such file or folder, or none of the files is there.
        CorruptionError: the manifest is damaged.
    """
    stored = read_manifest(file)
    if folder is not None and not folder.is_dir():
        raise InputError(f"{folder} is no folder; give the one with the files: --files DIR")
    places = [folder] if folder else _places(file)
    found = Delivered(stored.manifest.day, stored.sha256)
    _check_files(stored.manifest, places, found)
    if subset:
        if found.missing and not found.files and not found.different:
            raise InputError(f"none of the files of {file} is in {places[0]}; give their folder: --files DIR")
        found.missing = []
    _check_links(stored, found, whole=not subset)
    problem = signature_problem(file, stored.raw, public)
    if problem:
        found.chain.append(problem)
    signed = signature_path(file).exists()
    found.signature = (
        ("not valid" if problem else "valid" if public else "not checked: give --key") if signed else "none"
    )
    return found


def _places(file: Path) -> list[Path]:
    folder = file.absolute().parent
    return [folder.parent, folder] if (folder.parent / "tables").is_dir() else [folder]


def _check_files(manifest: Manifest, places: Sequence[Path], found: Delivered) -> None:
    matched: set[Path] = set()
    for entry in manifest.partitions:
        for file in entry.files:
            name = f"{entry.table}/{file.path}"
            path = next((one for one in _candidates(places, entry.table, file.path) if one.is_file()), None)
            if path is None:
                found.missing.append(name)
                continue
            matched.add(path)
            problems = _problems(path, entry.table, file)
            found.different += [f"{path}: {problem}" for problem in problems]
            if not problems:
                found.files += 1
                found.rows += file.rows
                found.bytes += file.size
    found.extra = [str(path) for path in _beside(manifest, matched)]


def _candidates(places: Sequence[Path], table: str, path: str) -> Iterator[Path]:
    for place in places:
        yield place / "tables" / table / path
        yield place / table / path
        yield place / path
        yield place / Path(path).name


def _problems(path: Path, table: str, file: FileEntry) -> list[str]:
    try:
        if table not in TABLES:  # of a newer version: its bytes can be proven all the same
            digest, problems = sha256_of(path), list[str]()
        else:
            digest, problems = file_problems(path, table, file.size, file.rows, int(file.content_hash, 16))
    except OSError as error:
        return [f"cannot be read: {error.strerror}"]
    if digest != file.sha256:
        problems.append(f"has the SHA-256 {digest}, not {file.sha256}")
    return problems


def _beside(manifest: Manifest, matched: set[Path]) -> Iterator[Path]:
    """Data files in the partitions' folders that the manifest does not list: who reads the folder reads them too."""
    folders = {path.parent for path in matched if _is_partition(path.parent, manifest.partitions)}
    for folder in sorted(folders):
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if path not in matched:
                yield path


def _is_partition(folder: Path, partitions: Sequence[PartitionEntry]) -> bool:
    return any(folder.parts[-2:] == Path(entry.partition).parts for entry in partitions)


def _check_links(stored: Stored, found: Delivered, *, whole: bool) -> None:
    """The manifests in the same folder must fit together as far as they are there."""
    chain = Chain.of(stored.path.absolute().parent)
    found.chain += [problem for problem in chain.problems if str(stored.path.name) not in problem]
    found.chain += chain.link_problems(whole=whole and _begins(chain))
    others = {held[0].manifest.lake for held in chain.by_day.values()} - {stored.manifest.lake}
    if others:
        found.chain.append(f"{stored.path.absolute().parent} holds manifests of several lakes")


def _begins(chain: Chain) -> bool:
    """Whether the first manifest of the lake is among them, so that none may be missing."""
    return any(held[0].manifest.previous is None for held in chain.by_day.values()) and len(chain.by_day) > 1
