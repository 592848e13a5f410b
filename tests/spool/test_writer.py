"""The writer on a good disk, a slow one, a full one and a broken one."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lake.errors import BusyError, DiskFullError, InputError, TerminalError
from lake.events import Gap, decode_event
from lake.spool import RecordKind, SpoolSettings, SpoolWriter, drop_segments, open_segments, sealed_segments
from tests.spool.helpers import PATIENT, WAIT_S, FailingFileSystem, Row, rows_in, stream_rows


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.002)):
        if condition():
            return
        pause.wait(0.002)
    raise AssertionError("it did not happen in time")


def gaps_in(rows: list[Row]) -> list[Gap]:
    events = [decode_event(row.payload) for row in rows if row.kind == RecordKind.EVENT]
    return [event for event in events if isinstance(event, Gap)]


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_records_are_durable_in_order_and_told_so(tmp_path: Path) -> None:
    told: list[int] = []
    with SpoolWriter(tmp_path / "s", PATIENT, on_durable=told.append) as writer:
        writer.append(b"a", connection=65535, recv_ns=10)
        writer.append(b"", kind=RecordKind.RESPONSE, recv_ns=10)
        writer.append(b"c", recv_ns=3)
        writer.flush(WAIT_S)
        assert writer.durable_offset == 3
        (info,) = open_segments(tmp_path / "s")
        expected = [Row(0, 10, 65535, 0, b"a"), Row(1, 11, 0, 2, b""), Row(2, 12, 0, 0, b"c")]
        assert rows_in(info.path) == expected
        assert not sealed_segments(tmp_path / "s")
    assert told == sorted(told)
    assert told[-1] == 3
    (info,) = sealed_segments(tmp_path / "s")
    assert (info.first_offset, info.end_offset, info.start_ns, info.end_ns) == (0, 3, 10, 12)
    assert rows_in(info.path) == expected


def test_a_stream_has_one_writer(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "s", PATIENT) as writer:
        with pytest.raises(BusyError, match=str(os.getpid())):
            SpoolWriter(tmp_path / "s", PATIENT)
        writer.append(b"a")
    with SpoolWriter(tmp_path / "s", PATIENT):
        pass


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "s", PATIENT) as writer:
        for connection in (-1, 65536):
            with pytest.raises(InputError):
                writer.append(b"a", connection=connection)
    with pytest.raises(TerminalError, match="closed"):
        writer.append(b"a")
    assert stream_rows(tmp_path / "s") == []


def test_segments_end_by_size_by_time_and_on_request(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    with SpoolWriter(folder, SpoolSettings(commit_interval_ms=1, segment_bytes=1)) as writer:
        for number in range(3):
            writer.append(b"size")
            wait_until(lambda n=number: len(sealed_segments(folder)) == n + 1)  # type: ignore[misc]
    with SpoolWriter(folder, SpoolSettings(commit_interval_ms=1, segment_seconds=0.02)) as writer:
        writer.append(b"time")
        wait_until(lambda: len(sealed_segments(folder)) == 4)
    with SpoolWriter(folder, PATIENT) as writer:
        writer.rotate()
        for number in range(4, 6):
            writer.append(b"request")
            writer.rotate()
            wait_until(lambda n=number: len(sealed_segments(folder)) == n + 1)  # type: ignore[misc]
        for _ in range(3):
            writer.append(b"one segment")
            writer.flush(WAIT_S)
    infos = sealed_segments(folder)
    assert [info.number for info in infos] == list(range(7))
    assert [info.first_offset for info in infos] == [0, 1, 2, 3, 4, 5, 6]
    assert infos[-1].end_offset == 9


def test_old_ingested_segments_are_dropped_but_never_the_newest(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for start_ns in (10, 20, 30, 40):
        with SpoolWriter(folder, PATIENT) as writer:
            writer.append(b"a", recv_ns=start_ns)
    stream = writer.stream
    assert drop_segments(folder, before_ns=25, stream="s@another0", upto_offset=99) == []
    assert drop_segments(folder, before_ns=10, stream=stream, upto_offset=99) == []
    assert drop_segments(folder, before_ns=99, stream=stream, upto_offset=1) == [folder / "0000000000.seg"]
    drop_segments(folder, before_ns=99, stream=stream, upto_offset=99)
    assert [row.offset for row in stream_rows(folder)] == [3]
    with SpoolWriter(folder, PATIENT) as writer:
        assert (writer.stream, writer.next_offset) == (stream, 4)


def test_a_slow_disk_loses_only_what_the_gap_events_say(tmp_path: Path) -> None:
    fs, stuck, go = FailingFileSystem(), threading.Event(), threading.Event()

    def block() -> None:
        stuck.set()
        assert go.wait(WAIT_S)

    fs.before["sync"] = block
    settings = SpoolSettings(commit_interval_ms=1, pending_bytes_max=20_000)
    with SpoolWriter(tmp_path / "s", settings, fs=fs) as writer:
        for n in range(400):
            writer.append(b"x" * 100, connection=n % 2, recv_ns=1000 + n)
        assert stuck.wait(WAIT_S)
        dropped = writer.stats.dropped_records
        assert dropped == 400 - 20_000 // 164
        assert writer.stats.pending_bytes <= 20_000
        writer.append(b"event", kind=RecordKind.EVENT, recv_ns=1400)
        go.set()
        writer.flush(WAIT_S)
        wait_until(lambda: writer.stats.pending_bytes == 0)
        writer.append(b"after", recv_ns=2000)
        writer.flush(WAIT_S)
    rows = stream_rows(tmp_path / "s")
    gap_rows = [row for row in rows if row.kind == RecordKind.EVENT and row.payload != b"event"]
    gaps = [decode_event(row.payload) for row in gap_rows]
    frames = {row.recv_ns for row in rows if row.kind == RecordKind.FRAME}
    missing = sorted(set(range(1000, 1400)) - frames)
    assert len(missing) == dropped
    for connection, gap in enumerate(gaps):
        lost = [ns for ns in missing if ns % 2 == connection]
        assert gap == Gap(
            start_ns=lost[0],
            end_ns=lost[-1],
            cause="spool_overflow",
            connection=connection,
            records_lost=len(lost),
        )
    assert len(gaps) == 2
    assert rows[-1].payload == b"after"
    assert [row.offset for row in rows] == list(range(len(rows)))


def test_records_that_come_together_are_stamped_apart_and_lost_one_by_one(tmp_path: Path) -> None:
    fs, stuck, go = FailingFileSystem(), threading.Event(), threading.Event()

    def block() -> None:
        stuck.set()
        assert go.wait(WAIT_S)

    fs.before["sync"] = block
    settings = SpoolSettings(commit_interval_ms=1, pending_bytes_max=1_000)
    payloads = [b"%02d" % n + b"x" * 98 for n in range(10)]
    with SpoolWriter(tmp_path / "s", settings, fs=fs) as writer:
        writer.append(b"first", recv_ns=1000)
        assert stuck.wait(WAIT_S)
        writer.extend(payloads, connection=3, recv_ns=900)  # 164 bytes of memory each: five have room
        assert writer.stats.dropped_records == 5
        go.set()
        writer.flush(WAIT_S)
        wait_until(lambda: writer.stats.pending_bytes == 0)
        writer.extend(payloads[:3], connection=3, recv_ns=2000)
    first, *kept, gap, one, two, three = stream_rows(tmp_path / "s")
    assert (first.payload, first.recv_ns) == (b"first", 1000)
    assert [(row.recv_ns, row.payload) for row in kept] == list(enumerate(payloads[:5], 1001))
    assert decode_event(gap.payload) == Gap(
        start_ns=1006, end_ns=1010, cause="spool_overflow", connection=3, records_lost=5
    )
    assert [(row.recv_ns, row.connection) for row in (one, two, three)] == [(2000, 3), (2001, 3), (2002, 3)]
    with SpoolWriter(tmp_path / "s", PATIENT) as writer, pytest.raises(InputError):
        writer.extend(payloads, connection=1 << 16)


def test_a_full_disk_without_overflow_costs_nothing(tmp_path: Path) -> None:
    fs = FailingFileSystem()
    fs.fail["write"] = [None, error(errno.ENOSPC), error(errno.EDQUOT)]
    with SpoolWriter(tmp_path / "s", PATIENT, fs=fs) as writer:
        for n in range(3):
            writer.append(b"%d" % n)
            writer.flush(WAIT_S)
        assert not writer.stats.disk_full
        assert writer.stats.last_error is not None
    assert not fs.fail["write"]
    assert [row.payload for row in stream_rows(tmp_path / "s")] == [b"0", b"1", b"2"]
    assert len(sealed_segments(tmp_path / "s")) == 1


def test_closing_on_a_full_disk_says_what_is_lost_and_keeps_what_is_durable(tmp_path: Path) -> None:
    fs = FailingFileSystem()
    writer = SpoolWriter(tmp_path / "s", PATIENT, fs=fs)
    writer.append(b"kept")
    writer.flush(WAIT_S)
    fs.fail["write"] = [error(errno.ENOSPC)] * 1000
    writer.append(b"lost")
    wait_until(lambda: writer.stats.disk_full)
    with pytest.raises(DiskFullError):
        writer.flush(0.01)
    with pytest.raises(DiskFullError, match="last 1 record"):
        writer.close()
    with SpoolWriter(tmp_path / "s", PATIENT) as again:
        assert again.previous is not None
        assert not again.previous.clean
        assert not again.recovery.torn
    assert [row.payload for row in stream_rows(tmp_path / "s")] == [b"kept"]


@pytest.mark.parametrize("truncate_fails", [False, True])
def test_after_a_failed_sync_the_batch_is_written_again_elsewhere(
    tmp_path: Path, truncate_fails: bool
) -> None:
    fs = FailingFileSystem()
    with SpoolWriter(tmp_path / "s", PATIENT, fs=fs) as writer:
        writer.append(b"0")
        writer.flush(WAIT_S)
        fs.fail["sync"] = [error(errno.EIO)]
        fs.fail["truncate"] = [error(errno.EIO)] if truncate_fails else []
        for n in range(1, 4):
            writer.append(b"%d" % n)
            writer.flush(WAIT_S)
    if truncate_fails:
        assert not sealed_segments(tmp_path / "s"), "records after an unsealed segment are not offered yet"
    with SpoolWriter(tmp_path / "s", PATIENT) as again:
        assert len(again.recovery.torn) == truncate_fails
        assert again.next_offset == 4
    assert [row.payload for row in stream_rows(tmp_path / "s")] == [b"0", b"1", b"2", b"3"]
    assert len(sealed_segments(tmp_path / "s")) == 2


def test_a_disk_that_fails_twice_stops_the_writer_loudly(tmp_path: Path) -> None:
    fs = FailingFileSystem()
    writer = SpoolWriter(tmp_path / "s", PATIENT, fs=fs)
    writer.append(b"kept")
    writer.flush(WAIT_S)
    fs.fail["sync"] = [error(errno.EIO)] * 100
    writer.append(b"lost")
    with pytest.raises(TerminalError, match="fails"):
        writer.flush(WAIT_S)
    with pytest.raises(TerminalError, match="fails"):
        writer.append(b"more")
    assert "fails" in (writer.stats.last_error or "")
    with pytest.raises(TerminalError):
        writer.close()
    with SpoolWriter(tmp_path / "s", PATIENT) as again:
        assert again.durable_offset >= 1
    assert stream_rows(tmp_path / "s")[0].payload == b"kept"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    result = subprocess.run(mount, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"a small file system cannot be mounted here (needs root): {result.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_real_disk_that_fills_up_and_is_freed(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"\1" * (2 << 20))
    folder = small_disk / "s"
    settings = SpoolSettings(commit_interval_ms=1, pending_bytes_max=300_000)
    appended = 0
    payloads = [os.urandom(1000) for _ in range(4000)]
    with SpoolWriter(folder, settings) as writer:
        while not writer.stats.dropped_records:
            writer.append(payloads[appended], recv_ns=1000 + appended)
            appended += 1
            if not writer.stats.disk_full and writer.stats.pending_bytes > 100_000:
                wait_until(lambda: writer.stats.disk_full or writer.stats.pending_bytes < 100_000)
        assert writer.stats.disk_full
        durable_when_full = writer.durable_offset
        filler.unlink()
        writer.flush(WAIT_S)
        wait_until(lambda: writer.stats.pending_bytes == 0)
        assert not writer.stats.disk_full
        writer.append(b"after", recv_ns=10_000)
    assert 0 < durable_when_full < appended
    rows = stream_rows(folder)
    (gap,) = gaps_in(rows)
    lost = writer.stats.dropped_records
    assert (gap.cause, gap.records_lost) == ("disk_full", lost)
    frames = [row for row in rows if row.kind == RecordKind.FRAME]
    kept = appended - lost
    assert [row.payload for row in frames] == [*payloads[:kept], b"after"]
    assert (gap.start_ns, gap.end_ns) == (1000 + kept, 1000 + appended - 1)
    assert [row.offset for row in rows] == list(range(len(rows)))
