"""The verbs of `lake` that are jobs of this room, each a thin function over its job; `run_periodic` is for a verb whose
jobs are of several rooms."""

from pipeline.commands.past import backfill, import_
from pipeline.commands.tables import basis, candles, chain, compact, greeks, run_periodic, surface

__all__ = [
    "backfill",
    "basis",
    "candles",
    "chain",
    "compact",
    "greeks",
    "import_",
    "run_periodic",
    "surface",
]
