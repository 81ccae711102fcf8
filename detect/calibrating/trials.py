"""Many p-values where the null should hold: rates, uniformity, and the curve to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from detect.planning.power import lattice_step
from detect.tails.nulls import log_tails
from watermark.schemes.laws import ScoreLaw

__all__ = ["EdfPoint", "Rate", "Trials", "run_trials"]

_LEAST_EXPECTED: Final = 5
_CONFIDENCE: Final = 0.99
_POINTS_PER_DECADE: Final = 8


@final
@dataclass(frozen=True, slots=True)
class Rate:
    """How often p <= alpha.

    Attributes:
        alpha: the level.
        hits: p-values at or below it.
        n: p-values.
        low: exact 99 % interval of the rate (Clopper and Pearson 1934), lower end.
        high: upper end.
        log10_excess: log10 P(Binomial(n, alpha) >= hits): small if the level is exceeded.
    """

    alpha: float
    hits: int
    n: int
    low: float
    high: float
    log10_excess: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"rate": self.hits / self.n} | {name: getattr(self, name) for name in self.__slots__}


@final
@dataclass(frozen=True, slots=True)
class EdfPoint:
    """Share of p-values at or below alpha, and the band that uniform ones leave 1 time in 100."""

    alpha: float
    share: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class Trials:
    """P-values of many independent tests where H0 should hold.

    Attributes:
        n: tests.
        rates: at 0.1, 0.01, ... as far as five hits are expected.
        uniformity_p: two-sided Kolmogorov-Smirnov against uniform; p-values on a lattice are
            randomised for it, so that it is exact for them too.
        curve: empirical distribution function.
    """

    n: int
    rates: tuple[Rate, ...]
    uniformity_p: float
    curve: tuple[EdfPoint, ...]

    def exceeded(self, level: float) -> tuple[float, ...]:
        """List the alphas that are exceeded, by a test of this level over all of them together."""
        limit = math.log10(level / max(len(self.rates), 1))
        return tuple(r.alpha for r in self.rates if r.log10_excess < limit)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "n": self.n,
            "rates": [r.to_dict() for r in self.rates],
            "uniformity_p_value": self.uniformity_p,
            "curve": {
                name: [getattr(point, name) for point in self.curve] for name in EdfPoint.__slots__
            },
        }


def run_trials(
    law: ScoreLaw,
    statistics: NDArray[np.float64],
    n_scored: NDArray[np.int64],
    rng: np.random.Generator,
) -> Trials:
    """Turn independent statistics into p-values, and count.

    H0: each statistic is a sum of independent scores of the law; p-values are then uniform, or
    above uniform on a lattice. Exact: binomial intervals and band.

    Args:
        law: null law of one score.
        statistics: float64, shape (m,), independent of each other.
        n_scored: int64, shape (m,), scores in each, >= 1.
        rng: breaks ties for the test of uniformity only.

    Returns:
        The counts.
    """
    # Sums that were centred and moved back are off their lattice by rounding.
    statistics = np.round(statistics, 9)
    log_p = log_tails(law, statistics, n_scored)
    p = randomised = np.exp(log_p)
    if step := lattice_step(law):
        above = np.exp(log_tails(law, statistics + step, n_scored))
        randomised = above + rng.random(len(p)) * (p - above)
    return Trials(len(p), _rates(log_p), _uniformity(randomised), _curve(np.sort(p)))


def _rates(log_p: NDArray[np.float64]) -> tuple[Rate, ...]:
    from scipy.stats import binom, binomtest

    n, rates = len(log_p), []
    for k in range(1, max(math.floor(math.log10(n / _LEAST_EXPECTED)), 0) + 1):
        alpha = 10.0**-k
        # p = alpha counts; a p-value that equals it but for rounding does too.
        hits = int((log_p <= math.log(alpha) * (1 - 1e-12)).sum())
        interval = binomtest(hits, n).proportion_ci(_CONFIDENCE)
        excess = float(binom.logsf(hits - 1, n, alpha)) / math.log(10)
        rates.append(Rate(alpha, hits, n, interval.low, interval.high, max(excess, -1e6)))
    return tuple(rates)


def _uniformity(p: NDArray[np.float64]) -> float:
    from scipy.stats import kstest

    return float(kstest(p, "uniform").pvalue)


def _curve(p: NDArray[np.float64]) -> tuple[EdfPoint, ...]:
    """Share at levels an eighth of a decade apart, from 1 to where one hit is expected."""
    from scipy.stats import binom

    n = len(p)
    count = math.floor(_POINTS_PER_DECADE * math.log10(n)) + 1
    alphas = 10.0 ** (-np.arange(count) / _POINTS_PER_DECADE)
    # Both sides of every point share the error: the band holds at all points together.
    side = (1 - _CONFIDENCE) / (2 * count)
    shares = np.searchsorted(p, alphas * (1 + 1e-12), side="right") / n
    low, high = (np.asarray(f(side, n, alphas)) / n for f in (binom.ppf, binom.isf))
    rows = zip(alphas.tolist(), shares.tolist(), low.tolist(), high.tolist(), strict=True)
    return tuple(EdfPoint(*row) for row in rows)
