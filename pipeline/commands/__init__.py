"""The verbs of `lake` that are jobs of this room, each a thin function over its job."""

from pipeline.commands.past import backfill, import_
from pipeline.commands.tables import basis, candles, chain, compact, greeks, surface

__all__ = ["backfill", "basis", "candles", "chain", "compact", "greeks", "import_", "surface"]
