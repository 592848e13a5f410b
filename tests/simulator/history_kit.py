"""The venue of the tests of its past, and what its account says of it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from collectors.simulator import Simulator, SimulatorSettings
from tests.simulator.support import START_MS, order

BURST = 1_150
SETTINGS = SimulatorSettings(
    instruments=20, rate=100.0, hold=True, start_ms=START_MS, past_days=500, past_futures=24, past_options=80,
    past_combos=12, past_trades=400, past_burst=BURST,
)  # fmt: skip


async def truth(simulator: Simulator, **asked: Any) -> dict[str, Any]:
    """What the past holds of one thing."""
    told: dict[str, Any] = (await order(simulator, "truth", **asked))["truth"]
    return told


def hashed(*columns: Any) -> str:
    """The hash that `truth` tells of rows."""
    return hashlib.sha256(np.column_stack(columns).astype("<f8").tobytes()).hexdigest()
