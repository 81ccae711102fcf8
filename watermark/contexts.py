"""Context windows: which ids are hashed, which contexts are repeats, which pairs are the same.

The context of a token is the h *response* tokens before it, h the context width. The first h
tokens of a response have no context and are neither marked nor scored. A context that has already
occurred in the same response is not marked again (that is what keeps an unbiased mark unbiased).
With h = 0 there is one context, the empty one; the repeat rule would mark a single token, so it
does not apply there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["first_occurrences", "group_rows", "windows"]


def windows(token_ids: NDArray[np.int64], context_width: int) -> NDArray[np.int64]:
    """List the context of each token that has one.

    Args:
        token_ids: int64, shape (T,).
        context_width: h >= 0.

    Returns:
        int64, shape (max(T - h, 0), h): row i is the context of token i + h, oldest first.
    """
    n = max(len(token_ids) - context_width, 0)
    if context_width == 0 or n == 0:
        return np.empty((n, context_width), np.int64)
    return np.lib.stride_tricks.sliding_window_view(token_ids[:-1], context_width)


def group_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group equal rows, exactly (nothing is hashed).

    Args:
        rows: int64, shape (n, w).

    Returns:
        first: int64, shape (g,), index of the first row of each group, ascending.
        group: int64, shape (n,), group of each row; groups are numbered by first occurrence.
    """
    n, width = rows.shape
    if n == 0 or width == 0:
        return np.arange(min(n, 1)), np.zeros(n, np.int64)
    order = np.lexsort(rows.T[::-1])
    ordered = rows[order]
    starts = np.ones(n, np.bool_)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    # lexsort is stable, so that the first of each run is the first occurrence.
    first_by_value = order[starts]
    by_occurrence = np.argsort(first_by_value)
    rank = np.empty_like(by_occurrence)
    rank[by_occurrence] = np.arange(len(by_occurrence))
    group = np.empty(n, np.int64)
    group[order] = rank[np.cumsum(starts) - 1]
    return first_by_value[by_occurrence], group


def first_occurrences(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark each row that no earlier row equals.

    Args:
        rows: int64, shape (n, w).

    Returns:
        bool, shape (n,).
    """
    mask = np.zeros(len(rows), np.bool_)
    mask[group_rows(rows)[0]] = True
    return mask
