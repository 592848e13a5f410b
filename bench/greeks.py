"""Implied volatility and Greeks: rows per second and core, digits, wrong values, and the venue's own rows.

Run as `python -m bench.greeks [--rows N] [--rivals] [--long]`. Other libraries run on the same samples in environments
of their own, one process and one thread each; `--rivals` (and `--long`) makes those environments where they are
missing, else only those already made are shown. Real rows are those of the folder named by LAKE_REAL_DATA.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from bench import rivals
from bench.harness import Figure, report
from bench.rival_run import ROUNDS, TIMED
from pipeline.greeks import greeks, implied_volatility
from tests.greeks import real_rows
from tests.greeks.exact import encloses, price
from tests.greeks.samples import HOUR, Floats, Quotes, hostile, log_uniform

ROWS: Final = 400_000
QUANTLIB_SHARE: Final = 20  # it is called row by row
HOSTILE, HOSTILE_LONG = 300, 5_000
"""Quotes of each hostile family that are judged by the high-precision formula."""
RIGHT_TO: Final = 4e-9
"""Relative error that a volatility may have: what the product promises."""
LENIENT: Final = 1e-6
"""What other libraries are granted."""


@dataclass(frozen=True, slots=True)
class Result:
    """One library on the three samples."""

    rows_per_second: float
    volatilities_per_second: float
    grid_error: float
    grid_null: int
    wrong: int
    judged: int


def chain(count: int, *, seed: int = 1) -> Quotes:
    """Out-of-the-money options as a venue lists them: 1 h to 2 y, 25 % to 120 %, within 2.5 standard deviations."""
    return _sample(count, seed, volatility=(0.25, 1.2), sigmas=2.5)


def wide(count: int, *, seed: int = 2) -> Quotes:
    """The same from 5 % to 500 % and within 8 standard deviations."""
    return _sample(count, seed, volatility=(0.05, 5.0), sigmas=8.0)


def _sample(count: int, seed: int, *, volatility: tuple[float, float], sigmas: float) -> Quotes:
    rng = np.random.default_rng(seed)
    forward = rng.uniform(1_000.0, 100_000.0, count)
    years = log_uniform(rng, HOUR, 2.0, count)
    sigma = rng.uniform(*volatility, count)
    strike = forward * np.exp(rng.uniform(-sigmas, sigmas, count) * sigma * np.sqrt(years))
    is_call = strike >= forward
    value = greeks(forward, strike, years, sigma, is_call).price_usd
    return Quotes(value, forward, strike, years, is_call, np.zeros(count, np.bool_))


def grid() -> tuple[Quotes, Floats]:
    """Exact prices, rounded to float64, of known volatilities: 1 h to 2 y, 5 % to 500 %, within 8 deviations."""
    years, sigma, sigmas = (
        column.ravel()
        for column in np.meshgrid(
            np.geomspace(HOUR, 2.0, 9), np.geomspace(0.05, 5.0, 9), np.linspace(-8, 8, 33), indexing="ij"
        )
    )
    forward = np.full(years.shape, 83_502.39)
    strike = forward * np.exp(sigmas * sigma * np.sqrt(years))
    is_call = strike >= forward
    rows = zip(forward, strike, years, sigma, is_call, strict=True)
    value = np.array([float(price(*row)) for row in rows])
    return Quotes(value, forward, strike, years, is_call, np.zeros(years.shape, np.bool_)), sigma


def judged(quotes: Quotes, found: Floats, relative: float) -> tuple[int, int]:
    """How many volatilities there are, and how many of them are wrong by the high-precision formula."""
    given = np.flatnonzero(~np.isnan(found))
    wrong = sum(
        not (0 < found[n] < math.inf and encloses(quotes.row(int(n)), found[n], relative)) for n in given
    )
    return given.size, wrong


def hostile_sample(each: int) -> Quotes:
    """Hostile quotes in quote currency (other libraries know no premium in coin), positive and finite."""
    parts = []
    for _, quotes in hostile(each, seed=11):
        with np.errstate(all="ignore"):
            value = np.where(quotes.inverse, quotes.price * quotes.forward, quotes.price)
        usable = np.logical_and.reduce(
            [np.isfinite(column) & (column > 0) for column in (value, *quotes[1:4])]
        )
        parts.append([column[usable] for column in (value, *quotes[1:])])
    value, forward, strike, years, is_call, _ = map(np.concatenate, zip(*parts, strict=True))
    return Quotes(value, forward, strike, years, is_call, np.zeros(value.size, np.bool_))


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU seconds of the best of some runs, after one that warms up."""
    run()
    best = math.inf
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def speed(quotes: Quotes) -> tuple[float, float]:
    """Our CPU seconds for volatilities and for Greeks."""
    found = implied_volatility(*quotes[:5], inverse=False)
    return (
        cpu_seconds(lambda: implied_volatility(*quotes[:5], inverse=False)),
        cpu_seconds(lambda: greeks(*quotes[1:4], found, quotes.is_call)),
    )


def ours(timed: Quotes, exact: Quotes, sigma: Floats, hard: Quotes) -> Result:
    """The product's own line of the table."""
    seconds = speed(timed)
    found = implied_volatility(*exact[:5], inverse=False)
    given, wrong = judged(hard, implied_volatility(*hard[:5], inverse=False), RIGHT_TO)
    return _result(len(timed.price), seconds, found, sigma, given, wrong)


def rival(
    library: str, timed: Quotes, exact: Quotes, sigma: Floats, hard: Quotes, *, install: bool
) -> Result | str:
    """Another library's line, or why there is none."""
    python = rivals.environment(library, install=install)
    if python is None:
        return "not installable here" if install else "not installed: --rivals makes its environment"
    count = len(timed.price) // (QUANTLIB_SHARE if library == "QuantLib" else 1)
    arrays: rivals.Arrays = {}
    for name, quotes, rows in (
        (TIMED, timed, count),
        ("grid", exact, len(exact.price)),
        ("hostile", hard, len(hard.price)),
    ):
        arrays |= {f"{name}.{part}": getattr(quotes, part)[:rows] for part in Quotes._fields}
    try:
        got = rivals.run(library, python, arrays)
    except (RuntimeError, OSError) as error:
        return str(error)
    given, wrong = judged(hard, np.asarray(got["hostile.volatility"], np.float64), LENIENT)
    seconds = tuple(float(value) for value in got["seconds"])
    return _result(
        count, (seconds[0], seconds[1]), np.asarray(got["grid.volatility"], np.float64), sigma, given, wrong
    )


def _result(
    count: int, seconds: tuple[float, float], found: Floats, sigma: Floats, given: int, wrong: int
) -> Result:
    null = np.isnan(found)
    worst = float(np.max(np.abs(found - sigma)[~null]))
    return Result(count / sum(seconds), count / seconds[0], worst, int(null.sum()), wrong, given)


def side_by_side(results: dict[str, Result | str]) -> None:
    """Print the table of libraries."""
    out = sys.stdout
    out.write("\nSide by side: out-of-the-money chain, grid of known volatilities, hostile quotes\n")
    head = ("IV+Greeks M rows/s", "IV alone", "ratio", "grid max error", "null", "hostile: wrong", "of given")
    out.write(f"  {'':<22}" + "".join(f"{title:>19}" for title in head) + "\n")
    mine = results["ticklake"]
    assert isinstance(mine, Result)
    for name, result in results.items():
        if isinstance(result, str):
            out.write(f"  {name:<22}  {result}\n")
            continue
        cells = (
            f"{result.rows_per_second / 1e6:.2f}",
            f"{result.volatilities_per_second / 1e6:.2f}",
            f"{mine.rows_per_second / result.rows_per_second:.1f}",
            f"{result.grid_error:.1e}",
            f"{result.grid_null:,}",
            f"{result.wrong:,}",
            f"{result.judged:,}",
        )
        out.write(f"  {name:<22}" + "".join(f"{cell:>19}" for cell in cells) + "\n")
    out.flush()


def venue_rows() -> None:
    """Print how far our Greeks and volatilities are from those that the venue published."""
    folder = real_rows.recordings()
    out = sys.stdout
    if folder is None:
        out.write("\nAgainst the venue's own rows: no recordings here (set LAKE_REAL_DATA)\n")
        return
    out.write(
        "\nAgainst the venue's own rows: RMSE in % of RMS; gamma's worst difference; median error of IV in points\n"
    )
    for name, rows in (
        ("BTC 2020-05-21", real_rows.btc_2020(folder)),
        ("BTC 2021-02-11", real_rows.btc_2021(folder)),
    ):
        computed = rows.computed()
        cells = [
            f"{greek} {100 * real_rows.relative_rmse(computed[greek], rows.sent[greek]):.5f}"
            for greek in ("delta", "vega", "rho", "theta")
        ]
        cells.append(f"gamma {np.max(np.abs(computed['gamma'] - rows.sent['gamma'])):.1e}")
        out.write(f"  {name}, {rows.strike.size} rows: {', '.join(cells)}\n")
        for side in ("bid", "ask"):
            _, mine, _ = rows.quoted(side)
            inside = rows.within_bounds(side)
            errors = [
                np.median(rows.volatility_errors(side, days=days)) for days in (0, real_rows.SETTLED_DAYS)
            ]
            out.write(
                f"    {side}: a volatility for {np.count_nonzero(np.isfinite(mine[inside]))} of "
                f"{np.count_nonzero(inside)} within the bounds; error {errors[0]:.4f}, "
                f"{errors[1]:.4f} beyond {real_rows.SETTLED_DAYS:g} days\n"
            )


def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rivals", action="store_true", help="make the environments of the other libraries")
    parser.add_argument(
        "--long", action="store_true", help=f"--rivals, and {HOSTILE_LONG:,} of each hostile family"
    )
    options = parser.parse_args()
    hard = hostile_sample(HOSTILE_LONG if options.long else HOSTILE)
    timed, (exact, sigma) = chain(options.rows), grid()
    mine = ours(timed, exact, sigma, hard)
    broad = speed(wide(options.rows))
    figures = [
        Figure(
            "volatility and five Greeks, chain", mine.rows_per_second / 1e6, "M rows/s/core", 2.0, 6.0, True
        ),
        Figure("  volatility alone", mine.volatilities_per_second / 1e6, "M rows/s/core"),
        Figure(
            "volatility and five Greeks, wide",
            options.rows / sum(broad) / 1e6,
            "M rows/s/core",
            2.0,
            6.0,
            True,
        ),
        Figure("  volatility alone", options.rows / broad[0] / 1e6, "M rows/s/core"),
        Figure(f"worst error of {sigma.size:,} volatilities on the grid", mine.grid_error, "", 1e-11),
        Figure(f"wrong of {mine.judged:,} volatilities from hostile quotes", mine.wrong, "", 0),
    ]
    report("Implied volatility and Greeks", figures)
    install = options.rivals or options.long
    results: dict[str, Result | str] = {"ticklake": mine}
    for library in rivals.PINNED:
        results[library] = rival(library, timed, exact, sigma, hard, install=install)
    side_by_side(results)
    venue_rows()


if __name__ == "__main__":
    main()
