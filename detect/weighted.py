"""Tails of weighted sums of independent null scores, weights of either sign.

S = sum_i w_i (score_i - mean). H0: the words are independent and uniform, and the weights do not
depend on them. The value is the Lugannani-Rice saddlepoint approximation (Lugannani and Rice,
Adv. Appl. Prob. 12, 1980); the Chernoff bound min_t exp(K(t) - t s) is a rigorous ceiling.

The value is approximate. Measured against exact laws: for exponential scores log10 p is off by at
most 0.035 (where one weight rules the far tail), 0.01 typically. Bernoulli scores under few
different weights live on a coarse lattice, where p comes out too small by up to a factor of two.
Verdicts therefore rest on the ceiling alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.nulls import tail
from detect.results import Tail
from detect.saddlepoint import SumCumulants, saddlepoint_tail
from watermark.schemes.laws import Exponential, ScoreLaw

__all__ = ["weighted_tail"]


def weighted_tail(law: ScoreLaw, weights: NDArray[np.float64], statistic: float) -> Tail:
    """Compute P(S >= statistic) for a weighted sum of centred scores.

    Args:
        law: law of one score.
        weights: float64, shape (n,), fixed before any word was looked at.
        statistic: observed sum_i w_i (score_i - mean).

    Returns:
        Saddlepoint value and Chernoff ceiling; equal positive weights give the exact tail.
        Without any non-zero weight there is no evidence: p is 1, method "none".

    Raises:
        ValueError: weights or statistic that are not finite.
    """
    weights = weights[weights != 0]
    if not (np.isfinite(weights).all() and math.isfinite(statistic)):
        raise ValueError("weights and statistic must be finite")
    if not len(weights):
        return Tail(0.0, 0.0, "none")
    if weights[0] > 0 and (weights == weights[0]).all():
        return _equal_weights(law, len(weights), statistic / float(weights[0]))
    # Scaled to standard deviation 1, so that one set of tolerances fits all; in two steps,
    # because squares of very large or small weights would overflow or vanish.
    largest = float(np.abs(weights).max())
    weights = weights / largest
    scale = math.sqrt(law.variance * float(np.sum(weights**2)))
    return saddlepoint_tail(_Sum(law, weights / scale), statistic / largest / scale)


def _equal_weights(law: ScoreLaw, n: int, centred: float) -> Tail:
    """The exact tail: a common factor changes nothing."""
    # Centring and weighing leave rounding errors, which must not push a sum off its lattice.
    total = centred + n * law.mean
    return tail(law, total if isinstance(law, Exponential) else round(total, 6), n)


class _Sum(NamedTuple):
    """The law of sum_i w_i (score_i - mean)."""

    law: ScoreLaw
    weights: NDArray[np.float64]

    def cumulants(self, t: float) -> SumCumulants:
        """K(t), K'(t), K''(t) of the sum."""
        k = self.law.cumulants(self.weights * t)
        w, mean = self.weights, self.law.mean
        return SumCumulants(
            float(np.sum(k.value - w * t * mean)),
            float(np.sum(w * (k.first - mean))),
            float(np.sum(w * w * k.second)),
        )

    def domain(self) -> tuple[float, float]:
        """Open interval of t on which K is finite."""
        w_max, w_min = float(self.weights.max()), float(self.weights.min())
        law = self.law
        high = min(
            law.t_max / w_max if w_max > 0 else math.inf,
            law.t_min / w_min if w_min < 0 else math.inf,
        )
        low = max(
            law.t_min / w_max if w_max > 0 else -math.inf,
            law.t_max / w_min if w_min < 0 else -math.inf,
        )
        return low, high
