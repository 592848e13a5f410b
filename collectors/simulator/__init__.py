"""The simulated venue: a Deribit on a local port, generated from a seed or replayed from recordings."""

from collectors.simulator.account import Sent, read_account
from collectors.simulator.server import Simulator, run
from collectors.simulator.settings import SimulatorSettings

__all__ = ["Sent", "Simulator", "SimulatorSettings", "read_account", "run"]
