"""Named places where a test may have this process killed, to prove that no moment is a bad one.

`LAKE_CRASH_AT=spool:after_write` kills the process (SIGKILL, so nothing can tidy up) when it first reaches
that place; `LAKE_CRASH_AT=spool:after_write:7` at the seventh time. Read once, at import.
"""

from __future__ import annotations

import os
import signal
from typing import Final

ENVIRONMENT_NAME: Final = "LAKE_CRASH_AT"


class _Fuse:
    """Counts how often the one armed place was reached."""

    def __init__(self, setting: str) -> None:
        name, _, nth = setting.rpartition(":")
        self.name = name if nth.isdigit() else setting
        self.left = int(nth) if nth.isdigit() else 1

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


_FUSE: Final = _Fuse(os.environ[ENVIRONMENT_NAME]) if os.environ.get(ENVIRONMENT_NAME) else None


def reach(name: str) -> None:
    """Say that the step `name` ("area:moment") is reached; a test may want the process dead here."""
    if _FUSE is not None and _FUSE.name == name:
        _FUSE.burn()
