"""A recorder with a spool of its own: what one `lake collect` process is."""

from __future__ import annotations

import asyncio
import signal

from collectors.deribit.session import Unrecorded
from collectors.ops import Operations, OpsSettings
from collectors.ops.operations import OnBeat
from collectors.recorder import VENUE, Recorder, RecordingSummary
from collectors.settings import CollectorSettings
from lake.errors import InputError
from lake.root import Root
from lake.spool import PreviousLife, SpoolSettings, SpoolWriter

CAUSE_STOPPED = "stopped"
CAUSE_CRASHED = "crashed"


def record(
    root: Root,
    settings: CollectorSettings,
    spool_settings: SpoolSettings,
    *,
    stream: str,
    seconds: float | None = None,
    ops: OpsSettings | None = None,
    on_beat: OnBeat | None = None,
) -> RecordingSummary:
    """Record the venue into spool stream `stream` until SIGTERM or SIGINT, or for `seconds`.

    `ops` says who else is told how it is doing, and `on_beat` gets every beat in a thread of its own.

    The interval since the stream's last life becomes a gap: "stopped" after a clean stop, else "crashed".

    Raises:
        SettingsError: the metrics cannot be served where `ops` says.
        InputError: the stream's name does not begin with the venue's.
        BusyError: another process records this stream.
        VenueUnavailableError, VenueRefusedError: see `Recorder.run`.
    """
    if stream.partition("-")[0] != VENUE:
        raise InputError(f"stream {stream!r}: begin the name with the venue, such as {VENUE} or {VENUE}-b")
    with (
        Operations(root, stream, ops, on_beat=on_beat) as operations,
        SpoolWriter(root.stream(stream), spool_settings, quarantine=root.quarantine / "spool") as spool,
    ):
        recorder = Recorder(settings, spool, name=stream, unrecorded=_unrecorded(spool.previous))
        operations.watch(recorder, spool)
        return asyncio.run(_run(recorder, seconds, operations))


async def _run(recorder: Recorder, seconds: float | None, operations: Operations) -> RecordingSummary:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, recorder.stop)
    async with operations.beating():
        return await recorder.run(seconds)


def _unrecorded(previous: PreviousLife | None) -> Unrecorded | None:
    if previous is None:
        return None
    return Unrecorded(previous.last_recv_ns, CAUSE_STOPPED if previous.clean else CAUSE_CRASHED)
