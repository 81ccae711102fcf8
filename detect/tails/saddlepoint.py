"""The saddlepoint: tails of any sum whose cumulant generating function can be computed.

The value is the Lugannani-Rice approximation (Adv. Appl. Prob. 12, 1980); the Chernoff bound
min_t exp(K(t) - t s) is a rigorous ceiling, since it holds at any t. Sums come scaled to standard
deviation 1 and mean 0, so that one set of tolerances fits all.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from scipy.special import erfcx, log_ndtr, ndtr

from detect.results import Tail

__all__ = ["ScaledSum", "SumCumulants", "saddlepoint_tail"]

# Nearer to the mean than this (in standard deviations) the formula is a difference of poles.
_NEAR_MEAN = 0.02
# Where the search for the saddlepoint ends; the bound holds at any t.
_FAR = 1e6
_AT_EDGE = 2.0**-50


class SumCumulants(NamedTuple):
    """K, K' and K'' of a sum at one point."""

    value: float
    first: float
    second: float


class ScaledSum(Protocol):
    """A sum of mean 0 and standard deviation 1."""

    def cumulants(self, t: float) -> SumCumulants:
        """Evaluate the cumulant generating function and its derivatives."""

    def domain(self) -> tuple[float, float]:
        """Open interval of t on which they are finite."""


def saddlepoint_tail(total: ScaledSum, s: float) -> Tail:
    """Compute P(S >= s).

    Args:
        total: the sum under the null.
        s: observed value, in standard deviations from the mean.

    Returns:
        Saddlepoint value and Chernoff ceiling.
    """
    t = _solve(total, s)
    k = total.cumulants(t)
    ceiling = min(k.value - t * s, 0.0) if t > 0 else 0.0
    log_p = min(_lugannani_rice(total, s, t, k), ceiling)
    return Tail(log_p / math.log(10), ceiling / math.log(10), "saddlepoint")


def _solve(total: ScaledSum, s: float) -> float:
    """Solve K'(t) = s; the end of the search where a bounded sum cannot reach s."""
    # Here, since it takes as long to import as a text takes to test.
    from scipy.optimize import brentq

    if s == 0:
        return 0.0
    low, high = total.domain()
    edge = high if s > 0 else -low
    sign = 1.0 if s > 0 else -1.0

    def lacking(t: float) -> float:
        return sign * (s - total.cumulants(sign * t).first)

    limit = edge * (1 - _AT_EDGE) if math.isfinite(edge) else _FAR
    near, far = 0.0, min(abs(s), edge / 2)
    while lacking(far) > 0 and far < limit:
        near, far = far, min((far + edge) / 2 if math.isfinite(edge) else far * 2, limit)
    return sign * (float(brentq(lacking, near, far, xtol=1e-14)) if lacking(far) < 0 else far)


def _lugannani_rice(total: ScaledSum, s: float, t: float, k: SumCumulants) -> float:
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


def _near_mean(total: ScaledSum, s: float) -> float:
    """Interpolate p linearly between two points where the formula is sound."""
    ends = (-_NEAR_MEAN, _NEAR_MEAN)
    p = []
    for end in ends:
        t = _solve(total, end)
        p.append(math.exp(_lugannani_rice(total, end, t, total.cumulants(t))))
    share = (s - ends[0]) / (ends[1] - ends[0])
    return math.log(p[0] + share * (p[1] - p[0]))
