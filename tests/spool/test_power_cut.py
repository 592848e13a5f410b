"""A power cut, unlike a kill, takes everything that was not synced: the disk below keeps only what was."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

from lake.spool import SpoolSettings, SpoolWriter
from lake.spool.files import RealFileSystem
from tests.spool.helpers import WAIT_S, stream_rows, write_commits


@dataclass
class Image:
    """What is on the disk for certain: names as of the folder's last sync, contents as of each file's."""

    names: dict[str, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    written: dict[int, bytes] = field(default_factory=dict)

    def lay_out(self, folder: Path, identity: bytes, rng: random.Random) -> None:
        """Make `folder` what the next start finds, with some or none of the bytes not synced yet."""
        folder.mkdir(parents=True)
        (folder / "stream.json").write_bytes(identity)
        for name, inode in self.names.items():
            synced, written = self.contents.get(inode, b""), self.written.get(inode, b"")
            surviving = written[len(synced) :][: rng.randrange(len(written) - len(synced) + 1)]
            if rng.random() < 0.5:
                surviving = bytes(len(surviving))  # the size reached the disk, the bytes did not
            (folder / name).write_bytes(synced + surviving)


class SyncedDisk(RealFileSystem):
    """A real file system that also keeps the image a power cut would leave."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = Image()

    def snapshot(self) -> Image:
        return Image(dict(self.image.names), dict(self.image.contents), dict(self.image.written))

    def write(self, fd: int, data: bytes) -> None:
        super().write(fd, data)
        self.image.written[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.image.contents[os.fstat(fd).st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def sync_dir(self, path: Path) -> None:
        super().sync_dir(path)
        segments = [p for p in path.iterdir() if p.suffix in (".open", ".seg")]
        self.image.names = {p.name: p.stat().st_ino for p in segments}


class CuttingDisk(SyncedDisk):
    """Takes a snapshot before and after every operation that could matter."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.durable = 0
        self.cuts: list[tuple[int, Image]] = []

    def note(self, durable: int) -> None:
        self.durable = durable
        self.cuts.append((durable, self.snapshot()))

    def write(self, fd: int, data: bytes) -> None:
        super().write(fd, data)
        self.note(self.durable)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self.note(self.durable)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self.note(self.durable)


def test_a_power_cut_at_any_moment_leaves_everything_that_was_durable(tmp_path: Path) -> None:
    rng = random.Random(5)
    folder = tmp_path / "spool" / "s"
    disk = CuttingDisk(folder)
    settings = SpoolSettings(commit_interval_ms=1, segment_bytes=6000)
    payloads = [rng.randbytes(rng.randrange(400)) for _ in range(250)]
    with SpoolWriter(folder, settings, fs=disk, on_durable=disk.note) as writer:
        for index, payload in enumerate(payloads):
            writer.append(payload)
            if index % 6 == 0:
                writer.flush(WAIT_S)
    truth = stream_rows(folder)
    identity = (folder / "stream.json").read_bytes()
    assert len(disk.cuts) > 100
    assert {len(image.names) for _, image in disk.cuts} >= {0, 1, 2, 3}
    for number, (durable, image) in enumerate(disk.cuts):
        found = tmp_path / str(number) / "s"
        image.lay_out(found, identity, rng)
        with SpoolWriter(found, settings) as writer:
            end = writer.next_offset
            assert not writer.recovery.damaged, number
        assert end >= durable, number
        assert stream_rows(found) == truth[:end], number


def test_recovery_itself_survives_a_power_cut(tmp_path: Path) -> None:
    folder = tmp_path / "spool" / "s"
    write_commits(folder, [[b"a", b"b"], [b"c"]])
    (sealed,) = folder.glob("*.seg")
    unsealed = sealed.with_suffix(".open")
    sealed.rename(unsealed)
    unsealed.write_bytes(unsealed.read_bytes()[:-7])
    inode, content = unsealed.stat().st_ino, unsealed.read_bytes()
    disk = CuttingDisk(folder)
    disk.image = Image({unsealed.name: inode}, {inode: content}, {inode: content})
    disk.durable = 3
    with SpoolWriter(folder, fs=disk):
        pass
    assert len(disk.cuts) >= 3
    identity = (folder / "stream.json").read_bytes()
    for number, (_, image) in enumerate(disk.cuts):
        found = tmp_path / str(number) / "s"
        image.lay_out(found, identity, random.Random(number))
        with SpoolWriter(found) as writer:
            assert writer.next_offset == 3
            assert not writer.recovery.damaged
        assert [row.payload for row in stream_rows(found)] == [b"a", b"b", b"c"]
