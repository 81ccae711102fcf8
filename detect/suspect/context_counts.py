"""How often contexts are reached: what tells which pairs a student had the chance to learn.

A student inherits most where it met a context often. Weights by how often each *context* occurs in
the provider's own texts therefore need fewer answers. They are fixed before any word is looked at
only if these texts do not depend on the key under test: unmarked answers to the logged prompts, or
logs marked under other keys (earlier epochs). Counts from logs under the same key are not: that a
context was reached often there says that the pair which leads to it has a high word, and pairs of
one text that lead to each other's contexts then vary together (docs/decisions/0008).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from watermark.contexts import windows
from watermark.prf import Prf

__all__ = ["ContextCounts", "context_weights", "count_contexts"]

# Weights are whole numbers, so that the null law of the weighted sum is a convolution.
LARGEST_WEIGHT: Final = 8


@final
@dataclass(frozen=True, eq=False)
class ContextCounts:
    """How often each context occurs in some texts.

    Attributes:
        context_width: h.
        digests: uint64, ascending, of the distinct contexts. Two contexts with the same digest
            (1e-5 among twenty million) get each other's weight, which costs power alone.
        counts: int64, how often each occurs.
    """

    context_width: int
    digests: NDArray[np.uint64]
    counts: NDArray[np.int64]

    def of(self, contexts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Look contexts up.

        Args:
            contexts: int64, shape (n, h).

        Returns:
            int64, shape (n,), 0 for contexts that never occur.
        """
        if not len(self.digests):
            return np.zeros(len(contexts), np.int64)
        wanted = _digests(contexts)
        places = np.minimum(np.searchsorted(self.digests, wanted), len(self.digests) - 1)
        return np.where(self.digests[places] == wanted, self.counts[places], 0)


def count_contexts(texts: Iterable[NDArray[np.int64]], context_width: int) -> ContextCounts:
    """Count contexts, looking at nothing else: which token followed plays no part.

    Args:
        texts: int64, shape (T,) each, responses in the provider's tokens.
        context_width: h, at least 1.

    Returns:
        The counts.
    """
    rows = [_digests(windows(np.asarray(ids, np.int64), context_width)) for ids in texts]
    digests, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *rows]), return_counts=True)
    return ContextCounts(context_width, digests, counts.astype(np.int64))


def context_weights(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Turn counts into weights: they rise with the logarithm and level off.

    Args:
        counts: int64, shape (n,), at least 0.

    Returns:
        int64, shape (n,), from 1 to `LARGEST_WEIGHT`.
    """
    weights: NDArray[np.float64] = 1 + np.floor(2 * np.log2(1.0 + counts))
    return np.minimum(weights, LARGEST_WEIGHT).astype(np.int64)


def _digests(contexts: NDArray[np.int64]) -> NDArray[np.uint64]:
    # A hash under a public key: it only tells contexts apart.
    return Prf(0, 0).context_hashes(np.ascontiguousarray(contexts))[:, 0]
