"""A collector in a process of its own that notes when its records became durable: `python -m bench.recording`.

    python -m bench.recording ROOT WS_URL REST_URL STREAM OUT.npz

Records until SIGTERM as `lake collect --no-ingest` does, and writes beside that the durable offsets and the
moments, ns since the epoch, at which they were told.
"""

from __future__ import annotations

import sys
import time
from array import array
from pathlib import Path

import numpy as np

from collectors.daemon import record
from collectors.settings import CollectorSettings
from lake.root import open_root
from lake.spool import SpoolSettings


def main() -> None:
    """The process."""
    root, ws_url, rest_url, stream, out = sys.argv[1:]
    offsets, moments = array("q"), array("q")

    def on_durable(offset: int) -> None:
        moments.append(time.time_ns())
        offsets.append(offset)

    settings = CollectorSettings(ws_url=ws_url, rest_url=rest_url, series=())
    record(
        open_root(Path(root), create=True), settings, SpoolSettings(), stream=stream, on_durable=on_durable
    )
    np.savez(out, offsets=np.asarray(offsets), moments=np.asarray(moments))


if __name__ == "__main__":
    main()
