"""Hashes that were met, in memory: 8 bytes each, in sorted levels of doubling size."""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HashSet"]


@final
class HashSet:
    """A set of hashes that grows by blocks.

    A level is merged with the one below only when it is half as large, so that a hash is copied
    some log2(blocks) times, not once for every block that follows.
    """

    def __init__(self) -> None:
        self._levels: list[NDArray[np.uint64]] = []

    def __len__(self) -> int:
        return sum(map(len, self._levels))

    @property
    def n_levels(self) -> int:
        """Sorted arrays that are searched for a hash."""
        return len(self._levels)

    def add(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Add hashes.

        Args:
            hashes: uint64, shape (n,), ascending and distinct.

        Returns:
            Bool, shape (n,): which are new.
        """
        new = np.ones(len(hashes), np.bool_)
        for level in self._levels:
            places = np.searchsorted(level, hashes)
            places[places == len(level)] = 0
            new &= level[places] != hashes
        if new.any():
            self._levels.append(hashes[new])
        while len(self._levels) > 1 and len(self._levels[-2]) <= 2 * len(self._levels[-1]):
            merged = np.concatenate([self._levels.pop(), self._levels.pop()])
            merged.sort(kind="stable")
            self._levels.append(merged)
        return new
