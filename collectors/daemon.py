"""A recorder with a spool of its own: what one `lake collect` process is."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from collectors.aftermath import unrecorded
from collectors.clock import SteadyClock
from collectors.deribit.columns import VENUE
from collectors.ops.operations import OnBeat, Operations
from collectors.ops.settings import OpsSettings
from collectors.recorder import Recorder, RecordingSummary
from collectors.settings import CollectorSettings
from lake.errors import BusyError, InputError
from lake.reach import tables_of
from lake.root import Root
from lake.spool import SpoolSettings, SpoolWriter

HEALING_MAX_S: Final = 3.0
LOCK_POLL_S: Final = 0.02


def record(
    root: Root,
    settings: CollectorSettings,
    spool_settings: SpoolSettings,
    *,
    stream: str,
    seconds: float | None = None,
    on_durable: Callable[[int], None] | None = None,
    ops: OpsSettings | None = None,
    on_beat: OnBeat | None = None,
) -> RecordingSummary:
    """Record the venue into spool stream `stream` until SIGTERM or SIGINT, or for `seconds`.

    The interval since the stream's last life becomes a gap: "stopped" after a clean stop, else "crashed".
    `on_durable` is told every new durable offset, in the spool's own thread. `ops` says who else is told how
    recording goes; `on_beat` gets every beat, in a thread of its own.

    Raises:
        SettingsError: the metrics cannot be served where `ops` says.
        InputError: the stream's name does not begin with the venue's.
        BusyError: another process records this stream.
        VenueUnavailableError, VenueRefusedError: see `Recorder.run`.
    """
    folder = stream_folder(root, stream)
    open_spool = partial(
        SpoolWriter,
        folder,
        spool_settings,
        on_durable=on_durable,
        quarantine=root.quarantine / "spool",
        ask_tables=tables_of(root),
    )
    with Operations(root, stream, ops, on_beat=on_beat) as operations, _when_free(open_spool) as spool:
        clock = SteadyClock(spool.previous.last_recv_ns if spool.previous else 0)
        recorder = Recorder(
            settings, spool, name=stream, unrecorded=unrecorded(folder, spool.previous), clock=clock
        )
        operations.watch(recorder, spool)
        return asyncio.run(_run(recorder, seconds, operations))


def stream_folder(root: Root, stream: str) -> Path:
    """The folder of the spool stream; raises InputError where its name does not begin with the venue's."""
    if stream.partition("-")[0] != VENUE:
        raise InputError(f"stream {stream!r}: begin the name with the venue, such as {VENUE} or {VENUE}-b")
    return root.stream(stream)


async def _run(recorder: Recorder, seconds: float | None, operations: Operations) -> RecordingSummary:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, recorder.stop)
    async with operations.beating():
        return await recorder.run(seconds)


def _when_free(open_spool: Callable[[], SpoolWriter]) -> SpoolWriter:
    """Open the spool; an ingester that is just healing what a dead recorder left holds the lock for a moment."""
    deadline_s = time.monotonic() + HEALING_MAX_S
    while True:
        try:
            return open_spool()
        except BusyError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(LOCK_POLL_S)
