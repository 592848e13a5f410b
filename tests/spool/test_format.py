"""The bytes of a segment: what goes in comes out, and what was changed on disk is never believed."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lake.errors import CorruptionError, InputError, LakeError
from lake.spool import SegmentDamagedError, read_segment, segment_info
from lake.spool.format import (
    ANCHOR_BYTES,
    BlockDecoder,
    BlockEncoder,
    Columns,
    SegmentHeader,
    block_at,
    crc_seed,
)
from tests.spool.helpers import Row, rows_in, rows_of, salvage, write_commits

RECORDS = st.tuples(
    st.binary(max_size=300), st.integers(0, 0xFFFF), st.integers(0, 2), st.integers(1, 10**12)
)


def columns_of(records: list[tuple[bytes, int, int, int]], start_ns: int) -> Columns:
    payloads, connections, kinds, steps = zip(*records, strict=True)
    return Columns(
        np.cumsum(np.array(steps, np.int64)) + start_ns,
        np.array(connections, np.uint16),
        np.array(kinds, np.uint8),
        payloads,
    )


@given(
    st.lists(st.lists(RECORDS, min_size=1, max_size=20), min_size=1, max_size=8),
    st.integers(0, 2**60),
    st.integers(0, 2**50),
)
@settings(max_examples=150, deadline=None)
def test_blocks_come_back_as_they_were_written(
    blocks: list[list[tuple[bytes, int, int, int]]], first_offset: int, start_ns: int
) -> None:
    encoder, decoder, seed = BlockEncoder("s@0a0b0c0d", 3, 1), BlockDecoder(), crc_seed("s@0a0b0c0d", 3)
    offset = first_offset
    for records in blocks:
        columns = columns_of(records, start_ns)
        block = block_at(memoryview(encoder.encode(columns, offset, first_offset)), 0, seed)
        assert block is not None
        assert block.header.first_offset == offset
        assert block.header.durable_offset == first_offset
        assert block.header.first_recv_ns == columns.recv_ns[0]
        assert block.header.last_recv_ns == columns.recv_ns[-1]
        found = decoder.decode(block)
        assert found is not None
        assert list(found.payloads) == list(columns.payloads)
        for name in ("recv_ns", "connection", "kind"):
            assert np.array_equal(getattr(found, name), getattr(columns, name)), name
        offset += len(records)


def test_a_block_of_another_segment_is_not_taken_for_one_of_this() -> None:
    columns = columns_of([(b"a", 0, 0, 1)], 0)
    data = memoryview(BlockEncoder("s@0a0b0c0d", 3, 1).encode(columns, 0, 0))
    assert block_at(data, 0, crc_seed("s@0a0b0c0d", 3)) is not None
    assert block_at(data, 0, crc_seed("s@0a0b0c0d", 4)) is None
    assert block_at(data, 0, crc_seed("s@ffffffff", 3)) is None


@given(st.integers(0, 2**63), st.integers(0, 2**63), st.integers(0, 2**62), st.binary(max_size=200))
def test_a_segment_header_comes_back(number: int, first_offset: int, created_ns: int, rest: bytes) -> None:
    header = SegmentHeader("s" * 64 + "@01234567", number, first_offset, created_ns)
    assert SegmentHeader.decode(header.encode() + rest) == header
    assert SegmentHeader.decode(header.encode()[:-1]) is None


def test_a_newer_format_is_refused_and_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0000000000.seg"
    with monkeypatch.context() as patch:
        patch.setattr("lake.spool.format.FORMAT_VERSION", 2)
        path.write_bytes(SegmentHeader("s@01234567", 0, 0, 0).encode())
    with pytest.raises(InputError, match="newer"):
        list(read_segment(path))


@pytest.fixture(scope="module")
def small_segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spool") / "s"
    rng = random.Random(1)
    write_commits(folder, [[rng.randbytes(rng.randrange(40)) for _ in range(9)] for _ in range(5)])
    return folder / "0000000000.seg"


def test_a_flipped_bit_anywhere_is_found_and_never_gives_wrong_records(
    small_segment: Path, tmp_path: Path
) -> None:
    original = small_segment.read_bytes()
    truth = set(rows_in(small_segment))
    shutil.copy(small_segment.parent / "stream.json", tmp_path)
    path = tmp_path / small_segment.name
    for position in range(len(original)):
        changed = bytearray(original)
        changed[position] ^= 1 << (position % 8)
        path.write_bytes(changed)
        with pytest.raises(CorruptionError):
            list(read_segment(path))
        rows, damages = salvage(path)
        assert set(rows) <= truth, position
        assert rows == sorted(rows)
        assert damages, position
        lost = {offset for d in damages for offset in range(d.first_offset, d.end_offset)}
        assert lost.isdisjoint(row.offset for row in rows)
        assert lost | {row.offset for row in rows} == set(range(45)), position
        assert segment_info(path).end_offset == 45 or position >= len(original) - 56


def test_damage_costs_no_more_than_the_records_up_to_the_next_anchor(tmp_path: Path) -> None:
    rng = random.Random(2)
    commits = [[rng.randbytes(64 << 10) for _ in range(4)] for _ in range(16)]
    write_commits(tmp_path / "s", commits)
    path = tmp_path / "s" / "0000000000.seg"
    truth = rows_in(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(SegmentDamagedError) as caught:
        list(read_segment(path))
    rows, damages = salvage(path)
    assert damages == [caught.value.damage]
    (damage,) = damages
    assert caught.value.path == path
    lost = [row for row in truth if damage.first_offset <= row.offset < damage.end_offset]
    assert rows == [row for row in truth if row not in lost]
    assert 0 < sum(len(row.payload) for row in lost) <= ANCHOR_BYTES + (256 << 10)
    assert damage.start_ns == truth[damage.first_offset - 1].recv_ns
    assert damage.end_ns == truth[damage.end_offset].recv_ns
    assert damage.position <= len(data) // 2 < damage.position + damage.length


def test_a_block_cut_out_of_a_sealed_segment_is_missed(small_segment: Path, tmp_path: Path) -> None:
    data = small_segment.read_bytes()
    first = block_at(memoryview(data), 128, crc_seed(segment_info(small_segment).stream, 0))
    assert first is not None
    second = block_at(memoryview(data), first.end_position, crc_seed(segment_info(small_segment).stream, 0))
    assert second is not None
    path = tmp_path / small_segment.name
    path.write_bytes(data[: first.end_position] + data[second.end_position :])
    rows, damages = salvage(path)
    assert [row.offset for row in rows] == list(range(9))
    assert [(d.first_offset, d.end_offset) for d in damages] == [(9, 45)]


def test_a_sealed_segment_that_lost_its_end_says_so(small_segment: Path, tmp_path: Path) -> None:
    data = small_segment.read_bytes()
    path = tmp_path / small_segment.name
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(LakeError):
            list(read_segment(path))


def test_real_frames_come_back_byte_for_byte(real_data: Path, tmp_path: Path) -> None:
    lines = [
        line for file in sorted((real_data / "ws").glob("*.jsonl")) for line in file.read_bytes().splitlines()
    ]
    assert lines
    write_commits(tmp_path / "s", [lines[i : i + 7] for i in range(0, len(lines), 7)])
    batches = list(read_segment(tmp_path / "s" / "0000000000.seg"))
    rows: list[Row] = [row for batch in batches for row in rows_of(batch)]
    assert [row.payload for row in rows] == lines
