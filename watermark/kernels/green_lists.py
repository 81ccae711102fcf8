"""Green lists that are shuffled once and then looked up: for scans of very many tokens.

A list of 49,152 tokens takes 20 microseconds to shuffle and 6 kB to keep; a look-up takes
nanoseconds. Lists are kept as they are met until the memory is spent; what is met later is
shuffled each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NoReturn, final

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from watermark.kernels import mt19937, numba_mt19937

__all__ = ["GreenLists"]

_MEMORY: Final = 320 << 20


@final
class GreenLists:
    """The lists of one key, by the token before. As secret as the key."""

    def __init__(self, vocab_size: int, n_green: int, memory: int = _MEMORY) -> None:
        """Make room, which is taken as lists come.

        Args:
            vocab_size: V.
            n_green: length of a list.
            memory: bytes that the lists may take.
        """
        self._size, self._n_green = vocab_size, n_green
        width = -(-vocab_size // 8)
        self._bits = np.empty((min(vocab_size, memory // width), width), np.uint8)
        self._slot = np.full(vocab_size, -1, np.int32)
        self._n_kept = 0

    def __repr__(self) -> str:
        return f"GreenLists({self._n_kept} kept)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("green lists are as secret as their key, and not pickled")

    def green(
        self,
        seeds_of: Callable[[NDArray[np.int64]], NDArray[np.uint32]],
        previous: NDArray[np.int64],
        tokens: NDArray[np.int64],
    ) -> NDArray[np.bool_]:
        """Tell which tokens are green.

        Args:
            seeds_of: gives the seeds of the lists after tokens.
            previous: int64, shape (n,), the token before.
            tokens: int64, shape (n,).

        Returns:
            bool, shape (n,).
        """
        if self._n_kept < len(self._bits):
            self._keep(seeds_of, previous)
        found = np.empty(len(tokens), np.bool_)
        if not _look_up(self._bits, self._slot, previous, tokens, found):
            others = np.flatnonzero(self._slot[previous] < 0)
            seeds = seeds_of(previous[others])
            cells = mt19937.cells(seeds, tokens[others], self._size, self._n_green)
            found[others] = cells < self._n_green
        return found

    def _keep(
        self, seeds_of: Callable[[NDArray[np.int64]], NDArray[np.uint32]], ids: NDArray[np.int64]
    ) -> None:
        met = self._slot < 0
        met[np.flatnonzero(np.bincount(ids, minlength=self._size) == 0)] = False
        which = np.flatnonzero(met)[: len(self._bits) - self._n_kept]
        end = self._n_kept + len(which)
        numba_mt19937.green_bits(
            seeds_of(which), self._size, self._n_green, self._bits[self._n_kept : end]
        )
        self._slot[which] = np.arange(self._n_kept, end)
        self._n_kept = end


@njit(cache=True, parallel=True)
def _look_up(bits, slots, previous, tokens, out):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n_found = 0
    for i in prange(len(tokens)):
        slot, token = slots[previous[i]], tokens[i]
        out[i] = slot >= 0 and (bits[slot, token >> 3] >> np.uint8(token & 7)) & 1
        n_found += slot >= 0
    return n_found == len(tokens)
