"""What an ingester tells of itself while it follows a spool."""

from __future__ import annotations

from pathlib import Path

import pytest

from lake.beats import INGEST, Beat, IngestFigures, beat_path, read_beat
from lake.errors import DiskFullError
from lake.root import Root, open_root
from pipeline.decoding import Chunk
from pipeline.ingest import ingest
from pipeline.progress import Progress
from tests.pipeline import kit

S = 1_000_000_000


def told(root: Root, name: str = "deribit") -> tuple[Beat, IngestFigures]:
    beat = read_beat(beat_path(root.run, INGEST, name))
    assert beat is not None
    assert beat.ingest is not None
    return beat, beat.ingest


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(tmp_path / "lake", create=True)


def chunk(end_ns: int) -> Chunk:
    made = Chunk(0, 100, end_ns - S, end_ns)
    made.counts.update({"rows_quotes": 60, "rejected": 2, "frames": 90})
    made.class_frames.update({"quotes": 60, "other": 30})
    made.class_bytes.update({"quotes": 6000, "other": 3000})
    return made


def test_a_real_round_tells_what_the_tables_got(tmp_path: Path) -> None:
    root = kit.record_market(tmp_path / "lake", frames=600, instruments=20)
    progress = Progress(root)
    report = ingest(root, progress=progress)
    beat, figures = told(root)
    assert beat.state == "running"
    assert sum(figures.frames.values()) == report.counts["frames"] == len(kit.durable_frames(root))
    assert sum(figures.frame_bytes.values()) == sum(map(len, kit.durable_frames(root)))
    assert {name: figures.rows[name] for name in kit.TICKS} == kit.held(root).rows
    assert figures.frames["quotes"] == figures.rows["quotes"]
    assert figures.rounds == 1
    ingest(root, progress=progress)
    assert told(root)[1].rounds == 2
    progress.close()
    assert told(root)[0].state == "stopped"


def test_lags_are_the_age_of_the_newest_record(root: Root) -> None:
    progress = Progress(root, clock_ns=lambda: 107 * S)
    with progress.round("deribit"):
        progress.committed("deribit", chunk(100 * S), decoded_ns=105 * S)
        progress.committed("deribit", chunk(104 * S), decoded_ns=106 * S)
    _, figures = told(root)
    assert (figures.decode_lag_s, figures.commit_lag_s, figures.committed_ns) == (2.0, 3.0, 104 * S)
    assert (figures.rows, figures.quarantined_records) == ({"quotes": 120}, 4)
    assert figures.frame_bytes == {"quotes": 12000, "other": 6000}


def test_a_round_that_fails_is_told_until_one_succeeds(root: Root) -> None:
    progress = Progress(root)
    with pytest.raises(DiskFullError), progress.round("deribit"):
        raise DiskFullError("no space left")
    beat, figures = told(root)
    assert (beat.state, figures.failed_rounds, figures.last_error) == ("running", 1, "no space left")
    with progress.round("deribit"):
        pass
    _, figures = told(root)
    assert (figures.rounds, figures.failed_rounds, figures.last_error) == (1, 1, None)


def test_how_far_the_tables_reach_is_known_after_a_restart(root: Root) -> None:
    first = Progress(root)
    with first.round("deribit"):
        first.committed("deribit", chunk(100 * S), decoded_ns=101 * S)
    first.close(DiskFullError("no space left"))
    assert (told(root)[0].state, told(root)[0].reason) == ("failed", "no space left")
    with Progress(root).round("deribit"):
        pass
    _, figures = told(root)
    assert (figures.committed_ns, figures.rows) == (100 * S, {})


def test_a_beat_that_cannot_be_written_does_not_stop_ingest(
    root: Root, caplog: pytest.LogCaptureFixture
) -> None:
    root.run.rmdir()
    root.run.write_text("in the way")
    with Progress(root).round("deribit"):
        pass
    assert "a beat could not be written" in caplog.text
