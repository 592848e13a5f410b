"""Pictures of a surface for people: its smiles, volatility by strike and days to expiry, constant maturities over time.

Figures are made without a window and without any state of matplotlib's, which is imported when the first is drawn.
"""

from __future__ import annotations

import datetime as dt
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lake.instants import DAY_US, from_us
from pipeline.surface.evaluate import Expiry, Surface
from pipeline.surface.fit import Smile
from pipeline.surface.history import ConstantMaturity
from pipeline.surface.svi import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS: Final = 12
DPI: Final = 100
DELTAS: Final = (-0.1, -0.25, 0.25, 0.1)
_COLUMNS: Final = 4
_POINTS: Final = 240
_PERCENT: Final = 100.0
_NARROW: Final = 2.5
"""Ranges of strikes below this ratio have ticks at equal steps, others at equal ratios."""
_HOLE: Final = 6.0
"""A pause of more than this many usual steps between two points is a hole."""
_CUT: Final = (1.0, 97.0)
"""Percentiles of what is shown between which the colours of the map run: the far wings would take them all."""
_FIT: Final = "#1f5fa8"
_SPREAD: Final = "#b4bcc6"
_DOT: Final = "#20242a"
_TEXT: Final = "#444a52"
_ALERT: Final = "#c0392b"
_FAINT: Final = "#e7eaee"
_MAP: Final = "viridis"
_MANTISSAS: Final = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


def surface_of(ts: int, smiles: Sequence[Smile]) -> Surface:
    """The surface of freshly fitted smiles at `ts`, µs since the epoch."""
    fitted = [(smile.observed, smile.svi) for smile in smiles if smile.svi]
    return Surface(
        ts,
        [
            Expiry(seen.expiry, seen.forward, float(seen.k.min()), float(seen.k.max()), svi)
            for seen, svi in fitted
        ],
    )


def smiles_figure(smiles: Sequence[Smile], title: str) -> Figure:
    """A panel per expiry, at most `MAX_PANELS`: bid to ask, what was fitted, and the fit between the strikes fitted."""
    shown = _spread([smile for smile in smiles if smile.svi])
    columns = max(1, min(_COLUMNS, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = _figure(3.3 * columns + 0.4, 2.45 * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, smile in zip(grid, shown, strict=False):
        _draw_smile(axes, smile)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel("strike, thousand USD", fontsize=9)
    figure.supylabel("implied volatility, %", fontsize=9)
    return figure


def _spread(smiles: list[Smile]) -> list[Smile]:
    """All of them, or as many as there are panels, evenly out of all, first and last included."""
    if len(smiles) <= MAX_PANELS:
        return smiles
    return [smiles[round(i)] for i in np.linspace(0, len(smiles) - 1, MAX_PANELS)]


def _draw_smile(axes: Any, smile: Smile) -> None:
    seen, svi = smile.observed, smile.svi
    assert svi is not None
    assert smile.quoted is not None
    assert smile.errors is not None
    k = np.linspace(seen.k.min(), seen.k.max(), _POINTS)
    fit = svi.volatility(k, seen.years) * _PERCENT
    strikes = seen.forward * np.exp(seen.k) / 1000.0
    axes.axvline(seen.forward / 1000.0, color=_SPREAD, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    axes.vlines(strikes, seen.bid_iv, seen.ask_iv, color=_SPREAD, linewidth=2.2, zorder=2)
    axes.plot(seen.forward * np.exp(k) / 1000.0, fit, color=_FIT, linewidth=1.5, zorder=3)
    axes.plot(strikes, seen.iv, ".", color=_DOT, markersize=3.5, zorder=4)
    low, high = min(fit.min(), seen.iv.min()), max(fit.max(), seen.iv.max())
    axes.set_ylim(low - 0.08 * (high - low) - 0.2, high + 0.3 * (high - low) + 0.2)
    axes.set_title(_expiry_label(seen.expiry, seen.years), fontsize=9, loc="left", pad=3)
    axes.text(
        0.5,
        0.96,
        _numbers(smile),
        transform=axes.transAxes,
        fontsize=7,
        va="top",
        ha="center",
        color=_ALERT if smile.butterfly or smile.calendar else _TEXT,
    )
    _plain(axes)


def _numbers(smile: Smile) -> str:
    assert smile.quoted is not None
    assert smile.errors is not None
    atm, rr25, bf25 = smile.quoted
    flags = [
        name for name, raised in (("butterfly!", smile.butterfly), ("calendar!", smile.calendar)) if raised
    ]
    quotes = f"ATM {atm:.1f}" + "".join(
        f"   {name} {value:+.1f}" for name, value in (("RR", rr25), ("BF", bf25)) if math.isfinite(value)
    )
    method = {"svi": "SVI", "essvi": "eSSVI"}[str(smile.method)]
    return f"{quotes}\n{method} on {smile.observed.source}, error {smile.errors.weighted:.2f} " + " ".join(
        flags
    )


def heatmap_figure(surface: Surface, smiles: Sequence[Smile], title: str) -> Figure:
    """Volatility by strike and days to expiry, as far as strikes were fitted, with the strikes of given deltas."""
    fitted = [smile for smile in smiles if smile.svi]
    figure = _figure(10.4, 5.8)
    axes = figure.subplots()
    axes.set_title(title, fontsize=11, fontweight="bold", loc="left", pad=20)
    axes.set_facecolor(_FAINT)  # what no quote covers
    if len(fitted) > 1:
        _draw_map(figure, axes, surface, fitted)
        _draw_deltas(axes, surface)
    axes.set_xlabel("strike, thousand USD", fontsize=9)
    axes.set_ylabel("days to expiry", fontsize=9)
    return figure


def _draw_map(figure: Any, axes: Any, surface: Surface, fitted: list[Smile]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    days = np.array([(smile.observed.expiry - surface.ts) / DAY_US for smile in fitted])
    outermost = [one.forward * math.exp(k) for one in surface.expiries for k in (one.k_low, one.k_high)]
    strikes = np.geomspace(min(outermost), max(outermost), 2 * _POINTS)
    rows = np.geomspace(days[0], days[-1], _POINTS)
    rows[[0, -1]] = days[[0, -1]]
    values = np.array([_row(surface, day, strikes) for day in rows])
    low, high = np.nanpercentile(values, _CUT)
    x, y = np.meshgrid(strikes / 1000.0, rows)
    mesh = axes.pcolormesh(x, y, values, cmap=_MAP, vmin=low, vmax=high, shading="gouraud", rasterized=True)
    step = _round_step((high - low) / 7.0)
    levels = np.arange(math.ceil(low / step) * step, high + step / 2.0, step)
    lines = axes.contour(x, y, values, levels=levels, colors="white", linewidths=0.6, alpha=0.7)
    axes.clabel(lines, levels=levels[::2], fmt="%g", fontsize=7)
    bar = figure.colorbar(mesh, ax=axes, pad=0.09, extend="both", aspect=30)
    bar.set_label("implied volatility, %", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(_strike_ticks(strikes / 1000.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    shown = [day for day in (0.25, 0.5, 1, 2, 3, 7, 14, 30, 60, 90, 180, 365) if days[0] <= day <= days[-1]]
    axes.yaxis.set_major_locator(FixedLocator(shown))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(labelsize=8)
    axes.minorticks_off()
    _name_expiries(axes, [smile.observed.expiry for smile in fitted], days)


def _row(surface: Surface, day: float, strikes: Floats) -> Floats:
    """Volatility at one time to expiry, NaN beyond the strikes fitted."""
    expiry = surface.ts + round(day * DAY_US)
    expiry = min(max(expiry, surface.expiries[0].ts), surface.expiries[-1].ts)
    return surface.volatility(strikes, expiry)


def _name_expiries(axes: Any, expiries: Sequence[int], days: Floats) -> None:
    """Their dates on the right, those left out that would overlap the one before."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    room = 0.032 * math.log(days[-1] / days[0])
    shown: list[int] = []
    for index in range(len(days)):
        if not shown or math.log(days[index] / days[shown[-1]]) > room:
            shown.append(index)
    right = axes.secondary_yaxis("right")
    right.yaxis.set_major_locator(FixedLocator([days[index] for index in shown]))
    right.yaxis.set_major_formatter(
        FixedFormatter([f"{from_us(expiries[index]):%d %b %y}" for index in shown])
    )
    right.yaxis.set_minor_locator(NullLocator())
    right.tick_params(labelsize=8)


def _draw_deltas(axes: Any, surface: Surface) -> None:
    """The forward, and where the options of `DELTAS` are as far as strikes were fitted."""
    style = {"color": "white", "linewidth": 1.0}
    days = np.array([(expiry.ts - surface.ts) / DAY_US for expiry in surface.expiries])
    forwards = np.array([expiry.forward for expiry in surface.expiries])
    axes.plot(forwards / 1000.0, days, linestyle="-", **style)
    lines = [("F", forwards)]
    for delta in DELTAS:
        strikes = np.array([surface.strike_of_delta(delta, expiry.ts) for expiry in surface.expiries])
        axes.plot(strikes / 1000.0, days, linestyle=(0, (2, 2)), **style)
        lines.append((f"{abs(delta) * _PERCENT:.0f}Δ{'P' if delta < 0.0 else 'C'}", strikes))
    for label, strikes in lines:
        if np.isfinite(strikes[-1]):
            place = strikes[-1] / 1000.0, days[-1]
            axes.annotate(label, place, (0, 4), textcoords="offset points", fontsize=8, ha="center")


def series_figure(series: Sequence[ConstantMaturity], title: str) -> Figure:
    """Volatility at the money, risk reversal and butterfly over time, a line per maturity."""
    from matplotlib import colormaps
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure = _figure(10.4, 6.4)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=[2, 1, 1])
    maturities = sorted({one.days for one in series if math.isfinite(one.quoted.atm)})
    colours = colormaps[_MAP](np.linspace(0.05, 0.85, len(maturities)))
    for days, colour in zip(maturities, colours, strict=True):
        points = [one for one in series if one.days == days]
        times: list[Any] = [one.ts for one in points]
        holes = _holes([one.ts.timestamp() for one in points])
        for axes, name in zip(panels, ("atm", "rr25", "bf25"), strict=True):
            values = [getattr(one.quoted, name) for one in points]
            gapped = np.insert(values, holes, np.nan), np.insert(np.array(times, object), holes, times[0])
            axes.plot(gapped[1], gapped[0], color=colour, linewidth=1.3, label=f"{days:g} days")
    for axes, label in zip(panels, ("at the money, %", "25Δ risk reversal", "25Δ butterfly"), strict=True):
        axes.set_ylabel(label, fontsize=9)
        _plain(axes)
    panels[1].axhline(0.0, color=_SPREAD, linewidth=0.8, zorder=1)
    panels[0].set_title(title, fontsize=11, fontweight="bold", loc="left")
    panels[0].legend(fontsize=8, frameon=False, ncols=8, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    panels[-1].xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=dt.UTC)  # type: ignore[no-untyped-call]
    panels[-1].xaxis.set_major_formatter(formatter)
    return figure


def _holes(seconds: Sequence[float]) -> Any:
    """Places of the points that follow a hole, across which no line may be drawn."""
    steps = np.diff(seconds)
    return np.flatnonzero(steps > _HOLE * np.median(steps)) + 1


def save(figure: Figure, path: Path) -> Path:
    """Write `figure` as PNG of 256 colours, a third of the size of one with all; gives back the path."""
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI, format="png")
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
    return path


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _plain(axes: Any) -> None:
    axes.grid(color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, length=2.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _expiry_label(expiry: int, years: float) -> str:
    days = years * 365.0
    return f"{from_us(expiry):%d %b %y}  ·  {days:.{1 if days < 10.0 else 0}f} d"


def _round_step(step: float) -> float:
    """The nearest of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(step, 1e-3)))
    return power * min(
        (1.0, 2.0, 5.0, 10.0), key=lambda factor: abs(math.log(factor * power / max(step, 1e-3)))
    )


def _strike_ticks(strikes: Floats) -> list[float]:
    """Round strikes over the whole range, none nearer than a twentieth of it (in ratio) to the one before."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(strikes[0]), float(strikes[-1])
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    candidates = [mantissa * 10.0**power for power in powers for mantissa in _MANTISSAS]
    if high < _NARROW * low:
        candidates = [float(tick) for tick in MaxNLocator(10).tick_values(low, high)]
    found: list[float] = []
    for tick in candidates:
        if low <= tick <= high and (not found or math.log(tick / found[-1]) > 0.05 * math.log(high / low)):
            found.append(tick)
    return found
