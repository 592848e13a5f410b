"""Volatility surfaces: smiles fitted to the quotes of an instant, checked for arbitrage, stored and read."""

from pipeline.surface.chain import Chain
from pipeline.surface.evaluate import Expiry, Surface, Wing
from pipeline.surface.fit import Smile, fit_surface
from pipeline.surface.history import constant_maturity, surfaces
from pipeline.surface.job import compute, snapshot
from pipeline.surface.settings import SurfaceSettings
from pipeline.surface.svi import Svi

__all__ = [
    "Chain",
    "Expiry",
    "Smile",
    "Surface",
    "SurfaceSettings",
    "Svi",
    "Wing",
    "compute",
    "constant_maturity",
    "fit_surface",
    "snapshot",
    "surfaces",
]
