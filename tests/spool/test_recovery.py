"""After a crash: unfinished writes are cut off and kept aside, damage is told apart, no offset is reused."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from lake.spool import RecoveryReport, SpoolWriter, recover, sealed_segments
from lake.spool.files import RealFileSystem
from lake.spool.format import BLOCK_HEADER_BYTES, SEGMENT_HEADER_BYTES, BlockEncoder, Columns, SegmentHeader
from lake.spool.segment import SegmentFile, take_apart
from tests.spool.helpers import PATIENT, WAIT_S, Row, rows_in, salvage, stream_rows, write_commits

COMMITS = 4
RECORDS = 5


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stream folder as a writer leaves it that was killed after some commits."""
    folder = tmp_path_factory.mktemp("spool") / "s"
    rng = random.Random(3)
    write_commits(folder, [[rng.randbytes(30) for _ in range(RECORDS)] for _ in range(COMMITS)])
    (folder / "closed.json").unlink()
    sealed = folder / "0000000000.seg"
    sealed.with_suffix(".open").write_bytes(sealed.read_bytes()[:-BLOCK_HEADER_BYTES])
    sealed.unlink()
    return folder


def copy_with(killed: Path, folder: Path, data: bytes) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(killed, folder)
    path = folder / "0000000000.open"
    path.write_bytes(data)
    return path


def test_truncation_at_every_length_leaves_exactly_the_whole_commits(killed: Path, tmp_path: Path) -> None:
    data = (killed / "0000000000.open").read_bytes()
    truth = rows_in(killed / "0000000000.open")
    blocks = take_apart(killed / "0000000000.open").blocks
    folder = tmp_path / "s"
    for length in range(len(data)):
        copy_with(killed, folder, data[:length])
        report = recover(folder)
        whole = [block for block in blocks if block.end_position <= length]
        assert stream_rows(folder) == truth[: len(whole) * RECORDS], length
        assert not report.damaged
        end = whole[-1].end_position if whole else SEGMENT_HEADER_BYTES
        if length > end:
            (torn,) = report.torn
            assert torn.saved_to.read_bytes() == data[end:length]
            assert "torn" in json.loads(torn.saved_to.with_suffix(".json").read_text())["reason"]
        else:
            assert not report.torn
        assert not list(folder.glob("*.open"))
        assert recover(folder) == RecoveryReport(), "a second recovery finds nothing to do"


def test_zeros_or_stale_bytes_after_the_last_commit_are_a_torn_tail(killed: Path, tmp_path: Path) -> None:
    data = (killed / "0000000000.open").read_bytes()
    truth = rows_in(killed / "0000000000.open")
    stale = BlockEncoder("s@00000000", 0, 1).encode(
        Columns(np.array([1]), np.array([0], np.uint16), np.array([0], np.uint8), [b"stale"]), 20, 20
    )
    for tail in (b"\0" * 5000, stale, data[SEGMENT_HEADER_BYTES:], b"\xb5LB\n" * 50):
        copy_with(killed, tmp_path / "s", data + tail)
        report = recover(tmp_path / "s")
        assert [torn.length for torn in report.torn] == [len(tail)]
        assert not report.damaged
        assert stream_rows(tmp_path / "s") == truth


@pytest.mark.parametrize("index", range(COMMITS - 1))
def test_damage_before_a_later_commit_is_reported_and_the_rest_survives(
    killed: Path, tmp_path: Path, index: int
) -> None:
    data = bytearray((killed / "0000000000.open").read_bytes())
    block = take_apart(killed / "0000000000.open").blocks[index]
    data[block.position + BLOCK_HEADER_BYTES + 3] ^= 1
    path = copy_with(killed, tmp_path / "s", bytes(data))
    report = recover(tmp_path / "s", tmp_path / "quarantine")
    assert not report.torn
    ((damaged_path, damage),) = report.damaged
    assert damaged_path == path.with_suffix(".seg")
    assert damage.first_offset == index * RECORDS
    assert damage.end_offset == COMMITS * RECORDS  # one anchor only: nothing after it can be decoded
    rows, damages = salvage(damaged_path)
    assert damages == [damage]
    assert [row.offset for row in rows] == list(range(index * RECORDS))
    (kept,) = (tmp_path / "quarantine").glob("*.bin")
    assert kept.read_bytes() == data[block.position : block.end_position]
    with SpoolWriter(tmp_path / "s", PATIENT) as writer:
        assert writer.next_offset == COMMITS * RECORDS


def test_a_commit_of_several_blocks_torn_in_its_first_is_cut_whole(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "stream.json").write_text('{"stream": "s", "epoch": "0a0b0c0d"}')
    encoder = BlockEncoder("s@0a0b0c0d", 0, 1)

    def block(offset: int, durable: int) -> bytes:
        columns = Columns(
            np.array([offset + 1]), np.array([0], np.uint16), np.array([0], np.uint8), [b"%d" % offset]
        )
        return encoder.encode(columns, offset, durable)

    first, second, third = block(0, 0), block(1, 1), block(2, 1)
    torn = second[:-4] + b"\0\0\0\0"
    data = SegmentHeader("s@0a0b0c0d", 0, 0, 5).encode() + first + torn + third
    (folder / "0000000000.open").write_bytes(data)
    report = recover(folder)
    assert not report.damaged
    assert [t.length for t in report.torn] == [len(torn) + len(third)]
    assert [row.payload for row in stream_rows(folder)] == [b"0"]


def test_blocks_of_one_commit_claim_only_what_was_durable_before_it(tmp_path: Path) -> None:
    segment = SegmentFile(RealFileSystem(), tmp_path, SegmentHeader("s@0a0b0c0d", 0, 7, 5), 1)
    one = Columns(np.array([1]), np.array([0], np.uint16), np.array([0], np.uint8), [b"x"])
    segment.commit([one, one])
    segment.commit([one, one, one])
    segment.close()
    headers = [block.header for block in take_apart(segment.path).blocks]
    assert [header.first_offset for header in headers] == [7, 8, 9, 10, 11]
    assert [header.durable_offset for header in headers] == [7, 7, 9, 9, 9]


def test_the_next_writer_goes_on_where_the_last_one_was_killed(killed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(killed, folder)
    truth = rows_in(folder / "0000000000.open")
    with SpoolWriter(folder, PATIENT) as writer:
        assert writer.previous is not None
        assert not writer.previous.clean
        assert writer.previous.last_recv_ns == truth[-1].recv_ns
        assert writer.next_offset == len(truth)
        writer.append(b"next", recv_ns=5)
    rows = stream_rows(folder)
    assert rows == [*truth, Row(len(truth), truth[-1].recv_ns + 1, 0, 0, b"next")]
    with SpoolWriter(folder, PATIENT) as writer:
        assert writer.previous is not None
        assert writer.previous.clean


def test_a_clean_stop_is_known_even_when_the_last_segment_was_sealed_before(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "s", PATIENT) as writer:
        writer.append(b"a")
        writer.rotate()
        writer.flush(WAIT_S)
    with SpoolWriter(tmp_path / "s", PATIENT) as writer:
        assert writer.previous is not None
        assert writer.previous.clean
    assert len(sealed_segments(tmp_path / "s")) == 1, "a writer without records leaves no segment"


@pytest.mark.parametrize("loss", ["folder", "segments", "newest segment", "end of the newest segment"])
def test_an_offset_is_never_used_twice_after_a_loss(tmp_path: Path, loss: str) -> None:
    folder = tmp_path / "s"
    for payload in (b"a", b"b"):
        write_commits(folder, [[payload]])
    before = {info.stream for info in sealed_segments(folder)}
    newest = folder / "0000000001.seg"
    if loss == "folder":
        shutil.rmtree(folder)
    elif loss == "segments":
        for path in folder.glob("*.seg"):
            path.unlink()
    elif loss == "newest segment":
        newest.unlink()
    else:
        newest.write_bytes(newest.read_bytes()[:-1])
    with SpoolWriter(folder, PATIENT) as writer:
        assert writer.stream not in before
        assert writer.next_offset == 0
        writer.append(b"c")
    assert sealed_segments(folder)[-1].stream == writer.stream


def test_a_lost_identity_file_is_restored_from_the_segments(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    write_commits(folder, [[b"a"]])
    identity = (folder / "stream.json").read_bytes()
    (folder / "stream.json").unlink()
    write_commits(folder, [[b"b"]])
    assert (folder / "stream.json").read_bytes() == identity
    assert [row.offset for row in stream_rows(folder)] == [0, 1]
