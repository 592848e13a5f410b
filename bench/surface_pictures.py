"""The pictures of docs/surface.md, from recorded chains: `python -m bench.surface_pictures [FOLDER]`.

The smiles and the map are of the newest recorded snapshot of BTC, fitted as the job does; the series is of all
snapshots of that recording, fitted to marks.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from bench.real_chains import MANY, REAL_DATA, Snapshot, snapshots
from lake.instants import from_us
from pipeline.surface import pictures
from pipeline.surface.album import MATURITIES
from pipeline.surface.fit import fit_surface
from pipeline.surface.history import ConstantMaturity
from pipeline.surface.settings import SurfaceSettings

FOLDER: Final = Path(__file__).resolve().parent.parent / "docs" / "pictures"
CURRENCY: Final = "BTC"


def main() -> None:
    """Command line: draws three pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    folder = parser.parse_args().folder
    recorded = [s for s in snapshots(REAL_DATA, only=MANY) if s.currency == CURRENCY]
    newest = recorded[-1].chain
    smiles = fit_surface(newest)
    title = f"{CURRENCY} options  ·  {from_us(newest.ts):%d %b %Y %H:%M} UTC"
    surface = pictures.surface_of(newest.ts, smiles)
    drawn = {
        "surface-smiles.png": pictures.smiles_figure(smiles, title),
        "surface-map.png": pictures.heatmap_figure(surface, smiles, title),
        "surface-series.png": pictures.series_figure(
            _series(recorded), f"{CURRENCY} options, constant maturity"
        ),
    }
    for name, figure in drawn.items():
        path = pictures.save(figure, folder / name)
        sys.stdout.write(f"{path}  {path.stat().st_size:,} bytes\n")


def _series(recorded: list[Snapshot]) -> list[ConstantMaturity]:
    found = []
    for snapshot in recorded:
        ts = snapshot.chain.ts
        surface = pictures.surface_of(ts, fit_surface(snapshot.chain, SurfaceSettings(source="mark")))
        found += [ConstantMaturity(from_us(ts), days, surface.constant_maturity(days)) for days in MATURITIES]
    return found


if __name__ == "__main__":
    main()
