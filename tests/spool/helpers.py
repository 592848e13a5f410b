"""What the spool's tests share: building small streams, reading them back, a disk that fails on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lake.spool import Batch, Damage, SpoolSettings, SpoolWriter, open_segments, read_segment, sealed_segments
from lake.spool.files import RealFileSystem
from tests.waiting import PATIENCE_S

PATIENT = SpoolSettings(commit_interval_ms=1)
WAIT_S = PATIENCE_S


@dataclass(frozen=True, order=True)
class Row:
    """One record as a test compares it."""

    offset: int
    recv_ns: int
    connection: int
    kind: int
    payload: bytes


def rows_of(batch: Batch) -> list[Row]:
    columns = zip(
        range(batch.first_offset, batch.end_offset),
        batch.recv_ns.tolist(),
        batch.connection.tolist(),
        batch.kind.tolist(),
        batch.payloads,
        strict=True,
    )
    return [Row(*values) for values in columns]


def rows_in(path: Path) -> list[Row]:
    return [row for batch in read_segment(path) for row in rows_of(batch)]


def stream_rows(folder: Path) -> list[Row]:
    """Every record of the stream, sealed segments and then those still open."""
    infos = sealed_segments(folder) + open_segments(folder)
    return [row for info in infos for row in rows_in(info.path)]


def salvage(path: Path) -> tuple[list[Row], list[Damage]]:
    """What can be read of a damaged segment, and what cannot."""
    rows: list[Row] = []
    damages: list[Damage] = []
    for item in read_segment(path, skip_damage=True):
        if isinstance(item, Damage):
            damages.append(item)
        else:
            rows.extend(rows_of(item))
    return rows, damages


def write_commits(folder: Path, commits: list[list[bytes]], settings: SpoolSettings = PATIENT) -> None:
    """Append each list of payloads as a commit of its own, and close cleanly."""
    with SpoolWriter(folder, settings) as writer:
        for payloads in commits:
            for payload in payloads:
                writer.append(payload)
            writer.flush(WAIT_S)


class FailingFileSystem(RealFileSystem):
    """A real disk whose next operations fail as told: `fail["write"] = [error, None, error]`."""

    def __init__(self) -> None:
        self.fail: dict[str, list[OSError | None]] = {}
        self.before: dict[str, Callable[[], None]] = {}

    def _meet(self, operation: str) -> None:
        if operation in self.before:
            self.before[operation]()
        planned = self.fail.get(operation)
        error = planned.pop(0) if planned else None
        if error is not None:
            raise error

    def write(self, fd: int, data: bytes) -> None:
        try:
            self._meet("write")
        except OSError:
            super().write(fd, data[: len(data) // 2])  # a failed write may well have written a part
            raise
        super().write(fd, data)

    def sync(self, fd: int) -> None:
        self._meet("sync")
        super().sync(fd)

    def truncate(self, fd: int, size: int) -> None:
        self._meet("truncate")
        super().truncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        self._meet("rename")
        super().rename(source, target)
