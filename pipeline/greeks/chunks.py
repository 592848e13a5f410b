"""Kernels over broadcast arguments, in pieces that stay in the processor's cache and without copies of the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.greeks.black76 import Booleans, Floats

Kernel = Callable[..., tuple[Floats, ...]]
_Use = Literal["readonly", "writeonly", "allocate"]

ROWS: Final = 16_384  # the columns in use at one time stay in the second-level cache


def over_chunks(
    kernel: Kernel, results: int, *, numbers: Sequence[ArrayLike], flags: Sequence[ArrayLike] = ()
) -> tuple[Floats, ...]:
    """Call `kernel(*numbers, *flags)` on slices of the broadcast arguments and collect its `results` arrays.

    Raises TypeError where an argument is not numeric or not boolean, ValueError where shapes do not broadcast.
    """
    inputs = [*map(_floats, numbers), *map(_booleans, flags)]
    kinds = [np.dtype(np.float64)] * len(numbers) + [np.dtype(np.bool_)] * len(flags)
    operands: list[NDArray[np.generic] | None] = [*inputs, *[None] * results]
    read: list[_Use] = ["readonly"]
    write: list[_Use] = ["writeonly", "allocate"]
    walk = np.nditer(
        operands,
        flags=["external_loop", "buffered", "zerosize_ok"],
        op_flags=[read] * len(inputs) + [write] * results,
        op_dtypes=[*kinds, *[np.dtype(np.float64)] * results],
        casting="same_kind",
        order="C",
        buffersize=ROWS,
    )
    with walk, np.errstate(all="ignore"):
        if walk.itersize:
            for chunk in walk:
                for out, values in zip(chunk[len(inputs) :], kernel(*chunk[: len(inputs)]), strict=True):
                    out[...] = values
        return tuple(walk.operands[len(inputs) :])


def _floats(values: ArrayLike) -> NDArray[np.generic]:
    """Real numbers as an array; None in a list is NaN."""
    array = np.asarray(values)
    if array.dtype.kind == "O":
        return np.asarray(array, np.float64)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"prices, strikes and times are real numbers, not {array.dtype}")
    return array


def _booleans(values: ArrayLike) -> Booleans:
    array = np.asarray(values)
    if array.dtype.kind not in "biu":
        raise TypeError(f"is_call and inverse are booleans, not {array.dtype}")
    return array.astype(np.bool_, copy=False)
