"""The hash of Google's synthid-text (since 2025-06) compiled by numba; see `interop`."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

__all__ = ["totals", "words"]

_MULTIPLIER = np.uint64(6364136223846793005)
_ONE, _30 = np.uint64(1), np.uint64(30)
_SHIFT = np.int64(5)


@njit(inline="always")
def _g_value(state, layer_key):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    x = (state + layer_key) * _MULTIPLIER + _ONE
    for _ in range(12):
        x = (x + _ONE) * _MULTIPLIER + _ONE
        # An arithmetic shift: the sign comes along.
        x = np.uint64(np.int64(x) >> _SHIFT)
    return (x >> _30) & _ONE


@njit(cache=True, parallel=True)
def words(states: NDArray[np.uint64], key: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Collect the g-values of all layers, layer l as bit 31 - l: uint32, shape (n,)."""
    found = np.empty(len(states), np.uint32)
    for i in prange(len(states)):
        word = np.uint64(0)
        for layer in range(len(key)):
            word |= _g_value(states[i], key[layer]) << np.uint64(31 - layer)
        found[i] = np.uint32(word)
    return found


@njit(cache=True, parallel=True)
def totals(states: NDArray[np.uint64], layer_keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the ones of a layer over all states under each of many keys: int64, shape (N,)."""
    found = np.empty(len(layer_keys), np.int64)
    for k in prange(len(layer_keys)):
        total = np.uint64(0)
        for i in range(len(states)):
            total += _g_value(states[i], layer_keys[k])
        found[k] = np.int64(total)
    return found
