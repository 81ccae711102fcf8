"""Tails of weighted sums of independent null scores, weights of either sign.

S = sum_i w_i (score_i - mean). H0: the words are independent and uniform, and the weights do not
depend on them. The Chernoff bound min_t exp(K(t) - t s) is a rigorous ceiling, and verdicts rest on
it alone. How the value is found:

- Lattice scores under few weights that are multiples of one number: convolved exactly.
- Exponential scores: the moment generating function is inverted (`detect.tails.inversion`) and the
  result taken if, by its own estimate, it is right to 1e-9 of p, or of ln p where p < 1/e.
- All else: the Lugannani-Rice saddlepoint approximation (Adv. Appl. Prob. 12, 1980).

benchmarks.far_tail compares with exact laws.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detect.results import Tail
from detect.tails.convolution import Part
from detect.tails.inversion import exponential_log_tail
from detect.tails.mixed_sums import as_table, mixed_tail
from detect.tails.nulls import tail
from detect.tails.saddlepoint import SumCumulants, saddlepoint_tail
from watermark.schemes.laws import Exponential, ScoreLaw, Tabulated

__all__ = ["weighted_tail"]

# A lattice sum is convolved if its weights are few and multiples of one number.
_MAX_DISTINCT = 64
_MAX_DIVISOR = 12
_MAX_MULTIPLE = 1000
# An inverted tail whose estimated error is larger than this is not used.
_INVERTED_TO = 1e-9
_LN10 = math.log(10)


def weighted_tail(law: ScoreLaw, weights: NDArray[np.float64], statistic: float) -> Tail:
    """Compute P(S >= statistic) for a weighted sum of centred scores.

    Args:
        law: law of one score.
        weights: float64, shape (n,), fixed before any word was looked at.
        statistic: observed sum_i w_i (score_i - mean).

    Returns:
        The value, by inversion for exponential scores and by the saddlepoint for others, and the
        Chernoff ceiling; the exact tail where it is known (equal positive weights, lattice scores
        under commensurable weights).
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
    if (lattice := _on_lattice(law, weights)) is not None:
        return mixed_tail(lattice.parts, lattice.units_of(statistic))
    # Scaled to standard deviation 1, so that one set of tolerances fits all; in two steps,
    # because squares of very large or small weights would overflow or vanish.
    largest = float(np.abs(weights).max())
    weights = weights / largest
    scale = math.sqrt(law.variance * float(np.sum(weights**2)))
    weights, statistic = weights / scale, statistic / largest / scale
    approximate = saddlepoint_tail(_Sum(law, weights), statistic)
    return (
        _refined(approximate, weights, statistic) if isinstance(law, Exponential) else approximate
    )


def _refined(approximate: Tail, weights: NDArray[np.float64], statistic: float) -> Tail:
    """Replace a saddlepoint by the inverted value; not by an inaccurate or impossible one."""
    log_p, error = exponential_log_tail(weights, statistic)
    tolerance = _INVERTED_TO * max(1.0, -log_p)
    ceiling = approximate.log10_p_ceiling
    if not error <= tolerance or log_p > ceiling * _LN10 + tolerance:
        return approximate
    return Tail(min(log_p / _LN10, ceiling), ceiling, "inversion")


class _Lattice(NamedTuple):
    """A weighted sum of lattice scores whose weights are multiples of one number."""

    parts: list[Part]
    unit: float
    mean: float

    def units_of(self, centred: float) -> int:
        # Centring and weighing leave rounding errors, which must not push a sum off its lattice.
        return math.ceil(round(centred / self.unit + self.mean, 6))


def _on_lattice(law: ScoreLaw, weights: NDArray[np.float64]) -> _Lattice | None:
    """Find the lattice of a weighted sum; None if there is none that is coarse enough."""
    table = as_table(law)
    distinct, counts = np.unique(weights, return_counts=True)
    if table is None or len(distinct) > _MAX_DISTINCT:
        return None
    smallest = float(np.abs(distinct).min())
    for divisor in range(1, _MAX_DIVISOR + 1):
        multiples = distinct * (divisor / smallest)
        whole = np.rint(multiples)
        if (np.abs(multiples - whole) < 1e-9).all() and np.abs(whole).max() <= _MAX_MULTIPLE:
            return _lattice(table, whole.astype(np.int64), counts, smallest / divisor)
    return None


def _lattice(
    table: Tabulated, whole: NDArray[np.int64], counts: NDArray[np.int64], unit: float
) -> _Lattice:
    parts, mean = [], 0.0
    for w, n in zip(whole.tolist(), counts.tolist(), strict=True):
        law = Tabulated(1.0, table.values, table.probabilities).times(w)
        parts.append(Part(law, n))
        mean += n * law.mean
    return _Lattice(parts, unit * table.step, mean)


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
