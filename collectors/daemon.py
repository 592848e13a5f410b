"""A recorder with a spool of its own: what one `lake collect` process is."""

from __future__ import annotations

import asyncio
import signal

from collectors.deribit.session import Unrecorded
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
) -> RecordingSummary:
    """Record the venue into spool stream `stream` until SIGTERM or SIGINT, or for `seconds`.

    The interval since the stream's last life becomes a gap: "stopped" after a clean stop, else "crashed".

    Raises:
        InputError: the stream's name does not begin with the venue's.
        BusyError: another process records this stream.
        VenueUnavailableError, VenueRefusedError: see `Recorder.run`.
    """
    if stream.partition("-")[0] != VENUE:
        raise InputError(f"stream {stream!r}: begin the name with the venue, such as {VENUE} or {VENUE}-b")
    with SpoolWriter(root.stream(stream), spool_settings, quarantine=root.quarantine / "spool") as spool:
        recorder = Recorder(settings, spool, name=stream, unrecorded=_unrecorded(spool.previous))
        return asyncio.run(_run(recorder, seconds))


async def _run(recorder: Recorder, seconds: float | None) -> RecordingSummary:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, recorder.stop)
    return await recorder.run(seconds)


def _unrecorded(previous: PreviousLife | None) -> Unrecorded | None:
    if previous is None:
        return None
    return Unrecorded(previous.last_recv_ns, CAUSE_STOPPED if previous.clean else CAUSE_CRASHED)
