"""Ingest: every durable record reaches the tables once, whatever happens on the way."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
from pathlib import Path

import pytest

from lake.errors import BusyError
from lake.events import Gap, encode_event
from lake.locks import exclusive
from lake.root import Root, open_root
from lake.spool import RecordKind, SpoolSettings, SpoolWriter, sealed_segments
from lake.tables import Tables
from pipeline.compact import compact
from pipeline.ingest import IngestSettings, Kept, follow, ingest
from quality.verify import verify
from tests.pipeline import kit
from tests.system.kit import Forge

STEPS = (
    "ingest:after_decode",
    "ingest:after_quotes",
    "ingest:after_trades",
    "ingest:after_book",
    "ingest:after_instruments",
    "ingest:after_gaps",
    "ingest:after_group",
    "delta:before_write",
    "delta:after_write",
    "delta:before_commit",
    "delta:after_commit",
    "delta:after_fsync",
)
SMALL = IngestSettings(records_per_commit=1)  # one segment a commit


def write_frames(root: Root, frames: list[bytes], **settings: int) -> None:
    with SpoolWriter(root.stream(kit.STREAM), SpoolSettings(**settings)) as spool:
        for frame in frames:
            spool.append(frame)


def test_everything_in_the_spool_reaches_the_tables_once(recorded: Root) -> None:
    wanted = kit.expected(recorded)
    assert min(wanted.rows.values()) > 100
    ingest(recorded)
    assert kit.held(recorded) == wanted
    assert ingest(recorded).segments == 0
    assert kit.held(recorded) == wanted
    kit.assert_sound(recorded)


def test_segments_may_come_in_any_number_of_runs(recorded: Root) -> None:
    wanted = kit.expected(recorded)
    folder = recorded.stream(kit.STREAM)
    segments = sealed_segments(folder)
    assert len(segments) > 4
    waiting = recorded.path.parent / "waiting"
    waiting.mkdir()
    for segment in segments[2:]:
        segment.path.rename(waiting / segment.path.name)
    ingest(recorded, SMALL)
    for path in waiting.iterdir():
        path.rename(folder / path.name)
    ingest(recorded, SMALL)
    assert kit.held(recorded) == wanted
    kit.assert_sound(recorded)


def test_kill_at_every_named_step_loses_and_repeats_nothing(recorded: Root, forge: Forge) -> None:
    wanted = kit.expected(recorded)
    arguments = ("--root", str(recorded.path), "ingest")
    for step in STEPS:
        code, output = forge.lake(*arguments, crash_at=step, LAKE_INGEST_RECORDS_PER_COMMIT="1")
        assert code == kit.KILLED, f"{step}: {output}"
    code, output = forge.lake(*arguments)
    assert code == 0, output
    assert kit.held(recorded) == wanted
    kit.assert_sound(recorded)


def test_kill_at_random_moments_loses_and_repeats_nothing(recorded: Root, forge: Forge) -> None:
    wanted = kit.expected(recorded)
    arguments = ("--root", str(recorded.path), "ingest")
    chance = random.Random(11)
    killed = 0
    for _ in range(12):
        # The n-th arrival at a random step is a random moment that does not depend on the machine's speed.
        at = f"{chance.choice(STEPS)}:{chance.randint(1, 6)}"
        code, output = forge.lake(*arguments, crash_at=at, LAKE_INGEST_RECORDS_PER_COMMIT="350")
        assert code in (0, kit.KILLED), output
        killed += code == kit.KILLED
    assert killed >= 3
    ingest(recorded)
    assert kit.held(recorded) == wanted
    kit.assert_sound(recorded)


def test_undecodable_frames_are_kept_with_their_reason(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    garbage = (
        b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"ticker.BTC-PERPETUAL.100ms","data":{'
    )
    write_frames(root, [garbage, b"\x00\xff not json at all"])
    report = ingest(root)
    assert report.counts["rejected"] == 2
    [path] = (root.quarantine / "ingest").rglob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [base64.b64decode(line["payload"]) for line in lines] == [garbage, b"\x00\xff not json at all"]
    assert all(line["reason"] for line in lines)
    kit.assert_sound(root)


def test_gaps_told_by_the_recorder_become_rows(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    gap = Gap(
        start_ns=1_700_000_000_000_000_001, end_ns=1_700_000_001_000_000_001, cause="disconnect", connection=2
    )
    with SpoolWriter(root.stream(kit.STREAM)) as spool:
        spool.append(encode_event(gap), kind=RecordKind.EVENT)
    ingest(root)
    [row] = kit.read_table(root, "gaps").to_pylist()
    assert (row["cause"], row["connection"], row["healed"], row["venue"]) == (
        "disconnect",
        2,
        False,
        "deribit",
    )
    assert (row["end_ts"] - row["start_ts"]).total_seconds() == pytest.approx(1.000001)


def test_flipped_bit_in_the_spool_costs_a_recorded_gap_and_nothing_else(recorded: Root) -> None:
    before = kit.expected(recorded)
    victim = sealed_segments(recorded.stream(kit.STREAM))[1].path
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x10
    victim.write_bytes(content)
    [problem] = verify(recorded).problems
    assert victim.name in problem
    report = ingest(recorded)
    assert report.counts["records_lost"] > 0
    damage = [g for g in kit.read_table(recorded, "gaps").to_pylist() if g["cause"] == "spool_damage"]
    assert sum(g["records_lost"] for g in damage) == report.counts["records_lost"]
    after = kit.held(recorded)
    assert all(0 < after.rows[name] <= before.rows[name] for name in kit.TICKS)
    kit.assert_sound(recorded)


def test_missing_segment_is_told_and_does_not_stop_the_rest(recorded: Root) -> None:
    segments = sealed_segments(recorded.stream(kit.STREAM))
    lost = segments[1].end_offset - segments[1].first_offset
    segments[1].path.unlink()
    ingest(recorded)
    [gap] = [g for g in kit.read_table(recorded, "gaps").to_pylist() if g["cause"] == "spool_missing"]
    assert gap["records_lost"] == lost
    kit.assert_sound(recorded)


def test_stream_of_a_lost_spool_folder_starts_anew(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    for _ in range(2):
        write_frames(root, [b'{"jsonrpc":"2.0","id":1,"result":"ok"}'] * 3)
        ingest(root)
        for path in root.stream(kit.STREAM).iterdir():
            path.unlink()
    assert len(kit.read_table(root, "coverage")) == 2
    kit.assert_sound(root)


def test_a_round_that_finds_nothing_new_opens_no_table(
    recorded: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(Tables(recorded))
    assert ingest(recorded, kept=kept).segments > 0
    monkeypatch.setattr("pipeline.ingest.Landing", None)
    assert ingest(recorded, kept=kept).segments == 0
    with pytest.raises(TypeError):
        ingest(recorded)


@pytest.mark.parametrize("seed", range(3))
def test_tables_kept_open_see_what_another_process_has_ingested_meanwhile(recorded: Root, seed: int) -> None:
    wanted, chance = kit.expected(recorded), random.Random(seed)
    segments = sealed_segments(recorded.stream(kit.STREAM))
    waiting = recorded.path.parent / "waiting"
    waiting.mkdir()
    for segment in segments:
        segment.path.rename(waiting / segment.path.name)
    ours, theirs = Kept(Tables(recorded)), Kept(Tables(recorded))
    while segments:
        for segment in segments[: chance.randint(1, 4)]:
            (waiting / segment.path.name).rename(segment.path)
            segments.remove(segment)
        ingest(recorded, SMALL, kept=chance.choice([ours, theirs]))
        if chance.random() < 0.2:
            compact(recorded)
    ingest(recorded, SMALL, kept=ours)
    assert kit.held(recorded) == wanted
    kit.assert_sound(recorded)


def test_stream_that_is_being_ingested_elsewhere_is_left_alone(recorded: Root) -> None:
    with exclusive(recorded.locks / f"ingest-{kit.STREAM}.lock", "ingesting"):
        report = ingest(recorded)
    assert report.busy_streams == [kit.STREAM]
    assert report.segments == 0


def test_living_recorder_is_not_disturbed_by_ingest(tmp_path: Path) -> None:
    root = open_root(tmp_path / "lake", create=True)
    with SpoolWriter(root.stream(kit.STREAM)) as spool:
        spool.append(b'{"jsonrpc":"2.0","id":1,"result":"ok"}')
        spool.flush()
        assert ingest(root).segments == 0
        with pytest.raises(BusyError, match="recording"), SpoolWriter(root.stream(kit.STREAM)):
            pass
    assert ingest(root).segments == 1


def test_instrument_rows_appear_only_when_something_changed(recorded: Root) -> None:
    ingest(recorded)
    first = kit.read_table(recorded, "instruments")
    assert len(first) == len(set(first["instrument"].to_pylist())) > 10


def test_number_that_does_not_fit_the_contract_is_refused_with_its_whole_frame(recorded: Root) -> None:
    frames = kit.durable_frames(recorded)
    good = next(frame for frame in frames if b'"ticker.' in frame and b'"mark_iv":' in frame)
    start = good.index(b'"mark_iv":') + len(b'"mark_iv":')
    bad = good[:start] + b"1e30" + good[good.index(b",", start) :]
    before = kit.expected(recorded).rows["quotes"]
    write_frames(recorded, [good, bad, good])
    report = ingest(recorded)
    assert report.counts["rejected"] == 1
    assert report.counts["repeated"] == 2, "the good ones had been recorded before"
    assert kit.held(recorded).rows["quotes"] == before
    [path] = (recorded.quarantine / "ingest").rglob("*.jsonl")
    assert "mark_iv" in json.loads(path.read_text())["reason"]
    kit.assert_sound(recorded)


def test_beside_a_collector_a_follower_gives_way_to_a_fresh_one(tmp_path: Path) -> None:
    root = kit.record_market(tmp_path / "lake", frames=200, instruments=5)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ours, theirs = os.pipe()
    try:
        report = follow(root, IngestSettings(follow_seconds=0.01, renew_hours=0.2 / 3600), leash=ours)
    finally:
        os.close(theirs)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert report.counts["frames"] >= 200
    kit.assert_sound(root)
