"""Every kind of thing in a lake's folder, what can become of it, and whether `lake verify` must complain.

The table in docs/proof.md is this one; `test_tampering` proves each of its cells and that the page has it.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from lake.beats import COLLECT, beat_path, write_beat
from lake.events import Gap, encode_event
from lake.root import Root, open_root
from lake.spool import RecordKind, SpoolWriter
from pipeline.bars import derive_bars
from pipeline.compact import compact
from pipeline.ingest import IngestSettings, ingest
from quality.verify import verify
from tests.ops.kit import collector_beat
from tests.pipeline.kit import STREAM, durable_frames, record_market

SPARE: Final = "serves no more: its records are in the tables"
BEAT: Final = "of the moment; a floor for the spool while it is there"
NOTHING: Final = "nothing relies on it"
MORE: Final = "more than what is counted claims nothing"
NEXT_READ: Final = "not believed by a whole proof, and never by one about other files"
Harm = Callable[[Path, Path], None]


def remove(path: Path, old: Path) -> None:
    path.unlink()


def truncate(path: Path, old: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, old: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x04
    path.write_bytes(content)


def double(path: Path, old: Path) -> None:
    name = f"9{path.name[1:]}" if path.name[0] == "0" else f"copy-{path.name}"
    shutil.copy2(path, path.with_name(name))


def replace(path: Path, old: Path) -> None:
    shutil.copy2(old, path)


YESTERDAY: Final = "of yesterday"
HARMS: Final[dict[str, Harm]] = {
    "removed": remove,
    "cut short": truncate,
    "a bit flipped": flip,
    "doubled": double,
    YESTERDAY: replace,
}


@dataclass(frozen=True)
class Kind:
    """Files of one kind: `pattern` finds one; `free` says by harm why no complaint is asked for."""

    name: str
    pattern: str
    free: dict[str, str] = field(default_factory=dict)
    newest: bool = False
    closed: bool = False
    """To be found in the lake whose recorder was stopped."""
    changes: bool = False
    """Whether a file of this name may have been another one yesterday."""


def all_free(reason: str) -> dict[str, str]:
    return dict.fromkeys(HARMS, reason)


KINDS: Final = (
    Kind("`lake.json`", "lake.json", {"doubled": NOTHING}),
    Kind("data file of a day in progress", "tables/book/*/*/i.*.parquet"),
    Kind("data file of a finished day", "tables/quotes/*/*/c-*.parquet"),
    Kind("data file of `instruments`", "tables/instruments/*.parquet"),
    Kind("data file of `gaps`", "tables/gaps/*.parquet", newest=True),
    Kind("data file of `coverage`", "tables/coverage/*.parquet", newest=True),
    Kind("data file of a derived table", "tables/bars/*/*/*.parquet"),
    Kind("newest commit", "tables/gaps/_delta_log/*.json", newest=True),
    Kind("newest commit of `coverage`", "tables/coverage/_delta_log/*.json", newest=True),
    Kind("earlier commit", "tables/quotes/_delta_log/*1.json"),
    Kind("head", "heads/trades.json", changes=True),
    Kind("manifest", "manifests/????-??-??.json", newest=True, changes=True),
    Kind("manifest before it was renewed", "manifests/*.r1.json"),
    Kind(
        "head of the manifests",
        "heads/manifests.json",
        {YESTERDAY: "names fewer manifests than there are"},
        changes=True,
    ),
    Kind("segment that is in the tables", "spool/*/*.seg", {h: SPARE for h in HARMS if h != "doubled"}),
    Kind("segment that waits", "spool/*/*.seg", newest=True),
    Kind("segment being written", "spool/*/*.open"),
    Kind("`stream.json`", "spool/*/stream.json"),
    Kind(
        "`closed.json`",
        "spool/*/closed.json",
        {"removed": "says only that the stop was clean"},
        closed=True,
        changes=True,
    ),
    Kind("refused records", "quarantine/ingest/*/*.jsonl", {"doubled": MORE}),
    Kind("beat", f"run/{COLLECT}-*.json", all_free(BEAT)),
    Kind("what was proven last", "run/verified.json", all_free(NEXT_READ)),
    Kind("lock", "locks/*.lock", all_free(NOTHING)),
)


_COUNTER: Final = re.compile(
    rb'("(?:timestamp|trade_seq|change_id|prev_change_id)":|"trade_id":"(?:[A-Z]+-)?)(\d+)'
)
CLOSED: Final = dt.timedelta(days=40)
"""After which every day, and the month, of what was recorded now is over."""


@dataclass(frozen=True)
class Folder:
    """A folder taken away, or put back as it was yesterday."""

    name: str
    paths: tuple[str, ...]
    older: bool
    free: str = ""


FOLDERS: Final = (
    Folder("a table", ("tables/trades",), older=False),
    Folder("a table", ("tables/trades",), older=True),
    Folder("`coverage`", ("tables/coverage",), older=False),
    Folder("`coverage`", ("tables/coverage",), older=True),
    Folder("`gaps`", ("tables/gaps",), older=True),
    Folder("the log of a table", ("tables/book/_delta_log",), older=False),
    Folder("the log of a table", ("tables/book/_delta_log",), older=True),
    Folder("a table and its head", ("tables/gaps", "heads/gaps.json"), older=True),
    Folder("all tables", ("tables",), older=False),
    Folder("all tables", ("tables",), older=True),
    Folder("manifests", ("manifests",), older=False),
    Folder("manifests", ("manifests",), older=True),
    Folder("all heads", ("heads",), older=False),
    Folder("all heads", ("heads",), older=True),
    Folder("tables and heads", ("tables", "heads"), older=True),
    Folder("the spool", ("spool",), older=False),
    Folder("the spool", ("spool",), older=True),
    Folder("the quarantine", ("quarantine",), older=False),
    Folder("the quarantine", ("quarantine",), older=True),
    Folder("everything but the beat", ("tables", "heads", "spool", "quarantine"), older=True),
    Folder("beats", ("run",), False, BEAT),
    Folder("logs", ("logs",), False, NOTHING),
    Folder("locks", ("locks",), False, NOTHING),
    Folder(
        "staging", ("staging",), False, "a killed writer leaves files there, and the next one clears them"
    ),
    Folder("replaced files", ("retired",), False, "their rows are in what replaced them"),
)


@dataclass(frozen=True)
class Lakes:
    """The same lake on three occasions: a recorder at work, stopped, and the day before."""

    recording: Root
    stopped: Root
    yesterday: Root


def build(folder: Path) -> Lakes:
    """A small lake with something of every kind."""
    root = record_market(folder / "stopped", frames=900, instruments=12)
    frames = durable_frames(root)
    _record(root, frames[:40])
    ingest(root, IngestSettings(records_per_commit=300))
    compact(root, now=dt.datetime.now(dt.UTC) + CLOSED)
    derive_bars(root)
    verify(root, remember=True)
    yesterday = _copy(root, folder / "yesterday")
    _record(root, [_later(frame, 1) for frame in frames[:50]])
    ingest(root)
    compact(root, now=dt.datetime.now(dt.UTC) + CLOSED)
    _record(root, [_later(frame, 2) for frame in frames[:300]])
    ingest(root)
    derive_bars(root)
    later = [_later(frame, 3) for frame in frames[:40]]
    with SpoolWriter(root.stream(STREAM)) as writer:
        for frame in later[:20]:
            writer.append(frame)
        writer.rotate()
        writer.flush()
        writer.append(later[20])
        writer.flush()
        for frame in later[21:]:
            writer.append(frame)
        writer.flush()
        _beat(root, writer)
        recording = _copy(root, folder / "recording")
    return Lakes(recording, root, yesterday)


def _later(frame: bytes, times: int) -> bytes:
    """The frame as the venue might send it some seconds later: another time, another trade, another change."""
    return _COUNTER.sub(lambda found: found[1] + str(int(found[2]) + times * 5_000).encode(), frame)


def _record(root: Root, frames: list[bytes]) -> None:
    """A short life of a recorder: ticks, a frame that nobody understands, a gap."""
    with SpoolWriter(root.stream(STREAM)) as writer:
        for frame in frames:
            writer.append(frame)
        writer.append(b'{"method": "subscription", "params": {"channel": "ticker.X", "data": 1')
        gap = Gap(
            start_ns=1_780_000_000_000_000_000, end_ns=1_780_000_001_000_000_000, cause=f"test{len(frames)}"
        )
        writer.append(encode_event(gap), kind=RecordKind.EVENT)


def _beat(root: Root, writer: SpoolWriter) -> None:
    beat = collector_beat(stream=STREAM)
    assert beat.collector is not None
    spool = msgspec.structs.replace(
        beat.collector.spool, stream_id=writer.stream, durable_offset=writer.durable_offset
    )
    collector = msgspec.structs.replace(beat.collector, spool=spool)
    write_beat(beat_path(root.run, COLLECT, STREAM), msgspec.structs.replace(beat, collector=collector))


def _copy(root: Root, folder: Path) -> Root:
    shutil.copytree(root.path, folder)
    return open_root(folder)


def rendered() -> str:
    """The table of docs/proof.md."""
    notes: list[str] = []

    def cell(reason: str | None) -> str:
        if not reason:
            return "caught"
        if reason not in notes:
            notes.append(reason)
        return f"free ({notes.index(reason) + 1})"

    lines = [f"| one file | {' | '.join(HARMS)} |", f"|---|{'---|' * len(HARMS)}"]
    for kind in KINDS:
        cells = [
            "\N{EN DASH}" if harm == YESTERDAY and not kind.changes else cell(kind.free.get(harm))
            for harm in HARMS
        ]
        lines.append(f"| {kind.name} | {' | '.join(cells)} |")
    lines += ["", "| whole folders | what | |", "|---|---|---|"]
    for one in FOLDERS:
        lines.append(
            f"| {one.name} | {'as it was yesterday' if one.older else 'removed'} | {cell(one.free)} |"
        )
    lines += ["", *(f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(notes, 1))]
    return "\n".join(lines) + "\n"
