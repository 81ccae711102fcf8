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
from scipy.special import erfcx, log_ndtr, ndtr

from detect.nulls import tail
from detect.results import Tail
from watermark.schemes.laws import Exponential, ScoreLaw

__all__ = ["weighted_tail"]

# Nearer to the mean than this (in standard deviations) the formula is a difference of poles.
_NEAR_MEAN = 0.02
# Where the search for the saddlepoint ends; the bound holds at any t.
_FAR = 1e6
_AT_EDGE = 2.0**-50


class _Cumulants(NamedTuple):
    value: float
    first: float
    second: float


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
    total = _Sum(law, weights / scale)
    s = statistic / largest / scale
    t = total.saddlepoint(s)
    k = total.cumulants(t)
    ceiling = min(k.value - t * s, 0.0) if t > 0 else 0.0
    log_p = min(_lugannani_rice(total, s, t, k), ceiling)
    return Tail(log_p / math.log(10), ceiling / math.log(10), "saddlepoint")


def _equal_weights(law: ScoreLaw, n: int, centred: float) -> Tail:
    """The exact tail: a common factor changes nothing."""
    # Centring and weighing leave rounding errors, which must not push a sum off its lattice.
    total = centred + n * law.mean
    return tail(law, total if isinstance(law, Exponential) else round(total, 6), n)


class _Sum(NamedTuple):
    """The law of sum_i w_i (score_i - mean)."""

    law: ScoreLaw
    weights: NDArray[np.float64]

    def cumulants(self, t: float) -> _Cumulants:
        """K(t), K'(t), K''(t) of the sum."""
        k = self.law.cumulants(self.weights * t)
        w, mean = self.weights, self.law.mean
        return _Cumulants(
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

    def saddlepoint(self, s: float) -> float:
        """Solve K'(t) = s; the end of the search where a bounded sum cannot reach s."""
        # Here, since it takes as long to import as a text takes to test.
        from scipy.optimize import brentq

        if s == 0:
            return 0.0
        low, high = self.domain()
        edge = high if s > 0 else -low
        sign = 1.0 if s > 0 else -1.0

        def lacking(t: float) -> float:
            return sign * (s - self.cumulants(sign * t).first)

        limit = edge * (1 - _AT_EDGE) if math.isfinite(edge) else _FAR
        near, far = 0.0, min(abs(s), edge / 2)
        while lacking(far) > 0 and far < limit:
            near, far = far, min((far + edge) / 2 if math.isfinite(edge) else far * 2, limit)
        return sign * (float(brentq(lacking, near, far, xtol=1e-14)) if lacking(far) < 0 else far)


def _lugannani_rice(total: _Sum, s: float, t: float, k: _Cumulants) -> float:
    """Ln P(S >= s) by Lugannani-Rice; s in standard deviations."""
    if abs(s) < _NEAR_MEAN:
        return _near_mean(total, s)
    if k.second <= 0:
        # At the largest sum a bounded law can reach, the tilted law has no spread left: there
        # the bound is the value (the probability of the one outcome).
        return k.value - t * s if t > 0 else 0.0
    r = math.copysign(math.sqrt(max(2 * (t * s - k.value), 0.0)), t)
    u = t * math.sqrt(k.second)
    if r > 0:
        # phi(r) (Mills ratio + 1/u - 1/r): log space at any depth.
        mills = math.sqrt(math.pi / 2) * float(erfcx(r / math.sqrt(2)))
        correction = mills + 1 / u - 1 / r
        if correction <= 0:
            return float(log_ndtr(-(r + math.log(u / r) / r)))
        return -r * r / 2 - math.log(2 * math.pi) / 2 + math.log(correction)
    density = math.exp(-r * r / 2) / math.sqrt(2 * math.pi)
    upper = float(ndtr(-r)) + density * (1 / u - 1 / r)
    return math.log(min(max(upper, 1e-300), 1.0))


def _near_mean(total: _Sum, s: float) -> float:
    """Interpolate p linearly between two points where the formula is sound."""
    ends = (-_NEAR_MEAN, _NEAR_MEAN)
    p = []
    for end in ends:
        t = total.saddlepoint(end)
        p.append(math.exp(_lugannani_rice(total, end, t, total.cumulants(t))))
    share = (s - ends[0]) / (ends[1] - ends[0])
    return math.log(p[0] + share * (p[1] - p[0]))
