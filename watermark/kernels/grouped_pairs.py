"""What is summed under many keys: pairs in order of their context, and what a word scores."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["BYTES", "ONE_CELL", "THRESHOLD", "TWO_CELLS", "GroupedPairs", "Lookup"]

THRESHOLD: Final = 0
ONE_CELL: Final = 1
TWO_CELLS: Final = 2
BYTES: Final = 3


class GroupedPairs(NamedTuple):
    """Distinct pairs in order of their context, and the sums that each adds to.

    Attributes:
        contexts: int64, shape (C, h), the distinct contexts.
        pair_starts: int64, shape (C + 1,), where each context's pairs begin, and P.
        tokens: int64, shape (P,), their tokens.
        sum_starts: int64, shape (P + 1,), where each pair's sums begin, and N.
        sums: int64, shape (N,), numbers of sums in [0, n_sums).
        n_sums: how many sums there are.
    """

    contexts: NDArray[np.int64]
    pair_starts: NDArray[np.int64]
    tokens: NDArray[np.int64]
    sum_starts: NDArray[np.int64]
    sums: NDArray[np.int64]
    n_sums: int


class Lookup(NamedTuple):
    """What a word scores, in whole units.

    Attributes:
        kind: `THRESHOLD`: 1 for words below table[0], which holds the bits of a uint32; else 0.
            `ONE_CELL`: table[c], shape (256,), c the cell of a word. `TWO_CELLS`:
            table[256 c + d], of the words of two streams. `BYTES`: table[256 i + byte] added up
            over the word's bytes, highest first, shape (1024,). The cell of a word below 2^31 is
            that of `detect.scoring.cells`; that of an upper one 128 + its mirror image's.
        table: int32.
        largest: no word scores more, or less than minus this.
    """

    kind: int
    table: NDArray[np.int32]
    largest: int

    @property
    def n_streams(self) -> int:
        """Word streams that are looked up."""
        return 2 if self.kind == TWO_CELLS else 1
