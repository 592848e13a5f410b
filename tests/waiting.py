"""Waiting for a condition. The only bound in seconds of the suite: it turns a hang into a failure, and nothing else.

A test never says how long something takes; it says what is to come true. `LAKE_TEST_PATIENCE=3` stretches the bound on
a machine that is slow beyond all measure.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 200.0 * float(os.environ.get("LAKE_TEST_PATIENCE", "1"))
"""Read at import: no test sees a variable of ours in its environment."""
POLL_S: Final = 0.02


def until(condition: Callable[[], bool], what: str = "what the test expects") -> None:
    """Return when `condition` holds; asks again and again."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"waited in vain for {what}"
        time.sleep(POLL_S)
