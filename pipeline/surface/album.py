"""The pictures of `lake surface --png`: which instant and span they show, and what their files are called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from collectors.deribit.names import OPTIONS
from lake.errors import InputError
from lake.instants import to_us
from lake.root import Root
from pipeline.surface import pictures
from pipeline.surface.history import constant_maturity, last_instant
from pipeline.surface.job import snapshot
from pipeline.surface.settings import SurfaceSettings

MATURITIES: Final = (7.0, 30.0, 90.0, 180.0)
SERIES_SPAN: Final = dt.timedelta(days=30)
_PNG: Final = ".png"


def draw(
    root: Root,
    families: Sequence[str],
    first: dt.datetime,
    last: dt.datetime,
    target: Path,
    settings: SurfaceSettings,
    *,
    maturities: Sequence[float] = MATURITIES,
) -> list[Path]:
    """Draw the newest surface of each of `families` between `first` and `last`; gives back what was written.

    Into a folder: the smiles, the map of strike by days to expiry, and the constant maturities of the 30 days before
    where there are any. Into a file that ends in .png: the map, of one family only.

    Raises:
        InputError: there is no surface to draw, or one file for several families.
    """
    single = target.suffix.lower() == _PNG
    if single and len(families) > 1:
        names = ", ".join(map(_underlying, families))
        raise InputError(f"one picture cannot hold {names}; add --currency, or give a folder to --png")
    written: list[Path] = []
    for family in families:
        at = last_instant(root, family, first, last)
        smiles = snapshot(root, family, at, settings) if at else []
        if at is None or not any(smile.svi for smile in smiles):
            continue
        title = f"{_underlying(family)} options  ·  {at:%d %b %Y %H:%M} UTC"
        surface = pictures.surface_of(to_us(at), smiles)
        heatmap = pictures.heatmap_figure(surface, smiles, title)
        if single:
            return [pictures.save(heatmap, target)]
        stem = f"{family}-{at:%Y%m%dT%H%M%SZ}"
        written.append(pictures.save(pictures.smiles_figure(smiles, title), target / f"{stem}-smiles.png"))
        written.append(pictures.save(heatmap, target / f"{stem}-map.png"))
        series = constant_maturity(root, family, at - SERIES_SPAN, at, maturities)
        if len({one.ts for one in series}) > 1:
            figure = pictures.series_figure(series, f"{_underlying(family)} options, constant maturity")
            written.append(pictures.save(figure, target / f"{stem}-series.png"))
    if not written:
        raise InputError(
            f"there is no surface to draw until {last:%Y-%m-%d %H:%M}; without --at they are of every "
            "full hour (--every); try --at last, or another --date"
        )
    return written


def _underlying(family: str) -> str:
    return family.removesuffix(OPTIONS).upper()
