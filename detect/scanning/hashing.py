"""Public hashes of pairs: the same pair has the same hash in every shard, on every machine.

No key goes in: which pairs collide, and are then counted once, depends on the text alone.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["pair_hashes"]

_SEED: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT: Final = np.uint64(33)
_C1, _C2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


def pair_hashes(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Hash rows to 64 bits, one round of MurmurHash3's finaliser (Appleby) a column.

    Among n distinct rows some n^2 / 2^65 are expected to share the hash of another.

    Args:
        rows: int64, shape (n, w).

    Returns:
        uint64, shape (n,).
    """
    x = np.full(len(rows), _SEED)
    for column in rows.T:
        x = _mix(x ^ column.astype(np.uint64))
    return x


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> _SHIFT)) * _C1
    x = (x ^ (x >> _SHIFT)) * _C2
    return x ^ (x >> _SHIFT)
