"""Higher criticism: are there more small p-values than chance gives, however few?

A pooled sum is best when every document carries a little of the mark, the smallest p-value when
one document carries much. In between (some dozens of short marked documents among thousands) it
is the *count* of smallish p-values that shows, and higher criticism looks at all of them at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from detect.results import json_p

__all__ = ["HigherCriticism", "Peak", "find_peak", "higher_criticism", "log_crossing"]

# Thresholds above one half say nothing about rare small p-values.
_LARGEST_THRESHOLD: Final = 0.5
# Mass of low counts that a step may drop; what is dropped is added to the p-value.
_DROPPED: Final = 1e-40
# A Poisson(2) count reaches this with probability below 1e-60, which is added too.
_LARGEST_JUMP: Final = 60
_LOST_A_STEP: Final = 1e-60
# Rounding of the statistic must not lower its own p-value.
_SLACK: Final = 1e-10


class Peak(NamedTuple):
    """Where small p-values are in largest excess: the excess, the threshold, the count below it."""

    statistic: float
    threshold: float
    n_below: int


@final
@dataclass(frozen=True, slots=True)
class HigherCriticism:
    """The result of the test.

    Attributes:
        statistic: the largest standardised excess of small p-values.
        n_documents: p-values.
        threshold: the t at which the excess is largest.
        n_below: p-values at or below it; `n_documents * threshold` are expected.
        log10_p: log10 of the test's own p-value.
    """

    statistic: float
    n_documents: int
    threshold: float
    n_below: int
    log10_p: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "statistic": self.statistic,
            "n_documents": self.n_documents,
            "threshold": self.threshold,
            "n_below": self.n_below,
            "n_below_expected": self.n_documents * self.threshold,
            "p_value": json_p(self.log10_p),
            "log10_p": self.log10_p,
        }


def higher_criticism(log10_ps: NDArray[np.float64]) -> HigherCriticism:
    """Test many p-values at once for a sparse signal.

    H0: every document is independent of the key; given the texts, p-values over pairs that no
    other document shares are then independent and uniform (continuous score laws) or stochastically
    larger (laws on a lattice). Alternative: some unknown, small share of them is smaller.

    Statistic: the maximum over 1/n <= t <= 1/2 of (N(t) - n t) / sqrt(n t (1 - t)), N(t) being the
    number of p-values at or below t: Donoho & Jin's HC+ (Ann. Statist. 32, 2004, section 3), except
    that p-values below 1/n count as 1/n where HC+ skips them. Skipping would let the statistic
    fall when a p-value falls; counting keeps it monotone, so that larger p-values under the null
    can only make the test conservative. Its p-value is exact for uniform p-values
    (`log_crossing`), an upper bound for larger ones.

    Args:
        log10_ps: float64, shape (n,), log10 of independent p-values, n >= 2. Documents may share no
            (context, token) pair, and each must have scored at least one.

    Returns:
        The result.

    Raises:
        ValueError: fewer than two p-values, NaN, or logarithms above 0.
    """
    peak, n = find_peak(log10_ps), len(log10_ps)
    log10_p = log_crossing(peak.statistic, n) / math.log(10)
    return HigherCriticism(peak.statistic, n, peak.threshold, peak.n_below, log10_p)


def find_peak(log10_ps: NDArray[np.float64]) -> Peak:
    """Compute the statistic of `higher_criticism` without its p-value; see there."""
    n = len(log10_ps)
    if n < 2:
        raise ValueError(f"higher criticism needs at least 2 p-values, got {n}")
    if not (log10_ps <= 0).all():
        raise ValueError("log10 p-values must be numbers of at most 0")
    ordered = np.sort(np.maximum(10**log10_ps, 1 / n))
    # At 1/n itself the count may be 0: then the excess there is -1.
    thresholds = np.append(1 / n, ordered[ordered <= _LARGEST_THRESHOLD])
    counts = np.searchsorted(ordered, thresholds, side="right")
    excess = (counts - n * thresholds) / np.sqrt(n * thresholds * (1 - thresholds))
    best = int(np.argmax(excess))
    return Peak(float(excess[best]), float(thresholds[best]), int(counts[best]))


def log_crossing(statistic: float, n: int) -> float:
    """Compute ln P(HC >= statistic) for n independent uniform p-values.

    The count of p-values below t is a Poisson process given its total. The process runs through the
    times at which the boundary n t + statistic * sqrt(n t (1 - t)) meets the next integer; what
    crosses there is taken out and summed. All terms are positive, so that small tails keep their
    precision (compare Moscovich & Nadler, Statist. Probab. Lett. 123, 2017, who use Fourier
    transforms; here the jump between two times is short enough to convolve directly).
    Exact up to rounding; what is dropped, below 1e-34, is added, so that it is also a bound.

    Args:
        statistic: the observed maximum.
        n: p-values, >= 2.

    Returns:
        The natural logarithm; 0 for statistics of at most 0, -inf for impossible ones.
    """
    if statistic <= 0:
        return 0.0
    limits, times = _boundary(statistic * (1 - _SLACK), n)
    if not len(times):
        return -math.inf
    masses, lowest, previous = np.ones(1), 0, 0.0
    crossed, lost = 0.0, len(times) * _LOST_A_STEP
    for limit, time in zip(limits.tolist(), times.tolist(), strict=True):
        masses = np.convolve(masses, _poisson(n * (time - previous)))
        over = masses[limit - lowest :]
        counts = np.arange(limit, min(limit + len(over), n + 1))
        crossed += float(over[: len(counts)] @ np.exp(_log_rest(counts, time, n)))
        below = np.cumsum(masses[: limit - lowest])
        low = int(np.searchsorted(below, _DROPPED))
        lost += float(below[low - 1]) if low else 0.0
        masses, lowest, previous = masses[low : limit - lowest], lowest + low, time
    # Given the total, no dropped path weighs more than its mass over P(Poisson(n) = n).
    return min(math.log(crossed + lost * math.sqrt(7 * n)), 0.0)


def _boundary(statistic: float, n: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts i, ascending, and the latest time in [1/n, 1/2] at which i already crosses."""
    counts = np.arange(1, n + 1)
    share, y = counts / n, statistic**2 / n
    # The smaller root of (share - t)^2 = y t (1 - t), without cancellation.
    root = np.sqrt(y * y + 4 * y * share * (1 - share))
    times = 2 * share**2 / (2 * share + y + root)
    first = int(np.searchsorted(times, 1 / n * (1 - _SLACK)))
    last = int(np.searchsorted(times, _LARGEST_THRESHOLD)) + 1
    return counts[first:last], np.minimum(times[first:last], _LARGEST_THRESHOLD)


def _poisson(mean: float) -> NDArray[np.float64]:
    """Probabilities of 0, 1, ... of a Poisson variable with a mean of at most 2."""
    steps = np.full(_LARGEST_JUMP, mean) / np.arange(1, _LARGEST_JUMP + 1)
    return math.exp(-mean) * np.append(1.0, np.cumprod(steps))


def _log_rest(counts: NDArray[np.int64], time: float, n: int) -> NDArray[np.float64]:
    """Ln of P(n - counts more until 1) / P(n in all) of the Poisson process with rate n."""
    rest, mean = (n - counts).astype(np.float64), n * (1 - time)
    here = rest * math.log(mean) - mean - gammaln(rest + 1)
    result: NDArray[np.float64] = here - (n * math.log(n) - n - gammaln(n + 1.0))
    return result
