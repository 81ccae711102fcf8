"""Corrections for looking at many things: the search is paid for in the reported p-value."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["bonferroni", "holm"]


def bonferroni(log10_p: float, n_tests: int) -> float:
    """Pay for the best of several tests: log10 of min(n_tests * p, 1).

    Valid under any dependence.

    Args:
        log10_p: log10 of the smallest p-value.
        n_tests: all tests that could have been reported, >= 1.

    Returns:
        The adjusted log10 p, at most 0.

    Raises:
        ValueError: fewer than one test.
    """
    if n_tests < 1:
        raise ValueError(f"n_tests must be at least 1, got {n_tests}")
    return min(log10_p + math.log10(n_tests), 0.0)


def holm(log10_ps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust p-values by Holm's step-down method (Scand. J. Statist. 6, 1979).

    Controls the family-wise error under any dependence.

    Args:
        log10_ps: float64, shape (m,), log10 p-values of the family.

    Returns:
        float64, shape (m,), adjusted log10 p-values, at most 0.
    """
    m = len(log10_ps)
    order = np.argsort(log10_ps, kind="stable")
    steps = log10_ps[order] + np.array([math.log10(m - i) for i in range(m)])
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 0.0)
    return adjusted
