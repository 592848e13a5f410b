"""One other library's implied volatility and Greeks, in an environment that has nothing but it and numpy.

Run by `bench.greeks` as `python rival_run.py LIBRARY IN.npz OUT.npz`. IN has the samples `<name>.price`, `.forward`,
`.strike`, `.years`, `.is_call`; OUT gets `<name>.volatility`, and "seconds", the CPU seconds that volatilities and
Greeks of the sample "timed" took. Where a library refuses a whole sample, it is asked row by row.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np

ROUNDS: Final = 3
TIMED: Final = "timed"
ACCURACY: Final = 1e-12  # of a spread, where a library asks for one

Volatility = Callable[..., Any]
Greeks = Callable[..., Any]


def _py_vollib_vectorized() -> tuple[Volatility, Greeks]:
    library = import_module("py_vollib_vectorized")

    def volatility(price: Any, forward: Any, strike: Any, years: Any, is_call: Any) -> Any:
        flag = np.where(is_call, "c", "p")
        return library.vectorized_implied_volatility_black(
            price, forward, strike, 0.0, years, flag, return_as="numpy", on_error="ignore"
        )

    def greeks(forward: Any, strike: Any, years: Any, sigma: Any, is_call: Any) -> Any:
        flag = np.where(is_call, "c", "p")
        return library.get_all_greeks(
            flag, forward, strike, years, 0.0, sigma, model="black", return_as="dict"
        )

    return volatility, greeks


def _fast_vollib() -> tuple[Volatility, Greeks]:
    library, jackel = import_module("fast_vollib"), import_module("fast_vollib.jackel")

    def greeks(forward: Any, strike: Any, years: Any, sigma: Any, is_call: Any) -> Any:
        flag = np.where(is_call, "c", "p")
        return library.get_all_greeks(
            flag, forward, strike, years, 0.0, sigma, model="black", return_as="dict"
        )

    return jackel.jackel_iv_black, greeks


def _quantlib() -> tuple[Volatility, Greeks]:
    library = import_module("QuantLib")
    unknown = library.nullDouble()
    kinds = {True: library.Option.Call, False: library.Option.Put}

    def volatility(price: Any, forward: Any, strike: Any, years: Any, is_call: Any) -> Any:
        found = np.full(len(price), np.nan)
        rows = zip(price.tolist(), forward.tolist(), strike.tolist(), years.tolist(), is_call.tolist())  # noqa: B905 - runs in Python of any age
        for n, (p, f, k, t, call) in enumerate(rows):
            try:
                spread = library.blackFormulaImpliedStdDev(
                    kinds[call], k, f, p, 1.0, 0.0, unknown, ACCURACY, 100
                )
            except RuntimeError:  # its way to say that there is none
                continue
            found[n] = spread / t**0.5
        return found

    def greeks(forward: Any, strike: Any, years: Any, sigma: Any, is_call: Any) -> Any:
        rows = zip(forward.tolist(), strike.tolist(), years.tolist(), sigma.tolist(), is_call.tolist())  # noqa: B905
        out = []
        for f, k, t, s, call in rows:
            payoff = library.PlainVanillaPayoff(kinds[call], k)
            black = library.BlackCalculator(payoff, f, s * t**0.5)
            out.append((black.delta(f), black.gamma(f), black.vega(t), black.theta(f, t), black.rho(t)))
        return np.array(out)

    return volatility, greeks


LIBRARIES: Final = {
    "py_vollib_vectorized": _py_vollib_vectorized,
    "fast_vollib": _fast_vollib,
    "QuantLib": _quantlib,
}


def _volatilities(volatility: Volatility, *sample: Any) -> Any:
    """All volatilities at once; where that raises, row by row with NaN for the rows that raise."""
    try:
        return np.asarray(volatility(*sample), np.float64)
    except (ArithmeticError, ValueError):
        found = np.full(len(sample[0]), np.nan)
    for n in range(len(found)):
        try:
            found[n] = np.asarray(volatility(*(column[n : n + 1] for column in sample)), np.float64)[0]
        except (ArithmeticError, ValueError):
            continue
    return found


def _best(run: Callable[[], Any]) -> float:
    """CPU seconds of the best of some runs, after one that warms up."""
    run()
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Command line: library, input, output."""
    library, source, target = sys.argv[1:]
    warnings.simplefilter("ignore")
    volatility, greeks = LIBRARIES[library]()
    given = np.load(source)
    results: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        for name in sorted({key.partition(".")[0] for key in given.files}):
            price, forward, strike, years, is_call = (
                given[f"{name}.{part}"] for part in ("price", "forward", "strike", "years", "is_call")
            )
            found = _volatilities(volatility, price, forward, strike, years, is_call)
            results[f"{name}.volatility"] = found
            if name == TIMED:
                results["seconds"] = np.array(
                    [
                        _best(lambda: volatility(price, forward, strike, years, is_call)),  # noqa: B023 - called at once
                        _best(lambda: greeks(forward, strike, years, found, is_call)),  # noqa: B023
                    ]
                )
    np.savez(target, **results)


if __name__ == "__main__":
    main()
