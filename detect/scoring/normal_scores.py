"""Normal scores: the score of open weights, where a few weights may rule a sum.

A suspect's distributions give weights that differ by orders of magnitude. Exponential scores
-ln(1 - u) under such weights have a tail that is ruled by the largest weight, however many null
deviations the sum lies out. Normal scores s = Phi^-1(u) make every weighted sum
normal (docs/decisions/0010). Source: van der Waerden's scores, Indag. Math. 14 (1952).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from detect.scoring.score_tables import Scorer
from watermark.schemes import Scheme
from watermark.schemes.dual_gumbel import DualGumbel
from watermark.schemes.gumbel import Gumbel
from watermark.schemes.laws import LOWEST_SCORE, Normal

__all__ = ["NormalScore", "reading_scorer"]

_GRID = 2.0**-32


@final
@dataclass(frozen=True)
class NormalScore:
    """Scores words of a scheme whose own score is exponential.

    Attributes:
        scheme: Gumbel-max with one or two keys.
    """

    scheme: Gumbel | DualGumbel

    @property
    def score_name(self) -> str:
        """How results call the score."""
        return "normal"

    @property
    def n_streams(self) -> int:
        """Word streams that the score reads."""
        return self.scheme.n_streams

    @property
    def law(self) -> Normal:
        """Standard normal.

        On the grid of words F = exp(-score) is at most 2^-32 above a coupled uniform; with two keys
        the weighted minimum rises by at most 2^-32 / alpha, and its distribution function has slope
        at most 1.
        """
        alpha = self.scheme.alpha if isinstance(self.scheme, DualGumbel) else 1.0
        return Normal(_GRID / alpha)

    def score(self, words: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Score words, uint32 of shape (n_streams, n); float64, shape (n,)."""
        scores: NDArray[np.float64] = -ndtri(np.exp(-self.scheme.score(words)))
        return np.maximum(scores, LOWEST_SCORE)


def reading_scorer(scheme: Scheme) -> Scorer:
    """Find the score of open weights: normal scores, or the scheme's own where it is bounded."""
    return NormalScore(scheme) if isinstance(scheme, Gumbel | DualGumbel) else scheme
