"""Corrections for looking at many things: the search is paid for in the reported p-value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from watermark.errors import ResultError

__all__ = ["Family", "bonferroni", "e_bh", "holm"]


@final
@dataclass(frozen=True, slots=True)
class Family:
    """Tests that were declared before any of them was looked at.

    All of them are paid for, also those that were never run: each result stands by itself, and
    can be reported while others are still to come.

    Attributes:
        names: one for each test: key, scheme, window, score, whatever is searched over.
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ResultError("a family needs at least one test, and each name once")

    def adjusted(self, log10_ps: Mapping[str, float]) -> dict[str, float]:
        """Adjust what has been tested so far by Bonferroni's method over the whole family.

        Controls the family-wise error under any dependence and any choice of what to run.

        Args:
            log10_ps: log10 p-values (or of 1 / E) by name.

        Returns:
            Adjusted log10 p-values by name, at most 0.

        Raises:
            ResultError: a test that was not declared.
        """
        if undeclared := sorted(set(log10_ps) - set(self.names)):
            raise ResultError(
                f"the tests {', '.join(undeclared)} were not declared beforehand; expected some "
                f"of: {', '.join(self.names)}. Declare them before looking, or leave them out"
            )
        return {name: bonferroni(p, len(self.names)) for name, p in log10_ps.items()}


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
    steps = log10_ps[order] + np.log10(np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 0.0)
    return adjusted


def e_bh(log10_es: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adjust e-values for the false discovery rate: e-BH (Wang and Ramdas, JRSS B 84, 2022).

    With e_[k] the k-th largest of m e-values, e-BH at level alpha rejects the k* largest,
    k* = max{k : k e_[k] / m >= 1 / alpha}. Its false discovery rate is at most alpha under any
    dependence. Rejecting where the adjusted value min_{j >= rank} m / (j e_[j]) is at most alpha
    is the same.

    Args:
        log10_es: float64, shape (m,), log10 e-values, each at a time fixed by a stopping rule
            (not the peaks of e-processes); -inf for an e-value of 0.

    Returns:
        float64, shape (m,), log10 of the smallest level at which each is rejected, at most 0.
    """
    m = len(log10_es)
    order = np.argsort(-log10_es, kind="stable")
    levels = math.log10(max(m, 1)) - np.log10(np.arange(1, m + 1)) - log10_es[order]
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.minimum.accumulate(levels[::-1])[::-1], 0.0)
    return adjusted
