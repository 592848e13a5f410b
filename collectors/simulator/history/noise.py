"""Random numbers by their address: the same key and index give the same number, whatever was asked before.

The mixer is splitmix64's finaliser (Steele, Lea, Flood 2014), applied to a counter. So any minute of any year
can be computed without those before it.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_M1: Final = np.uint64(0xBF58476D1CE4E5B9)
_M2: Final = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(n) for n in (30, 27, 31, 11))
_UNIT: Final = 2.0**-53


def key(*parts: object) -> int:
    """A 64-bit key for what the parts name."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def uniform(chosen: int, index: Ints) -> Floats:
    """Numbers in [0, 1), one per index."""
    x = index.astype(np.uint64)
    x *= _GOLDEN
    x += np.uint64(chosen)
    x ^= x >> _S30
    x *= _M1
    x ^= x >> _S27
    x *= _M2
    x ^= x >> _S31
    return np.asarray((x >> _S11) * _UNIT, np.float64)


def one(chosen: int, index: int = 0) -> float:
    """A single number in [0, 1)."""
    return float(uniform(chosen, np.array([index], np.int64))[0])


def wave(chosen: int, period_ms: int, at_ms: Ints) -> Floats:
    """Value noise in [-1, 1): random at multiples of the period, linear between them."""
    if not len(at_ms):
        return np.empty(0)
    first, last = int(at_ms.min()) // period_ms, int(at_ms.max()) // period_ms + 1
    if last - first < 2 * len(at_ms):
        nodes = np.arange(first, last + 1)
        found: Floats = np.interp(at_ms, nodes * period_ms, uniform(chosen, nodes))
    else:
        below = at_ms // period_ms
        share = (at_ms - below * period_ms) / period_ms
        low = uniform(chosen, below)
        found = low + share * (uniform(chosen, below + 1) - low)
    return 2.0 * found - 1.0
