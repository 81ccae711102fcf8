"""SBW's words compiled by numba (`watermark.interop.sbw`): many keys."""

from __future__ import annotations

import numpy as np
from numba import int64, njit, prange, uint64
from numpy.typing import NDArray

from watermark.kernels.numba_prf import _lane, _philox

__all__ = ["words_for_keys"]

_MASK32, _1, _31 = np.uint64(0xFFFFFFFF), np.uint64(1), np.uint64(31)
_ZERO, _RED = np.uint64(0), np.uint32(0xFFFFFFFF)


@njit(cache=True, parallel=True)
def _words_for_keys(keys, factors, token_ids, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    for m in prange(keys.shape[0]):
        for i in range(token_ids.shape[0]):
            least, known = int64(0x7FFFFFFFFFFFFFFF), False
            for j in range(factors.shape[1]):
                product = int64(keys[m] * uint64(factors[i, j]))
                known |= product == 0
                least = min(least, product)
            block = _philox(uint64(least), _ZERO, uint64(token_ids[i] >> 2), _ZERO)
            word = _lane(block, token_ids[i] & 3)
            rotated = ((word << _1) & _MASK32) | (word >> _31)
            out[m, i] = _RED if known else np.uint32(rotated)


def words_for_keys(
    keys: NDArray[np.uint64], factors: NDArray[np.int64], token_ids: NDArray[np.int64]
) -> NDArray[np.uint32]:
    """Compute the words of the same pairs under many keys.

    Args:
        keys: uint64, shape (M,).
        factors: int64, shape (n, r); a seed is the least of key times these.
        token_ids: int64, shape (n,).

    Returns:
        uint32, shape (M, n).
    """
    out = np.empty((len(keys), len(token_ids)), np.uint32)
    _words_for_keys(
        np.ascontiguousarray(keys),
        np.ascontiguousarray(factors),
        np.ascontiguousarray(token_ids),
        out,
    )
    return out
