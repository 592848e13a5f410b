"""The venue's history over REST: years of it, computed from a seed and never stored."""

from collectors.simulator.history.methods import HistoryMethods
from collectors.simulator.history.pages import Host
from collectors.simulator.history.past import Past

__all__ = ["HistoryMethods", "Host", "Past"]
