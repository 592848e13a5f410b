"""A session that writes into the real spool: what is read back is what was received, at the times claimed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from collectors.recorder import Recorder
from lake.events import Gap, SessionStarted, SessionStopped, decode_event
from lake.spool import RecordKind, SpoolSettings, SpoolWriter, read_segment, sealed_segments
from tests.collectors.kit import run, settings, tick
from tests.collectors.test_recorder import ROWS, body
from tests.collectors.venue import serving

Record = tuple[bytes, int, int, int]


def read_back(folder: Path) -> list[Record]:
    """Payload, connection, kind and receive time of every record of a closed spool."""
    records: list[Record] = []
    for segment in sealed_segments(folder):
        for batch in read_segment(segment.path):
            records += zip(
                batch.payloads,
                batch.connection.tolist(),
                batch.kind.tolist(),
                batch.recv_ns.tolist(),
                strict=True,
            )
    return records


def test_frames_events_and_the_bounds_of_a_gap_survive_the_spool(tmp_path: Path) -> None:
    async def scenario(spool: SpoolWriter) -> None:
        async with serving() as venue:
            venue.rest = [(200, body(ROWS))]
            recorder = Recorder(settings(venue.ws_url, venue.rest_url), spool)
            running = asyncio.create_task(recorder.run())
            peer = await venue.peer()
            for first in (0, 100):
                while not (recorder.sessions and recorder.sessions[0].established.is_set()):
                    await asyncio.sleep(0)
                await peer.push(*[tick(number) for number in range(first, first + 100)])
                while recorder.summary().frames < (102 if first == 0 else 204):
                    await asyncio.sleep(0)
                if first == 0:
                    peer.reset()
                    peer = await venue.peer()
            recorder.stop()
            summary = await running
            assert spool.durable_offset == spool.next_offset
            assert (summary.frames, summary.reconnects, summary.gaps) == (204, 1, 1)

    folder = tmp_path / "spool" / "collect"
    with SpoolWriter(folder, SpoolSettings()) as spool:
        run(scenario(spool))

    records = read_back(folder)
    data = {payload: at for payload, _, kind, at in records if kind == RecordKind.FRAME}
    events = [decode_event(payload) for payload, _, kind, _ in records if kind == RecordKind.EVENT]
    assert [payload for payload in data if b"subscription" in payload] == [tick(n) for n in range(200)]
    assert isinstance(events[0], SessionStarted)
    assert isinstance(events[-1], SessionStopped)
    [gap] = [event for event in events if isinstance(event, Gap)]
    assert (gap.start_ns, gap.end_ns) == (data[tick(99)], data[tick(100)])
