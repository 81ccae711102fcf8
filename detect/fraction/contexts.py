"""Each context in one document: what shares of a corpus are counted on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from watermark.contexts import first_occurrences
from watermark.word_sources import Pairs, WordSource

__all__ = ["one_document_each"]


def one_document_each(
    rows: NDArray[np.int64],
    document: NDArray[np.int64],
    n_documents: int,
    source: WordSource,
    seed: int,
) -> NDArray[np.int64]:
    """Choose, over documents in random order, the pairs whose context is met first.

    The order depends on a coin only, the choice on contexts only: neither on words nor tokens.

    Args:
        rows: int64, shape (n, h + 1), contexts and tokens of all documents, in order.
        document: int64, shape (n,), the document of each.
        n_documents: how many there are.
        source: what makes the words; of pairs that are one piece of evidence one is chosen.
        seed: of the order.

    Returns:
        int64, ascending places in `rows`.
    """
    order = np.random.default_rng(seed).permutation(n_documents)
    shuffled = np.argsort(order[document], kind="stable")
    taken = shuffled[first_occurrences(rows[shuffled, :-1])]
    evidence = source.evidence(Pairs(rows[taken, :-1], rows[taken, -1]))
    return np.sort(taken[first_occurrences(evidence)])
