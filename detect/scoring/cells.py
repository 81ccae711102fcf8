"""Cells of words: 32-bit words grouped on a scale that is fine near 0 and near 2^32.

A score that is constant on cells has a null law of finitely many values, known exactly. Four cells
for each halving of the distance to the nearer end lose nothing that matters: evidence sits in u
near 1, on a logarithmic scale.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["N_CELLS", "cell_bounds", "cell_of"]

_WORDS = 1 << 32
_HALF = 1 << 31
_SUB_BITS = 2
# A float64 keeps its exponent above 52 bits of fraction; two bits of these are kept too.
_SHIFT = np.int64(52 - _SUB_BITS)
_FIRST = 1023 << _SUB_BITS
_SIDE = (31 << _SUB_BITS) + 1
N_CELLS = 2 * _SIDE


def cell_of(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Find the cells of words.

    Integer arithmetic (a 32-bit integer is exact in a float64), so that no rounding decides.

    Args:
        words: uint32, any shape.

    Returns:
        int64, the same shape, in [0, N_CELLS), ascending with the word. Cells that no word falls
        into exist.
    """
    upper = words >= np.uint32(_HALF)
    # Distance to the nearer end, from 1.
    distance = np.where(upper, ~words, words).astype(np.float64) + 1.0
    side = (distance.view(np.int64) >> _SHIFT) - _FIRST
    return np.where(upper, N_CELLS - 1 - side, side)


@cache
def cell_bounds() -> NDArray[np.int64]:
    """List where cells begin.

    Returns:
        int64, shape (N_CELLS + 1,): cell c holds the words from bounds[c] up to, but not
        including, bounds[c + 1].
    """
    side = np.arange(_SIDE, dtype=np.int64)
    scale = np.exp2(side >> _SUB_BITS) * (1 + (side & ((1 << _SUB_BITS) - 1)) / (1 << _SUB_BITS))
    lower = np.ceil(scale).astype(np.int64) - 1
    # The last cell of the lower side, distance 2^31, is the word 2^31 - 1 alone.
    bounds = np.concatenate([lower, _WORDS - np.append(lower, _HALF)[::-1]])
    bounds.setflags(write=False)
    return bounds
